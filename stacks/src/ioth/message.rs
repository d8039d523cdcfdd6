//! Control messages of a plugin's datagrams: cmsg(3), ip(7), ipv6(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use umvu_abi::{
    SockAddr,
    net::{DatagramMeta, SendControl},
};

/// The size of `struct cmsghdr`, and the alignment of control messages.
const HEADER: usize = 16;
const ALIGN: usize = 8;
/// The number of IPV6_PKTINFO and IPV6_HOPLIMIT in RFC 2292.
const PKTINFO_2292: i32 = 2;
const HOPLIMIT_2292: i32 = 8;

/// What a received datagram carries beside its bytes, from what the plugin says.
pub(crate) fn meta(source: SockAddr, control: &[u8]) -> DatagramMeta {
    let destination = SockAddr::any(source.family());
    let mut meta = DatagramMeta { source, destination, ifindex: 0, ttl: 0, tos: 0 };
    let mut rest = control;
    while let Some((level, kind, data, behind)) = split(rest) {
        take(&mut meta, level, kind, data);
        rest = behind;
    }
    meta
}

/// The first message: its level, type and data, and what is behind it.
fn split(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::try_from(u64::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let data = bytes.get(HEADER..length)?;
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |part| i32::from_ne_bytes(*part));
    let behind = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    Some((number(8), number(12), data, behind))
}

fn take(meta: &mut DatagramMeta, level: i32, kind: i32, data: &[u8]) {
    let small = data.first_chunk().map(|int| i32::from_ne_bytes(*int));
    let small = small.and_then(|value| u8::try_from(value).ok());
    match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_TTL)
        | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT | HOPLIMIT_2292) => {
            meta.ttl = small.unwrap_or(meta.ttl);
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => meta.tos = data.first().copied().unwrap_or(0),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => meta.tos = small.unwrap_or(meta.tos),
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            if let (Some(index), Some(to)) = (data.first_chunk::<4>(), data.get(8..12)) {
                meta.ifindex = u32::from_ne_bytes(*index);
                let to =
                    to.first_chunk().map_or(Ipv4Addr::UNSPECIFIED, |ip: &[u8; 4]| (*ip).into());
                meta.destination = (IpAddr::V4(to), 0).into();
            }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO | PKTINFO_2292) => {
            if let (Some(to), Some(index)) = (data.first_chunk::<16>(), data.get(16..20)) {
                meta.destination = (IpAddr::V6(Ipv6Addr::from(*to)), 0).into();
                meta.ifindex = index.first_chunk().map_or(0, |index| u32::from_ne_bytes(*index));
            }
        }
        _ => {}
    }
}

/// The control messages of a send, for a socket of a family.
pub(crate) fn encode(control: &SendControl, domain: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let int = |value: u8| i32::from(value).to_ne_bytes();
    if domain == libc::AF_INET6 {
        if let Some(ttl) = control.ttl {
            push(&mut out, libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &int(ttl));
        }
        if let Some(tos) = control.tos {
            push(&mut out, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &int(tos));
        }
        if control.ifindex != 0 || control.source.is_some() {
            let mut info = match control.source {
                Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
                _ => vec![0; 16],
            };
            info.extend_from_slice(&control.ifindex.to_ne_bytes());
            push(&mut out, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        return out;
    }
    if let Some(ttl) = control.ttl {
        push(&mut out, libc::IPPROTO_IP, libc::IP_TTL, &int(ttl));
    }
    if let Some(tos) = control.tos {
        push(&mut out, libc::IPPROTO_IP, libc::IP_TOS, &int(tos));
    }
    if control.ifindex != 0 || control.source.is_some() {
        let mut info = control.ifindex.to_ne_bytes().to_vec();
        match control.source {
            Some(IpAddr::V4(ip)) => info.extend_from_slice(&ip.octets()),
            _ => info.extend_from_slice(&[0; 4]),
        }
        info.extend_from_slice(&[0; 4]);
        push(&mut out, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    }
    out
}

fn push(out: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    out.extend_from_slice(&((HEADER + data.len()) as u64).to_ne_bytes());
    out.extend_from_slice(&level.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_understood_when_received() {
        for (source, domain) in [("10.0.0.1", libc::AF_INET), ("fd00::1", libc::AF_INET6)] {
            let source: IpAddr = source.parse().expect("literal");
            let sent = SendControl {
                ttl: Some(7),
                tos: Some(8),
                ifindex: 2,
                source: Some(source),
                ..SendControl::default()
            };
            let mut bytes = encode(&sent, domain);
            let meta = meta((source, 53).into(), &bytes);
            assert_eq!((meta.ttl, meta.ifindex), (7, 2));
            // Cut anywhere, and with any length, it is no trouble.
            for end in 0..bytes.len() {
                let _ = super::meta((source, 53).into(), &bytes[..end]);
            }
            bytes[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
            assert_eq!(super::meta((source, 53).into(), &bytes).ttl, 0);
        }
    }
}
