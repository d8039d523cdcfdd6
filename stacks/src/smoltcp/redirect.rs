//! Redirects: a router tells a host of a better first hop, and a host follows (RFC 792, RFC 1122
//! 3.2.2.2, RFC 1812 5.2.7.2, RFC 4861 8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::time::{Duration, Instant};
use umvu_abi::IfIndex;
use vdeplug::ip::icmp::{may_be_told_of, quoted_header};

use super::{
    hash::Map,
    inner::Inner,
    ndp::{TARGET_MAC, mac_option},
    neighbour::Solicited,
    net::{Hop, HopKind},
    packet::IpHeader,
    tcp::input::Arrival,
};

/// The type of the messages of IPv4.
const REDIRECT_V4: u8 = 5;
/// For this host only.
const OF_HOST: u8 = 1;
/// The type of the messages of IPv6.
pub(crate) const REDIRECT_V6: u8 = 137;
const REDIRECTED_HEADER: u8 = 4;
/// How long one is followed (Linux, `ip_rt_gc_timeout`).
const LASTS: Duration = Duration::from_secs(300);
/// A host that does not listen is told so many times, each time after twice as long, and again after a
/// silence (Linux, `ip_rt_redirect_number`, `ip_rt_redirect_load`, `ip_rt_redirect_silence`).
const TIMES: u32 = 9;
const LOAD: Duration = Duration::from_millis(20);
const SILENCE: Duration = Duration::from_millis(20 << 10);
/// How often the sender of packets of IPv6 is told.
const PACE: Duration = Duration::from_secs(1);
/// How many destinations and how many hosts are remembered.
const MOST: usize = 4096;

/// A better hop that a router has told of.
#[derive(Debug, Clone, Copy)]
struct Learned {
    link: usize,
    next: IpAddr,
    until: Instant,
    /// The configuration that it was told under: another one starts anew.
    generation: u64,
}

/// What was told to this host, and by it.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    learned: Map<IpAddr, Learned>,
    /// When a host was told last, and how often.
    told: Map<IpAddr, (Instant, u32)>,
}

impl Redirects {
    fn may_tell(&mut self, to: IpAddr, now: Instant) -> bool {
        if self.told.len() >= MOST {
            self.told.clear();
        }
        let (last, times) = *self.told.get(&to).unwrap_or(&(now - SILENCE - LOAD, 0));
        let times = if now - last > SILENCE { 0 } else { times };
        let (wait, most) =
            if to.is_ipv4() { (LOAD * (1 << times.min(TIMES)), TIMES) } else { (PACE, u32::MAX) };
        if times >= most || times > 0 && now - last < wait {
            return false;
        }
        self.told.insert(to, (now, times.saturating_add(1)));
        true
    }
}

impl Inner {
    /// The hop that a router has told of in place of the one that the routes name.
    pub(crate) fn redirected(&self, to: IpAddr, hop: Hop) -> Hop {
        if hop.kind != HopKind::Unicast || self.redirects.learned.is_empty() {
            return hop;
        }
        match self.redirects.learned.get(&to) {
            Some(learned)
                if learned.link == hop.link
                    && self.now < learned.until
                    && learned.generation == self.net.config.generation() =>
            {
                Hop { next: learned.next, ..hop }
            }
            _ => hop,
        }
    }

    /// Whether a sysctl of IPv4 is set for a link or for all.
    pub(crate) fn is_set_for(&self, link: usize, knob: &str) -> bool {
        let all = self.net.number(&format!("ipv4.conf.all.{knob}")).unwrap_or(0);
        let index = self.links.get(link).map_or(IfIndex(0), |link| IfIndex(link.index));
        all != 0 || self.net.config.interface_sysctl(false, index, knob).unwrap_or(0) != 0
    }

    fn is_set_for_both(&self, link: usize, knob: &str) -> bool {
        let all = self.net.number(&format!("ipv4.conf.all.{knob}")).unwrap_or(0);
        let index = self.links.get(link).map_or(IfIndex(0), |link| IfIndex(link.index));
        all != 0 && self.net.config.interface_sysctl(false, index, knob).unwrap_or(0) != 0
    }

    /// Tells the sender of a packet that leaves by the link it has come by of the next hop, which is its
    /// neighbour too.
    pub(crate) fn tell_redirect(&mut self, hop: &Hop, header: &IpHeader, ip: &[u8]) {
        let sender = header.source;
        if !may_be_told_of(header, ip) || sender == hop.next {
            return;
        }
        let Ok(back) = self.route(sender, None, 0) else { return };
        if (back.link, back.next, back.kind) != (hop.link, sender, HopKind::Unicast) {
            return;
        }
        match (hop.next, header.destination) {
            (IpAddr::V4(next), _)
                if self.is_set_for(hop.link, "send_redirects")
                    && self.redirects.may_tell(sender, self.now) =>
            {
                self.tell_v4(next, back.source, header, ip);
            }
            (IpAddr::V6(next), IpAddr::V6(to)) => {
                let sayable = next == to || next.is_unicast_link_local();
                if sayable && self.redirects.may_tell(sender, self.now) {
                    self.tell_v6(hop.link, (next, to), header, ip);
                }
            }
            _ => {}
        }
    }

    fn tell_v4(&mut self, next: Ipv4Addr, source: IpAddr, header: &IpHeader, ip: &[u8]) {
        const MOST_QUOTED: usize = 548;
        let quoted = &ip[..header.total.min(ip.len()).min(MOST_QUOTED)];
        self.send_icmp(source, header.source, (0xc0, 0), |out| {
            out.extend_from_slice(&[REDIRECT_V4, OF_HOST, 0, 0]);
            out.extend_from_slice(&next.octets());
            out.extend_from_slice(quoted);
        });
    }

    fn tell_v6(
        &mut self,
        index: usize,
        (next, to): (Ipv6Addr, Ipv6Addr),
        header: &IpHeader,
        ip: &[u8],
    ) {
        const MOST_QUOTED: usize = 1280 - 40 - 40 - 8 - 8;
        // Only a router's link-local address tells hosts that it is theirs.
        let all_nodes = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let Some(source @ IpAddr::V6(own)) = self.source_for(index, all_nodes.into()) else {
            return;
        };
        let Some(link) = self.links.get(index).filter(|_| own.is_unicast_link_local()) else {
            return;
        };
        let mut body = vec![REDIRECT_V6, 0, 0, 0, 0, 0, 0, 0];
        body.extend_from_slice(&next.octets());
        body.extend_from_slice(&to.octets());
        if let Some(mac) = link
            .neighbours
            .get(next.into())
            .filter(|known| known.mac != [0; 6])
            .map(|known| known.mac)
        {
            body.extend_from_slice(&[TARGET_MAC, 1]);
            body.extend_from_slice(&mac);
        }
        // In units of eight bytes.
        let quoted = header.total.min(ip.len()).min(MOST_QUOTED) / 8 * 8;
        body.extend_from_slice(&[REDIRECTED_HEADER, u8::try_from(quoted / 8 + 1).unwrap_or(0)]);
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&ip[..quoted]);
        self.send_ndp(index, source, header.source, &body);
    }

    /// Takes a redirect of IPv4.
    pub(crate) fn redirect_input(&mut self, arrival: &Arrival<'_>) {
        let body = arrival.payload();
        let (Some(next), Some(quoted)) = (body[4..].first_chunk::<4>(), quoted_header(&body[8..]))
        else {
            return;
        };
        let next = Ipv4Addr::from(*next);
        let is_router = self.net.forwards(false);
        let knob = "accept_redirects";
        let accepts = match is_router {
            true => self.is_set_for_both(arrival.link, knob),
            false => self.is_set_for(arrival.link, knob),
        };
        if body[1] > 3 || !accepts || !self.is_local(quoted.source) {
            return;
        }
        self.learn(arrival, quoted.destination, next.into());
    }

    /// Takes a redirect of IPv6.
    pub(crate) fn redirect_input_v6(&mut self, arrival: &Arrival<'_>) {
        let body = arrival.payload();
        let address = |at: usize| {
            let bytes: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes))
        };
        let (Some(next), Some(to)) = (address(8), address(24)) else { return };
        let IpAddr::V6(router) = arrival.header.source else { return };
        let index = self.links.get(arrival.link).map_or(IfIndex(0), |link| IfIndex(link.index));
        let accepts = self.net.config.interface_sysctl(true, index, "accept_redirects") == Some(1);
        let sound = router.is_unicast_link_local()
            && !to.is_multicast()
            && (next == to || next.is_unicast_link_local());
        if !sound || !accepts || self.net.forwards(true) {
            return;
        }
        let mac = mac_option(&body[40..], TARGET_MAC);
        if self.learn(arrival, to.into(), next.into())
            && let Some(mac) = mac
            && let Some(link) = self.links.get_mut(arrival.link)
        {
            let now = self.now;
            let waited = link.neighbours.learn(next.into(), mac, Solicited::No, now);
            self.send_waiting(arrival.link, mac, waited);
        }
    }

    /// Follows a redirect, which only the router that is used now may give, to a neighbour.
    fn learn(&mut self, arrival: &Arrival<'_>, to: IpAddr, next: IpAddr) -> bool {
        let Ok(hop) = self.route(to, None, 0) else { return false };
        let from_router = (hop.link, hop.next) == (arrival.link, arrival.header.source);
        let is_neighbour = self.route(next, None, 0).is_ok_and(|way| {
            (way.link, way.next, way.kind) == (arrival.link, next, HopKind::Unicast)
        });
        if hop.kind != HopKind::Unicast || !from_router || !is_neighbour || next == hop.next {
            return false;
        }
        let learned = &mut self.redirects.learned;
        if learned.len() >= MOST {
            learned.clear();
        }
        let (until, generation) = (self.now + LASTS, self.net.config.generation());
        learned.insert(to, Learned { link: arrival.link, next, until, generation });
        tracing::debug!(%to, %next, "redirected");
        // Connections look for their way again.
        self.generation = self.generation.wrapping_add(1 << 40);
        true
    }
}
