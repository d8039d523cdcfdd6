//! First in, first out: `pfifo`, `bfifo`, `pfifo_fast`, and `noqueue`, in which nothing waits long.

use std::collections::VecDeque;

use netlink_emu::values::{Discipline, QdiscStats};

use super::{Queued, Verdict, lose, pool};
use crate::smoltcp::packet::HEADROOM;

/// The most packets in a band of `pfifo_fast`.
const BAND: u64 = 1000;
/// The band of a packet by the four bits of its type of service (`ip_tos2prio` and the priority map
/// of `pfifo_fast`, RFC 1349).
const BANDS: [usize; 16] = [1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1];

/// Queues of packets, the first of which goes first.
#[derive(Debug)]
pub(super) struct Fifo {
    kind: &'static str,
    bands: Vec<VecDeque<Queued>>,
    bytes: u64,
    most_packets: u64,
    most_bytes: u64,
}

impl Fifo {
    pub(super) fn new(discipline: &Discipline) -> Self {
        let bands = if matches!(discipline, Discipline::PfifoFast) { 3 } else { 1 };
        let mut fifo = Self {
            kind: discipline.kind(),
            bands: vec![VecDeque::new(); bands],
            bytes: 0,
            most_packets: BAND,
            most_bytes: u64::MAX,
        };
        fifo.configure(discipline);
        fifo
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn configure(&mut self, discipline: &Discipline) {
        match discipline {
            Discipline::Pfifo(limit) => self.most_packets = u64::from(*limit),
            Discipline::Bfifo(limit) => {
                (self.most_packets, self.most_bytes) = (u64::MAX, u64::from(*limit));
            }
            _ => {}
        }
    }

    pub(super) fn push(&mut self, frame: Queued, stats: &mut QdiscStats) -> Verdict {
        let band = if self.bands.len() > 1 { band(&frame.bytes) } else { 0 };
        let length = frame.length();
        let Some(queue) = self.bands.get_mut(band) else { return Verdict::Dropped };
        if queue.len() as u64 >= self.most_packets || self.bytes + length > self.most_bytes {
            lose(frame, stats);
            return Verdict::Dropped;
        }
        self.bytes += length;
        queue.push_back(frame);
        Verdict::Taken
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let frame = self.bands.iter_mut().find_map(VecDeque::pop_front)?;
        self.bytes -= frame.length();
        Some(frame)
    }

    pub(super) fn waiting(&self) -> (u64, u64) {
        (self.packets(), self.bytes)
    }

    fn packets(&self) -> u64 {
        self.bands.iter().map(|band| band.len() as u64).sum()
    }

    pub(super) fn is_half_full(&self) -> bool {
        let packets = self.packets();
        packets > 1 && (packets * 2 >= self.most_packets || self.bytes >= self.most_bytes / 2)
    }

    pub(super) fn reset(&mut self) {
        self.bytes = 0;
        self.bands.iter_mut().flat_map(|band| band.drain(..)).for_each(|f| pool::give(f.bytes));
    }
}

fn band(frame: &[u8]) -> usize {
    let tos = match (frame.get(12..14), frame.get(HEADROOM..HEADROOM + 2)) {
        (Some([8, 0]), Some([_, tos])) => *tos,
        (Some([0x86, 0xdd]), Some([high, low])) => (high << 4) | (low >> 4),
        // ARP and others: best effort.
        _ => 0,
    };
    BANDS[usize::from(tos >> 1) & 15]
}
