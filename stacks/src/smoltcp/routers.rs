//! Router discovery of a host (RFC 4861, RFC 4862): solicitations, and the reading of
//! advertisements, which the configuration then follows.

use std::net::{IpAddr, Ipv6Addr};

use netlink_emu::{
    config::NetConfig,
    values::{AdvertisedPrefix, Prefix, RouterAdvertisement},
};
use smoltcp::time::{Duration, Instant};
use umvu_abi::IfIndex;

use super::{
    inner::Inner,
    link::Kind,
    ndp::{SOURCE_MAC, mac_option},
    neighbour::Solicited,
    tcp::input::Arrival,
};

const SOLICITATION: u8 = 133;
/// The type of advertisements.
pub(crate) const ADVERTISEMENT: u8 = 134;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The options that concern hosts.
const PREFIX: u8 = 3;
const MTU: u8 = 5;
/// Those that are handed on to user space (RFC 8106).
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
/// The fixed part of an advertisement.
const FIXED: usize = 16;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// The most prefixes that are taken from one advertisement.
const MOST_PREFIXES: usize = 64;

/// Solicitations to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Solicit {
    /// When the next one is due.
    pub(crate) due: Instant,
    /// How many are left; None without end.
    left: Option<i64>,
    /// How long to wait after it.
    wait: Duration,
    longest: Duration,
}

impl Inner {
    /// Begins to look for routers on a link that went up, if the host listens to any.
    pub(crate) fn look_for_routers(&mut self, at: usize) {
        let now = self.now;
        let Some(link) = self.links.get_mut(at) else { return };
        link.solicit = None;
        let index = IfIndex(link.index);
        if link.kind != Kind::Ethernet || !self.net.config.accepts_routers(index) {
            return;
        }
        let knob = |name| self.net.config.interface_sysctl(true, index, name).unwrap_or(0);
        let seconds = |name| Duration::from_secs(u64::try_from(knob(name)).unwrap_or(0));
        let count = knob("router_solicitations");
        link.solicit = (count != 0).then(|| Solicit {
            due: now + seconds("router_solicitation_delay"),
            left: (count > 0).then_some(count),
            wait: seconds("router_solicitation_interval").max(Duration::from_millis(100)),
            longest: seconds("router_solicitation_max_interval"),
        });
    }

    /// Sends the solicitations that are due.
    pub(crate) fn solicit_routers(&mut self) {
        for at in 0..self.links.len() {
            let now = self.now;
            let Some(link) = self.links.get_mut(at) else { continue };
            let Some(solicit) = link.solicit.as_mut().filter(|solicit| solicit.due <= now) else {
                continue;
            };
            let left = solicit.left.map(|left| left - 1);
            let next = Solicit { due: now + solicit.wait, left, ..*solicit };
            // RFC 7559: less and less often, for ever.
            let wait = (next.wait * 2).min(next.longest);
            link.solicit = (left != Some(0)).then_some(Solicit { wait, ..next });
            let (index, mac) = (IfIndex(link.index), link.mac);
            if !self.net.config.accepts_routers(index) {
                self.links[at].solicit = None;
                continue;
            }
            let source = self.source_for(at, ALL_ROUTERS.into());
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            if source.is_some() {
                body.extend_from_slice(&[SOURCE_MAC, 1]);
                body.extend_from_slice(&mac);
            }
            let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
            self.send_ndp(at, source, ALL_ROUTERS.into(), &body);
        }
    }

    /// When a solicitation is due.
    pub(crate) fn solicitations_due(&self) -> Option<Instant> {
        self.links.iter().filter_map(|link| link.solicit.map(|solicit| solicit.due)).min()
    }

    /// Takes a router advertisement; its checksum was verified.
    pub(crate) fn router_advertisement(&mut self, arrival: &Arrival<'_>) {
        let (at, now) = (arrival.link, self.now);
        let Some(link) = self.links.get(at) else { return };
        let index = IfIndex(link.index);
        let body = arrival.payload();
        let IpAddr::V6(router) = arrival.header.source else { return };
        let is_valid = router.is_unicast_link_local() && body.get(1) == Some(&0);
        let Some(told) = read(body, index, router).filter(|_| is_valid) else { return };
        if self.is_local(router.into()) || !self.net.config.advertised(&told) {
            return;
        }
        let Some(link) = self.links.get_mut(at) else { return };
        if told.lifetime > 0 {
            link.solicit = None;
        }
        let options = &body[FIXED..];
        if let Some(mac) = mac_option(options, SOURCE_MAC).filter(|mac| mac[0] & 1 == 0) {
            let waited = link.neighbours.learn(router.into(), mac, Solicited::No, now);
            self.send_waiting(at, mac, waited);
        }
        hand_on(&mut self.net.config, index, options);
    }
}

/// The options of a neighbour discovery message: type and all bytes of each, up to the first that is
/// cut off.
fn options(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [kind, units, ..] = rest else { return None };
        let size = usize::from(*units) * 8;
        let option = rest.get(..size).filter(|option| !option.is_empty())?;
        rest = &rest[size..];
        Some((*kind, option))
    })
}

fn hand_on(config: &mut NetConfig, index: IfIndex, bytes: &[u8]) {
    for (_, option) in options(bytes).filter(|(kind, _)| matches!(*kind, RDNSS | DNSSL)) {
        config.pass_router_option(index, option);
    }
}

/// Reads an advertisement; None when it is too short.
fn read(body: &[u8], interface: IfIndex, router: Ipv6Addr) -> Option<RouterAdvertisement> {
    let head = body.first_chunk::<FIXED>()?;
    let mut told = RouterAdvertisement {
        interface,
        router,
        hop_limit: head[4],
        lifetime: u16::from_be_bytes([head[6], head[7]]),
        // RFC 4191; the reserved value means medium.
        preference: match (head[5] >> 3) & 3 {
            2 => 0,
            preference => preference,
        },
        mtu: None,
        prefixes: Vec::new(),
    };
    for (kind, option) in options(&body[FIXED..]) {
        match kind {
            MTU => told.mtu = word(option, 4),
            PREFIX if told.prefixes.len() < MOST_PREFIXES => told.prefixes.extend(prefix(option)),
            _ => {}
        }
    }
    Some(told)
}

fn word(option: &[u8], at: usize) -> Option<u32> {
    option.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn prefix(option: &[u8]) -> Option<AdvertisedPrefix> {
    let network = Ipv6Addr::from(*option.get(16..)?.first_chunk::<16>()?);
    let length = option[2];
    (length <= 128).then_some(AdvertisedPrefix {
        prefix: Prefix::new(network.into(), length),
        on_link: option[3] & ON_LINK != 0,
        autonomous: option[3] & AUTONOMOUS != 0,
        valid: word(option, 4)?,
        preferred: word(option, 8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What radvd sends: a prefix, an MTU, a name server.
    fn advertisement() -> Vec<u8> {
        let mut body = vec![ADVERTISEMENT, 0, 0, 0, 64, 0x08, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(&[PREFIX, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 7, 8, 0, 0, 0, 0]);
        body.extend_from_slice(&Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0).octets());
        body.extend_from_slice(&[MTU, 1, 0, 0, 0, 0, 5, 120]);
        body.extend_from_slice(&[RDNSS, 3, 0, 0, 0, 0, 0, 60]);
        body.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        body
    }

    #[test]
    fn advertisements_are_read() {
        let told = read(&advertisement(), IfIndex(2), Ipv6Addr::LOCALHOST).expect("whole");
        assert_eq!((told.hop_limit, told.lifetime, told.preference), (64, 1800, 1));
        assert_eq!(told.mtu, Some(1400));
        let [prefix] = told.prefixes.as_slice() else { panic!("one prefix") };
        assert!(prefix.on_link && prefix.autonomous);
        assert_eq!((prefix.valid, prefix.preferred, prefix.prefix.length), (3600, 1800, 64));
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = advertisement();
        for cut in 0..whole.len() {
            let told = read(&whole[..cut], IfIndex(2), Ipv6Addr::LOCALHOST);
            assert_eq!(told.is_some(), cut >= FIXED);
            assert!(told.is_none_or(|told| told.prefixes.len() == usize::from(cut >= 48)));
        }
        let endless = [&whole[..16], &[PREFIX, 0, 0, 0]].concat();
        assert!(read(&endless, IfIndex(2), Ipv6Addr::LOCALHOST).is_some());
    }
}
