//! Control messages of datagram sockets as values, and the one conversion to and from their C
//! layout: cmsg(3), ip(7), ipv6(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Errno, SockAddr,
    net::{DatagramMeta, PacketNote, QueuedError, SendControl},
    sockaddr::AF_INET6,
};

/// The size of `struct cmsghdr`, and the alignment of control messages.
const HEADER: usize = 16;
const ALIGN: usize = 8;
/// The options of RFC 2292 and their messages, which RFC 3542 renumbered.
const IPV6_2292PKTINFO: i32 = 2;
const IPV6_2292HOPLIMIT: i32 = 8;

/// Which control messages a guest has asked for with setsockopt(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    ttl: bool,
    tos: bool,
    packet_info: bool,
    hop_limit: bool,
    traffic_class: bool,
    packet_info6: bool,
    hop_limit_2292: bool,
    /// The error queue.
    errors: bool,
    packet_info_2292: bool,
    /// `IP_RECVORIGDSTADDR`, `IPV6_RECVORIGDSTADDR`.
    destination: bool,
    destination6: bool,
    /// `SO_PASSCRED` of netlink.
    credentials: bool,
    /// `PACKET_AUXDATA`.
    packet_notes: bool,
}

impl Wanted {
    /// Follows a setsockopt(2) that the stack has accepted.
    pub fn follow(&mut self, level: i32, name: i32, value: &[u8]) {
        let on = value.first_chunk().map_or(value.first().is_some_and(|byte| *byte != 0), |int| {
            i32::from_ne_bytes(*int) != 0
        });
        match (level, name) {
            (libc::IPPROTO_IP, libc::IP_RECVTTL) => self.ttl = on,
            (libc::IPPROTO_IP, libc::IP_RECVTOS) => self.tos = on,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => self.packet_info = on,
            (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT) => self.hop_limit = on,
            (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS) => self.traffic_class = on,
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) => self.packet_info6 = on,
            (libc::IPPROTO_IPV6, IPV6_2292PKTINFO) => self.packet_info_2292 = on,
            (libc::IPPROTO_IPV6, IPV6_2292HOPLIMIT) => self.hop_limit_2292 = on,
            (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR) => self.destination = on,
            (libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR) => self.destination6 = on,
            (libc::SOL_SOCKET, libc::SO_PASSCRED) => self.credentials = on,
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) => self.packet_notes = on,
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                self.errors = on;
            }
            _ => {}
        }
    }

    /// Whether the guest reads the error queue, and so waits for errors.
    #[must_use]
    pub fn wants_errors(&self) -> bool {
        self.errors
    }

    /// The messages that come with a datagram.
    pub fn messages(&self, meta: &DatagramMeta, out: &mut Messages) {
        match meta.source {
            SockAddr::Inet(_) => self.messages4(meta, out),
            SockAddr::Inet6(source) => {
                if self.packet_info6 {
                    out.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &packet_info6(meta));
                }
                // What else IPv6 tells is about its own packets.
                if source.ip().to_ipv4_mapped().is_some() {
                    return self.messages4(meta, out);
                }
                if self.hop_limit {
                    out.push(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &int(meta.ttl));
                }
                if self.traffic_class {
                    out.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &int(meta.tos));
                }
                if self.packet_info_2292 {
                    out.push(libc::IPPROTO_IPV6, IPV6_2292PKTINFO, &packet_info6(meta));
                }
                if self.hop_limit_2292 {
                    out.push(libc::IPPROTO_IPV6, IPV6_2292HOPLIMIT, &int(meta.ttl));
                }
                if self.destination6 {
                    let name = meta.destination.encode();
                    out.push(libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR, &name);
                }
            }
            SockAddr::Netlink { .. } if self.credentials => {
                // The kernel's: process 0, and root.
                out.push(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[0; 12]);
            }
            _ => {}
        }
    }

    fn messages4(&self, meta: &DatagramMeta, out: &mut Messages) {
        if self.packet_info {
            out.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &packet_info(meta));
        }
        if self.ttl {
            out.push(libc::IPPROTO_IP, libc::IP_TTL, &int(meta.ttl));
        }
        if self.tos {
            out.push(libc::IPPROTO_IP, libc::IP_TOS, &[meta.tos]);
        }
        if self.destination {
            let name = unmapped(meta.destination).encode();
            out.push(libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR, &name);
        }
    }

    /// The messages that come with a frame, `kept` bytes of which are there.
    pub fn packet_messages(&self, note: &PacketNote, kept: usize, out: &mut Messages) {
        if self.packet_notes {
            out.push(libc::SOL_PACKET, libc::PACKET_AUXDATA, &aux_data(note, kept));
        }
    }

    /// The messages that come with an entry of the error queue.
    pub fn error_messages(&self, error: &QueuedError, out: &mut Messages) {
        let ttl = i32::from(error.ttl).to_ne_bytes();
        match error.destination {
            _ if error.ttl == 0 => {}
            SockAddr::Inet6(_) => {
                if self.hop_limit {
                    out.push(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &ttl);
                }
                if self.hop_limit_2292 {
                    out.push(libc::IPPROTO_IPV6, IPV6_2292HOPLIMIT, &ttl);
                }
            }
            _ if self.ttl => out.push(libc::IPPROTO_IP, libc::IP_TTL, &ttl),
            _ => {}
        }
        error_message(error, out);
    }
}

/// `struct tpacket_auxdata` (packet(7)).
fn aux_data(note: &PacketNote, kept: usize) -> Vec<u8> {
    // TP_STATUS_USER; TP_STATUS_VLAN_VALID and TP_STATUS_VLAN_TPID_VALID.
    let vlan = if note.vlan.is_some() { 0x50 } else { 0 };
    let (tag, protocol) = note.vlan.unwrap_or_default();
    let words = [1 | vlan | note.status, note.length, u32::try_from(kept).unwrap_or(u32::MAX)];
    let halves = [0, note.network, tag, protocol];
    let words = words.into_iter().flat_map(u32::to_ne_bytes);
    words.chain(halves.into_iter().flat_map(u16::to_ne_bytes)).collect()
}

/// A byte as the int that it is told as.
fn int(value: u8) -> [u8; 4] {
    i32::from(value).to_ne_bytes()
}

/// The IPv4 address that is mapped into IPv6.
fn unmapped(addr: SockAddr) -> SockAddr {
    match addr {
        SockAddr::Inet6(addr) => {
            let ip = addr.ip().to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
            (IpAddr::V4(ip), addr.port()).into()
        }
        other => other,
    }
}

/// `struct in_pktinfo`: interface, local address, header's destination.
fn packet_info(meta: &DatagramMeta) -> Vec<u8> {
    let to = match unmapped(meta.destination) {
        SockAddr::Inet(addr) => *addr.ip(),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let mut bytes = meta.ifindex.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(&to.octets());
    bytes
}

/// `struct in6_pktinfo`: destination address, interface.
fn packet_info6(meta: &DatagramMeta) -> Vec<u8> {
    let to = match meta.destination {
        SockAddr::Inet6(addr) => *addr.ip(),
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let mut bytes = to.octets().to_vec();
    bytes.extend_from_slice(&meta.ifindex.to_ne_bytes());
    bytes
}

/// A buffer of control messages under construction.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// Appends one message, aligned.
    pub fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = (HEADER + data.len()) as u64;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&level.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    /// The messages that ask a kernel's sendmsg(2), on a socket of `family`, for what `control`
    /// says.
    #[must_use]
    pub fn of(control: &SendControl, family: u16) -> Self {
        let mut out = Self::default();
        let v6 = family == AF_INET6;
        let (level, ttl, tos) = if v6 {
            (libc::SOL_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
        } else {
            (libc::SOL_IP, libc::IP_TTL, libc::IP_TOS)
        };
        for (kind, value) in [(ttl, control.ttl), (tos, control.tos)] {
            if let Some(value) = value {
                out.push(level, kind, &i32::from(value).to_ne_bytes());
            }
        }
        if control.ifindex != 0 || control.source.is_some() {
            let index = control.ifindex.to_ne_bytes();
            let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            match control.source.unwrap_or(any) {
                IpAddr::V4(ip) if !v6 => {
                    let data = [index, ip.octets(), [0; 4]].concat();
                    out.push(libc::SOL_IP, libc::IP_PKTINFO, &data);
                }
                ip => {
                    let ip = match ip {
                        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                        IpAddr::V6(ip) => ip,
                    };
                    let data = [ip.octets().as_slice(), &index].concat();
                    out.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &data);
                }
            }
        }
        out
    }

    /// The bytes, whole.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes for a guest's buffer of `room`; the flag tells whether messages were cut off. As
    /// in Linux a message is cut only behind its header, and says how much of it is there.
    #[must_use]
    pub fn fit(mut self, room: usize) -> (Vec<u8>, bool) {
        let mut at = 0;
        while let Some(field) = self.bytes[at..].first_chunk() {
            let length = usize::try_from(u64::from_ne_bytes(*field)).unwrap_or(usize::MAX);
            let left = room - at;
            if length > left {
                let kept = if left < HEADER { 0 } else { left };
                self.bytes.truncate(at + kept);
                if kept > 0 {
                    self.bytes[at..at + 8].copy_from_slice(&(kept as u64).to_ne_bytes());
                }
                return (self.bytes, true);
            }
            at = (at + length.next_multiple_of(ALIGN)).min(room);
            if at == room {
                break;
            }
        }
        // The padding of the last message need not fit.
        let cut = self.bytes.len() > at.next_multiple_of(ALIGN);
        self.bytes.truncate(at.min(room));
        (self.bytes, cut)
    }
}

/// The message of an error-queue entry: `struct sock_extended_err` and the offender's address.
fn error_message(error: &QueuedError, out: &mut Messages) {
    let mut data = error.errno.0.to_ne_bytes().to_vec();
    data.extend_from_slice(&[error.origin, error.icmp_type, error.icmp_code, 0]);
    data.extend_from_slice(&error.info.to_ne_bytes());
    data.extend_from_slice(&[0; 4]);
    // A socket of IPv6 has mapped addresses.
    let family = error.destination.family();
    data.extend_from_slice(&error.offender.mapped_to(family).encode());
    match error.destination {
        SockAddr::Inet6(_) => out.push(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &data),
        _ => out.push(libc::IPPROTO_IP, libc::IP_RECVERR, &data),
    }
}

/// Reads the control messages of a sendmsg(2). Levels that are not a datagram socket's are
/// ignored, as in Linux. Errors: `EINVAL` for lengths that do not fit, and for what is unknown on
/// a known level.
pub fn parse(mut bytes: &[u8]) -> Result<SendControl, Errno> {
    let mut control = SendControl::default();
    while let Some(message) = next(&mut bytes)? {
        match message.level {
            libc::SOL_IP => internet(message.kind, message.data, &mut control)?,
            libc::SOL_IPV6 => internet6(message.kind, message.data, &mut control)?,
            libc::SOL_SOCKET => general(message.kind, message.data, &mut control)?,
            libc::SOL_UDP => {
                // All that there is is UDP_SEGMENT.
                let size = message.data.try_into().map(u16::from_ne_bytes);
                let known = message.kind == libc::UDP_SEGMENT;
                control.segment = size.ok().filter(|_| known).ok_or(Errno::EINVAL)?;
            }
            _ => {}
        }
    }
    Ok(control)
}

/// One control message in a buffer.
struct Message<'a> {
    level: i32,
    kind: i32,
    data: &'a [u8],
}

/// Takes the first message off a buffer. Errors: `EINVAL` for a length that does not fit.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<Message<'a>>, Errno> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let [length @ .., l0, l1, l2, l3, k0, k1, k2, k3] = *header;
    let length = usize::try_from(u64::from_ne_bytes(length)).map_err(|_| Errno::EINVAL)?;
    let data = bytes.get(HEADER..length).ok_or(Errno::EINVAL)?;
    *bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    let level = i32::from_ne_bytes([l0, l1, l2, l3]);
    Ok(Some(Message { level, kind: i32::from_ne_bytes([k0, k1, k2, k3]), data }))
}

/// Reads what a kernel's recvmsg(2) tells of a datagram into `meta`; other messages, and what
/// follows one that is cut off, are left.
pub fn read_meta(mut bytes: &[u8], meta: &mut DatagramMeta) {
    while let Ok(Some(Message { level, kind, data })) = next(&mut bytes) {
        let byte = read_int(data).ok().and_then(|int| u8::try_from(int).ok());
        match (level, kind) {
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                meta.ttl = byte.unwrap_or(meta.ttl);
            }
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => meta.tos = byte.unwrap_or(meta.tos),
            (libc::SOL_IP, libc::IP_TOS) => meta.tos = data.first().copied().unwrap_or(meta.tos),
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                if let Some([i0, i1, i2, i3, _, _, _, _, ip @ ..]) = data.first_chunk::<12>() {
                    meta.ifindex = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
                    meta.destination = (IpAddr::from(*ip), 0).into();
                }
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                if let Some([ip @ .., i0, i1, i2, i3]) = data.first_chunk::<20>() {
                    meta.ifindex = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
                    meta.destination = (IpAddr::from(*ip), 0).into();
                }
            }
            _ => {}
        }
    }
}

/// `ip_cmsg_send`: lengths are exact.
fn internet(kind: i32, data: &[u8], control: &mut SendControl) -> Result<(), Errno> {
    match kind {
        libc::IP_TTL => control.ttl = Some(ranged(read_int(data)?, 1)?),
        libc::IP_TOS => {
            control.tos = Some(match data {
                [byte] => *byte,
                _ => ranged(read_int(data)?, 0)?,
            });
        }
        libc::IP_PKTINFO => {
            let info: &[u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
            let [a, b, c, d, ip @ ..] = *info;
            control.ifindex = u32::from_ne_bytes([a, b, c, d]);
            let ip = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
            control.source = Some(IpAddr::V4(ip)).filter(|ip| !ip.is_unspecified());
        }
        libc::IP_RETOPTS => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// `ip6_datagram_send_ctl`: -1 stands for the default.
fn internet6(kind: i32, data: &[u8], control: &mut SendControl) -> Result<(), Errno> {
    match kind {
        libc::IPV6_HOPLIMIT => control.ttl = defaulted(read_int(data)?)?,
        libc::IPV6_TCLASS => control.tos = defaulted(read_int(data)?)?,
        libc::IPV6_PKTINFO => {
            let info: &[u8; 20] = data.first_chunk().ok_or(Errno::EINVAL)?;
            let (ip, ifindex) = info.split_at(16);
            control.ifindex = u32::from_ne_bytes(ifindex.try_into().map_err(|_| Errno::EINVAL)?);
            let ip: [u8; 16] = ip.try_into().map_err(|_| Errno::EINVAL)?;
            control.source = Some(IpAddr::from(ip)).filter(|ip| !ip.is_unspecified());
        }
        libc::IPV6_DONTFRAG => _ = read_int(data)?,
        libc::IPV6_FLOWINFO if data.len() >= 4 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// `__sock_cmsg_send`: time stamps and departure times are not kept; descriptors and credentials
/// mean something to AF_UNIX only.
fn general(kind: i32, data: &[u8], control: &mut SendControl) -> Result<(), Errno> {
    match kind {
        libc::SCM_RIGHTS | libc::SCM_CREDENTIALS => Ok(()),
        libc::SO_TIMESTAMPING => read_int(data).map(|_| ()),
        libc::SO_MARK => read_int(data).map(|mark| control.mark = Some(mark.cast_unsigned())),
        libc::SCM_TXTIME if data.len() == 8 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn read_int(data: &[u8]) -> Result<i32, Errno> {
    data.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL)
}

fn ranged(value: i32, least: u8) -> Result<u8, Errno> {
    u8::try_from(value).ok().filter(|value| *value >= least).ok_or(Errno::EINVAL)
}

fn defaulted(value: i32) -> Result<Option<u8>, Errno> {
    if value == -1 { Ok(None) } else { ranged(value, 0).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockaddr::AF_INET;

    #[test]
    fn what_is_pushed_can_be_parsed() {
        let mut messages = Messages::default();
        messages.push(libc::IPPROTO_IP, libc::IP_TOS, &[0x10]);
        messages.push(libc::IPPROTO_IP, libc::IP_TTL, &7_i32.to_ne_bytes());
        let (bytes, truncated) = messages.fit(4096);
        assert!(!truncated);
        let parsed = parse(&bytes).expect("well formed");
        assert_eq!((parsed.tos, parsed.ttl), (Some(0x10), Some(7)));
    }

    #[test]
    fn what_is_asked_for_survives_the_way_to_the_kernel() {
        for (family, source) in [(AF_INET, "10.0.0.1"), (AF_INET6, "fc00::1")] {
            let source = Some(source.parse().expect("literal"));
            let control = SendControl {
                ttl: Some(255),
                tos: Some(4),
                ifindex: 3,
                source,
                ..SendControl::default()
            };
            assert_eq!(parse(Messages::of(&control, family).as_bytes()), Ok(control));
        }
        assert!(Messages::of(&SendControl::default(), AF_INET).as_bytes().is_empty());
    }

    #[test]
    fn what_a_datagram_carries_can_be_read_back() {
        for ips in [["10.0.0.2", "10.0.0.1"], ["fc00::2", "fc00::1"]] {
            let [source, destination] = ips.map(|ip| (ip.parse::<IpAddr>().expect("literal"), 0));
            let meta = DatagramMeta {
                source: source.into(),
                destination: destination.into(),
                ifindex: 7,
                ttl: 64,
                tos: 8,
            };
            let mut wanted = Wanted::default();
            for name in [libc::IP_RECVTTL, libc::IP_RECVTOS, libc::IP_PKTINFO] {
                wanted.follow(libc::IPPROTO_IP, name, &1_i32.to_ne_bytes());
            }
            for name in [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS, libc::IPV6_RECVPKTINFO] {
                wanted.follow(libc::IPPROTO_IPV6, name, &1_i32.to_ne_bytes());
            }
            let mut messages = Messages::default();
            wanted.messages(&meta, &mut messages);
            let bare = SockAddr::any(meta.source.family());
            let mut read = DatagramMeta { destination: bare, ifindex: 0, ttl: 0, tos: 0, ..meta };
            read_meta(messages.as_bytes(), &mut read);
            assert_eq!(read, meta);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for length in [0_u64, 3, 17, u64::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.resize(HEADER, 0);
            assert_eq!(parse(&bytes), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn values_are_checked_as_the_kernel_checks_them() {
        let send = |level, kind, data: &[u8]| {
            let mut messages = Messages::default();
            messages.push(level, kind, data);
            parse(&messages.fit(4096).0)
        };
        let ttl = |value: i32| send(libc::SOL_IP, libc::IP_TTL, &value.to_ne_bytes());
        assert_eq!(ttl(255).map(|control| control.ttl), Ok(Some(255)));
        assert_eq!([0, 256, -1].map(|value| ttl(value).is_err()), [true; 3]);
        assert!(send(libc::SOL_IP, libc::IP_TTL, &[7]).is_err());
        assert!(send(libc::SOL_IP, libc::IP_PKTINFO, &[0; 13]).is_err());
        assert!(send(libc::SOL_IP, 99, &[]).is_err());
        assert!(send(77, 1, &[]).is_ok());
        let hops = send(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, &(-1_i32).to_ne_bytes());
        assert_eq!(hops.map(|control| control.ttl), Ok(None));
    }

    #[test]
    fn messages_are_cut_behind_their_headers_only() {
        let messages = || {
            let mut messages = Messages::default();
            messages.push(libc::SOL_IP, libc::IP_TTL, &[1, 0, 0, 0]);
            messages.push(libc::SOL_IP, libc::IP_TOS, &[2]);
            messages
        };
        let fitting = |room| {
            let (bytes, cut) = messages().fit(room);
            let said = bytes.first_chunk().map(|field| u64::from_ne_bytes(*field));
            (bytes.len(), said, cut)
        };
        assert_eq!(fitting(7), (0, None, true));
        assert_eq!(fitting(18), (18, Some(18), true));
        assert_eq!(fitting(20), (20, Some(20), true));
        assert_eq!(fitting(24), (24, Some(20), true));
        assert_eq!(fitting(39), (24, Some(20), true));
        assert_eq!(fitting(41), (41, Some(20), false));
        assert_eq!(fitting(48), (48, Some(20), false));
    }
}
