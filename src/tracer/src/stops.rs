//! The pure ptrace backend (`umvu -S`): every system call stops at its entry and at its exit.
//!
//! A call that is answered is skipped and gets its result at the exit stop. A call that waits for
//! a later answer is parked in a ppoll(2) for nothing, which signals interrupt as they would the
//! call itself; the answer interrupts it too.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{sys::ptrace, unistd::Pid};
use parking_lot::Mutex;
use umvu_abi::{
    Errno, Tid,
    patience::{self, Wanted},
};

use crate::{
    apart,
    api::{
        Action, Answer, Call, Completer, FdReply, Guest, Instead, Renewal, Subscription,
        Supervisor, Syscall, Trap,
    },
    births,
    errands::Ending,
    filter,
    guest::TaskGuest,
    handover,
    registers::{ERESTARTSYS, Registers},
    remote::{self, Remote},
    replay::{Found, Replays, Standing},
    respite::Respites,
    sys,
};

/// What a thread is in the middle of.
enum Inside {
    /// A call that the kernel performs.
    Native,
    /// The end of a handler.
    Returning,
    /// A call that was skipped: its result.
    Answered(i64),
    /// A call that was skipped: it returns a descriptor.
    Descriptor(FdReply),
    /// A call that was skipped and is made again with another file in place, and what the registers
    /// were.
    Renewing(Renewal, Registers),
    /// A call in place of the guest's, and what the registers were.
    Replaced(Registers),
    /// A call in place of the guest's that may wait, and what the registers were.
    Waiting(Ending, Registers),
    /// A call that was skipped, another with a file of ours in place of it, and what the registers
    /// were.
    Performing(Instead, Registers),
    /// A call whose answer comes later, and what the registers were.
    Parked(Arc<Parked>, Registers),
    /// A call that is made again and then carried out so.
    Remade(Action),
}

/// A call that waits for its answer.
pub(crate) struct Parked {
    tid: Tid,
    syscall: Syscall,
    answer: Mutex<Option<Action>>,
    taken_back: AtomicBool,
    /// Nobody will answer: a restarted call is a new one.
    given_up: AtomicBool,
    /// The thread has ended.
    gone: AtomicBool,
    ready: Arc<Ready>,
}

impl Parked {
    /// Whether the guest still waits for the answer.
    fn wanted(&self) -> Wanted {
        match () {
            () if self.gone.load(Ordering::SeqCst) => Wanted::NoMore,
            () if self.taken_back.load(Ordering::SeqCst) => Wanted::Interrupted,
            () => Wanted::Still,
        }
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parked({:?})", self.syscall)
    }
}

/// The threads whose answers have come.
#[derive(Debug)]
pub(crate) struct Ready {
    queue: Mutex<VecDeque<Tid>>,
    tracer: Pid,
}

impl Ready {
    /// Has a thread interrupted that waits in a parked call.
    fn interrupt(&self, tid: Tid) {
        self.queue.lock().push_back(tid);
        sys::tgkill(nix::unistd::getpid().as_raw(), self.tracer.as_raw(), libc::SIGUSR1);
    }
}

/// Who is to answer a parked call; none once it has.
struct Later(Option<Arc<Parked>>);

impl Answer for Later {
    fn answer(mut self: Box<Self>, action: Action) {
        let Some(parked) = self.0.take() else { return };
        if parked.given_up.load(Ordering::SeqCst) {
            return;
        }
        *parked.answer.lock() = Some(action);
        parked.ready.interrupt(parked.tid);
    }

    fn cancelled(&self) -> bool {
        self.0.as_ref().is_none_or(|parked| parked.taken_back.load(Ordering::SeqCst))
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let Some(parked) = self.0.take() else { return };
        parked.given_up.store(true, Ordering::SeqCst);
        // It may have been restarted in this instant, and wait again.
        if !parked.taken_back.load(Ordering::SeqCst) {
            parked.ready.interrupt(parked.tid);
        }
    }
}

/// The state of the backend; all on the tracer's thread but [`Parked`] and [`Ready`].
pub(crate) struct Stops {
    supervisor: Arc<dyn Supervisor>,
    rows: HashMap<i64, Subscription>,
    /// The calls that are trapped whatever their arguments are.
    also: Arc<Mutex<Vec<i64>>>,
    inside: HashMap<Pid, Inside>,
    replays: Replays<Parked>,
    /// Parked calls whose guests are gone for good keep their record until their answer.
    kept: HashMap<Tid, Arc<Parked>>,
    ready: Arc<Ready>,
    pub(crate) respites: Respites,
    /// Whether a call of another ABI was reported.
    warned: bool,
}

impl fmt::Debug for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stops")
    }
}

impl Stops {
    pub(crate) fn new(
        supervisor: Arc<dyn Supervisor>,
        rows: &[Subscription],
        also: &Arc<Mutex<Vec<i64>>>,
    ) -> Self {
        let tracer = nix::unistd::gettid();
        Self {
            supervisor,
            rows: rows.iter().map(|row| (row.number, *row)).collect(),
            also: Arc::clone(also),
            inside: HashMap::new(),
            replays: Replays::default(),
            kept: HashMap::new(),
            ready: Arc::new(Ready { queue: Mutex::default(), tracer }),
            respites: Respites::default(),
            warned: false,
        }
    }

    /// Forgets a thread that has ended or executes another program.
    pub(crate) fn forget(&mut self, tid: Pid) {
        if let Some(Inside::Parked(parked, _)) = self.inside.remove(&tid) {
            parked.taken_back.store(true, Ordering::SeqCst);
            parked.gone.store(true, Ordering::SeqCst);
        }
        self.replays.forget(Tid(tid.as_raw()));
        self.respites.forget(tid);
        if let Some(parked) = self.kept.remove(&Tid(tid.as_raw())) {
            parked.gone.store(true, Ordering::SeqCst);
        }
    }

    /// Interrupts the threads whose answers have come.
    pub(crate) fn deliver(&mut self) {
        for tid in std::mem::take(&mut *self.ready.queue.lock()) {
            let _ = ptrace::interrupt(Pid::from_raw(tid.0));
        }
    }

    /// Says how far a call is that a signal has taken back.
    pub(crate) fn taken_back(&self, tid: Tid, syscall: &Syscall) -> Standing {
        match self.replays.taken_back(tid, syscall) {
            // No handler's call waits here without a record: it is the kernel's.
            Standing::Undecided => Standing::Kernels,
            standing => standing,
        }
    }

    /// Forgets a call that a signal has ended for good.
    pub(crate) fn abandon(&mut self, tid: Tid) {
        self.kept.remove(&tid);
        if let Some(parked) = self.replays.take(tid) {
            parked.given_up.store(true, Ordering::SeqCst);
        }
    }

    /// A thread is at the entry or at the exit of a call.
    pub(crate) fn stop(&mut self, tid: Pid, guest: &Arc<TaskGuest>, group: i32, armed: bool) {
        let Ok((entry, abi)) = sys::call_stop(tid) else { return };
        let Ok(registers) = Registers::read(tid) else { return };
        let outcome = if entry && armed && filter::is_foreign(abi, registers.number()) {
            self.refuse(tid, guest, registers)
        } else if entry {
            self.enter(tid, guest, registers, armed)
        } else {
            self.leave(tid, guest, group, registers)
        };
        if let Err(error) = outcome {
            tracing::debug!("task {tid}: {error}");
        }
    }

    fn refuse(
        &mut self,
        tid: Pid,
        guest: &Arc<TaskGuest>,
        mut registers: Registers,
    ) -> io::Result<()> {
        if !std::mem::replace(&mut self.warned, true) {
            filter::warn_of_foreign(guest.tid(), registers.number());
        }
        registers.skip(0);
        registers.write(tid)?;
        self.inside.insert(tid, Inside::Answered(Errno::ENOSYS.to_return()));
        Ok(())
    }

    fn enter(
        &mut self,
        tid: Pid,
        guest: &Arc<TaskGuest>,
        mut registers: Registers,
        armed: bool,
    ) -> io::Result<()> {
        let syscall = Syscall { number: registers.number(), args: registers.args() };
        if births::is_birth(syscall.number) {
            births::show(&mut registers, guest);
            registers.write(tid)?;
        }
        if syscall.number == libc::SYS_rt_sigreturn {
            self.inside.insert(tid, Inside::Returning);
            return Ok(());
        }
        let row = self.rows.get(&syscall.number).filter(|_| armed);
        let remade = match self.inside.remove(&tid) {
            Some(Inside::Remade(action)) => Some(action),
            _ => None,
        };
        let action = match row.map(|row| row.trap) {
            _ if remade.is_some() => remade.unwrap_or(Action::Forward),
            _ if syscall.number < 0 => self.ask(guest, syscall),
            Some(Trap::Refuse(errno)) => Action::error(errno),
            Some(trap)
                if filter::traps(trap, &syscall.args)
                    || self.also.lock().contains(&syscall.number) =>
            {
                self.ask(guest, syscall)
            }
            _ => {
                self.inside.insert(tid, Inside::Native);
                return Ok(());
            }
        };
        let action = unwatched(action);
        let inside = match action {
            Action::Forward if syscall.number < 0 => Inside::Answered(Errno::ENOSYS.to_return()),
            Action::Forward => Inside::Native,
            Action::Instead(instead) if instead.file.is_some() => {
                let before = registers;
                registers.skip(0);
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Performing(instead, before));
                return Ok(());
            }
            Action::Instead(instead) => {
                let memory = guest.memory().map_err(io::Error::from)?;
                let args = remote::place(&instead, &registers, memory)?;
                let before = registers;
                registers.replace(instead.number, args);
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Replaced(before));
                return Ok(());
            }
            Action::Exec(exec) => {
                let memory = guest.memory().map_err(io::Error::from)?;
                let args = remote::place_exec(&exec, &registers, memory)?;
                let before = registers;
                registers.replace(libc::SYS_execve, args);
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Replaced(before));
                return Ok(());
            }
            Action::Wait(wait) => {
                let before = registers;
                let number = wait.call.number;
                let (args, ending) = Ending::begin(wait, &registers, guest)?;
                registers.replace(number, args);
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Waiting(ending, before));
                return Ok(());
            }
            Action::Renew(renewal) => {
                let before = registers;
                registers.skip(0);
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Renewing(renewal, before));
                return Ok(());
            }
            Action::Pending | Action::Slow(_) => {
                let parked = self.parked(guest, syscall, action);
                parked.taken_back.store(false, Ordering::SeqCst);
                let before = registers;
                registers.park();
                registers.write(tid)?;
                self.inside.insert(tid, Inside::Parked(Arc::clone(&parked), before));
                let given_up = parked.given_up.load(Ordering::SeqCst);
                if given_up || parked.answer.lock().is_some() {
                    let _ = ptrace::interrupt(tid);
                }
                return Ok(());
            }
            answered => answer(guest, answered),
        };
        if !matches!(inside, Inside::Native) {
            registers.skip(0);
            registers.write(tid)?;
        }
        self.inside.insert(tid, inside);
        Ok(())
    }

    fn leave(
        &mut self,
        tid: Pid,
        guest: &Arc<TaskGuest>,
        group: i32,
        mut registers: Registers,
    ) -> io::Result<()> {
        let inside = match self.inside.remove(&tid) {
            None | Some(Inside::Native) => return Ok(()),
            Some(Inside::Returning) => {
                self.respites.handled(tid);
                return Ok(());
            }
            Some(Inside::Replaced(mut before)) => {
                before.set_result(registers.result());
                return before.write(tid);
            }
            Some(Inside::Waiting(ending, before)) => {
                return ending.end(guest, before, registers.result()).write(tid);
            }
            Some(Inside::Performing(instead, before)) => {
                return perform(tid, guest, group, &instead, before);
            }
            Some(Inside::Renewing(renewal, before)) => {
                return renew(tid, guest, group, &renewal, before);
            }
            Some(Inside::Parked(parked, before)) => {
                let Some(action) = parked.answer.lock().take() else {
                    // A signal: the call is taken back, and made again as the handler's flags say.
                    parked.taken_back.store(true, Ordering::SeqCst);
                    let mut again = before;
                    again.set_result(ERESTARTSYS);
                    return again.write(tid);
                };
                let action = unwatched(action);
                self.replays.settle(parked.tid, &parked);
                self.kept.remove(&parked.tid);
                if matches!(
                    action,
                    Action::Forward | Action::Instead(_) | Action::Exec(_) | Action::Wait(_)
                ) {
                    self.inside.insert(tid, Inside::Remade(action));
                    return before.again().write(tid);
                }
                registers = before;
                answer(guest, action)
            }
            Some(other) => other,
        };
        match inside {
            Inside::Answered(result) => {
                registers.set_result(result);
                registers.write(tid)
            }
            Inside::Descriptor(reply) => {
                registers.set_result(0);
                registers.write(tid)?;
                let memory = guest.memory().map_err(io::Error::from)?;
                let mut remote = Remote::begin(tid, group, memory)?;
                let given = handover::give(&mut remote, group, &reply.fd, reply.close_on_exec);
                let result = given.unwrap_or_else(|error| Errno::from(error).to_return());
                remote.end()?;
                registers.set_result(result);
                registers.write(tid)
            }
            Inside::Native
            | Inside::Returning
            | Inside::Renewing(..)
            | Inside::Performing(..)
            | Inside::Waiting(..)
            | Inside::Replaced(_)
            | Inside::Remade(_)
            | Inside::Parked(..) => Ok(()),
        }
    }

    /// Runs the handler, unless this is a call that a signal took back.
    fn ask(&mut self, guest: &Arc<TaskGuest>, syscall: Syscall) -> Action {
        match self.replays.find(guest.tid(), &syscall) {
            Found::Answer(action) => return action,
            Found::Deferred(parked) if parked.given_up.load(Ordering::SeqCst) => {
                self.replays.settle(guest.tid(), &parked);
            }
            Found::Deferred(parked) => {
                self.kept.insert(guest.tid(), parked);
                return Action::Pending;
            }
            Found::Nothing => {}
        }
        self.kept.remove(&guest.tid());
        let tid = guest.tid();
        let parked = Arc::new(Parked {
            tid,
            syscall,
            answer: Mutex::new(None),
            taken_back: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        let later = Arc::clone(&parked);
        let call = Call {
            syscall,
            guest: Arc::clone(guest) as Arc<dyn Guest>,
            defer: Arc::new(move || Completer::new(Box::new(Later(Some(Arc::clone(&later)))))),
        };
        let supervisor = &self.supervisor;
        let action = catch_unwind(AssertUnwindSafe(|| supervisor.handle(&call)));
        let action = action.unwrap_or_else(|_| Action::error(Errno::EIO));
        if matches!(action, Action::Pending | Action::Slow(_)) {
            let waits = matches!(action, Action::Pending);
            let standing = if waits { Standing::Waiting } else { Standing::Working };
            self.replays.defer(tid, syscall, &parked, standing);
            self.kept.insert(tid, parked);
        }
        action
    }

    /// The record of a call that has been deferred; starts the work of a slow one.
    fn parked(&mut self, guest: &TaskGuest, syscall: Syscall, action: Action) -> Arc<Parked> {
        let parked = Arc::clone(self.kept.entry(guest.tid()).or_insert_with(|| {
            Arc::new(Parked {
                tid: guest.tid(),
                syscall,
                answer: Mutex::new(None),
                taken_back: AtomicBool::new(false),
                given_up: AtomicBool::new(false),
                gone: AtomicBool::new(false),
                ready: Arc::clone(&self.ready),
            })
        }));
        if let Action::Slow(slow) = action {
            let later = Box::new(Later(Some(Arc::clone(&parked))));
            let asked = Arc::clone(&parked);
            let ask = move || asked.wanted();
            let work = move || {
                let slow = AssertUnwindSafe(|| patience::on_behalf(ask, || slow.run()));
                let result = catch_unwind(slow);
                later.answer(result.unwrap_or_else(|_| Action::error(Errno::EIO)));
            };
            apart::start(work);
        }
        parked
    }
}

/// At the exit of a skipped call: has the guest make another, with a file of ours.
fn perform(
    tid: Pid,
    guest: &TaskGuest,
    group: i32,
    instead: &Instead,
    before: Registers,
) -> io::Result<()> {
    let memory = guest.memory().map_err(io::Error::from)?;
    let mut remote = Remote::begin(tid, group, memory)?;
    let result = remote.perform(instead);
    remote.end()?;
    let mut registers = before;
    registers.set_result(result?);
    registers.write(tid)
}

/// At the exit of a skipped call: puts a file in place and has the guest make the call again.
fn renew(
    tid: Pid,
    guest: &TaskGuest,
    group: i32,
    renewal: &Renewal,
    before: Registers,
) -> io::Result<()> {
    let memory = guest.memory().map_err(io::Error::from)?;
    let mut remote = Remote::begin(tid, group, memory)?;
    let close_on_exec = guest.closes_on_exec(renewal.at).map_err(io::Error::from);
    let replaced = close_on_exec.and_then(|close_on_exec| {
        handover::replace(&mut remote, group, &renewal.fd, close_on_exec, renewal.at.0)
    });
    remote.end()?;
    let mut registers = before;
    match replaced {
        Ok(()) => registers = before.again(),
        Err(error) => registers.set_result(Errno::from(error).to_return()),
    }
    registers.write(tid)
}

/// Every process is watched here, and every thread followed.
fn unwatched(action: Action) -> Action {
    match action {
        Action::Watched(action, _) | Action::Followed(action) => unwatched(*action),
        action => action,
    }
}

/// Performs the writes of an answer and tells what the call returns.
fn answer(guest: &TaskGuest, action: Action) -> Inside {
    let (writes, inside) = match action {
        Action::Return(reply) => {
            let result = reply.result.unwrap_or_else(Errno::to_return);
            (reply.writes, Inside::Answered(result))
        }
        Action::ReturnFd(mut reply) => {
            (std::mem::take(&mut reply.writes), Inside::Descriptor(reply))
        }
        _ => (Vec::new(), Inside::Answered(Errno::EIO.to_return())),
    };
    match guest.write_all(&writes) {
        Ok(()) => inside,
        Err(errno) => Inside::Answered(errno.to_return()),
    }
}
