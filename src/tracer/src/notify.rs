//! The notification backend: one thread for each listener takes trapped calls and answers them.
//!
//! The listener asks the kernel to wake its thread synchronously, so that guest and hypervisor
//! share a processor: 5 us a call instead of 45 when two idle processors wake each other. The kernel
//! wakes every thread that waits for a notification, so a second one makes each call dearer; on
//! machines with processors to spare one is added for a while when calls have to queue. Waits of
//! guests are interruptible; [`crate::replay`] makes up for answers that come too late.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, Tid,
    patience::{self, Wanted},
};

use crate::{
    apart,
    api::{Action, Answer, Call, Completer, Guest, Instead, Renewal, Supervisor, Syscall},
    arch,
    errands::{Errand, Errands},
    filter,
    guest::TaskGuest,
    replay::{Found, Replays, Standing},
    shortcut::{self, Shortcuts},
    sys::{self, Notification, Verdict},
    tasks::Tasks,
};

/// A notification that comes within this time has been in the queue: its guest had to wait.
const AT_ONCE: Duration = Duration::from_nanos(1500);
/// How many of them in a row call for another thread.
const QUEUED: u32 = 32;
/// How many notifications an added thread takes before it ends.
const STINT: u32 = 4096;
/// How often a handler may ask for another file in one call: again only when other threads of the
/// guest have replaced it meanwhile.
const RENEWALS: u32 = 4;
/// The most threads of one listener.
const THREADS: usize = 4;

/// What every backend thread needs.
pub(crate) struct Backend {
    pub(crate) supervisor: Arc<dyn Supervisor>,
    pub(crate) tasks: Tasks,
    pub(crate) replays: Replays<Deferred>,
    pub(crate) errands: Errands,
    pub(crate) shortcuts: Shortcuts,
    /// The calls that a guest may be stopped at by another filter than the armed one, sorted.
    pub(crate) stopping: Vec<i64>,
    /// The optional calls that are trapped too, in the order in which that was asked for.
    pub(crate) also: Arc<Mutex<Vec<i64>>>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

/// The listening end of an injected filter.
pub(crate) struct Listener {
    fd: OwnedFd,
    backend: Arc<Backend>,
    stopped: AtomicBool,
    /// Whether a call of another ABI was reported.
    warned: AtomicBool,
    threads: Mutex<Vec<i32>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// Starts a thread that answers what comes from `fd`. Errors: those of starting a thread.
    pub(crate) fn start(fd: OwnedFd, backend: &Arc<Backend>) -> io::Result<Arc<Self>> {
        sys::wake_synchronously(&fd);
        let listener = Arc::new(Self {
            fd,
            backend: Arc::clone(backend),
            stopped: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        listener.add_thread(u32::MAX)?;
        Ok(listener)
    }

    /// Adds a thread that takes so many notifications; `u32::MAX` stands for no end.
    fn add_thread(self: &Arc<Self>, stint: u32) -> io::Result<()> {
        let running = Arc::clone(self);
        thread::Builder::new().name("umvu-calls".to_owned()).spawn(move || running.run(stint))?;
        Ok(())
    }

    /// Ends the thread: no task uses the listener any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.lock().drain(..) {
            sys::tgkill(nix::unistd::getpid().as_raw(), thread, libc::SIGUSR2);
        }
    }

    fn run(self: Arc<Self>, mut stint: u32) {
        let thread = nix::unistd::gettid().as_raw();
        self.threads.lock().push(thread);
        crate::signals::unblock_wake();
        let most = thread::available_parallelism().map_or(1, |count| count.get() / 2).min(THREADS);
        let mut queued = 0;
        while stint > 0 && !self.stopped.load(Ordering::SeqCst) {
            let asked = Instant::now();
            match sys::receive(&self.fd) {
                Ok(notification) => {
                    queued = if asked.elapsed() < AT_ONCE { queued + 1 } else { 0 };
                    if queued == QUEUED && self.threads.lock().len() < most {
                        // Without the thread guests wait longer, no more.
                        let _ = self.add_thread(STINT);
                    }
                    stint = if stint == u32::MAX { stint } else { stint - 1 };
                    self.take(notification);
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The caller died before we took its call, or nobody is left.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    thread::yield_now();
                }
                Err(_) => break,
            }
        }
        self.threads.lock().retain(|other| *other != thread);
    }

    fn take(self: &Arc<Self>, notification: Notification) {
        let tid = Tid(notification.tid);
        if self.backend.errands.is_on_one(tid) {
            let _ = sys::respond(&self.fd, notification.id, Verdict::Continue);
            return;
        }
        let made = Syscall { number: i64::from(notification.number), args: notification.args };
        // A call that stopped a watched guest and was passed on to here.
        let watched = filter::stood_for(made.number).and_then(|at| self.backend.stopping.get(at));
        let syscall = Syscall { number: watched.copied().unwrap_or(made.number), ..made };
        if filter::is_foreign(notification.abi, syscall.number) {
            if !self.warned.swap(true, Ordering::Relaxed) {
                filter::warn_of_foreign(tid, syscall.number);
            }
            let refused = Verdict::Value(Errno::ENOSYS.to_return());
            let _ = sys::respond(&self.fd, notification.id, refused);
            return;
        }
        let Some(guest) = self.backend.tasks.guest(tid) else {
            let _ = sys::respond(&self.fd, notification.id, Verdict::Continue);
            return;
        };
        let named = (Arc::as_ptr(self) as usize, notification.id);
        let is_waiting = || sys::is_waiting(&self.fd, notification.id);
        let Some(turn) = guest.turn.take(named, &self.backend.errands, is_waiting) else { return };
        let found = match self.backend.replays.find(tid, &syscall) {
            Found::Nothing => None,
            Found::Answer(action) => Some(action),
            Found::Deferred(deferred) => {
                if deferred.resume(notification.id) {
                    return;
                }
                // It was answered in this instant: the answer is in its slot now.
                drop(turn);
                return self.take(notification);
            }
        };
        let replayed = found.is_some();
        let made = (made.number, notification.id);
        let asked = found.or_else(|| self.ask_renewing(&guest, syscall, made));
        let Some(action) = asked else { return };
        match action {
            Action::Pending => {}
            Action::Slow(slow) => {
                let deferred = Deferred::new(self, &guest, syscall, made, Standing::Working);
                let work = move || {
                    let asked = Arc::clone(&deferred);
                    let ask = move || asked.wanted();
                    let slow = AssertUnwindSafe(|| patience::on_behalf(ask, || slow.run()));
                    let action = catch_unwind(slow).unwrap_or_else(|_| Action::error(Errno::EIO));
                    deferred.answer(action);
                };
                apart::start(work);
            }
            Action::Forward if !replayed && self.is_worth_a_shortcut(&guest, &notification) => {
                let errand = Errand::Shortcut(notification.after);
                self.backend.errands.send(tid, syscall, errand);
            }
            action => self.carry_out(&guest, syscall, made.0, made.1, action),
        }
    }

    fn is_worth_a_shortcut(&self, guest: &TaskGuest, notification: &Notification) -> bool {
        let number = i64::from(notification.number);
        self.backend.shortcuts.count(guest.group(), number, notification.after)
            && shortcut::is_alone(guest.tid)
    }

    /// Runs the handler, and again after each file that it puts in place; None when the call was
    /// taken back meanwhile.
    fn ask_renewing(
        self: &Arc<Self>,
        guest: &Arc<TaskGuest>,
        syscall: Syscall,
        made: (i64, u64),
    ) -> Option<Action> {
        for _ in 0..RENEWALS {
            let renewal = match self.ask(guest, syscall, made) {
                Action::Renew(renewal) => renewal,
                action => return Some(action),
            };
            match self.renew(guest, made.1, &renewal) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return None,
                Err(error) => return Some(Action::error(error.into())),
            }
        }
        Some(Action::error(Errno::EIO))
    }

    fn renew(&self, guest: &TaskGuest, id: u64, renewal: &Renewal) -> io::Result<()> {
        let close_on_exec = guest.closes_on_exec(renewal.at)?;
        sys::replace_fd(&self.fd, id, &renewal.fd, close_on_exec, renewal.at.0)
    }

    /// Runs the handler; `made` is the number of the call as the guest's registers have it, and that of
    /// the notification. A panic fails the one call.
    fn ask(self: &Arc<Self>, guest: &Arc<TaskGuest>, syscall: Syscall, made: (i64, u64)) -> Action {
        let (listener, waiting) = (Arc::clone(self), Arc::clone(guest));
        let defer = move || {
            let deferred = Deferred::new(&listener, &waiting, syscall, made, Standing::Waiting);
            Completer::new(Box::new(Later(deferred)))
        };
        let call =
            Call { syscall, guest: Arc::clone(guest) as Arc<dyn Guest>, defer: Arc::new(defer) };
        let supervisor = &self.backend.supervisor;
        catch_unwind(AssertUnwindSafe(|| supervisor.handle(&call))).unwrap_or_else(|_| {
            tracing::error!("a handler panicked: {call:?} {:?}", call.syscall);
            Action::error(Errno::EIO)
        })
    }

    /// Answers a notification; an answer that comes too late is kept for the restart. `number` is
    /// that of the call as the guest's registers have it.
    fn carry_out(&self, guest: &TaskGuest, syscall: Syscall, number: i64, id: u64, action: Action) {
        let tid = guest.tid();
        // Not answered: the guest is interrupted in its wait.
        let errand = |errand| {
            self.backend.errands.send(tid, Syscall { number, ..syscall }, errand);
        };
        let action = match action {
            Action::Instead(instead) => return errand(Errand::Call(instead)),
            Action::Exec(exec) => return errand(Errand::Exec(exec)),
            Action::Wait(wait) => return errand(Errand::Wait(wait)),
            Action::Forward if number != syscall.number => {
                let Syscall { number, args } = syscall;
                return errand(Errand::Call(Instead::call(number, args)));
            }
            Action::Watched(action, watch) if self.backend.tasks.watch_of(tid) >= Some(watch) => {
                return self.carry_out(guest, syscall, number, id, *action);
            }
            Action::Watched(action, watch) => {
                // The call is made again then, and finds its answer.
                self.backend.replays.keep(tid, syscall, Action::Watched(action, watch));
                return errand(Errand::Watch(watch));
            }
            Action::Followed(action) if self.backend.errands.followed.again(tid) => {
                return self.carry_out(guest, syscall, number, id, *action);
            }
            Action::Followed(action) => {
                self.backend.replays.keep(tid, syscall, Action::Followed(action));
                return errand(Errand::Follow);
            }
            action => action,
        };
        if let Err(error) = self.perform(guest, syscall, id, &action) {
            // ESRCH: a descriptor was on its way, and the kernel has dropped it.
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) {
                self.backend.replays.keep(guest.tid(), syscall, action);
                // Nobody will ask for the answer of a thread that has ended meanwhile.
                if self.backend.tasks.get(guest.tid()).is_none() {
                    self.backend.replays.forget(guest.tid());
                }
            } else {
                let errno = Errno::from(error);
                let _ = sys::respond(&self.fd, id, Verdict::Value(errno.to_return()));
            }
        }
    }

    fn perform(
        &self,
        guest: &TaskGuest,
        syscall: Syscall,
        id: u64,
        action: &Action,
    ) -> io::Result<()> {
        match action {
            Action::Forward => {
                self.backend.replays.forward(guest.tid(), syscall);
                sys::respond(&self.fd, id, Verdict::Continue)
            }
            // Its buffers may be other variables by now.
            Action::Return(_) | Action::ReturnFd(_)
                if guest.turn.is_suspect() && !sys::is_waiting(&self.fd, id) =>
            {
                Err(io::Error::from_raw_os_error(libc::ENOENT))
            }
            Action::Return(reply) => {
                let result = guest.write_all(&reply.writes).and(reply.result);
                let value = result.unwrap_or_else(Errno::to_return);
                sys::respond(&self.fd, id, Verdict::Value(value))
            }
            Action::ReturnFd(reply) => {
                guest.write_all(&reply.writes)?;
                sys::respond_fd(&self.fd, id, &reply.fd, reply.close_on_exec)
            }
            Action::Pending
            | Action::Slow(_)
            | Action::Instead(_)
            | Action::Exec(_)
            | Action::Wait(_)
            | Action::Watched(..)
            | Action::Followed(_)
            | Action::Renew(_) => {
                sys::respond(&self.fd, id, Verdict::Value(Errno::EIO.to_return()))
            }
        }
    }
}

/// A call whose handler answers later.
pub(crate) struct Deferred {
    listener: Arc<Listener>,
    guest: Arc<TaskGuest>,
    syscall: Syscall,
    /// The number as the guest's registers have it.
    number: i64,
    /// The notification to answer; none once it is answered.
    id: Mutex<Option<u64>>,
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deferred({:?})", self.syscall)
    }
}

impl Deferred {
    fn new(
        listener: &Arc<Listener>,
        guest: &Arc<TaskGuest>,
        syscall: Syscall,
        (number, id): (i64, u64),
        standing: Standing,
    ) -> Arc<Self> {
        let deferred = Arc::new(Self {
            listener: Arc::clone(listener),
            guest: Arc::clone(guest),
            syscall,
            number,
            id: Mutex::new(Some(id)),
        });
        listener.backend.replays.defer(guest.tid(), syscall, &deferred, standing);
        deferred
    }

    /// The restarted call takes the place of the one that a signal took back.
    fn resume(&self, id: u64) -> bool {
        let mut current = self.id.lock();
        current.is_some_and(|_| {
            *current = Some(id);
            true
        })
    }

    fn answer(&self, action: Action) {
        let mut current = self.id.lock();
        if let Some(id) = current.take() {
            let listener = &self.listener;
            // What is made again meanwhile finds this one, and waits for it: an answer that comes too
            // late takes its place.
            listener.carry_out(&self.guest, self.syscall, self.number, id, action);
            listener.backend.replays.settle(self.guest.tid(), self);
        }
    }

    /// A signal has ended the call for good: nobody is to get its answer.
    pub(crate) fn abandon(&self) {
        // Not while it is being answered.
        let mut current = self.id.lock();
        *current = None;
        self.listener.backend.replays.forget(self.guest.tid());
    }

    /// Whether the guest still waits for the answer.
    fn wanted(&self) -> Wanted {
        match () {
            () if self.listener.backend.tasks.get(self.guest.tid()).is_none() => Wanted::NoMore,
            () if self.is_taken_back() => Wanted::Interrupted,
            () => Wanted::Still,
        }
    }

    fn is_taken_back(&self) -> bool {
        self.id.lock().is_none_or(|id| !sys::is_waiting(&self.listener.fd, id))
    }
}

struct Later(Arc<Deferred>);

impl Answer for Later {
    fn answer(self: Box<Self>, action: Action) {
        self.0.answer(action);
    }

    fn cancelled(&self) -> bool {
        self.0.is_taken_back()
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let mut current = self.0.id.lock();
        let Some(id) = current.take() else { return };
        let Deferred { listener, guest, syscall, .. } = &*self.0;
        listener.backend.replays.settle(guest.tid(), &self.0);
        drop(current);
        if sys::is_waiting(&listener.fd, id) {
            // Between the decision and now the call was made again, in place of the one given up.
            let listener = Arc::clone(listener);
            let notification = Notification {
                id,
                tid: guest.tid.0,
                number: i32::try_from(self.0.number).unwrap_or(-1),
                abi: arch::AUDIT_ARCH,
                after: 0,
                args: syscall.args,
            };
            apart::start(move || listener.take(notification));
        }
    }
}
