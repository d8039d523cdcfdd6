//! Raw sockets of the internet families (raw(7)).

use std::net::{IpAddr, SocketAddr};

use umvu_abi::{Errno, SockAddr, net::SendControl, sockaddr::AF_INET6};

use super::{
    super::{
        inner::Inner,
        link::Outgoing,
        output::fill_checksum,
        packet::{HEADROOM, ICMP, ICMPV6, fill_header_checksum, payload_sum},
        pool,
        tcp::input::Arrival,
    },
    Dgram, DgramId,
};

const SOL_ICMPV6: i32 = 58;

impl Inner {
    /// Sends a packet: the payload of one, or with IP_HDRINCL all of it.
    pub(crate) fn raw_send(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<(), Errno> {
        let mut plan = self.plan(id, to, control)?;
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let protocol = sock.options.protocol();
        let v6 = sock.family == AF_INET6;
        let included =
            sock.options.flag(libc::SOL_IP, libc::IP_HDRINCL) || protocol == libc::IPPROTO_RAW;
        let place = |level| sock.options.int(level, libc::IPV6_CHECKSUM);
        let place = place(libc::SOL_IPV6).max(place(libc::SOL_RAW));
        if included && !v6 {
            let bytes = self.included(data, plan.build.source)?;
            self.send_planned(&plan, Outgoing { bytes, segment: None, unsummed: false });
            return Ok(());
        }
        self.check_size(id, &plan, data.len())?;
        plan.build.protocol = u8::try_from(protocol).unwrap_or(255);
        plan.build.id = self.idents.next(&plan.build);
        let (mut bytes, at) = plan.build.packet(data.len());
        bytes[at..].copy_from_slice(data);
        if protocol == libc::IPPROTO_ICMPV6 {
            fill_checksum(&mut bytes);
        } else if v6 && let Ok(place) = usize::try_from(place) {
            let room = bytes.get_mut(at + place..at + place + 2).ok_or(Errno::EINVAL)?;
            room.fill(0);
            let (source, destination) = (plan.build.source, plan.build.destination);
            let sum = !payload_sum(source, destination, plan.build.protocol, &bytes[at..]);
            bytes[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self.send_planned(&plan, Outgoing { bytes, segment: None, unsummed: false });
        Ok(())
    }

    /// Completes a packet whose header the guest wrote (raw(7), IP_HDRINCL).
    fn included(&mut self, data: &[u8], source: IpAddr) -> Result<Vec<u8>, Errno> {
        if data.len() < 20 || usize::from(data[0] & 15) * 4 > data.len() || data[0] & 15 < 5 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = pool::take(HEADROOM + data.len());
        bytes[HEADROOM..].copy_from_slice(data);
        let ip = &mut bytes[HEADROOM..];
        let total = u16::try_from(ip.len()).map_err(|_| Errno::EMSGSIZE)?;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        if ip[4..6] == [0, 0] {
            ip[4..6].copy_from_slice(&self.rng.next16().to_be_bytes());
        }
        if ip[12..16] == [0; 4]
            && let IpAddr::V4(source) = source
        {
            ip[12..16].copy_from_slice(&source.octets());
        }
        fill_header_checksum(ip);
        Ok(bytes)
    }

    /// Gives a copy of a packet to every raw socket that wants it; tells whether there was one.
    pub(crate) fn raw_input(&mut self, arrival: &Arrival<'_>) -> bool {
        if self.dgrams.raws.is_empty() {
            return false;
        }
        let wanting: Vec<(DgramId, u16)> = self
            .dgrams
            .raws
            .iter()
            .filter_map(|id| {
                let sock = self.dgrams.socks.get(*id)?;
                wants(sock, arrival).then_some((*id, sock.family))
            })
            .collect();
        for (id, family) in &wanting {
            let header = arrival.header;
            // An IPv4 raw socket also receives the header.
            let data =
                if *family == AF_INET6 { arrival.payload() } else { &arrival.ip[..header.total] };
            let ends = [header.source, header.destination].map(|ip| SocketAddr::new(ip, 0));
            let meta = self.datagram_meta(arrival, *family, ends);
            let sock = self.dgrams.socks.get(*id);
            let Some(kept) = sock.and_then(|sock| sock.filtered(arrival, meta.ifindex)) else {
                continue;
            };
            self.enqueue(*id, &data[..data.len().min(kept)], meta);
        }
        !wanting.is_empty()
    }
}

fn wants(sock: &Dgram, arrival: &Arrival<'_>) -> bool {
    let header = arrival.header;
    let v6 = sock.family == AF_INET6;
    v6 == header.source.is_ipv6()
        && sock.options.protocol() == i32::from(header.protocol)
        && sock.bound.is_none_or(|(host, _)| host.covers(header.destination))
        && sock.peer.is_none_or(|peer| peer.ip() == header.source)
        && passes_filter(sock, header.protocol, arrival.payload())
}

/// ICMP_FILTER (raw(7)) and ICMPV6_FILTER (RFC 3542): a set bit blocks a type.
fn passes_filter(sock: &Dgram, protocol: u8, payload: &[u8]) -> bool {
    let Some(kind) = payload.first().copied() else { return true };
    let level = match protocol {
        ICMP if kind < 32 => libc::SOL_RAW,
        ICMPV6 => SOL_ICMPV6,
        _ => return true,
    };
    let filter = sock.options.get(level, 1).unwrap_or_default();
    let word = usize::from(kind / 32) * 4;
    let bits =
        filter.get(word..).and_then(<[u8]>::first_chunk).map_or(0, |w| u32::from_ne_bytes(*w));
    bits & (1 << (kind % 32)) == 0
}
