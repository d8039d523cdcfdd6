//! Frames that come and go, shown to the packet sockets.
//!
//! What they see is complete: a checksum that the other stack or `lo` would not need is filled in
//! for them. As on Linux the 802.1Q tag of a frame that comes in is taken off and told beside it.

use std::borrow::Cow;

use umvu_abi::{
    SockAddr,
    net::{DatagramMeta, PacketNote},
    sockaddr::{DeviceAddr, LinkAddr},
};

use super::{
    super::{
        super::{inner::Inner, link::Kind, output::fill_checksum, packet::HEADROOM},
        DgramId,
    },
    ETH_P_ALL, link_addr,
    ring::{Arrival, Outcome},
};
use crate::bpf;

/// `PACKET_HOST` and its kin.
const HOST: u8 = 0;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
const OTHERHOST: u8 = 3;
const OUTGOING: u8 = 4;
/// `ETH_P_802_2` and `ETH_P_802_3`: frames with a length where others have a type.
const LLC: u16 = 4;
const NOVELL: u16 = 1;
/// The EtherTypes of tags: 802.1Q, 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// `TP_STATUS_CSUM_VALID`.
const SUM_IS_RIGHT: u32 = 0x80;

/// A frame as it passes a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// All of it.
    pub(crate) frame: &'a [u8],
    /// Which way it goes.
    pub(crate) way: Way,
    /// Whether the checksum of what it carries is still to be filled in.
    pub(crate) unsummed: bool,
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It arrives.
    In,
    /// It leaves; the packet socket that sends it does not hear of it.
    Out(Option<DgramId>),
}

/// A frame as the sockets see it.
struct Shown<'a> {
    bytes: Cow<'a, [u8]>,
    unsummed: bool,
    trusted: bool,
    vlan: Option<(u16, u16)>,
    name: LinkAddr,
    /// A tunnel: nobody sees a header of the link.
    bare: bool,
}

impl<'a> Shown<'a> {
    fn new(sight: &Sight<'a>) -> Option<Self> {
        let frame = sight.frame;
        let mut shown = Self {
            bytes: Cow::Borrowed(frame),
            unsummed: sight.unsummed,
            trusted: sight.unsummed && sight.way == Way::In,
            vlan: None,
            name: LinkAddr::default(),
            bare: false,
        };
        let kind = ethertype(frame.get(..HEADROOM)?);
        if sight.way == Way::In
            && TAGS.contains(&kind)
            && let Some(tag) = frame.get(HEADROOM..HEADROOM + 4)
        {
            shown.vlan = Some((u16::from_be_bytes([tag[0], tag[1]]), kind));
            shown.bytes = Cow::Owned([&frame[..12], &frame[16..]].concat());
        }
        Some(shown)
    }

    /// Fills in what the sender left to others.
    fn complete(&mut self) {
        if std::mem::take(&mut self.unsummed) {
            fill_checksum(self.bytes.to_mut());
        }
    }
}

fn ethertype(frame: &[u8]) -> u16 {
    frame.get(12..14).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]))
}

/// The protocol of a frame, as `eth_type_trans` of Linux tells it.
fn protocol(frame: &[u8]) -> u16 {
    match ethertype(frame) {
        kind @ 0x600.. => kind,
        _ if frame.get(14..16) == Some(&[0xff; 2]) => NOVELL,
        _ => LLC,
    }
}

impl Inner {
    /// Shows a frame to the packet sockets: first to those that see all, then to those of its type.
    pub(crate) fn tap(&mut self, index: usize, sight: &Sight<'_>) {
        if self.dgrams.taps.is_empty() {
            return;
        }
        let Some(mut shown) = self.shown(index, sight) else { return };
        self.show_to(&mut shown, sight.way, |protocol| protocol == ETH_P_ALL);
        if sight.way != Way::In {
            return;
        }
        // As on Linux: no interface is there for the VLAN, so the frame is somebody else's.
        if shown.vlan.take().is_some_and(|(tag, _)| tag & 0xfff != 0) {
            shown.name.pkttype = OTHERHOST;
        }
        self.show_to(&mut shown, sight.way, |protocol| protocol != ETH_P_ALL);
    }

    fn show_to(&mut self, shown: &mut Shown<'_>, way: Way, which: impl Fn(u16) -> bool) {
        let socks = &self.dgrams.socks;
        let bound = |id: &&DgramId| socks.get(**id).is_some_and(|sock| which(sock.packet.protocol));
        let taps: Vec<DgramId> = self.dgrams.taps.iter().filter(bound).copied().collect();
        for id in taps {
            let kept = self.kept(id, shown, way);
            if kept > 0 {
                shown.complete();
                self.show(id, shown, kept);
            }
        }
    }

    fn shown<'a>(&self, index: usize, sight: &Sight<'a>) -> Option<Shown<'a>> {
        let link = self.links.get(index)?;
        let head: &[u8; 12] = sight.frame.first_chunk()?;
        let pkttype = match head[0] {
            _ if sight.way != Way::In => OUTGOING,
            _ if head[..6] == [0xff; 6] => BROADCAST,
            first if first & 1 != 0 => MULTICAST,
            _ if head[..6] == link.mac => HOST,
            _ => OTHERHOST,
        };
        let mut shown = Shown::new(sight)?;
        let source = [head[6], head[7], head[8], head[9], head[10], head[11]];
        shown.bare = link.kind == Kind::Tunnel;
        shown.name = link_addr(link, protocol(&shown.bytes), source, pkttype);
        Some(shown)
    }

    /// How much of a frame a socket wants.
    fn kept(&mut self, id: DgramId, shown: &Shown<'_>, way: Way) -> usize {
        let Some(sock) = self.dgrams.socks.get(id) else { return 0 };
        let (binding, name) = (sock.packet, &shown.name);
        let wanted = match (binding.protocol, way) {
            (_, Way::Out(Some(sender))) if sender == id => false,
            (ETH_P_ALL, Way::Out(_)) => {
                !sock.options.flag(libc::SOL_PACKET, super::options::IGNORE_OUTGOING)
            }
            (ETH_P_ALL, Way::In) => true,
            (own, way) => own == name.protocol && way == Way::In,
        };
        if !wanted || (binding.ifindex != 0 && binding.ifindex != name.ifindex) {
            return 0;
        }
        let Some(filter) = &sock.filter else { return usize::MAX };
        let packet = bpf::Packet {
            bytes: &shown.bytes,
            start: if shown.bare || sock.is_cooked() { HEADROOM } else { 0 },
            network: HEADROOM,
            has_link: !shown.bare,
            protocol: name.protocol,
            pkttype: name.pkttype,
            ifindex: name.ifindex,
            hatype: name.hatype,
            vlan: shown.vlan,
            // Asked for by few: a capture leaves the course of a stack as it is.
            random: if filter.asks_for_random() {
                u32::try_from(self.rng.next() >> 32).unwrap_or(0)
            } else {
                0
            },
        };
        usize::try_from(filter.run(&packet)).unwrap_or(usize::MAX)
    }

    /// Gives a socket what it wants of a frame.
    fn show(&mut self, id: DgramId, shown: &Shown<'_>, kept: usize) {
        let (time, now) = (self.wall_time(), self.now);
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        let cooked = shown.bare || sock.is_cooked();
        let data = if cooked { &shown.bytes[HEADROOM..] } else { &shown.bytes[..] };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let data = &data[..data.len().min(kept)];
        let status = if shown.trusted { SUM_IS_RIGHT } else { 0 };
        let link_header = (!cooked).then_some(HEADROOM);
        let Some(ring) = &mut sock.capture.ring else {
            let mut name = SockAddr::Packet(shown.name);
            if sock.names_devices() {
                let device = self.device_addr(shown.name.ifindex, shown.name.hatype);
                let protocol = Some(shown.name.protocol);
                name = SockAddr::Device(DeviceAddr { protocol, ..device });
            }
            let meta = DatagramMeta {
                source: name,
                destination: name,
                ifindex: shown.name.ifindex,
                ttl: 0,
                tos: 0,
            };
            let network = u16::try_from(link_header.unwrap_or(0)).unwrap_or(0);
            let note = PacketNote { length, status, vlan: shown.vlan, network };
            let queued = self.enqueue_noted(id, data, meta, Some(note));
            self.count_frame(id, queued);
            return;
        };
        let mut name = [0; 20];
        let encoded = SockAddr::Packet(shown.name).encode();
        name.iter_mut().zip(encoded).for_each(|(room, byte)| *room = byte);
        let vlan = shown.vlan;
        let arrival = Arrival { bytes: data, length, link_header, name, status, vlan, time, now };
        let outcome = ring.put(&arrival);
        if matches!(outcome, Outcome::Ready | Outcome::LostButReady) {
            sock.events.changed();
        }
        self.count_frame(id, matches!(outcome, Outcome::Kept | Outcome::Ready));
    }

    fn count_frame(&mut self, id: DgramId, kept: bool) {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        let count = if kept { &mut sock.capture.received } else { &mut sock.capture.lost };
        *count = count.saturating_add(1);
    }

    /// Gives guests the blocks of their rings that have waited long enough.
    pub(crate) fn expire_rings(&mut self) {
        let (now, time) = (self.now, self.wall_time());
        for id in &self.dgrams.taps {
            let Some(sock) = self.dgrams.socks.get_mut(*id) else { continue };
            if sock.capture.ring.as_mut().is_some_and(|ring| ring.expire(now, time)) {
                sock.events.changed();
            }
        }
    }

    /// When the next of them has.
    pub(crate) fn rings_due(&self) -> Option<smoltcp::time::Instant> {
        let socks = self.dgrams.taps.iter().filter_map(|id| self.dgrams.socks.get(*id));
        socks.filter_map(|sock| sock.capture.ring.as_ref()?.due()).min()
    }
}
