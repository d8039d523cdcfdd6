//! Calls that the kernel performs in place of a guest's own ([`Instead`]).
//!
//! A guest that waits for the answer to a notification is interrupted, makes the other call at that
//! stop, and gets its result. A signal that comes first takes the call back: it is restarted, and
//! its handler decides again.

use std::{
    collections::{HashMap, HashSet},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};
use umvu_abi::{GuestAddr, Tid};

use crate::{
    api::{AfterWait, Exec, Guest as _, Instead, Syscall, Then, Wait, Watch},
    arm,
    filter::{self, Instruction},
    follow::Followed,
    guest::TaskGuest,
    registers::{ERESTARTSYS, Registers},
    remote::{self, Remote},
    shortcut::Shortcuts,
    sys,
    tasks::{Task, Tasks},
};

/// Nobody.
const NONE: i32 = 0;

/// What is to be done with a guest that waits in a call.
#[derive(Debug)]
pub(crate) enum Errand {
    /// It makes another call, whose result it gets.
    Call(Instead),
    /// The place where it makes the call, which ends at this address, gets a short cut.
    Shortcut(u64),
    /// It gets the filter of watched processes, and the call is made again.
    Watch(Watch),
    /// It stops at its next calls, and the call is made again.
    Follow,
    /// It executes another program than it named.
    Exec(Exec),
    /// It makes another call, in which it may wait, and gets its result.
    Wait(Wait),
}

/// What errands need to be run.
pub(crate) struct Means<'a> {
    pub(crate) tasks: &'a Tasks,
    pub(crate) shortcuts: &'a Shortcuts,
    /// The filters of watched processes.
    pub(crate) watching: &'a [Vec<Instruction>; 3],
    /// The filter of processes whose waits are watched.
    pub(crate) waiting: &'a [Instruction],
}

/// How a guest goes on after an errand.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// As it was.
    Onward,
    /// In a call of ours in place of its own.
    Inside(Box<InPlace>),
}

/// A call of ours that a guest is in.
#[derive(Debug)]
pub(crate) struct InPlace {
    /// What the registers were in its own.
    pub(crate) before: Registers,
    /// None for an execve(2).
    pub(crate) wait: Option<Ending>,
}

/// What remains to be done when a [`Wait`] ends.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Where the data is, and its length.
    data: (u64, usize),
    after: AfterWait,
}

impl Ending {
    /// Puts a call into place on the stack of a guest; returns its arguments too. Errors: `EFAULT`.
    pub(crate) fn begin(
        wait: Wait,
        registers: &Registers,
        guest: &TaskGuest,
    ) -> io::Result<([u64; 6], Self)> {
        let memory = guest.memory().map_err(io::Error::from)?;
        let mut args = remote::place(&wait.call, registers, memory)?;
        let data = wait.call.data.as_ref().map_or((0, 0), |(at, data)| (args[*at], data.len()));
        if let Some((argument, offset)) = wait.also {
            args[argument] = data.0 + offset;
        }
        Ok((args, Self { data, after: wait.after }))
    }

    /// The guest's registers once the call has returned.
    pub(crate) fn end(self, guest: &TaskGuest, mut before: Registers, result: i64) -> Registers {
        let mut data = vec![0; self.data.1];
        let seen =
            if data.is_empty() { Ok(()) } else { guest.read(GuestAddr(self.data.0), &mut data) };
        let told = catch_unwind(AssertUnwindSafe(|| match seen {
            Ok(()) => (self.after.0)(guest, result, &data),
            Err(_) => result,
        }));
        before.set_result(told.unwrap_or(result));
        before
    }
}

#[derive(Debug)]
struct Wanted {
    /// As the guest's registers have it.
    syscall: Syscall,
    errand: Errand,
    /// Whether the guest has been interrupted for it.
    is_called: bool,
}

/// What of a guest is to be watched.
#[derive(Debug, Default)]
struct ToWatch {
    /// Whether it has been interrupted for it.
    is_called: bool,
    /// All its data calls.
    data: bool,
    /// Calls on descriptors: the filter for each.
    descriptors: Vec<(i32, Vec<Instruction>)>,
}

/// The errands of all guests; sent by the notification threads, run by the tracer's.
#[derive(Debug)]
pub(crate) struct Errands {
    wanted: Mutex<HashMap<Tid, Wanted>>,
    /// Guests to be watched whatever they do.
    to_watch: Mutex<HashMap<Tid, ToWatch>>,
    watched: Condvar,
    /// The guest whose calls are ours at the moment.
    running: AtomicI32,
    /// The guests that stop at their next calls.
    pub(crate) followed: Followed,
    /// The guests that are in a [`Wait`], and how many there are.
    waiting: (Mutex<HashSet<Tid>>, AtomicUsize),
    tracer: Pid,
}

impl Errands {
    /// Errands run by the calling thread.
    pub(crate) fn new() -> Self {
        let tracer = nix::unistd::gettid();
        Self {
            wanted: Mutex::default(),
            to_watch: Mutex::default(),
            watched: Condvar::new(),
            running: AtomicI32::new(NONE),
            followed: Followed::default(),
            waiting: (Mutex::default(), AtomicUsize::new(0)),
            tracer,
        }
    }

    /// Has the tracer run an errand for a guest that waits for the answer to `syscall`.
    pub(crate) fn send(&self, tid: Tid, syscall: Syscall, errand: Errand) {
        self.wanted.lock().insert(tid, Wanted { syscall, errand, is_called: false });
        self.wake();
    }

    /// Has the tracer look at what it has put off.
    pub(crate) fn wake(&self) {
        sys::tgkill(nix::unistd::getpid().as_raw(), self.tracer.as_raw(), libc::SIGUSR1);
    }

    /// Has guests interrupted and watched for their data calls, whatever they do; waits for it so
    /// long at most. A call that they wait in is made again then.
    pub(crate) fn watch(&self, guests: &[Tid], patience: Duration) {
        for tid in guests {
            let mut to_watch = self.to_watch.lock();
            let wanted = to_watch.entry(*tid).or_default();
            wanted.data = true;
            wanted.is_called = false;
        }
        self.await_watched(guests, patience);
    }

    /// The same for the calls of these numbers on one descriptor.
    pub(crate) fn watch_descriptor(
        &self,
        guests: &[Tid],
        numbers: &[i64],
        descriptor: i32,
        patience: Duration,
    ) {
        let filter = filter::watching_descriptor(numbers, descriptor);
        for tid in guests {
            let mut to_watch = self.to_watch.lock();
            let wanted = to_watch.entry(*tid).or_default();
            wanted.descriptors.push((descriptor, filter.clone()));
            wanted.is_called = false;
        }
        self.await_watched(guests, patience);
    }

    fn await_watched(&self, guests: &[Tid], patience: Duration) {
        // The tracer's thread cannot wait for itself.
        let waits = nix::unistd::gettid() != self.tracer;
        let patience = if waits { patience } else { Duration::ZERO };
        let until = Instant::now() + patience;
        self.wake();
        let mut left = self.to_watch.lock();
        while guests.iter().any(|tid| left.contains_key(tid)) {
            if self.watched.wait_until(&mut left, until).timed_out() {
                return;
            }
        }
    }

    /// Whether a guest has to stop once more to be watched.
    pub(crate) fn is_to_watch(&self, tid: Tid) -> bool {
        self.to_watch.lock().contains_key(&tid)
    }

    fn put_under_watch(&self, tid: Pid, task: &Task, means: &Means<'_>) {
        let id = Tid(tid.as_raw());
        let Some(wanted) = self.to_watch.lock().remove(&id) else { return };
        // Without a listener every call stops anyway.
        if wanted.data && task.listener.is_some() && means.tasks.watch_of(id) < Some(Watch::Data) {
            add_watch(tid, task, means, Watch::Data);
        }
        for (descriptor, filter) in wanted.descriptors {
            // Another thread of the process may have got it for all.
            if !means.tasks.is_to_watch(id, descriptor) {
                continue;
            }
            match arm::add(&task.guest, tid, task.group, &filter) {
                Ok(whole) => means.tasks.watch_descriptor(id, whole, descriptor),
                Err(error) => tracing::debug!("task {tid}: descriptor {descriptor}: {error}"),
            }
        }
        self.watched.notify_all();
    }

    /// The guests to interrupt now.
    pub(crate) fn uncalled(&self) -> Vec<Tid> {
        let mut to_watch = self.to_watch.lock();
        let unwatched = to_watch.iter_mut().filter(|(_, wanted)| !wanted.is_called);
        let mut called: Vec<Tid> = unwatched
            .map(|(tid, wanted)| {
                wanted.is_called = true;
                *tid
            })
            .collect();
        drop(to_watch);
        let mut wanted = self.wanted.lock();
        let fresh = wanted.iter_mut().filter(|(_, one)| !one.is_called);
        called.extend(fresh.map(|(tid, one)| {
            one.is_called = true;
            *tid
        }));
        called
    }

    /// A guest has ended.
    pub(crate) fn ended(&self, tid: Tid) {
        self.forget(tid);
        self.followed.end(tid);
        self.left_wait(tid);
        if self.to_watch.lock().remove(&tid).is_some() {
            self.watched.notify_all();
        }
    }

    /// Drops the errand of a guest: it has ended, or a signal has taken its call back.
    pub(crate) fn forget(&self, tid: Tid) {
        self.wanted.lock().remove(&tid);
    }

    /// Whether a trapped call of this guest is made on our behalf.
    pub(crate) fn is_on_one(&self, tid: Tid) -> bool {
        self.running.load(Ordering::Acquire) == tid.0 || self.is_in_wait(tid)
    }

    fn is_in_wait(&self, tid: Tid) -> bool {
        let (waiting, count) = &self.waiting;
        count.load(Ordering::Acquire) > 0 && waiting.lock().contains(&tid)
    }

    fn set_in_wait(&self, tid: Tid, is_in: bool) {
        let (waiting, count) = &self.waiting;
        let mut waiting = waiting.lock();
        if is_in {
            waiting.insert(tid)
        } else {
            waiting.remove(&tid)
        };
        count.store(waiting.len(), Ordering::Release);
    }

    /// A [`Wait`] of a guest is over.
    pub(crate) fn left_wait(&self, tid: Tid) {
        if self.is_in_wait(tid) {
            self.set_in_wait(tid, false);
        }
    }

    /// Runs the errand of a guest that has stopped, if it still waits in the call.
    /// Errors: `ESRCH` when it dies.
    pub(crate) fn run(&self, tid: Pid, task: &Task, means: &Means<'_>) -> io::Result<Outcome> {
        let id = Tid(tid.as_raw());
        self.put_under_watch(tid, task, means);
        let Some(wanted) = self.wanted.lock().remove(&id) else { return Ok(Outcome::Onward) };
        let registers = Registers::read(tid)?;
        if registers.number() != wanted.syscall.number || registers.result() != ERESTARTSYS {
            return Ok(Outcome::Onward);
        }
        match wanted.errand {
            Errand::Call(instead) => {
                self.call(tid, task, registers, &instead)?;
                if instead.then == Then::Waits && !task.waits_are_watched {
                    let added = arm::add(&task.guest, tid, task.group, means.waiting)?;
                    means.tasks.watch_waits(id, added);
                }
            }
            Errand::Shortcut(after) => means.shortcuts.install(tid, task, after)?,
            Errand::Watch(watch) => add_watch(tid, task, means, watch),
            Errand::Follow => self.followed.begin(id),
            Errand::Exec(exec) => {
                let memory = task.guest.memory().map_err(io::Error::from)?;
                let args = remote::place_exec(&exec, &registers, memory)?;
                registers.again_with(libc::SYS_execve, args).write(tid)?;
                return Ok(Outcome::Inside(Box::new(InPlace { before: registers, wait: None })));
            }
            Errand::Wait(wait) => {
                let number = wait.call.number;
                let (args, ending) = Ending::begin(wait, &registers, &task.guest)?;
                registers.again_with(number, args).write(tid)?;
                self.set_in_wait(id, true);
                let inside = InPlace { before: registers, wait: Some(ending) };
                return Ok(Outcome::Inside(Box::new(inside)));
            }
        }
        Ok(Outcome::Onward)
    }

    fn call(
        &self,
        tid: Pid,
        task: &Task,
        mut registers: Registers,
        instead: &Instead,
    ) -> io::Result<()> {
        let memory = task.guest.memory().map_err(io::Error::from)?;
        let mut remote = Remote::begin(tid, task.group, memory)?;
        self.running.store(tid.as_raw(), Ordering::Release);
        let result = remote.perform(instead);
        self.running.store(NONE, Ordering::Release);
        remote.end()?;
        registers.set_result(result?);
        registers.write(tid)
    }
}

/// Adds the filter of watched processes.
fn add_watch(tid: Pid, task: &Task, means: &Means<'_>, watch: Watch) {
    let [looks, maps, data] = means.watching;
    let filter = match watch {
        Watch::Looks => looks,
        Watch::Maps => maps,
        Watch::Data | Watch::Descriptor => data,
    };
    let added = arm::add(&task.guest, tid, task.group, filter);
    if let Err(error) = &added {
        tracing::warn!("task {tid}: calls about its virtual files are the kernel's: {error}");
    }
    // Even so: it must not be tried for ever.
    means.tasks.watch(Tid(tid.as_raw()), added.unwrap_or(false), watch);
}
