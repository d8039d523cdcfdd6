//! Connections that ended here first: remembered for a minute, at little cost (RFC 9293, 3.6.1).

use std::collections::VecDeque;

use smoltcp::time::{Duration, Instant};

use super::{
    super::hash::Map,
    key::FlowKey,
    segment::{ACK, FIN, RST, SYN, Segment},
};

const STAY: Duration = Duration::from_secs(60);
/// As Linux's `tcp_max_tw_buckets`: beyond, the oldest goes.
const MOST: usize = 65_536;
/// How far behind the expected number a SYN may be an old one.
const OLD: u32 = 16 << 20;

/// A remembered connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeWait {
    /// The next sequence number of our side.
    pub(crate) send_next: u32,
    /// What we expect from the peer.
    pub(crate) receive_next: u32,
    /// Whether the local port may be bound again (SO_REUSEADDR).
    pub(crate) reuse: bool,
    /// When it ends.
    pub(crate) until: Instant,
}

/// What to do with a segment for a remembered connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer with this segment.
    Answer(Segment),
    /// Drop it.
    Ignore,
    /// A new connection begins: forget the old one.
    Renew,
    /// The peer says the old one is no more.
    Forget,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct TimeWaits {
    table: Map<FlowKey, TimeWait>,
    order: VecDeque<(Instant, FlowKey)>,
}

impl TimeWaits {
    /// Remembers a connection; returns the keys that had to go for it.
    pub(crate) fn insert(
        &mut self,
        key: FlowKey,
        mut wait: TimeWait,
        now: Instant,
    ) -> Vec<(FlowKey, TimeWait)> {
        wait.until = now + STAY;
        self.table.insert(key, wait);
        self.order.push_back((wait.until, key));
        let mut gone = Vec::new();
        while self.table.len() > MOST {
            let Some((_, key)) = self.order.pop_front() else { break };
            gone.extend(self.table.remove(&key).map(|wait| (key, wait)));
        }
        gone
    }

    /// Makes a record.
    pub(crate) fn record(send_next: u32, receive_next: u32, reuse: bool) -> TimeWait {
        TimeWait { send_next, receive_next, reuse, until: Instant::ZERO }
    }

    /// Finds one.
    pub(crate) fn get(&self, key: &FlowKey) -> Option<&TimeWait> {
        self.table.get(key)
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, key: &FlowKey) -> Option<TimeWait> {
        self.table.remove(key)
    }

    /// Visits all of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &TimeWait)> {
        self.table.iter()
    }

    /// When the next one ends.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Takes those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(FlowKey, TimeWait)> {
        let mut gone = Vec::new();
        while let Some((until, key)) = self.order.front().copied() {
            if until > now {
                break;
            }
            self.order.pop_front();
            if self.table.get(&key).is_some_and(|wait| wait.until == until) {
                gone.extend(self.table.remove(&key).map(|wait| (key, wait)));
            }
        }
        gone
    }
}

impl TimeWait {
    /// Judges a segment.
    pub(crate) fn judge(&self, segment: &Segment) -> Verdict {
        if segment.is(RST, RST) {
            let exact = segment.sequence == self.receive_next;
            return if exact { Verdict::Forget } else { Verdict::Ignore };
        }
        if segment.is(SYN | ACK, SYN) {
            // Linux chooses rising initial numbers and takes only newer ones here; smoltcp's are
            // random, so all are taken that no old duplicate of this connection can have.
            if self.receive_next.wrapping_sub(segment.sequence) > OLD {
                return Verdict::Renew;
            }
        }
        if segment.length == 0 && segment.is(SYN | FIN, 0) && segment.sequence == self.receive_next
        {
            return Verdict::Ignore;
        }
        Verdict::Answer(Segment {
            source: segment.destination,
            destination: segment.source,
            sequence: self.send_next,
            acknowledges: self.receive_next,
            flags: ACK,
            window: 0,
            length: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, sequence: u32) -> Segment {
        let (acknowledges, window, length) = (0, 0, 0);
        Segment { source: 9, destination: 80, sequence, acknowledges, flags, window, length }
    }

    #[test]
    fn a_late_fin_is_acknowledged_and_a_newer_syn_begins_again() {
        let wait = TimeWaits::record(500, 1000, false);
        let late = wait.judge(&segment(FIN | ACK, 999));
        assert!(matches!(late, Verdict::Answer(answer) if answer.acknowledges == 1000));
        assert_eq!(wait.judge(&segment(SYN, 5000)), Verdict::Renew);
        assert!(matches!(wait.judge(&segment(SYN, 990)), Verdict::Answer(_)));
        assert_eq!(wait.judge(&segment(ACK, 1000)), Verdict::Ignore);
        assert_eq!(wait.judge(&segment(RST, 1000)), Verdict::Forget);
    }

    #[test]
    fn a_record_stays_a_minute() {
        let mut waits = TimeWaits::default();
        let key = FlowKey::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 9).into());
        let now = Instant::from_secs(5);
        waits.insert(key, TimeWaits::record(1, 2, false), now);
        assert!(waits.expire(now + Duration::from_secs(59)).is_empty());
        assert_eq!(waits.expire(now + STAY).len(), 1);
        assert!(waits.get(&key).is_none());
    }
}
