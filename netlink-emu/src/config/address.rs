//! Addresses: added, removed, expired.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::{NetConfig, link::scope_of};
use crate::{
    host::Failure,
    text,
    values::{Address, AddressFlags, Change, FOREVER, Prefix, RouteMode, Scope},
};

/// When an address ends, in milliseconds on the stack's clock; None for never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expiry {
    valid: Option<u64>,
    preferred: Option<u64>,
}

/// Flags that a program may set on an address.
const SETTABLE: AddressFlags = AddressFlags::NODAD
    .union(AddressFlags::HOMEADDRESS)
    .union(AddressFlags::MANAGETEMPADDR)
    .union(AddressFlags::NOPREFIXROUTE)
    .union(AddressFlags::MCAUTOJOIN)
    .union(AddressFlags::OPTIMISTIC);

impl NetConfig {
    /// Adds an address; with [`RouteMode::replace`] changes lifetimes and flags of one that exists.
    /// Errors: `ENODEV`, `EEXIST`, `EINVAL`, `EADDRNOTAVAIL`, `EACCES` (IPv6 is disabled).
    pub fn add_address(&mut self, address: &Address, mode: RouteMode) -> Result<(), Failure> {
        let ipv6 = address.ip().is_ipv6();
        let Some(link) = self.link(address.interface) else {
            return Err(if ipv6 {
                text::ADDRESS_DEVICE_MISSING_V6
            } else {
                text::ADDRESS_DEVICE_MISSING_V4
            });
        };
        let mut address = address.clone();
        check_lifetimes(&address)?;
        if ipv6 {
            check_ipv6(&address)?;
            if !self.has_ipv6(link) {
                return Err(text::IPV6_DISABLED);
            }
            let ready = link.is_up() || link.is_loopback();
            address.flags = address.flags & SETTABLE | AddressFlags::PERMANENT;
            address.flags.set(AddressFlags::TENTATIVE, !ready);
            address.scope = scope_of(address.ip());
            address.label = None;
            address.broadcast = None;
        } else {
            if address.label.is_none() {
                address.label = Some(link.name.clone());
            }
            address.flags = address.flags & SETTABLE | AddressFlags::PERMANENT;
        }
        let index = address.interface;
        if let Some(at) = self.addresses.iter().position(|(held, _)| held.is_same(&address)) {
            if !mode.replace {
                return Err(if ipv6 { text::ADDRESS_EXISTS_V6 } else { text::ADDRESS_EXISTS_V4 });
            }
            return self.change_address(at, &address);
        }
        if !mode.create && mode.replace {
            return Err(Errno::ENOENT.into());
        }
        self.check_subnet(&mut address)?;
        let before = self.derived(index);
        self.insert_address(address);
        self.follow(index, &before);
        Ok(())
    }

    /// Removes an address; prefix length, label and peer count where they are given.
    /// Errors: `ENODEV`, `EADDRNOTAVAIL`.
    pub fn del_address(&mut self, address: &Address) -> Result<(), Failure> {
        let index = address.interface;
        if self.link(index).is_none() {
            return Err(if address.ip().is_ipv6() {
                text::ADDRESS_DEVICE_MISSING_V6
            } else {
                text::ADDRESS_DEVICE_MISSING_V4
            });
        }
        let fits = |held: &Address| {
            held.interface == index
                && held.ip() == address.ip()
                && held.prefix.length == address.prefix.length
                && (address.label.is_none() || held.label == address.label)
                && (address.peer.is_none() || held.peer.unwrap_or(held.ip()) == address.peer_ip())
        };
        let Some(gone) = self.addresses.iter().find(|(held, _)| fits(held)) else {
            return Err(if address.ip().is_ipv6() {
                text::ADDRESS_MISSING_V6
            } else {
                text::ADDRESS_MISSING_V4
            });
        };
        let gone = gone.0.clone();
        self.end_address(&gone);
        Ok(())
    }

    /// Removes an address with its secondaries, or makes the first of them the primary one.
    fn end_address(&mut self, gone: &Address) {
        let before = self.derived(gone.interface);
        let secondary = |held: &Address| {
            held.flags.contains(AddressFlags::SECONDARY)
                && held.interface == gone.interface
                && held.ip().is_ipv4()
                && held.network() == gone.network()
        };
        let is_primary = gone.ip().is_ipv4() && !gone.flags.contains(AddressFlags::SECONDARY);
        let promote = is_primary
            && self.link(gone.interface).is_some_and(|link| {
                self.sysctls.interface_flag(false, &link.name, "promote_secondaries")
            });
        if is_primary && !promote {
            self.drop_addresses(secondary);
        }
        self.drop_addresses(|held| held == gone);
        if promote && let Some(at) = self.addresses.iter().position(|(held, _)| secondary(held)) {
            let (mut first, expiry) = self.addresses.remove(at);
            first.flags -= AddressFlags::SECONDARY;
            let at = self.place(&first);
            self.addresses.insert(at, (first.clone(), expiry));
            self.note(Change::Address(first));
        }
        self.follow(gone.interface, &before);
        let ip = gone.ip();
        if self.owner_of(ip).is_none() {
            self.flush_routes(|route| route.prefsrc == Some(ip));
        }
    }

    /// Decides whether an IPv4 address is secondary. Errors: `EEXIST`, `EINVAL` (scope).
    fn check_subnet(&self, address: &mut Address) -> Result<(), Failure> {
        if address.ip().is_ipv6() {
            return Ok(());
        }
        let network = address.network();
        let sibling = self.addresses_of(address.interface).find(|held| {
            !held.flags.contains(AddressFlags::SECONDARY)
                && held.ip().is_ipv4()
                && held.network() == network
        });
        if let Some(sibling) = sibling {
            if sibling.scope != address.scope {
                return Err(text::ADDRESS_SCOPE);
            }
            address.flags |= AddressFlags::SECONDARY;
        }
        Ok(())
    }

    fn change_address(&mut self, at: usize, wanted: &Address) -> Result<(), Failure> {
        let index = wanted.interface;
        let before = self.derived(index);
        let hundredths = self.hundredths();
        let expiry = self.expiry(wanted);
        let Some((held, ends)) = self.addresses.get_mut(at) else {
            return Err(Errno::ENOENT.into());
        };
        let kept = AddressFlags::SECONDARY | AddressFlags::TENTATIVE;
        held.flags = (held.flags & kept) | (wanted.flags - kept);
        set_permanence(held, wanted);
        held.metric = wanted.metric;
        held.proto = wanted.proto;
        held.updated = hundredths;
        *ends = expiry;
        let changed = held.clone();
        self.note(Change::Address(changed));
        self.follow(index, &before);
        Ok(())
    }

    /// Puts an address where the kernel lists it: IPv4 primaries before secondaries, IPv6 by scope,
    /// the newest first.
    pub(super) fn insert_address(&mut self, mut address: Address) {
        address.created = self.hundredths();
        address.updated = address.created;
        let wanted = address.clone();
        set_permanence(&mut address, &wanted);
        let expiry = self.expiry(&address);
        let at = self.place(&address);
        self.addresses.insert(at, (address.clone(), expiry));
        self.note(Change::Address(address));
    }

    fn place(&self, address: &Address) -> usize {
        let group = |held: &Address| (held.ip().is_ipv6(), held.interface);
        let secondary = |held: &Address| held.flags.contains(AddressFlags::SECONDARY);
        let before = |held: &Address| match group(held).cmp(&group(address)) {
            std::cmp::Ordering::Equal if address.ip().is_ipv6() => held.scope < address.scope,
            std::cmp::Ordering::Equal => {
                secondary(address) || (!secondary(held) && held.scope >= address.scope)
            }
            order => order.is_lt(),
        };
        self.addresses.iter().rposition(|(held, _)| before(held)).map_or_else(
            || self.addresses.partition_point(|(h, _)| group(h) < group(address)),
            |at| at + 1,
        )
    }

    /// Addresses that were added while their interface was down are good once it is up.
    pub(super) fn confirm_addresses(&mut self, index: IfIndex) {
        let tentative: Vec<usize> = (0..self.addresses.len())
            .filter(|at| {
                let held = &self.addresses[*at].0;
                held.interface == index && held.flags.contains(AddressFlags::TENTATIVE)
            })
            .collect();
        for at in tentative {
            self.addresses[at].0.flags -= AddressFlags::TENTATIVE;
            let address = self.addresses[at].0.clone();
            self.note(Change::Address(address));
        }
    }

    /// Removes addresses; their routes are the caller's business.
    pub(super) fn drop_addresses(&mut self, mut gone: impl FnMut(&Address) -> bool) {
        let removed: Vec<Address> =
            self.addresses.extract_if(.., |(held, _)| gone(held)).map(|(held, _)| held).collect();
        for address in removed {
            self.note(Change::AddressRemoved(address));
        }
    }

    /// Gives labels a new interface name: the first address plain, the others with a number.
    pub(super) fn rename_labels(&mut self, index: IfIndex, name: &str) {
        let labelled = self
            .addresses
            .iter_mut()
            .map(|(held, _)| held)
            .filter(|held| held.interface == index && held.label.is_some());
        for (count, address) in labelled.enumerate() {
            let suffix = match address.label.as_deref().and_then(|label| label.split_once(':')) {
                _ if count == 0 => String::new(),
                Some((_, suffix)) => format!(":{suffix}"),
                None => format!(":{}", count + 1),
            };
            address.label = Some(format!("{name}{suffix}").chars().take(15).collect());
        }
    }

    /// An address with its lifetimes as of now.
    pub(super) fn shown(&self, (address, expiry): &(Address, Expiry)) -> Address {
        let left = |ends: Option<u64>| {
            ends.map_or(FOREVER, |ends| {
                u32::try_from(ends.saturating_sub(self.now) / 1000).unwrap_or(FOREVER)
            })
        };
        let mut address = address.clone();
        address.valid = left(expiry.valid);
        address.preferred = left(expiry.preferred);
        address
    }

    pub(super) fn expire_addresses(&mut self) {
        let now = self.now;
        let past = |ends: Option<u64>| ends.is_some_and(|ends| ends <= now);
        let gone: Vec<Address> = self
            .addresses
            .iter()
            .filter(|(_, expiry)| past(expiry.valid))
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            self.end_address(&address);
        }
        let mut deprecated = Vec::new();
        for (address, expiry) in &mut self.addresses {
            if past(expiry.preferred) && !address.flags.contains(AddressFlags::DEPRECATED) {
                address.flags |= AddressFlags::DEPRECATED;
                deprecated.push(address.clone());
            }
        }
        for address in deprecated {
            self.note(Change::Address(address));
        }
    }

    pub(super) fn address_due(&self) -> Option<u64> {
        let pending = |(address, expiry): &(Address, Expiry)| {
            let deprecated = address.flags.contains(AddressFlags::DEPRECATED);
            let preferred = expiry.preferred.filter(|_| !deprecated);
            [expiry.valid, preferred].into_iter().flatten().min()
        };
        self.addresses.iter().filter_map(pending).min()
    }

    fn expiry(&self, address: &Address) -> Expiry {
        let ends = |seconds: u32| {
            (seconds != FOREVER).then(|| self.now.saturating_add(u64::from(seconds) * 1000))
        };
        Expiry { valid: ends(address.valid), preferred: ends(address.preferred) }
    }

    fn hundredths(&self) -> u32 {
        u32::try_from(self.now / 10).unwrap_or(u32::MAX)
    }
}

fn set_permanence(address: &mut Address, wanted: &Address) {
    address.flags.set(AddressFlags::PERMANENT, wanted.valid == FOREVER);
    address.flags.set(AddressFlags::DEPRECATED, wanted.preferred == 0);
}

fn check_lifetimes(address: &Address) -> Result<(), Failure> {
    if address.valid == 0 || address.preferred > address.valid {
        return Err(if address.ip().is_ipv6() {
            text::ADDRESS_LIFETIME_V6
        } else {
            text::ADDRESS_LIFETIME
        });
    }
    Ok(())
}

fn check_ipv6(address: &Address) -> Result<(), Failure> {
    let IpAddr::V6(ip) = address.ip() else { return Ok(()) };
    if ip.is_multicast() || ip.is_unspecified() {
        return Err(text::ADDRESS_CANNOT_ASSIGN);
    }
    Ok(())
}

impl Address {
    /// The peer, or the address itself when it has none.
    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.unwrap_or(self.prefix.ip)
    }

    /// The default scope of an IPv4 address that a program gives none.
    #[must_use]
    pub fn default_scope(prefix: Prefix) -> Scope {
        match prefix.ip {
            IpAddr::V4(ip) if ip.is_loopback() => Scope::HOST,
            _ => Scope::UNIVERSE,
        }
    }
}
