//! Which ports are taken, by which addresses, and who may share them (socket(7), ip(7)).

use std::net::IpAddr;

use umvu_abi::Errno;

use super::{hash::Map, rng::Rng};

/// The address part of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// One address.
    One(IpAddr),
    /// All IPv4 addresses.
    AnyV4,
    /// All IPv6 addresses.
    AnyV6,
    /// All addresses of both families: an IPv6 socket without IPV6_V6ONLY.
    Any,
}

impl Host {
    /// Whether packets to `ip` fall under it.
    pub(crate) fn covers(self, ip: IpAddr) -> bool {
        match self {
            Self::One(own) => own == ip,
            Self::AnyV4 => ip.is_ipv4(),
            Self::AnyV6 => ip.is_ipv6(),
            Self::Any => true,
        }
    }

    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::One(ip), other) | (other, Self::One(ip)) => other.covers(ip),
            (Self::AnyV4, Self::AnyV6) | (Self::AnyV6, Self::AnyV4) => false,
            _ => true,
        }
    }

    /// The address, when it is one.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::One(ip) => Some(ip),
            _ => None,
        }
    }
}

/// What a holder of a port allows others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sharing {
    /// SO_REUSEADDR.
    pub(crate) address: bool,
    /// SO_REUSEPORT.
    pub(crate) port: bool,
    /// It listens: SO_REUSEADDR shares only ports of which nobody listens (TCP).
    pub(crate) listening: bool,
}

impl Sharing {
    /// Whether a holder that has this lets one in that has `other`.
    fn with(self, other: Self) -> bool {
        (self.address && other.address && !self.listening) || (self.port && other.port)
    }
}

/// One holder of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// A number that the caller knows it by.
    pub(crate) owner: u64,
    /// For which addresses.
    pub(crate) host: Host,
    /// The device it is bound to, 0 for any.
    pub(crate) device: u32,
    /// What it allows.
    pub(crate) sharing: Sharing,
}

/// The ports of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    holders: Map<u16, Vec<Holder>>,
}

impl Ports {
    /// Takes a port. Errors: `EADDRINUSE`.
    pub(crate) fn take(&mut self, port: u16, holder: Holder) -> Result<(), Errno> {
        if !self.free(port, &holder) {
            return Err(Errno::EADDRINUSE);
        }
        self.holders.entry(port).or_default().push(holder);
        Ok(())
    }

    /// Whether a holder could take a port.
    pub(crate) fn free(&self, port: u16, holder: &Holder) -> bool {
        self.at(port).iter().all(|other| {
            other.owner == holder.owner
                || !other.host.overlaps(holder.host)
                || (other.device != holder.device && other.device != 0 && holder.device != 0)
                || other.sharing.with(holder.sharing)
        })
    }

    /// Whether anybody holds a port.
    pub(crate) fn is_held(&self, port: u16) -> bool {
        self.holders.contains_key(&port)
    }

    /// Takes some free port of a range, beginning at a random one. Errors: `EADDRINUSE`.
    pub(crate) fn take_any(
        &mut self,
        range: (u16, u16),
        holder: Holder,
        rng: &mut Rng,
        accept: impl Fn(u16) -> bool,
    ) -> Result<u16, Errno> {
        let port = candidates(range, rng)
            .find(|port| self.free(*port, &holder) && !self.is_held(*port) && accept(*port))
            .ok_or(Errno::EADDRINUSE)?;
        self.take(port, holder)?;
        Ok(port)
    }

    /// Changes what a holder allows. Errors: `EADDRINUSE` when the others do not agree.
    pub(crate) fn share(&mut self, port: u16, owner: u64, sharing: Sharing) -> Result<(), Errno> {
        let Some(holder) = self.at(port).iter().find(|holder| holder.owner == owner).copied()
        else {
            return Ok(());
        };
        let changed = Holder { sharing, ..holder };
        if sharing.listening && !self.free(port, &changed) {
            return Err(Errno::EADDRINUSE);
        }
        for holder in self.holders.entry(port).or_default() {
            if holder.owner == owner {
                *holder = changed;
            }
        }
        Ok(())
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, port: u16, owner: u64) {
        if let Some(holders) = self.holders.get_mut(&port) {
            holders.retain(|holder| holder.owner != owner);
            if holders.is_empty() {
                self.holders.remove(&port);
            }
        }
    }

    fn at(&self, port: u16) -> &[Holder] {
        self.holders.get(&port).map_or(&[], Vec::as_slice)
    }
}

/// All ports of a range once, beginning at a random one.
pub(crate) fn candidates(
    (low, high): (u16, u16),
    rng: &mut Rng,
) -> impl Iterator<Item = u16> + use<> {
    let count = u32::from(high.saturating_sub(low)) + 1;
    let start = rng.below(count);
    (0..count)
        .map(move |step| low.saturating_add(u16::try_from((start + step) % count).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(owner: u64, host: Host, sharing: Sharing) -> Holder {
        Holder { owner, host, device: 0, sharing }
    }

    #[test]
    fn wildcards_collide_with_addresses_of_their_family() {
        let one = Host::One("10.0.0.1".parse().expect("literal"));
        let mut ports = Ports::default();
        ports.take(80, holder(1, one, Sharing::default())).expect("free");
        let taken = ports.take(80, holder(2, Host::AnyV4, Sharing::default()));
        assert_eq!(taken, Err(Errno::EADDRINUSE));
        ports.take(80, holder(3, Host::AnyV6, Sharing::default())).expect("another family");
        let taken = ports.take(80, holder(4, Host::Any, Sharing::default()));
        assert_eq!(taken, Err(Errno::EADDRINUSE));
        ports.release(80, 1);
        ports.release(80, 3);
        ports.take(80, holder(4, Host::Any, Sharing::default())).expect("free again");
    }

    #[test]
    fn reuseaddr_shares_unless_one_listens_and_reuseport_always() {
        let reuse = Sharing { address: true, ..Sharing::default() };
        let mut ports = Ports::default();
        ports.take(80, holder(1, Host::AnyV4, reuse)).expect("free");
        ports.take(80, holder(2, Host::AnyV4, reuse)).expect("both allow it");
        let listening = Sharing { listening: true, ..reuse };
        ports.share(80, 1, listening).expect("the other one does not listen");
        assert_eq!(ports.share(80, 2, listening), Err(Errno::EADDRINUSE));
        let taken = ports.take(80, holder(3, Host::AnyV4, reuse));
        assert_eq!(taken, Err(Errno::EADDRINUSE));
        let port = Sharing { port: true, listening: true, ..Sharing::default() };
        ports.take(81, holder(1, Host::AnyV4, port)).expect("free");
        ports.take(81, holder(2, Host::AnyV4, port)).expect("both allow it");
    }
}
