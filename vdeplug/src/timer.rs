//! [`Timer`]: a descriptor that polls readable when a time has come.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

/// A timer and the time that it is set to.
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: TimerFd,
    set: Option<Duration>,
}

impl Timer {
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { descriptor: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, set: None })
    }

    /// Has it ring at `due`, or never.
    pub(crate) fn set(&mut self, due: Option<Duration>, now: Duration) {
        // One that has rung is set again even to the same time: it rings no more by itself.
        if self.set == due && self.set.is_none_or(|set| set > now) {
            return;
        }
        let done = match due {
            // A time of zero would mean never.
            Some(due) => {
                let left = due.saturating_sub(now).max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.descriptor.set(expiration, TimerSetTimeFlags::empty())
            }
            None => self.descriptor.unset(),
        };
        match done {
            Ok(()) => self.set = due,
            Err(error) => tracing::warn!(%error, "cannot set a timer"),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
