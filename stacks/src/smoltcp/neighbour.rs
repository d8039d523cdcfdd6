//! The neighbours of a link: which hardware address answers for an IP address, and how sure that
//! is (RFC 4861, section 7.3.2; arp(7)).
//!
//! The table only decides; ARP and NDP packets are made by their own files.

use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use super::{hash::Map, link::Outgoing};

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// How many solicitations are sent, one a second, before a neighbour counts as unreachable.
const TRIES: u8 = 3;
const RETRANSMIT: Duration = Duration::from_secs(1);
const REACHABLE: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_secs(5);
/// How long a failed neighbour is remembered, so that callers learn of it at once.
const FAILED: Duration = Duration::from_secs(1);
/// Entries kept; beyond, the stale ones go first.
const TABLE_SIZE: usize = 1024;
/// Packets that wait for one neighbour.
const PENDING: usize = 128;

/// Where a neighbour stands; the names are those of `ip neigh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Used while stale: wait whether the upper layers confirm it.
    Delay,
    /// Being asked again, by unicast.
    Probe,
    /// Does not answer.
    Failed,
    /// Set by the administrator.
    Permanent,
    /// Set by the administrator, until a `flush`: it is never asked.
    NoArp,
}

impl State {
    /// Whether only the administrator changes it.
    fn is_set(self) -> bool {
        matches!(self, Self::Permanent | Self::NoArp)
    }
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// The hardware address, zero while unknown.
    pub(crate) mac: Mac,
    /// How sure it is.
    pub(crate) state: State,
    due: Option<Instant>,
    tries: u8,
    pending: Vec<Outgoing>,
}

/// What to do for a packet to a neighbour.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// Send it there.
    Ready(Mac, Outgoing),
    /// It waits; when `solicit` is set, ask for the neighbour now.
    Waiting {
        /// Whether this is the first packet.
        solicit: bool,
    },
    /// The neighbour does not answer.
    Unreachable(Outgoing),
}

/// What is known of a neighbour that somebody wants to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its hardware address.
    Known(Mac),
    /// It is being asked for; when `solicit` is set, ask for it now.
    Waiting {
        /// Whether this is the first time.
        solicit: bool,
    },
    /// It does not answer.
    Unreachable,
}

/// What the passing of time demands.
#[derive(Debug)]
pub(crate) enum Due {
    /// Ask for a neighbour, by unicast if its address is given.
    Solicit(IpAddr, Option<Mac>),
    /// A neighbour did not answer; these packets cannot be delivered.
    Lost(Vec<Outgoing>),
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    table: Map<IpAddr, Neighbour>,
    /// Changes whenever a known hardware address changes or is forgotten.
    pub(crate) generation: u32,
    /// The next instant something is due.
    pub(crate) due: Option<Instant>,
    /// Addresses whose entry changed since the last look, for `ip neigh` and `ip monitor`.
    pub(crate) changed: Vec<IpAddr>,
    /// Addresses whose entry was removed by request since the last look.
    pub(crate) removed: Vec<IpAddr>,
}

impl Neighbours {
    /// Looks an address up for sending a packet to it.
    pub(crate) fn resolve(&mut self, ip: IpAddr, packet: Outgoing, now: Instant) -> Resolution {
        match self.ask(ip, now) {
            Asked::Known(mac) => Resolution::Ready(mac, packet),
            Asked::Unreachable => Resolution::Unreachable(packet),
            Asked::Waiting { solicit } => {
                if let Some(entry) = self.table.get_mut(&ip)
                    && entry.pending.len() < PENDING
                {
                    entry.pending.push(packet);
                }
                Resolution::Waiting { solicit }
            }
        }
    }

    /// Looks an address up that is about to be used.
    pub(crate) fn ask(&mut self, ip: IpAddr, now: Instant) -> Asked {
        self.make_room(now);
        let entry = self.table.entry(ip).or_insert_with(|| Neighbour {
            mac: [0; 6],
            state: State::Failed,
            due: None,
            tries: 0,
            pending: Vec::new(),
        });
        match entry.state {
            State::Reachable | State::Delay | State::Probe | State::Permanent | State::NoArp => {
                Asked::Known(entry.mac)
            }
            State::Stale => {
                entry.state = State::Delay;
                entry.due = Some(now + DELAY);
                let mac = entry.mac;
                self.changed.push(ip);
                self.schedule(now + DELAY);
                Asked::Known(mac)
            }
            State::Incomplete => Asked::Waiting { solicit: false },
            State::Failed if entry.due.is_some_and(|until| until > now) => Asked::Unreachable,
            State::Failed => {
                entry.state = State::Incomplete;
                entry.due = Some(now + RETRANSMIT);
                entry.tries = 1;
                self.changed.push(ip);
                self.schedule(now + RETRANSMIT);
                Asked::Waiting { solicit: true }
            }
        }
    }

    /// The hardware address of a neighbour, for callers that keep it until `generation` changes.
    pub(crate) fn known(&self, ip: IpAddr) -> Option<Mac> {
        let entry = self.table.get(&ip)?;
        let is_sure = matches!(entry.state, State::Reachable | State::Delay | State::Probe);
        (is_sure || entry.state.is_set()).then_some(entry.mac)
    }

    /// Notes what a neighbour said of itself; returns the packets that waited for it.
    /// `solicited`: it answered our question, so it is reachable now.
    pub(crate) fn learn(
        &mut self,
        ip: IpAddr,
        mac: Mac,
        solicited: Solicited,
        now: Instant,
    ) -> Vec<Outgoing> {
        if solicited == Solicited::UpdateOnly && !self.table.contains_key(&ip) {
            return Vec::new();
        }
        self.make_room(now);
        let entry = self.table.entry(ip).or_insert_with(|| Neighbour {
            mac,
            state: State::Stale,
            due: None,
            tries: 0,
            pending: Vec::new(),
        });
        if entry.state.is_set() {
            return Vec::new();
        }
        let before = (entry.mac, entry.state);
        let waited = std::mem::take(&mut entry.pending);
        let asked = entry.state == State::Incomplete;
        if entry.mac != mac {
            self.generation = self.generation.wrapping_add(1);
        }
        if solicited == Solicited::Yes || asked {
            entry.state = State::Reachable;
            entry.due = Some(now + REACHABLE);
        } else if entry.mac != mac || entry.state == State::Failed {
            entry.state = State::Stale;
            entry.due = None;
        }
        entry.mac = mac;
        let due = entry.due;
        if before != (entry.mac, entry.state) {
            self.changed.push(ip);
        }
        if let Some(due) = due {
            self.schedule(due);
        }
        waited
    }

    /// Sets an entry by hand (`ip neigh add`).
    pub(crate) fn set(&mut self, ip: IpAddr, mac: Mac, state: State, now: Instant) {
        let due = match state {
            State::Reachable => Some(now + REACHABLE),
            State::Delay => Some(now + DELAY),
            _ => None,
        };
        self.table.insert(ip, Neighbour { mac, state, due, tries: 0, pending: Vec::new() });
        self.generation = self.generation.wrapping_add(1);
        self.changed.push(ip);
        if let Some(due) = due {
            self.schedule(due);
        }
    }

    /// Forgets an entry.
    pub(crate) fn forget(&mut self, ip: IpAddr) {
        if self.table.remove(&ip).is_some() {
            self.removed.push(ip);
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.generation = self.generation.wrapping_add(1);
        self.due = None;
    }

    /// The addresses of all entries.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.table.keys().copied()
    }

    /// An entry, for listing.
    pub(crate) fn get(&self, ip: IpAddr) -> Option<&Neighbour> {
        self.table.get(&ip)
    }

    /// Does what time demands and returns what to send or to report.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Due> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut next: Option<Instant> = None;
        for (ip, entry) in &mut self.table {
            if entry.due.is_some_and(|due| due <= now) {
                let before = entry.state;
                entry.pass_time(*ip, now, &mut found);
                if before != entry.state {
                    self.changed.push(*ip);
                    // Whoever keeps the address has to ask again: that is what finds out that a
                    // neighbour is gone.
                    if matches!(entry.state, State::Failed | State::Stale) {
                        self.generation = self.generation.wrapping_add(1);
                    }
                }
            }
            next = [next, entry.due].into_iter().flatten().min();
        }
        self.due = next;
        found
    }

    fn schedule(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn make_room(&mut self, now: Instant) {
        if self.table.len() < TABLE_SIZE {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.table.retain(|_, entry| {
            entry.state != State::Stale
                && !(entry.state == State::Failed && entry.due.is_none_or(|due| due <= now))
        });
        if self.table.len() >= TABLE_SIZE {
            self.table.retain(|_, entry| entry.state.is_set());
        }
    }
}

/// How an address was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Solicited {
    /// It answers a question of ours.
    Yes,
    /// It was told with a question to us.
    No,
    /// It was told to everybody: only known entries take it.
    UpdateOnly,
}

impl Neighbour {
    fn pass_time(&mut self, ip: IpAddr, now: Instant, found: &mut Vec<Due>) {
        match self.state {
            State::Incomplete | State::Probe if self.tries < TRIES => {
                self.tries += 1;
                self.due = Some(now + RETRANSMIT);
                let to = (self.state == State::Probe).then_some(self.mac);
                found.push(Due::Solicit(ip, to));
            }
            State::Incomplete | State::Probe => {
                self.state = State::Failed;
                self.due = Some(now + FAILED);
                found.push(Due::Lost(std::mem::take(&mut self.pending)));
            }
            State::Delay => {
                self.state = State::Probe;
                self.tries = 1;
                self.due = Some(now + RETRANSMIT);
                found.push(Due::Solicit(ip, Some(self.mac)));
            }
            State::Reachable => {
                self.state = State::Stale;
                self.due = None;
            }
            State::Failed | State::Stale | State::Permanent | State::NoArp => self.due = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const MAC: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn three_questions_in_three_seconds_then_unreachable() {
        let mut table = Neighbours::default();
        let mut now = Instant::from_secs(10);
        let first = table.resolve(IP, Outgoing::default(), now);
        assert!(matches!(first, Resolution::Waiting { solicit: true }));
        for _ in 0..2 {
            now += RETRANSMIT;
            assert!(matches!(table.expire(now)[..], [Due::Solicit(IP, None)]));
        }
        now += RETRANSMIT;
        assert!(matches!(&table.expire(now)[..], [Due::Lost(packets)] if packets.len() == 1));
        let later = table.resolve(IP, Outgoing::default(), now);
        assert!(matches!(later, Resolution::Unreachable(_)));
    }

    #[test]
    fn an_answer_frees_the_waiting_packets_and_ages() {
        let mut table = Neighbours::default();
        let mut now = Instant::from_secs(10);
        let _ = table.resolve(IP, Outgoing::default(), now);
        assert_eq!(table.learn(IP, MAC, Solicited::Yes, now).len(), 1);
        assert_eq!(table.known(IP), Some(MAC));
        now += REACHABLE;
        assert!(table.expire(now).is_empty());
        assert_eq!(table.known(IP), None);
        assert!(matches!(table.resolve(IP, Outgoing::default(), now), Resolution::Ready(MAC, _)));
        now += DELAY;
        assert!(matches!(table.expire(now)[..], [Due::Solicit(IP, Some(MAC))]));
        assert!(table.learn(IP, MAC, Solicited::Yes, now).is_empty());
        assert_eq!(table.get(IP).map(|entry| entry.state), Some(State::Reachable));
    }
}
