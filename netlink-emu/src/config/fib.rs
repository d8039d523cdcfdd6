//! The forwarding table: routes by table and family, found by longest prefix.
//!
//! Theory of operation. A table keeps, for each prefix length that occurs, a hash map from network
//! to the routes of that network; a lookup probes the lengths from long to short. Few lengths
//! occur in practice, so a lookup is a handful of probes, with a thousand routes as with three.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    net::IpAddr,
};

use crate::values::{Prefix, Route};

/// All tables of both families.
#[derive(Debug, Default)]
pub(crate) struct Fib {
    families: [Family; 2],
}

/// The tables of one family.
#[derive(Debug, Default)]
struct Family {
    /// By number; few.
    tables: Vec<(u32, Table)>,
}

/// One table.
#[derive(Debug, Default)]
struct Table {
    /// By prefix length, longest first.
    lengths: Vec<(u8, Networks)>,
}

/// The routes of networks of one length.
type Networks = HashMap<u128, Vec<Route>, BuildHasherDefault<KeyHasher>>;

/// The bits of an address, left-aligned, so that both families share the code.
fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(key: u128, length: u8) -> u128 {
    key & !u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

impl Fib {
    fn family(&self, ip: IpAddr) -> &Family {
        &self.families[usize::from(ip.is_ipv6())]
    }

    /// Whether a table has any route of the family of `ip`.
    pub(crate) fn has_table(&self, ip: IpAddr, table: u32) -> bool {
        self.family(ip).tables.iter().any(|(id, _)| *id == table)
    }

    /// The routes to exactly this network, best first.
    pub(crate) fn exact(&self, network: &Prefix, table: u32) -> &[Route] {
        self.family(network.ip)
            .tables
            .iter()
            .find(|(id, _)| *id == table)
            .and_then(|(_, table)| table.lengths.iter().find(|(len, _)| *len == network.length))
            .and_then(|(length, map)| map.get(&mask(key(network.ip), *length)))
            .map_or(&[], Vec::as_slice)
    }

    /// The routes to exactly this network, to change; made when `network` has none.
    pub(crate) fn exact_mut(&mut self, network: &Prefix, table: u32) -> &mut Vec<Route> {
        let tables = &mut self.families[usize::from(network.ip.is_ipv6())].tables;
        let at = match tables.iter().position(|(id, _)| *id == table) {
            Some(at) => at,
            None => {
                tables.push((table, Table::default()));
                tables.len() - 1
            }
        };
        let lengths = &mut tables[at].1.lengths;
        let at = lengths.partition_point(|(length, _)| *length > network.length);
        if lengths.get(at).is_none_or(|(length, _)| *length != network.length) {
            lengths.insert(at, (network.length, HashMap::default()));
        }
        lengths[at].1.entry(mask(key(network.ip), network.length)).or_default()
    }

    /// Removes the routes that `gone` picks and returns them, in the order of a listing.
    pub(crate) fn remove(&mut self, mut gone: impl FnMut(&Route) -> bool) -> Vec<Route> {
        let mut removed = Vec::new();
        for family in &mut self.families {
            for (_, table) in &mut family.tables {
                for (_, map) in &mut table.lengths {
                    for routes in map.values_mut() {
                        removed.extend(routes.extract_if(.., |route| gone(route)));
                    }
                }
            }
        }
        self.tidy();
        sort(&mut removed);
        removed
    }

    /// Drops a network without routes, and its length and table if that was all they had.
    pub(crate) fn tidy_at(&mut self, network: &Prefix, table: u32) {
        let tables = &mut self.families[usize::from(network.ip.is_ipv6())].tables;
        let Some(at) = tables.iter().position(|(id, _)| *id == table) else { return };
        let lengths = &mut tables[at].1.lengths;
        if let Some(at) = lengths.iter().position(|(length, _)| *length == network.length) {
            let key = mask(key(network.ip), network.length);
            let map = &mut lengths[at].1;
            if map.get(&key).is_some_and(Vec::is_empty) {
                map.remove(&key);
            }
            if map.is_empty() {
                lengths.remove(at);
            }
        }
        if lengths.is_empty() {
            tables.remove(at);
        }
    }

    /// Drops networks, lengths and tables without routes.
    fn tidy(&mut self) {
        for family in &mut self.families {
            for (_, table) in &mut family.tables {
                for (_, map) in &mut table.lengths {
                    map.retain(|_, routes| !routes.is_empty());
                }
                table.lengths.retain(|(_, map)| !map.is_empty());
            }
            family.tables.retain(|(_, table)| !table.lengths.is_empty());
        }
    }

    /// The first route of a table that leads to `ip` and passes `fits`; longer prefixes first.
    pub(crate) fn find(
        &self,
        ip: IpAddr,
        table: u32,
        mut fits: impl FnMut(&Route) -> bool,
    ) -> Option<&Route> {
        let (_, table) = self.family(ip).tables.iter().find(|(id, _)| *id == table)?;
        let key = key(ip);
        table
            .lengths
            .iter()
            .filter_map(|(length, map)| map.get(&mask(key, *length)))
            .flatten()
            .find(|route| fits(route))
    }

    /// All routes, in the order that the kernel lists them.
    pub(crate) fn list(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = self.iter().cloned().collect();
        sort(&mut routes);
        routes
    }

    /// All routes in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.families
            .iter()
            .flat_map(|family| &family.tables)
            .flat_map(|(_, table)| &table.lengths)
            .flat_map(|(_, map)| map.values())
            .flatten()
    }
}

/// Sorts as the kernel lists: IPv4 by network, IPv6 children before their parents. The sort is
/// stable: routes to one network keep their order.
fn sort(routes: &mut [Route]) {
    routes.sort_by(|a, b| {
        let family = a.destination.ip.is_ipv6().cmp(&b.destination.ip.is_ipv6());
        let table = (a.table & 0xff, a.table).cmp(&(b.table & 0xff, b.table));
        family.then(table).then_with(|| network_order(&a.destination, &b.destination))
    });
}

fn network_order(a: &Prefix, b: &Prefix) -> std::cmp::Ordering {
    let longest_first = b.length.cmp(&a.length);
    if a.ip.is_ipv6() {
        let shorter = a.length.min(b.length);
        let nested = mask(key(a.ip), shorter) == mask(key(b.ip), shorter);
        return if nested { longest_first } else { key(a.ip).cmp(&key(b.ip)) };
    }
    key(a.ip).cmp(&key(b.ip)).then(longest_first)
}

/// Hashes an address. Only the administrator inserts, so no defence against chosen keys is needed.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, key: u128) {
        const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let mixed = (key ^ (key >> 64)).wrapping_mul(SPREAD) ^ u128::from(self.0);
        let folded = (mixed ^ (mixed >> 64)).to_le_bytes();
        self.0 = u64::from_le_bytes(folded[..8].try_into().expect("8 of 16 bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        let (ip, length) = text.split_once('/').expect("a slash");
        Route::new(Prefix::new(ip.parse().expect("an ip"), length.parse().expect("a length")))
    }

    fn fib(texts: &[&str]) -> Fib {
        let mut fib = Fib::default();
        for text in texts {
            let route = route(text);
            fib.exact_mut(&route.destination.clone(), route.table).push(route);
        }
        fib
    }

    #[test]
    fn the_longest_prefix_wins() {
        let fib = fib(&["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0"]);
        let find = |ip: &str| {
            let ip = ip.parse().expect("an ip");
            fib.find(ip, 254, |_| true).map(|route| route.destination.to_string())
        };
        assert_eq!(find("10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(find("10.1.2.4").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(find("10.2.2.4").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(find("11.2.2.4").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(find("fe80::1").as_deref(), Some("::/0"));
    }

    #[test]
    fn listings_have_the_order_of_the_kernel() {
        let fib = fib(&["10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/24", "::/0", "fe80::/64", "fd00::/8"]);
        let listed: Vec<_> = fib.list().iter().map(|r| r.destination.to_string()).collect();
        let wanted = ["0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/8", "fd00::/8", "fe80::/64", "::/0"];
        assert_eq!(listed, wanted);
    }

    #[test]
    fn removal_leaves_no_empty_tables() {
        let mut fib = fib(&["10.0.0.0/8", "10.0.0.0/24"]);
        assert_eq!(fib.remove(|route| route.destination.length == 8).len(), 1);
        let network = route("10.0.0.0/24").destination;
        fib.tidy_at(&network, 254);
        assert!(fib.has_table(IpAddr::V4(0.into()), 254));
        fib.exact_mut(&network, 254).clear();
        fib.tidy_at(&network, 254);
        assert!(!fib.has_table(IpAddr::V4(0.into()), 254));
    }
}
