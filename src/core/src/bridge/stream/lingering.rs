//! close(2) with `SO_LINGER` and a time: the guest waits until the peer has acknowledged all that it was
//! sent, and the end of it (socket(7)).

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use umvu_abi::net::Shutdown;
use umvu_tracer::api::{Action, Call, Completer};

use super::{
    super::{Virtual, unix},
    Answers, State, Stream,
};

/// The states, as TCP_INFO numbers them, in which the peer may not have all yet: ESTABLISHED,
/// FIN-WAIT-1, CLOSE-WAIT, LAST-ACK, CLOSING.
const UNDER_WAY: [u8; 5] = [1, 4, 8, 9, 11];

/// A close(2) that waits.
pub(super) struct Lingering {
    completer: Completer,
    deadline: Instant,
}

impl Stream {
    /// How long a close(2) waits at most, if it does.
    pub(crate) fn linger_time(&self) -> Option<Duration> {
        let linger = self.socket.option(libc::SOL_SOCKET, libc::SO_LINGER, &[]).ok()?;
        let (on, seconds) = linger.split_first_chunk()?;
        let seconds = i32::from_ne_bytes(*seconds.first_chunk()?);
        // A negative time is one of years.
        let seconds = u64::from(seconds.cast_unsigned());
        let lingers = i32::from_ne_bytes(*on) != 0 && seconds > 0;
        lingers.then(|| Duration::from_secs(seconds))
    }

    /// Has the close(2) of the last descriptor of a connection wait; None when there is nothing to wait
    /// for: what the guest has not read is answered with a reset.
    pub(crate) fn linger(&self, one: &Virtual, call: &Call, guest: &OwnedFd) -> Option<Action> {
        let deadline = Instant::now() + self.linger_time()?;
        if !unix::is_empty(guest) || !matches!(*self.state.lock(), State::Joined(_)) {
            return None;
        }
        // Our end sees the end of the data although the guest still has its own.
        unix::shut(guest, Shutdown::Write);
        *self.lingering.lock() = Some(Lingering { completer: (call.defer)(), deadline });
        one.wake();
        Some(Action::Pending)
    }

    /// Lets a close(2) that waits go on when its time is over or the connection is; returns when to look
    /// again.
    pub(super) fn end_linger(&self, over: bool, answers: &mut Answers) -> Option<Instant> {
        let mut lingering = self.lingering.lock();
        let deadline = lingering.as_ref()?.deadline;
        let info = self.socket.option(libc::SOL_TCP, libc::TCP_INFO, &[]);
        let state = info.ok().and_then(|info| info.first().copied()).unwrap_or(0);
        if over || !UNDER_WAY.contains(&state) || deadline <= Instant::now() {
            let ended = lingering.take()?;
            answers.push((ended.completer, Action::Forward));
            return None;
        }
        Some(deadline)
    }
}
