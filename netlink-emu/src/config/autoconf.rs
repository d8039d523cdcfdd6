//! What router advertisements make of a host: Linux's rules (`addrconf_prefix_rcv`,
//! `ndisc_router_discovery`) and its sysctls.

use std::net::{IpAddr, Ipv6Addr};

use umvu_abi::IfIndex;

use super::{NetConfig, link::link_local};
use crate::values::{
    Address, AddressFlags, AdvertisedPrefix, Change, FOREVER, Interface, Prefix, Route, RouteMode,
    RouterAdvertisement, protocol,
};

/// The priority of default routes by advertised routers (`IP6_RT_PRIO_USER`), and of the networks
/// they tell of.
const ROUTER_METRIC: u32 = 1024;
const PREFIX_METRIC: u32 = 256;
/// `IFAPROT_KERNEL_RA`: the maker of addresses.
pub(super) const BY_ROUTER: u8 = 2;
/// Nobody may shorten the life of an address below this (RFC 4862, 5.5.3).
const TWO_HOURS: u32 = 7200;
/// The smallest MTU of IPv6.
const LEAST_MTU: u32 = 1280;
const HOST_BITS: u8 = 64;

impl NetConfig {
    /// Whether advertisements on an interface count: `accept_ra`, which a router has to set to 2.
    #[must_use]
    pub fn accepts_routers(&self, index: IfIndex) -> bool {
        let Some(link) = self.link(index) else { return false };
        let routes = self.sysctls.interface_flag(true, &link.name, "forwarding");
        let wanted = self.sysctls.interface_value(true, &link.name, "accept_ra").unwrap_or(0);
        let usable = link.is_up() && !link.is_loopback() && self.has_ipv6(link);
        usable && if routes { wanted == 2 } else { wanted != 0 }
    }

    /// Configures the host as a router advertises; false when it is not to.
    pub fn advertised(&mut self, told: &RouterAdvertisement) -> bool {
        if !self.accepts_routers(told.interface) {
            return false;
        }
        let Some(link) = self.link(told.interface).cloned() else { return false };
        let allows = |config: &Self, knob| config.sysctls.interface_flag(true, &link.name, knob);
        if told.hop_limit > 0 {
            let name = format!("ipv6.conf.{}.hop_limit", link.name.replace('.', "/"));
            let _ = self.set_sysctl(&name, &told.hop_limit.to_string());
        }
        let fits = |mtu: &u32| (LEAST_MTU..=link.mtu).contains(mtu);
        let mtu = told.mtu.filter(fits).filter(|_| allows(self, "accept_ra_mtu"));
        if allows(self, "accept_ra_defrtr") {
            self.default_router(told, mtu.unwrap_or(0));
        }
        if allows(self, "accept_ra_pinfo") {
            for prefix in &told.prefixes {
                self.advertised_prefix(&link, prefix);
            }
        }
        true
    }

    /// Tells user space of an option that a router has advertised (RFC 8106): all of it, header
    /// included.
    pub fn pass_router_option(&mut self, index: IfIndex, option: &[u8]) {
        self.note(Change::RouterOption(index, option.to_vec()));
    }

    fn default_router(&mut self, told: &RouterAdvertisement, mtu: u32) {
        let mut route = Route::default_by(told.router.into());
        route.protocol = protocol::RA;
        route.oif = Some(told.interface);
        route.metric = ROUTER_METRIC;
        route.preference = told.preference;
        route.metrics.mtu = mtu;
        route.metrics.hoplimit = told.hop_limit.into();
        let is_same = |held: &Route| {
            held.protocol == protocol::RA
                && held.gateway == route.gateway
                && held.oif == route.oif
                && held.destination == route.destination
        };
        let held = self.fib.exact(&route.destination, route.table).iter().find(|one| is_same(one));
        let held = held.cloned();
        if told.lifetime == 0 {
            held.iter().for_each(|held| self.drop_route(held));
            return;
        }
        if held.as_ref() != Some(&route) {
            held.iter().for_each(|held| self.drop_route(held));
            self.put_route(route.clone());
        }
        self.end_route_in(&route, told.lifetime.into());
    }

    fn advertised_prefix(&mut self, link: &Interface, told: &AdvertisedPrefix) {
        let network = told.prefix.network();
        let is_usable = matches!(network.ip, IpAddr::V6(ip) if !ip.is_multicast() && !ip.is_unicast_link_local());
        if !is_usable || told.preferred > told.valid {
            return;
        }
        if told.on_link {
            self.on_link_prefix(link.index, network, told.valid);
        }
        let makes = self.sysctls.interface_flag(true, &link.name, "autoconf");
        if told.autonomous && makes && network.length == HOST_BITS {
            self.own_address_of(link, network, told);
        }
    }

    fn on_link_prefix(&mut self, index: IfIndex, network: Prefix, valid: u32) {
        let mut route = Route::new(network);
        route.protocol = protocol::KERNEL;
        route.oif = Some(index);
        route.metric = PREFIX_METRIC;
        let is_held = self.fib.exact(&network, route.table).contains(&route);
        match (is_held, valid) {
            // One that an address of the administrator's brings does not end.
            (true, _) if self.has_fixed_address(index, network) => {}
            (true, 0) => self.drop_route(&route),
            (false, 0) => {}
            _ => {
                self.put_route(route.clone());
                self.end_route_in(&route, valid);
            }
        }
    }

    fn has_fixed_address(&self, index: IfIndex, network: Prefix) -> bool {
        let mut all = self.addresses_of(index);
        all.any(|held| held.proto != BY_ROUTER && held.ip().is_ipv6() && held.network() == network)
    }

    fn own_address_of(&mut self, link: &Interface, network: Prefix, told: &AdvertisedPrefix) {
        let IpAddr::V6(prefix) = network.ip else { return };
        let ip = prefix.to_bits() | identifier(link).to_bits();
        let mut address = Address::new(link.index, Ipv6Addr::from_bits(ip).into(), HOST_BITS);
        address.flags |= AddressFlags::MANAGETEMPADDR;
        address.proto = BY_ROUTER;
        (address.valid, address.preferred) = (told.valid, told.preferred);
        let held = self.addresses.iter().find(|(held, _)| held.is_same(&address));
        if let Some(held) = held.map(|held| self.shown(held)) {
            if held.proto != BY_ROUTER {
                return;
            }
            address.valid = lifetime(told.valid, held.valid);
            address.preferred = told.preferred.min(address.valid);
        } else if told.valid == 0 {
            return;
        }
        let mode = RouteMode { create: true, ..RouteMode::REPLACE };
        let _ = self.add_address(&address, mode);
    }
}

/// The interface identifier for addresses: the token, or made of the hardware address.
fn identifier(link: &Interface) -> Ipv6Addr {
    if !link.token.is_unspecified() {
        return link.token;
    }
    Ipv6Addr::from_bits(link_local(link.mac).to_bits() & u128::from(u64::MAX))
}

/// The new lifetime of an address that has `left` seconds (RFC 4862, 5.5.3, e).
fn lifetime(told: u32, left: u32) -> u32 {
    if told == FOREVER || told > TWO_HOURS || told > left { told } else { left.min(TWO_HOURS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{LinkChange, RouteKind, table};

    const VDE: IfIndex = IfIndex(2);

    fn ready() -> NetConfig {
        let mut config = NetConfig::new();
        let link = Interface::ethernet(VDE, "vde0", "vde", [2, 0, 0, 0, 0, 1]);
        config.insert_link(link).expect("new");
        config.set_link(VDE, &LinkChange::admin(true)).expect("a link");
        config
    }

    fn told(valid: u32) -> RouterAdvertisement {
        let prefix = Prefix::new("fd00:1::".parse().expect("literal"), 64);
        RouterAdvertisement {
            interface: VDE,
            router: "fe80::9".parse().expect("literal"),
            hop_limit: 32,
            lifetime: 1800,
            preference: 0,
            mtu: Some(1400),
            prefixes: vec![AdvertisedPrefix {
                prefix,
                on_link: true,
                autonomous: true,
                valid,
                preferred: valid,
            }],
        }
    }

    fn global(config: &NetConfig) -> Option<Address> {
        config.addresses().into_iter().find(|one| one.proto == BY_ROUTER)
    }

    fn default_route(config: &NetConfig) -> Option<Route> {
        let mut routes = config.routes().into_iter();
        routes.find(|route| route.destination.length == 0 && route.table == table::MAIN)
    }

    #[test]
    fn a_router_gives_an_address_a_network_and_itself() {
        let mut config = ready();
        assert!(config.advertised(&told(3600)));
        let address = global(&config).expect("an address");
        assert_eq!(address.ip(), "fd00:1::ff:fe00:1".parse::<IpAddr>().expect("literal"));
        assert_eq!((address.valid, address.flags.contains(AddressFlags::PERMANENT)), (3600, false));
        let route = default_route(&config).expect("a router");
        assert_eq!((route.metrics.mtu, route.expires), (1400, Some(1800)));
        let network = config.routes().into_iter().find(|route| {
            route.destination.length == 64
                && route.kind == RouteKind::Unicast
                && route.destination.ip.to_string().starts_with("fd")
        });
        assert_eq!(network.expect("the network").expires, Some(3600));
        assert_eq!(config.sysctl("ipv6.conf.vde0.hop_limit"), Some("32"));
    }

    #[test]
    fn what_is_not_renewed_ends() {
        let mut config = ready();
        config.advertised(&told(3600));
        assert_eq!(config.due(), Some(1_800_000));
        config.set_now(1_800_000);
        assert_eq!(default_route(&config), None);
        assert!(global(&config).is_some());
        config.advertised(&told(7300));
        config.set_now(1_801_000);
        assert_eq!(default_route(&config).and_then(|route| route.expires), Some(1799));
        config.set_now(20_000_000);
        assert_eq!(global(&config), None);
        assert!(
            config.routes().iter().all(|route| !route.destination.ip.to_string().starts_with("fd"))
        );
        assert_eq!(config.due(), None);
    }

    #[test]
    fn nobody_takes_an_address_away_at_once() {
        assert_eq!(lifetime(0, 10_000), TWO_HOURS);
        assert_eq!(lifetime(0, 100), 100);
        assert_eq!(lifetime(200, 100), 200);
        assert_eq!(lifetime(8000, FOREVER), 8000);
        assert_eq!(lifetime(FOREVER, 5), FOREVER);
        let mut config = ready();
        config.advertised(&told(10_000));
        let end = RouterAdvertisement { lifetime: 0, ..told(0) };
        config.advertised(&end);
        assert_eq!(global(&config).expect("still there").valid, TWO_HOURS);
        assert_eq!(default_route(&config), None);
    }

    #[test]
    fn the_administrator_decides_whether_to_listen() {
        let mut config = ready();
        config.set_sysctl("ipv6.conf.vde0.accept_ra", "0").expect("a knob");
        assert!(!config.advertised(&told(3600)));
        config.set_sysctl("ipv6.conf.vde0.accept_ra", "1").expect("a knob");
        config.set_sysctl("ipv6.conf.vde0.autoconf", "0").expect("a knob");
        config.advertised(&told(3600));
        assert_eq!(global(&config), None);
        config.set_sysctl("ipv6.conf.all.forwarding", "1").expect("a knob");
        assert!(!config.accepts_routers(VDE));
        config.set_sysctl("ipv6.conf.vde0.accept_ra", "2").expect("a knob");
        assert!(config.accepts_routers(VDE));
    }

    #[test]
    fn a_token_takes_the_place_of_the_hardware_address() {
        let mut config = ready();
        let token = Some("::5".parse().expect("literal"));
        config.set_link(VDE, &LinkChange { token, ..LinkChange::default() }).expect("a link");
        config.advertised(&told(3600));
        let wanted: IpAddr = "fd00:1::5".parse().expect("literal");
        assert_eq!(global(&config).map(|address| address.ip()), Some(wanted));
    }

    #[test]
    fn a_network_of_the_administrators_does_not_end() {
        let mut config = ready();
        let own = Address::new(VDE, "fd00:1::7".parse().expect("literal"), 64);
        config.add_address(&own, RouteMode::ADD).expect("new");
        config.advertised(&told(100));
        config.set_now(200_000);
        assert!(config.routes().iter().any(|route| route.destination == own.network()));
    }
}
