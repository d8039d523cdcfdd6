//! Moments and durations of the view, and those of the host they stand for.

use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use umvu_abi::{GuestAddr, module::Clock};
use umvu_tracer::api::{Action, AfterWait, Call, Guest, Instead, Wait};

pub(super) const SECOND: i128 = 1_000_000_000;
/// A time that does not come.
const NEVER: i128 = 1_000_000_000 * SECOND;

/// How a duration or a moment stands in memory: two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// `struct timespec`.
    Nanos,
    /// `struct timeval`.
    Micros,
}

impl Unit {
    fn nanos(self) -> i128 {
        if self == Self::Nanos { 1 } else { 1000 }
    }

    /// The shortest duration that is not nothing.
    pub(super) fn least(self) -> i128 {
        self.nanos()
    }

    /// Two words: seconds, and the rest.
    pub(super) fn encode(self, nanos: i128) -> Vec<u8> {
        let word = |value: i128| i64::try_from(value).unwrap_or(i64::MAX).to_ne_bytes();
        [word(nanos.div_euclid(SECOND)), word(nanos.rem_euclid(SECOND) / self.nanos())].concat()
    }

    /// None for what the kernel refuses.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<i128> {
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map(|word| i128::from(i64::from_ne_bytes(*word)))
        };
        let (seconds, rest) = (word(0)?, word(8)?);
        let is_valid = seconds >= 0 && (0..SECOND / self.nanos()).contains(&rest);
        is_valid.then(|| seconds * SECOND + rest * self.nanos())
    }

    /// Reads one of a guest; None for what is the kernel's to refuse.
    pub(super) fn read(self, guest: &dyn Guest, at: GuestAddr) -> Option<i128> {
        let mut bytes = [0; 16];
        guest.read(at, &mut bytes).ok()?;
        self.decode(&bytes)
    }
}

/// What a clock of the host shows.
pub(super) fn host(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * SECOND + i128::from(now.tv_nsec)
}

/// A clock that the view has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The time of day.
    Real(ClockId),
    /// One that counts from the start of the host.
    Counting(ClockId),
}

impl Kind {
    /// By its number; None for a clock that is the host's.
    pub(super) fn of(number: i32) -> Option<Self> {
        Some(match number {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM => Self::Real(ClockId::Realtime),
            libc::CLOCK_REALTIME_COARSE => Self::Real(ClockId::RealtimeCoarse),
            libc::CLOCK_MONOTONIC => Self::Counting(ClockId::Monotonic),
            libc::CLOCK_MONOTONIC_COARSE => Self::Counting(ClockId::MonotonicCoarse),
            libc::CLOCK_MONOTONIC_RAW => Self::Counting(ClockId::MonotonicRaw),
            libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => Self::Counting(ClockId::Boottime),
            _ => return None,
        })
    }

    /// What it shows now.
    pub(super) fn show(self, clock: &dyn Clock) -> i128 {
        match self {
            Self::Real(id) => clock.show(host(id)),
            Self::Counting(id) => {
                let now = host(ClockId::Monotonic);
                host(id) + clock.monotonic(now) - now
            }
        }
    }

    /// The moment of the host's clock at which it shows a time.
    pub(super) fn host_moment(self, clock: &dyn Clock, shown: i128) -> i128 {
        match self {
            Self::Real(id) => {
                let now = host(id);
                match clock.real(shown) {
                    _ if clock.show(now) >= shown => 0,
                    Some(moment) if moment >= now => moment.min(now + NEVER),
                    // It stands still, or goes the other way.
                    _ => now + NEVER,
                }
            }
            Self::Counting(id) => {
                let apart = host(id) - host(ClockId::Monotonic);
                (clock.host_monotonic(shown - apart) + apart).clamp(0, NEVER)
            }
        }
    }
}

/// The rate at which time passes in a view.
#[derive(Debug, Clone)]
pub(super) struct Pace(pub(super) Arc<dyn Clock>);

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a clock's rate")]
impl Pace {
    /// So long is it on the host; more than nothing is not nothing.
    pub(super) fn to_host(&self, nanos: i128) -> i128 {
        match self.0.pace() {
            1.0 => nanos,
            pace => ((nanos as f64 / pace).ceil() as i128).min(NEVER),
        }
    }

    /// So long is it in the view.
    pub(super) fn to_view(&self, nanos: i128) -> i128 {
        match self.0.pace() {
            1.0 => nanos,
            pace => ((nanos as f64 * pace).ceil() as i128).min(NEVER),
        }
    }

    /// Rewrites what the kernel has written to a guest: so many durations, one behind the other.
    pub(super) fn show(&self, guest: &dyn Guest, at: GuestAddr, unit: Unit, count: u64) {
        if at.is_null() {
            return;
        }
        for place in (0..count).map(|n| GuestAddr(at.0 + 16 * n)) {
            if let Some(nanos) = unit.read(guest, place) {
                // It has been written to by the kernel just now.
                let _ = guest.write(place, &unit.encode(self.to_view(nanos)));
            }
        }
    }
}

/// Has the kernel perform a call with other arguments.
pub(super) fn call(
    call: &Call,
    args: [u64; 6],
    data: Option<(usize, Vec<u8>)>,
    after: impl FnOnce(&dyn Guest, i64, &[u8]) -> i64 + Send + 'static,
) -> Action {
    let call = Instead { data, ..Instead::call(call.syscall.number, args) };
    Action::Wait(Wait { call, also: None, after: AfterWait(Box::new(after)) })
}
