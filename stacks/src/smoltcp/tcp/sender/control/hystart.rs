//! HyStart++: the first slow start ends when round trips grow, before a queue overflows (RFC 9406).

use smoltcp::time::Duration;

use super::Ack;

/// By how much a round trip must grow: an eighth, within these bounds.
const LEAST: Duration = Duration::from_millis(4);
const MOST: Duration = Duration::from_millis(16);
/// Measurements that a round needs to tell something.
const SAMPLES: u32 = 8;
/// Rounds of careful growth, the begun one too, in which the growth of round trips may prove to be noise.
const CAREFUL: u32 = 5;

/// How fast the window grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// By all that was delivered.
    Full,
    /// By a quarter of it.
    Quarter,
    /// Slow start is over.
    Over,
}

/// The rounds of a slow start.
#[derive(Debug, Default)]
pub(super) struct HyStart {
    /// Bytes delivered when the round ends.
    ends: u64,
    /// The least round trip of the last round and of this one, and the measurements of that.
    last: Option<Duration>,
    current: Option<Duration>,
    samples: u32,
    /// The least round trip when careful growth began, and the rounds since.
    careful: Option<(Duration, u32)>,
}

impl HyStart {
    /// Takes an acknowledgement.
    pub(super) fn take(&mut self, ack: &Ack) -> Growth {
        if ack.total >= self.ends {
            self.ends = ack.total + ack.flying;
            (self.last, self.current, self.samples) = (self.current, None, 0);
            if let Some((_, rounds)) = &mut self.careful {
                *rounds += 1;
            }
        }
        if self.careful.is_some_and(|(_, rounds)| rounds >= CAREFUL) {
            return Growth::Over;
        }
        if let Some(rtt) = ack.rtt {
            self.current = Some(self.current.map_or(rtt, |least| least.min(rtt)));
            self.samples += 1;
        }
        self.judge();
        if self.careful.is_some() { Growth::Quarter } else { Growth::Full }
    }

    fn judge(&mut self) {
        let (Some(current), true) = (self.current, self.samples >= SAMPLES) else { return };
        match (self.careful, self.last) {
            (Some((begun, _)), _) if current < begun => self.careful = None,
            (None, Some(last)) if current >= last + (last / 8).clamp(LEAST, MOST) => {
                self.careful = Some((current, 0));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::time::Instant;

    use super::*;

    /// Lets a round pass with these round trips, of which there are ten; what it grew by at last.
    fn round(hystart: &mut HyStart, total: &mut u64, millis: u64) -> Growth {
        let mut growth = Growth::Full;
        for _ in 0..10 {
            *total += 1000;
            growth = hystart.take(&Ack {
                now: Instant::ZERO,
                delivered: 1000,
                total: *total,
                flying: 10_000,
                lost: false,
                rtt: Some(Duration::from_millis(millis)),
                rate: None,
                smooth: Duration::from_millis(millis),
                limited: true,
                mss: 1000,
            });
        }
        growth
    }

    #[test]
    fn slow_start_ends_when_round_trips_keep_growing() {
        let (mut hystart, mut total) = (HyStart::default(), 0);
        for millis in [100, 105, 111] {
            assert_eq!(round(&mut hystart, &mut total, millis), Growth::Full);
        }
        for millis in [125, 126, 130, 140, 150] {
            assert_eq!(round(&mut hystart, &mut total, millis), Growth::Quarter);
        }
        assert_eq!(round(&mut hystart, &mut total, 160), Growth::Over);
    }

    #[test]
    fn noise_only_slows_it_for_a_round() {
        let (mut hystart, mut total) = (HyStart::default(), 0);
        assert_eq!(round(&mut hystart, &mut total, 50), Growth::Full);
        assert_eq!(round(&mut hystart, &mut total, 60), Growth::Quarter);
        assert_eq!(round(&mut hystart, &mut total, 52), Growth::Full);
        // Less than four milliseconds are never a sign.
        let (mut hystart, mut total) = (HyStart::default(), 0);
        for millis in [1, 4, 7] {
            assert_eq!(round(&mut hystart, &mut total, millis), Growth::Full);
        }
    }
}
