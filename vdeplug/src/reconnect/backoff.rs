//! [`Backoff`]: how long to wait before a connection is tried again.
//!
//! The first try after a loss is made at once; each that fails doubles the pause before the next,
//! up to a limit. A connection that ends as soon as it was made counts as a failure.

use std::time::Duration;

/// What is local costs nothing to ask for.
pub(crate) const LOCAL: Pace =
    Pace { first: Duration::from_millis(100), last: Duration::from_secs(2) };
/// A command is a process, and perhaps a call to another host.
pub(crate) const COMMAND: Pace =
    Pace { first: Duration::from_millis(500), last: Duration::from_secs(16) };

/// A connection that lasted so long was one.
const STABLE: Duration = Duration::from_secs(1);

/// The shortest and the longest pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

/// The pauses of one plug.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: Pace,
    /// The last pause; zero if none was needed.
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, pause: Duration::ZERO }
    }

    /// Returns the pause after a try that failed.
    pub(crate) fn failed(&mut self) -> Duration {
        self.pause = (self.pause * 2).clamp(self.pace.first, self.pace.last);
        self.pause
    }

    /// Returns the pause after the loss of a connection that `lasted` so long.
    pub(crate) fn lost(&mut self, lasted: Duration) -> Duration {
        if lasted < STABLE.max(self.pause) {
            return self.failed();
        }
        self.pause = Duration::ZERO;
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { first: Duration::from_millis(100), last: Duration::from_secs(1) };

    fn failures(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.failed().as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(PACE);
        assert_eq!(failures(&mut backoff, 6), [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_connection_that_lasted_is_tried_again_at_once() {
        let mut backoff = Backoff::new(PACE);
        failures(&mut backoff, 3);
        assert_eq!(backoff.lost(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(failures(&mut backoff, 2), [100, 200]);
    }

    #[test]
    fn a_connection_that_never_lasts_is_tried_less_and_less() {
        let mut backoff = Backoff::new(PACE);
        let pauses: Vec<_> = (0..6).map(|_| backoff.lost(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }
}
