//! IPv6 neighbours and the router's advertisements (RFC 4861, RFC 8106).

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::time::{Duration, Instant};

use super::{
    lan::{Lan, Mac},
    options::{Config, V6},
};
use crate::ip::packet::IpHeader;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// How often the router tells of itself, and how long that is believed.
pub(super) const PERIOD: Duration = Duration::from_secs(200);
const LIFETIME: u16 = 1800;
const VALID: u32 = 86_400;
const PREFERRED: u32 = 14_400;
/// The longest domain list that fits.
const LONGEST_DOMAINS: usize = 512;

/// The link-local address of the router and of the name server.
pub(super) fn link_local(ip: Ipv6Addr) -> Ipv6Addr {
    let low = u128::from(ip) & u128::from(u64::MAX);
    Ipv6Addr::from((0xfe80_u128 << 112) | low)
}

/// Whether an address is one that this side answers for.
pub(super) fn is_ours(v6: &V6, ip: Ipv6Addr) -> bool {
    [v6.host, v6.dns].into_iter().any(|ours| ip == ours || ip == link_local(ours))
}

/// Makes the question for the hardware address of `who`.
pub(super) fn solicitation(who: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&who.octets());
    body.extend_from_slice(&[SOURCE_MAC, 1]);
    body.extend_from_slice(&mac);
    body
}

/// Takes a message of neighbour discovery whose checksum was verified; answers for `ours`.
pub(super) fn input(
    lan: &mut Lan,
    config: &Config,
    (header, body): (&IpHeader, &[u8]),
    now: Instant,
    ours: impl Fn(Ipv6Addr) -> bool,
) {
    let (Some(v6), IpAddr::V6(source)) = (&config.v6, header.source) else { return };
    if header.ttl != 255 || body.len() < 8 {
        return;
    }
    match body[0] {
        ROUTER_SOLICITATION => advertise(lan, config),
        SOLICITATION => {
            let Some(target) = target(body).filter(|target| ours(*target)) else { return };
            if let Some(mac) = mac_option(body.get(24..).unwrap_or_default(), SOURCE_MAC) {
                lan.learn(header.source, mac, now);
            }
            // To a host that has no address yet: to all, not as what it asked for.
            let (to, flags) =
                if source.is_unspecified() { (ALL_NODES, 0xa0) } else { (source, 0xe0) };
            let mut answer = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
            answer.extend_from_slice(&target.octets());
            answer.extend_from_slice(&[TARGET_MAC, 1]);
            answer.extend_from_slice(&lan.mac);
            lan.send_ndp(target, to, &answer);
        }
        ADVERTISEMENT => {
            let told = target(body).filter(|target| !ours(*target) && !is_ours(v6, *target));
            if let (Some(target), Some(mac)) =
                (told, mac_option(body.get(24..).unwrap_or_default(), TARGET_MAC))
            {
                lan.learn(target.into(), mac, now);
            }
        }
        _ => {}
    }
}

fn target(body: &[u8]) -> Option<Ipv6Addr> {
    body.get(8..24)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

fn mac_option(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while let [kind, length, ..] = options {
        let option = options.get(..usize::from(*length) * 8).filter(|o| !o.is_empty())?;
        if *kind == wanted {
            return option.get(2..8)?.first_chunk().copied();
        }
        options = &options[option.len()..];
    }
    None
}

/// Tells all hosts of the router, the prefix and the name server.
pub(super) fn advertise(lan: &mut Lan, config: &Config) {
    let Some(v6) = &config.v6 else { return };
    let body = advertisement(config, v6, lan.mac);
    lan.send_ndp(link_local(v6.host), ALL_NODES, &body);
}

fn advertisement(config: &Config, v6: &V6, mac: Mac) -> Vec<u8> {
    let mut body = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    body.extend_from_slice(&LIFETIME.to_be_bytes());
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&[SOURCE_MAC, 1]);
    body.extend_from_slice(&mac);
    body.extend_from_slice(&[5, 1, 0, 0]);
    body.extend_from_slice(&u32::try_from(config.mtu.max(1280)).unwrap_or(1500).to_be_bytes());
    // On link, and for addresses of the hosts' own making.
    body.extend_from_slice(&[3, 4, v6.net.prefix_len(), 0xc0]);
    body.extend_from_slice(&VALID.to_be_bytes());
    body.extend_from_slice(&PREFERRED.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&v6.net.network().octets());
    body.extend_from_slice(&[25, 3, 0, 0]);
    body.extend_from_slice(&u32::from(LIFETIME).to_be_bytes());
    body.extend_from_slice(&v6.dns.octets());
    let mut domains: Vec<u8> = config.names.search.iter().flat_map(|name| labels(name)).collect();
    if !domains.is_empty() && domains.len() <= LONGEST_DOMAINS {
        domains.resize(domains.len().next_multiple_of(8), 0);
        let length = u8::try_from(domains.len() / 8 + 1).unwrap_or(1);
        body.extend_from_slice(&[31, length, 0, 0]);
        body.extend_from_slice(&u32::from(LIFETIME).to_be_bytes());
        body.extend_from_slice(&domains);
    }
    body
}

/// A domain name as DNS writes it; nothing for what is none.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) => bytes.push(length),
            _ => return Vec::new(),
        }
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advertisement_is_whole_and_aligned() {
        let vnl = "slirp:///vdnssearch=lab.test,example.org".parse().expect("a locator");
        let config = Config::of(&vnl).expect("a configuration");
        let body = advertisement(&config, &config.v6.expect("IPv6"), [2; 6]);
        assert_eq!(body.len() % 8, 0);
        assert_eq!(mac_option(&body[16..], SOURCE_MAC), Some([2; 6]));
        let (mut options, mut kinds) = (&body[16..], Vec::new());
        while let [kind, length, ..] = options {
            kinds.push(*kind);
            options = &options[usize::from(*length) * 8..];
        }
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
    }

    #[test]
    fn broken_options_end_the_search() {
        assert_eq!(mac_option(&[1, 0, 1, 1, 1, 1, 1, 1], SOURCE_MAC), None);
        assert_eq!(mac_option(&[1, 2, 1, 1, 1, 1, 1, 1], SOURCE_MAC), None);
        assert_eq!(link_local("fd00::2".parse().expect("literal")).to_string(), "fe80::2");
        assert!(labels("a..b").is_empty());
    }
}
