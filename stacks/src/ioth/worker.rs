//! The thread on which all code of one stack's plugin runs.
//!
//! It is a loop of its own, with the plugin's descriptors and the host's requests as its sources.
//! Nobody waits for it without a limit: a request that takes too long, or during which a thread of
//! the plugin crashes, fails, and with it every request after it.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::Errno;
use umvu_reactor::{Handle, Reactor, Ready, Source};

use super::ffi::crash::Guard;

/// How long a call may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stack may take to start.
pub(crate) const PATIENCE_AT_START: Duration = Duration::from_secs(20);
/// The call whose failure is the error of a mount, and nothing else.
pub(crate) const START: &str = "newstack";
/// How often a wait looks for crashes.
const LOOK: Duration = Duration::from_millis(20);

type Job = Box<dyn FnOnce() + Send>;

/// The requests that wait for the thread.
#[derive(Default)]
struct Jobs(Mutex<VecDeque<Job>>);

impl Source for Jobs {
    fn run(&self, _ready: Ready) {
        loop {
            let Some(job) = self.0.lock().pop_front() else { return };
            job();
        }
    }
}

/// The thread of one stack.
pub(crate) struct Worker {
    stack: String,
    reactor: Reactor,
    jobs: Arc<Jobs>,
    handle: Handle,
    guard: Guard,
    given_up: AtomicBool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("stack", &self.stack).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts the thread. Errors: those of epoll_create1(2) and of starting threads.
    pub(crate) fn start(stack: &str) -> io::Result<Self> {
        let guard = Guard::new();
        let reactor = Reactor::start(&guard.thread_name(stack))?;
        let jobs = Arc::new(Jobs::default());
        let source: Arc<dyn Source> = Arc::clone(&jobs) as Arc<dyn Source>;
        let handle = reactor.handle(&source);
        let given_up = AtomicBool::new(false);
        Ok(Self { stack: stack.to_owned(), reactor, jobs, handle, guard, given_up })
    }

    /// Makes the handle that runs `source` on the thread.
    pub(crate) fn handle(&self, source: &Arc<dyn Source>) -> Handle {
        self.reactor.handle(source)
    }

    /// Has the thread do something, some time.
    pub(crate) fn post(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.0.lock().push_back(Box::new(job));
        self.handle.wake();
    }

    /// Has the thread do something, and waits for its result; `what` names it in messages. Not for
    /// the thread itself. Errors: `EIO` when the plugin does not come back.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        what: &str,
        patience: Duration,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Errno> {
        // A crash may have come between calls.
        self.judge(what, Duration::ZERO, patience)?;
        let (sender, result) = mpsc::sync_channel(1);
        self.post(move || {
            let _ = sender.send(job());
        });
        let begun = Instant::now();
        loop {
            match result.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                // The job panicked.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Errno::EIO),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            self.judge(what, begun.elapsed(), patience)?;
        }
    }

    /// Gives the stack up when there is a reason to, and says so once. Errors: `EIO` when it is
    /// given up.
    fn judge(&self, what: &str, took: Duration, limit: Duration) -> Result<(), Errno> {
        if self.is_given_up() {
            return Err(Errno::EIO);
        }
        let Some(reason) = self.failure(what, took, limit) else { return Ok(()) };
        if !self.given_up.swap(true, Ordering::Relaxed) && what != START {
            tracing::error!("{reason}; the stack is given up, its sockets answer EIO");
        }
        Err(Errno::EIO)
    }

    /// Whether the plugin has crashed, or has not come back from a call.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Why the stack is given up, as one line, if it is.
    pub(crate) fn failure(&self, what: &str, took: Duration, limit: Duration) -> Option<String> {
        let stack = &self.stack;
        if let Some(signal) = self.guard.crashed() {
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string());
            return Some(format!("plugin {stack}: {what}: crashed with {name}"));
        }
        (took >= limit).then(|| {
            format!("plugin {stack}: {what} has not returned for {} seconds", limit.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_done_on_the_thread_of_the_stack() {
        let worker = Worker::start("test").expect("threads can be started");
        let name = worker.call("a name", PATIENCE, || {
            std::fs::read_to_string("/proc/thread-self/comm").expect("procfs")
        });
        let name = name.expect("it answers");
        assert!(name.starts_with("ioth") && name.ends_with("-test\n"), "{name}");
    }

    #[test]
    fn a_request_that_does_not_end_fails_and_so_do_all_after_it() {
        let worker = Worker::start("test").expect("threads can be started");
        let (_hold, wait) = mpsc::channel::<()>();
        let short = Duration::from_millis(1);
        let result = worker.call("a wait", short, move || wait.recv());
        assert_eq!(result.err(), Some(Errno::EIO));
        assert_eq!(worker.call("anything", PATIENCE, || ()).err(), Some(Errno::EIO));
    }

    #[test]
    fn a_crash_on_the_thread_ends_the_stack_only() {
        let worker = Worker::start("test").expect("threads can be started");
        let crash = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGABRT);
        let result = worker.call("a crash", PATIENCE, crash);
        assert_eq!(result.err(), Some(Errno::EIO));
        let reason = worker.failure("a crash", Duration::ZERO, PATIENCE).expect("it crashed");
        assert_eq!(reason, "plugin test: a crash: crashed with SIGABRT");
    }
}
