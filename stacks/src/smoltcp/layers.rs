//! Frames between a link and what it stands on: VLAN tags (IEEE 802.1Q), cables, and the way down.

use netlink_emu::config::MAX_NESTING;

use super::{
    inner::Inner,
    link::{QUEUE, Under},
    pool,
    wire::Frame,
};

/// Where the EtherType is.
const ETHERTYPE: usize = 12;
/// The EtherTypes of tags.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Frames that may be on their way through cables.
const CROSSING: usize = 8192;
/// The bits of a tag that name the VLAN.
const ID: u16 = 0x0fff;

/// The EtherType of the tag of a frame, and the VLAN that it names.
fn tag(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes.get(ETHERTYPE..)?.first_chunk::<4>()?;
    let protocol = u16::from_be_bytes([a, b]);
    TAGS.contains(&protocol).then(|| (protocol, u16::from_be_bytes([c, d]) & ID))
}

/// Takes the tag out of a frame.
fn untag(frame: &mut Frame) {
    frame.bytes.drain(ETHERTYPE..ETHERTYPE + 4);
}

/// Puts a tag into a frame.
fn put_tag(frame: &mut Frame, protocol: u16, id: u16) {
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), id.to_be_bytes());
    frame.bytes.splice(ETHERTYPE..ETHERTYPE, [a, b, c, d]);
}

impl Inner {
    /// Hands a frame to the VLAN or bridge that it belongs to; None when one has taken it. A tag
    /// that says nothing but a priority is taken out.
    pub(crate) fn climb(&mut self, at: usize, mut frame: Frame) -> Option<Frame> {
        if let Some(found) = tag(&frame.bytes) {
            if let Some(vlan) = self.links.iter().position(|link| link.under.is_vlan(at, found)) {
                untag(&mut frame);
                self.frame_input(vlan, frame);
                return None;
            }
            if found.1 == 0 {
                untag(&mut frame);
            }
        }
        match self.links.get(at)?.master {
            Some(bridge) => {
                self.bridge_input(bridge, at, frame);
                None
            }
            None => Some(frame),
        }
    }

    /// Brings what is queued on VLANs and bridges down to the links that they stand on.
    pub(crate) fn descend(&mut self) {
        if !self.links.iter().any(|link| link.under.is_stacked()) {
            return;
        }
        for pass in 0..=MAX_NESTING {
            let mut moved = false;
            for at in 0..self.links.len() {
                let link = &self.links[at];
                if !link.under.is_stacked() || (pass > 0 && link.queue.is_empty()) {
                    continue;
                }
                self.schedule(at);
                self.tap_queue(at);
                moved |= !self.links[at].queue.is_empty();
                match self.links[at].under {
                    Under::Vlan { lower, id, protocol } => {
                        self.vlan_output(at, lower, protocol, id);
                    }
                    Under::Bridge(_) => self.bridge_output(at),
                    Under::Pair(peer) => self.pair_output(at, peer),
                    Under::Wire => {}
                }
            }
            if !moved {
                break;
            }
        }
    }

    fn vlan_output(&mut self, at: usize, lower: usize, protocol: u16, id: u16) {
        let link = &mut self.links[at];
        let frames = std::mem::take(&mut link.queue);
        for mut frame in frames {
            let link = &mut self.links[at];
            link.counters.sent.0 += 1;
            link.counters.sent.1 += frame.bytes.len() as u64;
            put_tag(&mut frame, protocol, id);
            self.queue_below(lower, frame);
        }
    }

    /// Has what is queued at one end of a cable arrive at the other.
    fn pair_output(&mut self, at: usize, peer: usize) {
        let link = &mut self.links[at];
        let frames = std::mem::take(&mut link.queue);
        for frame in frames {
            if !link.running || self.crossing.len() >= CROSSING {
                link.counters.dropped += 1;
                pool::give(frame.bytes);
                continue;
            }
            link.counters.sent.0 += 1;
            link.counters.sent.1 += frame.bytes.len() as u64;
            self.crossing.push_back((peer, frame));
        }
    }

    /// Queues a finished frame on a link below the one that has made it.
    pub(crate) fn queue_below(&mut self, at: usize, frame: Frame) {
        let Some(link) = self.links.get_mut(at) else { return };
        if !link.running || link.queue.len() >= 4 * QUEUE {
            link.counters.dropped += 1;
            return pool::give(frame.bytes);
        }
        if link.offload {
            return link.queue.push(frame);
        }
        frame.complete(&mut |bytes| link.queue.push(Frame::from(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_in_and_out() {
        let bytes: Vec<u8> = (0..20).collect();
        let mut frame = Frame::from(bytes.clone());
        assert_eq!(tag(&frame.bytes), None);
        put_tag(&mut frame, 0x88a8, 4094);
        assert_eq!(tag(&frame.bytes), Some((0x88a8, 4094)));
        put_tag(&mut frame, 0x8100, 1);
        assert_eq!(tag(&frame.bytes), Some((0x8100, 1)));
        untag(&mut frame);
        untag(&mut frame);
        assert_eq!(frame.bytes, bytes);
    }
}
