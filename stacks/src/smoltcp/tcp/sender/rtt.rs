//! The round-trip time and the retransmission timeout (RFC 6298), with Linux's bounds.

use smoltcp::time::{Duration, Instant};

/// Linux's `TCP_RTO_MIN`, `TCP_TIMEOUT_INIT` and `TCP_RTO_MAX`.
const RTO_MIN: u64 = 200_000;
const RTO_INITIAL: u64 = 1_000_000;
const RTO_MAX: u64 = 120_000_000;
/// How long the least round-trip time is believed.
const MEMORY: Duration = Duration::from_secs(300);

/// Estimates; microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    /// The smoothed round-trip time, 0 before the first measurement.
    pub(crate) smooth: u64,
    /// Its mean deviation.
    pub(crate) variation: u64,
    /// The least one of late, 0 before the first measurement.
    pub(crate) least: u64,
    least_at: Option<Instant>,
}

impl Rtt {
    /// Takes a measurement.
    pub(crate) fn sample(&mut self, measured: Duration, now: Instant) {
        let sample = measured.total_micros().max(1);
        if self.least == 0
            || sample <= self.least
            || self.least_at.is_none_or(|at| now - at > MEMORY)
        {
            (self.least, self.least_at) = (sample, Some(now));
        }
        if self.smooth == 0 {
            (self.smooth, self.variation) = (sample, sample / 2);
        } else {
            let off = self.smooth.abs_diff(sample);
            self.variation = self.variation - self.variation / 4 + off / 4;
            self.smooth = (self.smooth - self.smooth / 8 + sample / 8).max(1);
        }
    }

    /// The retransmission timeout after `backoff` doublings.
    pub(crate) fn timeout(&self, backoff: u32) -> Duration {
        let first = if self.smooth == 0 {
            RTO_INITIAL
        } else {
            self.smooth + RTO_MIN.max(4 * self.variation)
        };
        Duration::from_micros((first << backoff.min(16)).min(RTO_MAX))
    }

    /// The time after which a tail loss is probed for (RFC 8985, 7.2); `alone` when a single
    /// segment is in flight, whose acknowledgement may be delayed.
    pub(crate) fn probe_timeout(&self, alone: bool) -> Duration {
        let wait = if self.smooth == 0 { RTO_INITIAL } else { 2 * self.smooth };
        Duration::from_micros(wait + if alone { RTO_MIN } else { 2000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements_and_backs_off() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), Duration::from_secs(1));
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(50), Instant::from_secs(1));
        }
        let steady = rtt.timeout(0).total_millis();
        assert!((245..=255).contains(&steady), "{steady}");
        assert_eq!(rtt.timeout(2), rtt.timeout(0) * 4);
        assert_eq!(rtt.timeout(40), Duration::from_secs(120));
        rtt.sample(Duration::from_millis(150), Instant::from_secs(1));
        assert!(rtt.timeout(0).total_millis() > steady);
        assert_eq!(rtt.least, 50_000);
    }
}
