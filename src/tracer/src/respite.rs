//! Progress under a storm of signals in the pure ptrace mode.
//!
//! Each signal costs three stops there: its own, and the two of rt_sigreturn(2). Signals that come
//! faster than that leave a guest no instruction of its own between two of them. Such a guest has them
//! blocked after a handler has returned, until its next stop, or for [`LENGTH`] at most: they stay
//! pending, so that none is lost, and the guest's next call meets them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nix::unistd::Pid;

use crate::sys;

/// Signals of one thread that are closer together than this are a storm.
const STORM: Duration = Duration::from_millis(1);
/// How long a guest that makes no call is spared.
const LENGTH: Duration = Duration::from_millis(1);

/// The threads under a storm, and the spared ones.
#[derive(Debug, Default)]
pub(crate) struct Respites {
    /// When the last signal came, and whether it came soon after the one before.
    signals: HashMap<Pid, (Instant, bool)>,
    /// The signals that the thread itself blocks, and until when it is spared.
    spared: HashMap<Pid, (u64, Instant)>,
}

impl Respites {
    /// A signal is about to be delivered to a thread.
    pub(crate) fn signalled(&mut self, tid: Pid) {
        let now = Instant::now();
        let before = self.signals.get(&tid);
        let soon = before.is_some_and(|(at, _)| now.duration_since(*at) < STORM);
        self.signals.insert(tid, (now, soon));
    }

    /// A thread has returned from a handler.
    pub(crate) fn handled(&mut self, tid: Pid) {
        let stormy = self.signals.get(&tid).is_some_and(|(_, soon)| *soon);
        if stormy
            && let Ok(mask) = sys::signal_mask(tid)
            && sys::set_signal_mask(tid, mask | !SYNCHRONOUS).is_ok()
        {
            self.spared.insert(tid, (mask, Instant::now() + LENGTH));
        }
    }

    /// A thread has stopped: it is spared no more.
    pub(crate) fn stopped(&mut self, tid: Pid) {
        if let Some((mask, _)) = self.spared.remove(&tid) {
            let _ = sys::set_signal_mask(tid, mask);
        }
    }

    /// How long until a spared thread has to be stopped.
    pub(crate) fn next(&self) -> Option<Duration> {
        let until = self.spared.values().map(|(_, until)| *until).min()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// The threads that have been spared long enough and are to be stopped.
    pub(crate) fn over(&self) -> impl Iterator<Item = Pid> {
        let now = Instant::now();
        let over =
            move |(tid, (_, until)): (&Pid, &(u64, Instant))| (*until <= now).then_some(*tid);
        self.spared.iter().filter_map(over)
    }

    /// Forgets a thread that has ended.
    pub(crate) fn forget(&mut self, tid: Pid) {
        self.signals.remove(&tid);
        self.spared.remove(&tid);
    }
}

/// What a fault raises: blocked, it would end the guest.
const SYNCHRONOUS: u64 = {
    let mut set = 0;
    let faults =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];
    let mut at = 0;
    while at < faults.len() {
        set |= 1 << (faults[at] - 1);
        at += 1;
    }
    set
};
