//! How much the peer may send: as much as the guest reads in two round trips, and some more
//! (dynamic right-sizing, as Linux's `tcp_rcv_space_adjust` does; tcp(7), `tcp_moderate_rcvbuf`).

use smoltcp::time::{Duration, Instant};

use super::Pressure;

/// Segments that come on top, for the noise of measurements.
const CUSHION: u64 = 16;
/// Timestamps count milliseconds: what they say of less is no measurement.
const COARSE: Duration = Duration::from_millis(2);

/// The size, and what it follows from; bytes and microseconds.
#[derive(Debug)]
pub(super) struct Space {
    size: u64,
    most: u64,
    mss: u64,
    /// The round-trip time as far as it is known.
    round_trip: u64,
    /// It was measured by timestamps: windows tell less.
    stamped: bool,
    /// Until this position a window is measured, since then.
    window: Option<(u64, Instant)>,
    /// What the guest read in the last round trip that was more than before.
    copied: u64,
    /// What it had read when this round trip began, and when.
    begun: Option<(u64, Instant)>,
}

impl Default for Space {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Space {
    pub(super) fn new(size: usize, most: usize) -> Self {
        let (size, most) = (size as u64, most.max(size) as u64);
        let (mss, round_trip, stamped, window, copied, begun) = (536, 0, false, None, 0, None);
        Self { size, most, mss, round_trip, stamped, window, copied, begun }
    }

    /// The handshake is complete.
    pub(super) fn start(&mut self, round_trip: Option<Duration>, mss: u64, now: Instant) {
        self.round_trip = round_trip.map_or(0, |took| took.total_micros().max(1));
        self.mss = mss;
        self.copied = (10 * mss).min(self.size).max(1);
        self.begun = Some((0, now));
    }

    /// How much may be held.
    pub(super) fn size(&self, pressure: Pressure) -> u64 {
        pressure.bound(usize::try_from(self.size).unwrap_or(usize::MAX)) as u64
    }

    /// The shift with which the largest window can be told.
    pub(super) fn shift(&self) -> u8 {
        let bits = u64::BITS - self.most.leading_zeros();
        u8::try_from(bits.saturating_sub(16).min(14)).unwrap_or(14)
    }

    /// What the guest reads in a round trip, and that.
    pub(super) fn pace(&self) -> (u64, u64) {
        (self.copied, self.round_trip)
    }

    /// Takes a round trip that timestamps tell of.
    pub(super) fn note_round_trip(&mut self, took: Duration) {
        self.stamped = true;
        if self.round_trip == 0 {
            self.round_trip = took.total_micros().max(1000);
        } else if took >= COARSE {
            let known = self.round_trip;
            self.round_trip = (known - known / 8 + took.total_micros() / 8).max(1);
        }
    }

    /// Data arrived up to a position. Without timestamps, a whole window takes a round trip at
    /// least.
    pub(super) fn arrived(&mut self, next: u64, edge: u64, now: Instant) {
        match self.window {
            _ if self.stamped => {}
            Some((until, since)) if next >= until => {
                let took = (now - since).total_micros().max(1);
                if self.round_trip == 0 || took < self.round_trip {
                    self.round_trip = took;
                }
                self.window = Some((edge.max(next + 1), now));
            }
            Some(_) => {}
            None => self.window = Some((edge.max(next + 1), now)),
        }
    }

    /// The guest has read up to a position.
    pub(super) fn read(&mut self, read: u64, now: Instant) {
        let Some((from, since)) = self.begun else { return };
        if self.round_trip == 0 || (now - since).total_micros() < self.round_trip {
            return;
        }
        let copied = read.saturating_sub(from);
        self.begun = Some((read.max(from), now));
        if copied <= self.copied {
            return;
        }
        // A peer in slow start sends twice as much in the next round trip; this one's growth
        // tells how fast it goes on.
        let window = 2 * copied + CUSHION * self.mss;
        let growth = u128::from(window) * u128::from(copied - self.copied);
        let growth = u64::try_from(growth / u128::from(self.copied.max(1))).unwrap_or(self.most);
        self.size = window.saturating_add(growth.saturating_mul(2)).min(self.most).max(self.size);
        self.copied = copied;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_what_is_read_in_a_round_trip() {
        let mut space = Space::new(100_000, 1_000_000);
        let begun = Instant::from_secs(1);
        space.start(Some(Duration::from_millis(50)), 1000, begun);
        space.read(90_000, begun + Duration::from_millis(49));
        assert_eq!(space.size, 100_000);
        space.read(20_000, begun + Duration::from_millis(50));
        // Twice as much as the 10 segments before: 2 * 20,000 + 16,000, and twice that.
        assert_eq!(space.size, 168_000);
        space.read(40_000, begun + Duration::from_millis(100));
        assert_eq!(space.size, 168_000, "no more than before");
        space.read(900_000, begun + Duration::from_millis(150));
        assert_eq!(space.size, 1_000_000);
    }

    #[test]
    fn the_shift_lets_the_largest_window_be_told() {
        assert_eq!(Space::new(1, 65_535).shift(), 0);
        assert_eq!(Space::new(1, 6 << 20).shift(), 7);
        assert_eq!(Space::new(1, usize::MAX).shift(), 14);
    }
}
