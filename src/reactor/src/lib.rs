//! A one-thread event loop: descriptors, timers and a run queue.
//!
//! One thread drives every network stack and every native socket of a hypervisor, so that a frame
//! travels from one stack to another without a wake-up. [`Reactor`] owns the thread; a
//! [`Source`] is driven by it; a [`Handle`] schedules its source from any thread. A thread that
//! schedules much can take a turn itself while the loop sleeps ([`Reactor::on_behalf`]): waking
//! another processor costs more than what most turns do.
//!
//! Lock order: the reactor holds none of its locks while it calls a source.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
    eventfd::{EfdFlags, EventFd},
};
use parking_lot::Mutex;
use rustix::event::{Timespec, epoll};

/// Something the reactor drives. Methods run one at a time, for all sources of a reactor.
pub trait Source: Send + Sync {
    /// Does what is due: called after a registered descriptor became ready, after
    /// [`Handle::wake`], and when the instant given to [`Handle::wake_at`] has come.
    /// `ready` holds the epoll flags seen since the last call (empty for wakes and timers).
    fn run(&self, ready: Ready);
}

/// The readiness of a source's descriptors since its last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// Readable, or at its end.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// Hung up or in error.
    pub hangup: bool,
    /// What can be read does not end where the data does: there is an end, an error or urgent data.
    pub marked: bool,
}

impl Ready {
    fn merge(&mut self, flags: epoll::EventFlags) {
        use epoll::EventFlags;
        let end = EventFlags::HUP | EventFlags::ERR;
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | end);
        self.writable |= flags.intersects(EventFlags::OUT | end);
        self.hangup |= flags.intersects(end);
        self.marked |= flags.intersects(EventFlags::PRI | EventFlags::RDHUP | end);
    }
}

/// What to watch a descriptor for. All watching is edge-triggered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Readability.
    Read,
    /// Readability and writability.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let read = EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | EpollFlags::EPOLLRDHUP;
        match self {
            Self::Read => read | EpollFlags::EPOLLET,
            Self::ReadWrite => read | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET,
        }
    }
}

const WAKE_TOKEN: u64 = 0;
/// How long one turn may run sources before it looks at descriptors again.
const SOURCES_PER_TURN: usize = 64;

thread_local! {
    /// What this thread does about a loop that sleeps.
    static KICKS: Cell<Kicks> = const { Cell::new(Kicks::AtOnce) };
    /// The loop whose turn this thread will take (its address), if it will; all others are woken
    /// at once.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kicks {
    /// It wakes it.
    AtOnce,
    /// It will take a turn itself.
    Later,
    /// It will, and there is something to do.
    Due,
}

struct Slot {
    source: Weak<dyn Source>,
    scheduled: AtomicBool,
    ready: Mutex<Ready>,
    /// The deadline in force; older entries of the timer heap are ignored.
    deadline: Mutex<Option<Instant>>,
}

struct Queue {
    runnable: VecDeque<Arc<Slot>>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timed: HashMap<u64, Weak<Slot>>,
}

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    sleeping: AtomicBool,
    stopping: AtomicBool,
    next_token: AtomicU64,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    queue: Mutex<Queue>,
    /// Held by whoever runs sources.
    turn: Mutex<()>,
}

/// The event loop and its thread. Dropping the last clone of the handle stops it.
#[derive(Clone)]
pub struct Reactor {
    shared: Arc<Shared>,
    _stopper: Arc<Stopper>,
}

struct Stopper(Arc<Shared>);

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.kick();
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reactor")
    }
}

/// Schedules one source.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Watches one descriptor until it is dropped.
pub struct Registration {
    shared: Arc<Shared>,
    token: u64,
    fd: OwnedFd,
    /// The file stays open elsewhere.
    shared_file: bool,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.token)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // With the last descriptor of a file the kernel forgets it by itself (epoll(7)).
        if self.shared_file {
            let _ = self.shared.epoll.delete(&self.fd);
        }
        self.shared.slots.lock().remove(&self.token);
    }
}

impl Registration {
    /// Watches for this from now on; what is ready already is told again. Errors: those of
    /// epoll_ctl(2).
    pub fn change(&self, interest: Interest) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), self.token);
        Ok(self.shared.epoll.modify(&self.fd, &mut event)?)
    }

    /// The descriptor that is watched.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Reactor {
    /// Starts the loop on a thread named `name`. Errors: those of epoll_create1(2), eventfd(2).
    pub fn start(name: &str) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WAKE_TOKEN))?;
        let queue =
            Queue { runnable: VecDeque::new(), timers: BinaryHeap::new(), timed: HashMap::new() };
        let shared = Arc::new(Shared {
            epoll,
            wake,
            sleeping: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            next_token: AtomicU64::new(WAKE_TOKEN + 1),
            slots: Mutex::new(HashMap::new()),
            queue: Mutex::new(queue),
            turn: Mutex::new(()),
        });
        let loop_shared = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || loop_shared.run())?;
        Ok(Self { _stopper: Arc::new(Stopper(Arc::clone(&shared))), shared })
    }

    /// Does some work, and then runs the sources that it has scheduled on this thread, unless the
    /// loop is awake and does so. No lock that a source may take may be held.
    pub fn on_behalf<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = KICKS.replace(Kicks::Later);
        let outer = OWN.replace(self.shared.address());
        let result = work();
        OWN.set(outer);
        if KICKS.replace(before) == Kicks::Due {
            match self.shared.turn.try_lock() {
                Some(_turn) => self.shared.run_scheduled(),
                // The loop is awake, and looks at its queue before it sleeps.
                None => return result,
            }
            if !self.shared.queue.lock().runnable.is_empty() {
                self.shared.kick();
            }
        }
        result
    }

    /// In the midst of work [on behalf](Self::on_behalf): runs what it has scheduled so far, unless
    /// the loop is awake.
    pub fn take_turn(&self) {
        if OWN.get() == self.shared.address()
            && KICKS.get() == Kicks::Due
            && let Some(_turn) = self.shared.turn.try_lock()
        {
            // What is left is done in the end.
            self.shared.run_scheduled();
        }
    }

    /// Makes the handle that schedules `source`. The reactor holds the source weakly.
    pub fn handle(&self, source: &Arc<dyn Source>) -> Handle {
        let slot = Arc::new(Slot {
            source: Arc::downgrade(source),
            scheduled: AtomicBool::new(false),
            ready: Mutex::new(Ready::default()),
            deadline: Mutex::new(None),
        });
        Handle { shared: Arc::clone(&self.shared), slot }
    }
}

impl Handle {
    /// Runs the source soon; many wakes before the run are one.
    pub fn wake(&self) {
        self.shared.schedule(&self.slot);
    }

    /// Runs the source at `deadline`, instead of the one given before; None cancels it.
    pub fn wake_at(&self, deadline: Option<Instant>) {
        let mut current = self.slot.deadline.lock();
        if *current == deadline {
            return;
        }
        *current = deadline;
        drop(current);
        if let Some(deadline) = deadline {
            let token = self.shared.next_token.fetch_add(1, Ordering::Relaxed);
            let mut queue = self.shared.queue.lock();
            let earliest = queue.timers.peek().is_none_or(|Reverse((first, _))| deadline < *first);
            queue.timers.push(Reverse((deadline, token)));
            queue.timed.insert(token, Arc::downgrade(&self.slot));
            drop(queue);
            if earliest {
                self.shared.kick();
            }
        }
    }

    /// Watches a descriptor for this source, edge-triggered, until the registration is dropped.
    /// The descriptor is duplicated. Errors: those of epoll_ctl(2).
    pub fn watch(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Registration> {
        self.register(fd.try_clone_to_owned()?, interest, true)
    }

    /// Watches a descriptor, the only one of its file, which the registration keeps and closes.
    /// Errors: those of epoll_ctl(2).
    pub fn watch_owned(&self, fd: OwnedFd, interest: Interest) -> io::Result<Registration> {
        self.register(fd, interest, false)
    }

    fn register(
        &self,
        fd: OwnedFd,
        interest: Interest,
        shared_file: bool,
    ) -> io::Result<Registration> {
        let shared = &self.shared;
        let token = shared.next_token.fetch_add(1, Ordering::Relaxed);
        shared.slots.lock().insert(token, Arc::clone(&self.slot));
        match shared.epoll.add(fd.as_fd(), EpollEvent::new(interest.flags(), token)) {
            Ok(()) => Ok(Registration { shared: Arc::clone(shared), token, fd, shared_file }),
            Err(errno) => {
                shared.slots.lock().remove(&token);
                Err(errno.into())
            }
        }
    }
}

impl Shared {
    /// What tells this loop from others.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Wakes the loop if it sleeps.
    fn kick(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            let _ = self.wake.write(1);
        }
    }

    fn schedule(&self, slot: &Arc<Slot>) {
        if !slot.scheduled.swap(true, Ordering::SeqCst) {
            self.queue.lock().runnable.push_back(Arc::clone(slot));
            match KICKS.get() {
                _ if OWN.get() != self.address() => self.kick(),
                Kicks::AtOnce => self.kick(),
                Kicks::Later | Kicks::Due => KICKS.set(Kicks::Due),
            }
        }
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(256);
        while !self.stopping.load(Ordering::SeqCst) {
            self.wait(&mut events);
            let _turn = self.turn.lock();
            for event in &events {
                // The structure is packed.
                let (token, flags) = (event.data.u64(), event.flags);
                if token == WAKE_TOKEN {
                    let _ = self.wake.read();
                    continue;
                }
                let slot = self.slots.lock().get(&token).cloned();
                if let Some(slot) = slot {
                    slot.ready.lock().merge(flags);
                    if !slot.scheduled.swap(true, Ordering::SeqCst) {
                        self.queue.lock().runnable.push_back(slot);
                    }
                }
            }
            self.expire(Instant::now());
            self.run_scheduled();
        }
    }

    fn run_scheduled(&self) {
        for _ in 0..SOURCES_PER_TURN {
            let Some(slot) = self.queue.lock().runnable.pop_front() else { break };
            slot.scheduled.store(false, Ordering::SeqCst);
            let ready = std::mem::take(&mut *slot.ready.lock());
            if let Some(source) = slot.source.upgrade() {
                run_guarded(&*source, ready);
            }
        }
    }

    /// Waits for descriptors, the first timer or a kick, and takes the events.
    fn wait(&self, events: &mut Vec<epoll::Event>) {
        events.clear();
        self.sleeping.store(true, Ordering::SeqCst);
        let timeout = {
            let queue = self.queue.lock();
            if !queue.runnable.is_empty() || self.stopping.load(Ordering::SeqCst) {
                Some(Duration::ZERO)
            } else {
                let first = queue.timers.peek();
                first.map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()))
            }
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let room = rustix::buffer::spare_capacity(events);
        // Interrupted, it is called again.
        let _ = epoll::wait(self.epoll.0.as_fd(), room, timeout.as_ref());
        self.sleeping.store(false, Ordering::SeqCst);
    }

    fn expire(&self, now: Instant) {
        let mut queue = self.queue.lock();
        while let Some(Reverse((deadline, token))) = queue.timers.peek().copied() {
            if deadline > now {
                break;
            }
            queue.timers.pop();
            let Some(slot) = queue.timed.remove(&token).and_then(|slot| slot.upgrade()) else {
                continue;
            };
            let mut current = slot.deadline.lock();
            if *current != Some(deadline) {
                continue;
            }
            *current = None;
            drop(current);
            if !slot.scheduled.swap(true, Ordering::SeqCst) {
                queue.runnable.push_back(slot);
            }
        }
    }
}

/// Runs a source; its panic is the end of that run, not of everybody's network.
fn run_guarded(source: &dyn Source, ready: Ready) {
    if panic::catch_unwind(AssertUnwindSafe(|| source.run(ready))).is_err() {
        tracing::error!("a network source panicked; the others go on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Report(Mutex<mpsc::Sender<Ready>>);

    impl Source for Report {
        fn run(&self, ready: Ready) {
            let _ = self.0.lock().send(ready);
        }
    }

    fn setup() -> (Reactor, Handle, Arc<dyn Source>, mpsc::Receiver<Ready>) {
        let reactor = Reactor::start("test").expect("epoll works");
        let (sender, receiver) = mpsc::channel();
        let source: Arc<dyn Source> = Arc::new(Report(Mutex::new(sender)));
        let handle = reactor.handle(&source);
        (reactor, handle, source, receiver)
    }

    #[test]
    fn a_wake_runs_the_source() {
        let (_reactor, handle, _source, receiver) = setup();
        handle.wake();
        assert_eq!(receiver.recv(), Ok(Ready::default()));
    }

    #[test]
    fn a_timer_runs_the_source_once_and_can_be_moved() {
        let (_reactor, handle, _source, receiver) = setup();
        let begun = Instant::now();
        handle.wake_at(Some(begun + Duration::from_secs(3600)));
        handle.wake_at(Some(begun + Duration::from_millis(5)));
        assert_eq!(receiver.recv(), Ok(Ready::default()));
        assert!(begun.elapsed() >= Duration::from_millis(5));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn work_on_behalf_of_a_sleeping_loop_runs_on_the_same_thread() {
        struct Whose(Mutex<mpsc::Sender<thread::ThreadId>>);
        impl Source for Whose {
            fn run(&self, _ready: Ready) {
                let _ = self.0.lock().send(thread::current().id());
            }
        }
        let reactor = Reactor::start("test").expect("epoll works");
        let (sender, receiver) = mpsc::channel();
        let source: Arc<dyn Source> = Arc::new(Whose(Mutex::new(sender)));
        let handle = reactor.handle(&source);
        while !reactor.shared.sleeping.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert_eq!(reactor.on_behalf(|| handle.wake()), ());
        let ran = receiver.recv().expect("it has run");
        // The loop may have been on its way to sleep.
        let own = ran == thread::current().id();
        handle.wake();
        assert!(receiver.recv().is_ok_and(|by| by != thread::current().id()) || !own);
    }

    #[test]
    fn work_on_behalf_of_one_loop_wakes_another_at_once() {
        let (one, _handle, _source, _receiver) = setup();
        let (_other, handle, _source, receiver) = setup();
        let waited = one.on_behalf(|| {
            handle.wake();
            receiver.recv_timeout(Duration::from_secs(20))
        });
        assert_eq!(waited, Ok(Ready::default()));
    }

    #[test]
    fn a_panic_ends_one_run_only() {
        struct Faulty;
        impl Source for Faulty {
            fn run(&self, _ready: Ready) {
                panic!("on purpose");
            }
        }
        let (reactor, handle, _source, receiver) = setup();
        let faulty: Arc<dyn Source> = Arc::new(Faulty);
        reactor.handle(&faulty).wake();
        handle.wake();
        assert_eq!(receiver.recv(), Ok(Ready::default()));
    }

    #[test]
    fn a_readable_descriptor_runs_the_source() {
        let (_reactor, handle, _source, receiver) = setup();
        let (reader, writer) = io::pipe().expect("a pipe");
        let registration = handle.watch(reader.as_fd(), Interest::Read).expect("epoll_ctl");
        io::Write::write_all(&mut &writer, b"x").expect("room in the pipe");
        assert!(receiver.recv().expect("the source lives").readable);
        drop(registration);
        let registration = handle.watch_owned(writer.into(), Interest::Read).expect("epoll_ctl");
        registration.change(Interest::ReadWrite).expect("epoll_ctl");
        assert!(receiver.recv().expect("the source lives").writable);
        drop(reader);
        let mut ready = receiver.recv().expect("the source lives");
        while !ready.marked {
            ready = receiver.recv().expect("the source lives");
        }
        assert!(ready.hangup);
        drop(registration);
        assert!(handle.shared.slots.lock().is_empty());
    }
}
