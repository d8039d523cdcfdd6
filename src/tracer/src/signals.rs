//! Signals of the hypervisor itself.

use std::io;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask,
};

/// The signals that the tracer waits for.
pub(crate) fn awaited() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set
}

/// Blocks the signals that the tracer waits for, in this thread and those it will start; the
/// terminal's signals are left to the guests. Call it before any other thread exists; returns the
/// mask that guests get. Errors: those of sigaction(2).
pub fn block_signals() -> io::Result<SigSet> {
    extern "C" fn nothing(_signal: i32) {}
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let wake = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    crate::sys::set_action(Signal::SIGUSR2, &wake)?;
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTTOU, Signal::SIGTTIN] {
        crate::sys::set_action(signal, &ignore)?;
    }
    let mut before = SigSet::empty();
    let mut blocked = awaited();
    blocked.add(Signal::SIGUSR2);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before))?;
    Ok(before)
}

/// Lets the wake-up signal interrupt this thread.
pub(crate) fn unblock_wake() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR2);
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
}
