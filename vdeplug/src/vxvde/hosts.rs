//! [`Hosts`]: who is no member of ours but the VXLAN device of a kernel.
//!
//! A member sends from the port where it listens; a device sends from any port and listens at that
//! of the network. Two things give a device away: it sends to the network's port of a host instead
//! of to a member, and what is sent to the port it sent from is refused. After a refusal, which may
//! also be that of a member which died, frames go to the group for a while: that reaches both.
//!
//! Time is an argument, in seconds.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

/// How long a host is known for what it is.
const MEMORY: u32 = 300;
/// Hosts that are remembered at most.
const MOST: usize = 1024;

/// Where a datagram came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// At the socket that is the member's name.
    Own,
    /// At the group.
    Group,
    /// At the network's port of this host.
    Host,
}

/// What is known of other hosts.
#[derive(Debug, Default)]
pub(crate) struct Hosts(HashMap<IpAddr, Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    kind: Kind,
    until: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Device,
    Doubtful,
}

impl Hosts {
    /// Returns where the sender of a datagram can be answered; None: at the group only.
    pub(crate) fn answer_to(
        &mut self,
        mut sender: SocketAddr,
        entrance: Entrance,
        port: u16,
        now: u32,
    ) -> Option<SocketAddr> {
        if entrance == Entrance::Host {
            self.note(sender.ip(), Kind::Device, now);
        }
        match self.0.get(&sender.ip()).filter(|known| known.until > now).map(|known| known.kind) {
            Some(Kind::Device) => sender.set_port(port),
            Some(Kind::Doubtful) => return None,
            None => {}
        }
        Some(sender)
    }

    /// Notes that nobody is where a host sent from.
    pub(crate) fn refused(&mut self, host: IpAddr, now: u32) {
        self.note(host, Kind::Doubtful, now);
    }

    fn note(&mut self, host: IpAddr, kind: Kind, now: u32) {
        if self.0.len() >= MOST && !self.0.contains_key(&host) {
            self.0.retain(|_, known| known.until > now);
            if self.0.len() >= MOST {
                self.0.clear();
            }
        }
        self.0.insert(host, Known { kind, until: now.saturating_add(MEMORY) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 14_789;

    fn sender(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn members_are_answered_where_they_sent_from() {
        let mut hosts = Hosts::default();
        for entrance in [Entrance::Own, Entrance::Group] {
            assert_eq!(hosts.answer_to(sender(5000), entrance, PORT, 0), Some(sender(5000)));
        }
    }

    #[test]
    fn devices_are_answered_at_the_port_of_the_network() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.answer_to(sender(5000), Entrance::Host, PORT, 0), Some(sender(PORT)));
        assert_eq!(hosts.answer_to(sender(6000), Entrance::Group, PORT, 299), Some(sender(PORT)));
        assert_eq!(hosts.answer_to(sender(6000), Entrance::Group, PORT, 300), Some(sender(6000)));
    }

    #[test]
    fn who_refused_is_answered_at_the_group_for_a_while() {
        let mut hosts = Hosts::default();
        hosts.refused(sender(0).ip(), 10);
        assert_eq!(hosts.answer_to(sender(5000), Entrance::Group, PORT, 309), None);
        assert_eq!(hosts.answer_to(sender(5000), Entrance::Group, PORT, 310), Some(sender(5000)));
        hosts.refused(sender(0).ip(), 310);
        assert_eq!(hosts.answer_to(sender(5000), Entrance::Host, PORT, 311), Some(sender(PORT)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut hosts = Hosts::default();
        for n in 0..5000_u32 {
            hosts.refused(IpAddr::from(n.to_be_bytes()), n / 100);
        }
        assert!(hosts.0.len() <= MOST);
    }
}
