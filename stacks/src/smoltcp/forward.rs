//! Packets of others, passed on between links (RFC 1812).

use umvu_abi::{Errno, IfIndex};

use super::{
    icmp::Trouble,
    inner::Inner,
    link::Outgoing,
    net::flow_to,
    packet::{HEADROOM, IpHeader, fill_header_checksum},
    segmentation::segments,
};

impl Inner {
    /// Passes a packet on.
    pub(crate) fn forward(&mut self, from: usize, header: &IpHeader, mut packet: Outgoing) {
        let ip = &packet.bytes[HEADROOM..];
        if header.ttl <= 1 {
            return self.send_trouble(Trouble::TimeExceeded, header, ip);
        }
        let mut flow = flow_to(header.destination, Some(header.source), 0);
        flow.iif = self.links.get(from).map(|link| IfIndex(link.index));
        let hop = match self.route_flow(&flow) {
            Ok(hop) if hop.kind.is_unicast() => hop,
            // A blackhole, and a rule that is one.
            Err(Errno::EINVAL) => return,
            _ => return self.send_trouble(Trouble::NetUnreachable, header, ip),
        };
        if hop.link == from {
            self.tell_redirect(&hop, header, ip);
        }
        self.counts.ip(header.source.is_ipv6()).forwarded += 1;
        tracing::trace!(from, to = hop.link, "forward");
        let Some(link) = self.links.get(hop.link) else { return };
        let mtu = link.mtu;
        // The packets that a long segment stands for.
        let length = match packet.segment {
            Some(size) => header.payload + 20 + usize::from(size.get()),
            None => ip.len(),
        };
        if length > mtu && header.dont_fragment {
            let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
            return self.send_trouble(Trouble::TooBig(mtu), header, ip);
        }
        let cut = packet.segment.is_some() && !link.offload;
        let ip = &mut packet.bytes[HEADROOM..];
        if header.source.is_ipv4() {
            ip[8] -= 1;
            fill_header_checksum(ip);
        } else {
            ip[7] -= 1;
        }
        if cut {
            for piece in segments(packet) {
                self.send_hop(&hop, piece);
            }
            return;
        }
        self.send_hop(&hop, packet);
    }
}
