//! The time of a stack: the host's, or a test's.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use smoltcp::time::Instant;

/// Tells a stack what time it is.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The monotonic clock, counted from an instant that every stack of the process may choose.
    Real(std::time::Instant),
    /// Microseconds that a test moves on.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests that must not sleep"))]
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the host.
    pub(crate) fn real() -> Self {
        // smoltcp takes 0 for "at once": begin later than that.
        let now = std::time::Instant::now();
        Self::Real(now.checked_sub(std::time::Duration::from_secs(1)).unwrap_or(now))
    }

    /// The instant now.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real(epoch) => {
                Instant::from_micros(i64::try_from(epoch.elapsed().as_micros()).unwrap_or(i64::MAX))
            }
            Self::Manual(micros) => Instant::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// The host's instant of a stack's instant.
    pub(crate) fn host_instant(&self, at: Instant) -> std::time::Instant {
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        match self {
            Self::Real(epoch) => *epoch + std::time::Duration::from_micros(micros),
            Self::Manual(_) => std::time::Instant::now() + std::time::Duration::from_secs(3600),
        }
    }
}

/// The host's time since the epoch.
pub(crate) fn time_of_day(_at: Instant) -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
