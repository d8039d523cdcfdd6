//! Neighbour discovery: questions and answers about IPv6 neighbours (RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use super::{
    inner::Inner,
    link::{Outgoing, multicast_mac},
    neighbour::{Mac, Solicited},
    net::{Hop, HopKind},
    output::fill_checksum,
    packet::{Build, ICMPV6},
    redirect, routers,
    tcp::input::Arrival,
};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The option with the hardware address of the sender.
pub(crate) const SOURCE_MAC: u8 = 1;
/// The option with that of the target.
pub(crate) const TARGET_MAC: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The group that the owner of an address listens to.
pub(crate) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The hardware address in an option of this kind.
pub(crate) fn mac_option(options: &[u8], kind: u8) -> Option<Mac> {
    let mut rest = options;
    while let [option, length, ..] = rest {
        let size = usize::from(*length) * 8;
        if size == 0 || size > rest.len() {
            return None;
        }
        if *option == kind && *length == 1 {
            return rest[2..8].try_into().ok();
        }
        rest = &rest[size..];
    }
    None
}

impl Inner {
    /// Takes a neighbour discovery message; its checksum was verified.
    pub(crate) fn ndp_input(&mut self, arrival: &Arrival<'_>) {
        let body = arrival.payload();
        if arrival.header.ttl != 255 {
            return;
        }
        if body.first() == Some(&routers::ADVERTISEMENT) {
            return self.router_advertisement(arrival);
        }
        if body.first() == Some(&redirect::REDIRECT_V6) {
            return self.redirect_input_v6(arrival);
        }
        let (Some(kind), Some(target)) = (body.first(), body.get(8..24)) else { return };
        let Ok(target) = <[u8; 16]>::try_from(target) else { return };
        let target = Ipv6Addr::from(target);
        match *kind {
            SOLICITATION => self.solicitation(arrival, target, &body[24..]),
            ADVERTISEMENT => self.advertisement(arrival, target, body),
            _ => {}
        }
    }

    fn solicitation(&mut self, arrival: &Arrival<'_>, target: Ipv6Addr, options: &[u8]) {
        let (index, now) = (arrival.link, self.now);
        if !self.is_local(target.into()) || target.is_loopback() {
            return;
        }
        let source = arrival.header.source;
        let Some(link) = self.links.get_mut(index) else { return };
        let own = link.mac;
        let asker = mac_option(options, SOURCE_MAC);
        if let Some(mac) = asker
            && !source.is_unspecified()
        {
            let waited = link.neighbours.learn(source, mac, Solicited::No, now);
            self.send_waiting(index, mac, waited);
        }
        let (to, flags) = if source.is_unspecified() {
            (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)), OVERRIDE)
        } else {
            (source, SOLICITED | OVERRIDE)
        };
        let flags = if self.net.forwards(true) { flags | ROUTER } else { flags };
        self.send_ndp(
            index,
            target.into(),
            to,
            &message(ADVERTISEMENT, flags, target, TARGET_MAC, own),
        );
    }

    fn advertisement(&mut self, arrival: &Arrival<'_>, target: Ipv6Addr, body: &[u8]) {
        let (index, now) = (arrival.link, self.now);
        let Some(mac) = mac_option(&body[24..], TARGET_MAC) else { return };
        if mac[0] & 1 != 0 {
            return;
        }
        let Some(link) = self.links.get_mut(index) else { return };
        let solicited = if body[4] & SOLICITED != 0 && link.neighbours.get(target.into()).is_some()
        {
            Solicited::Yes
        } else {
            Solicited::UpdateOnly
        };
        let waited = link.neighbours.learn(target.into(), mac, solicited, now);
        self.send_waiting(index, mac, waited);
    }

    /// Asks who has an IPv6 address.
    pub(crate) fn send_neighbour_solicitation(
        &mut self,
        index: usize,
        target: Ipv6Addr,
        to: Option<Mac>,
    ) {
        let source = self.source_for(index, target.into()).unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let Some(link) = self.links.get(index) else { return };
        let body = message(SOLICITATION, 0, target, SOURCE_MAC, link.mac);
        let destination = if to.is_some() { target } else { solicited_node(target) };
        self.send_ndp(index, source, destination.into(), &body);
    }

    /// Sends a message of neighbour discovery.
    pub(crate) fn send_ndp(
        &mut self,
        index: usize,
        source: IpAddr,
        destination: IpAddr,
        body: &[u8],
    ) {
        let build = Build { source, destination, protocol: ICMPV6, ttl: 255, tos: 0, id: 0 };
        let (mut bytes, at) = build.packet(body.len());
        bytes[at..].copy_from_slice(body);
        fill_checksum(&mut bytes);
        let kind = if destination.is_multicast() { HopKind::Multicast } else { HopKind::Unicast };
        let packet = Outgoing { bytes, segment: None, unsummed: false };
        let hop = Hop { link: index, next: destination, source, kind };
        self.counts.sends(&packet);
        self.send_hop(&hop, packet);
    }

    /// Tells the neighbours of an address that is ours now.
    pub(crate) fn announce_v6(&mut self, index: usize, ip: Ipv6Addr) {
        let Some(link) = self.links.get(index) else { return };
        let body = message(ADVERTISEMENT, OVERRIDE, ip, TARGET_MAC, link.mac);
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        debug_assert_eq!(multicast_mac(all.into())[..2], [0x33, 0x33]);
        self.send_ndp(index, ip.into(), all.into(), &body);
    }
}

fn message(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[option, 1]);
    body.extend_from_slice(&mac);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_and_garbage_is_not_followed() {
        let mac = [2, 0, 0, 0, 0, 9];
        let body = message(SOLICITATION, 0, Ipv6Addr::LOCALHOST, SOURCE_MAC, mac);
        assert_eq!(mac_option(&body[24..], SOURCE_MAC), Some(mac));
        assert_eq!(mac_option(&body[24..], TARGET_MAC), None);
        assert_eq!(mac_option(&[1, 0, 0, 0, 0, 0, 0, 0], SOURCE_MAC), None);
        assert_eq!(mac_option(&[1, 9, 0], SOURCE_MAC), None);
    }

    #[test]
    fn derived_addresses_follow_the_rfc() {
        let ip = "fe80::5054:ff:fe12:3456".parse::<Ipv6Addr>().expect("literal");
        assert_eq!(solicited_node(ip), "ff02::1:ff12:3456".parse::<Ipv6Addr>().expect("literal"));
    }
}
