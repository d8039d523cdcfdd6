//! Multicast groups: those of sockets, which the host tells, and those that every host is in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    host::HostNet,
    values::{LinkFlags, Membership},
};

const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_HERE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// All groups by interface, each once.
pub(super) fn all(host: &dyn HostNet) -> Vec<Membership> {
    let addresses = host.addresses();
    let mut found: Vec<Membership> = Vec::new();
    for link in host.interfaces().iter().filter(|link| link.is_up()) {
        let mut join = |group: IpAddr, users: u32| {
            let same = |held: &&mut Membership| held.interface == link.index && held.group == group;
            match found.iter_mut().find(same) {
                Some(held) => held.users += users,
                None => found.push(Membership { interface: link.index, group, users }),
            }
        };
        for member in host.memberships().iter().filter(|held| held.interface == link.index) {
            join(member.group, member.users);
        }
        let own = addresses.iter().filter(|address| address.interface == link.index);
        for address in own {
            if let IpAddr::V6(ip) = address.ip()
                && !link.is_loopback()
            {
                join(solicited(ip).into(), 1);
            }
        }
        if link.flags.intersects(LinkFlags::MULTICAST | LinkFlags::LOOPBACK) {
            join(ALL_HOSTS.into(), 1);
            join(ALL_NODES.into(), 1);
            join(ALL_NODES_HERE.into(), 1);
        }
    }
    found
}

/// The solicited-node group of an address (RFC 4291, section 2.7.1).
fn solicited(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}
