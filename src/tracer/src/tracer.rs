//! The life of the guests: the tree, exec, signals, job control, exit.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{SigSet, Signal, kill},
    },
    unistd::Pid,
};
use umvu_abi::{Errno, Tid};

use crate::{
    again,
    api::{Action, Birth, Call, Completer, Guest, Subscription, Supervisor, Syscall, Watch},
    arm::{self, Reach},
    births::{self, Shares},
    errands::{Errands, InPlace, Means, Outcome},
    filter::{self, Instruction},
    guest::{TaskGuest, filters_of},
    launch, linker,
    notify::{Backend, Listener},
    options::{Mode, Options, Program},
    registers::Registers,
    replay::Replays,
    shortcut::Shortcuts,
    signals,
    stops::Stops,
    sys::{self, Wait},
    tasks::{Task, Tasks},
};

mod signalled;

/// How PTRACE_O_TRACESYSGOOD marks a system-call stop.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
/// How long after arming the filters of new processes are counted, since their creation may have
/// come before it.
const ARMING: Duration = Duration::from_secs(2);

/// How long is waited at most until all guests are interrupted.
const REACHED: Duration = Duration::from_millis(200);

/// Speaks to a running [`Tracer`] from any thread.
#[derive(Debug, Clone)]
pub struct Control {
    wanted: Arc<AtomicBool>,
    /// Whether more calls are to be trapped than all guests trap.
    extended: Arc<(parking_lot::Mutex<bool>, parking_lot::Condvar)>,
    thread: Pid,
    backend: Arc<Backend>,
}

impl Control {
    /// Says which paths guests have trapped when they judge paths themselves: those with one of
    /// these first components. Calls that begin after this returns are judged so. Until then none
    /// are.
    pub fn trap_paths(&self, first_components: &[Vec<u8>]) {
        self.backend.shortcuts.publish(first_components);
    }

    /// Has every path trapped, also in guests that judge paths themselves.
    pub fn trap_every_path(&self) {
        self.backend.shortcuts.publish_all();
    }

    /// Arms the view: every guest gets the filter before it runs another instruction of its own.
    /// Again is nothing.
    pub fn arm(&self) {
        if !self.wanted.swap(true, Ordering::SeqCst) {
            sys::tgkill(nix::unistd::getpid().as_raw(), self.thread.as_raw(), libc::SIGUSR1);
        }
    }

    /// Has the data calls of these guests trapped from now on, whatever they do; a call that they wait
    /// in is made again. Waits for it, so long at most. Not for the tracer's thread.
    pub fn watch(&self, guests: &[Tid], patience: Duration) {
        self.backend.errands.watch(guests, patience);
    }

    /// Has optional calls trapped too, now and in guests to come. Guests that are armed already get one
    /// filter more, at which they stop: the calls cost them twice what they cost those that are armed
    /// afterwards.
    pub fn trap_also(&self, numbers: &[i64]) {
        {
            let mut also = self.backend.also.lock();
            let fresh: Vec<i64> =
                numbers.iter().filter(|number| !also.contains(number)).copied().collect();
            if fresh.is_empty() {
                return;
            }
            also.extend(fresh);
        }
        let (pending, reached) = &*self.extended;
        let mut pending = pending.lock();
        *pending = true;
        sys::tgkill(nix::unistd::getpid().as_raw(), self.thread.as_raw(), libc::SIGUSR1);
        // Whoever waits for the caller must not run on before it is interrupted. The tracer's thread
        // cannot wait for itself, and may wait for a call that the caller's thread is to answer.
        if self.is_armed() && nix::unistd::gettid() != self.thread {
            reached.wait_while_for(&mut pending, |pending| *pending, REACHED);
        }
    }

    /// Whether the view is armed, or about to be.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}

/// A tree of guests. ptrace belongs to one thread: [`Tracer::spawn`] and [`Tracer::run`] are to be
/// called by the same one.
#[derive(Debug)]
pub struct Tracer {
    backend: Arc<Backend>,
    control: Control,
    subscriptions: Vec<Subscription>,
    /// The filters that are added to watched processes.
    watching: [Vec<Instruction>; 3],
    /// The filter of processes whose waits are watched.
    waiting_filter: Vec<Instruction>,
    /// Guests in a call of ours in place of their own.
    inside: HashMap<Pid, InPlace>,
    waiting: VecDeque<Program>,
    mask: SigSet,
    current: Pid,
    status: u8,
    gate: Option<OwnedFd>,
    /// Tasks whose first stop came before their creator's event.
    early: HashSet<Pid>,
    armed_at: Option<Instant>,
    interrupted: bool,
    /// Tasks that could not be armed.
    unreachable: HashSet<Tid>,
    listeners: HashMap<usize, Arc<Listener>>,
    /// The pure ptrace backend, when it is in use.
    stops: Option<Stops>,
}

impl Tracer {
    /// Prepares the tree; nothing runs before [`Tracer::run`]. `mask` is what
    /// [`crate::block_signals`] returned. Errors: `ENOENT`, `EACCES` for the first program, those
    /// of fork(2) and ptrace(2).
    pub fn spawn(
        programs: Vec<Program>,
        options: Options,
        mask: SigSet,
        supervisor: Arc<dyn Supervisor>,
    ) -> io::Result<Self> {
        let rows = options.subscriptions;
        let also = Arc::default();
        let stops = (options.mode == Mode::Ptrace)
            .then(|| Stops::new(Arc::clone(&supervisor), &rows, &also));
        let backend = Arc::new(Backend {
            supervisor,
            tasks: Tasks::default(),
            replays: Replays::default(),
            errands: Errands::new(),
            shortcuts: Shortcuts::new(paths(&rows)),
            stopping: filter::stopping(&rows),
            also,
        });
        let mut tracer = Self {
            backend: Arc::clone(&backend),
            control: Control {
                wanted: Arc::default(),
                extended: Arc::default(),
                thread: nix::unistd::gettid(),
                backend: Arc::clone(&backend),
            },
            watching: [Watch::Looks, Watch::Maps, Watch::Data]
                .map(|watch| filter::watching(&filter::watched(&rows, watch), &rows)),
            waiting_filter: filter::watching(&filter::waits(&rows), &rows),
            inside: HashMap::new(),
            subscriptions: rows,
            waiting: programs.into(),
            mask,
            current: Pid::from_raw(0),
            status: 0,
            gate: None,
            early: HashSet::new(),
            armed_at: None,
            interrupted: false,
            unreachable: HashSet::new(),
            listeners: HashMap::new(),
            stops,
        };
        tracer.launch_next()?;
        Ok(tracer)
    }

    /// Speaks to the tree from other threads.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs the programs one after the other and waits for every descendant. Returns the exit
    /// status of the last program, 128 plus the number of the signal that ended it.
    pub fn run(mut self) -> io::Result<u8> {
        self.open_gate();
        loop {
            self.arm_if_wanted();
            for tid in self.backend.errands.uncalled() {
                let _ = ptrace::interrupt(Pid::from_raw(tid.0));
            }
            if let Some(stops) = &mut self.stops {
                stops.deliver();
                for tid in stops.respites.over() {
                    let _ = ptrace::interrupt(tid);
                }
            }
            match sys::wait(-1, libc::WNOHANG) {
                Ok(Wait::Nothing) => self.wait_for_signal(),
                Ok(status) => self.handle(status),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(error),
            }
        }
        for listener in self.listeners.values() {
            listener.stop();
        }
        Ok(self.status)
    }

    fn launch_next(&mut self) -> io::Result<bool> {
        let Some(program) = self.waiting.pop_front() else { return Ok(false) };
        let filter = if self.stops.is_some() { Vec::new() } else { filter::base() };
        let (pid, gate) = launch::start(&program, filter, self.mask)?;
        let tid = Tid(pid.as_raw());
        self.backend.tasks.insert(tid, Task::new(tid, pid.as_raw(), None));
        self.backend.supervisor.started(tid);
        self.current = pid;
        self.gate = Some(gate);
        Ok(true)
    }

    /// Lets the child that waits before its exec go on.
    fn open_gate(&mut self) {
        if let Some(gate) = self.gate.take() {
            let _ = nix::unistd::write(&gate, b"\n");
        }
    }

    fn wait_for_signal(&mut self) {
        let patience = self.stops.as_ref().and_then(|stops| stops.respites.next());
        let signal = sys::await_signal(&signals::awaited(), patience);
        if signal.is_ok_and(|signal| [libc::SIGTERM, libc::SIGHUP].contains(&signal)) {
            self.kill_all();
        }
    }

    /// Ends every guest: the hypervisor was asked to end.
    fn kill_all(&mut self) {
        self.waiting.clear();
        for tid in self.backend.tasks.ids() {
            let _ = kill(Pid::from_raw(tid.0), Signal::SIGKILL);
        }
    }

    fn handle(&mut self, status: Wait) {
        if let Some(stops) = &mut self.stops
            && let Wait::Event(tid, ..) | Wait::Signal(tid, _) = status
        {
            match status {
                // The thread that was spared is gone, its number now another's.
                Wait::Event(_, _, libc::PTRACE_EVENT_EXEC) => stops.respites.forget(tid),
                _ => stops.respites.stopped(tid),
            }
        }
        match status {
            Wait::Exited(tid, code) => self.ended(tid, u8::try_from(code).unwrap_or(1)),
            Wait::Killed(tid, signal) => {
                self.ended(tid, 128_u8.wrapping_add(u8::try_from(signal).unwrap_or(0)));
            }
            Wait::Event(tid, signal, event) => self.event(tid, signal, event),
            Wait::Signal(tid, SYSCALL_STOP) => self.syscall_stop(tid),
            Wait::Signal(tid, signal) => self.signalled(tid, signal),
            Wait::Nothing => {}
        }
    }

    fn event(&mut self, tid: Pid, signal: i32, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.created(tid, event);
                self.resume(tid, 0);
            }
            libc::PTRACE_EVENT_EXEC => self.executed(tid),
            libc::PTRACE_EVENT_SECCOMP => self.trapped(tid),
            libc::PTRACE_EVENT_STOP => self.stopped(tid, signal),
            _ => self.resume(tid, 0),
        }
    }

    fn created(&mut self, parent: Pid, event: i32) {
        let Ok(message) = ptrace::getevent(parent) else { return };
        let Ok(child) = i32::try_from(message) else { return };
        let Some(creator) = self.backend.tasks.get(Tid(parent.as_raw())) else { return };
        let thread = event == libc::PTRACE_EVENT_CLONE
            && Path::new(&format!("/proc/{}/task/{child}", creator.group)).exists();
        let (birth, group) =
            if thread { (Birth::Thread, creator.group) } else { (Birth::Process, child) };
        let mut listener = creator.listener.clone();
        if !thread && listener.is_some() && self.is_arming() && filters_of(child) < 2 {
            listener = None;
        }
        let unarmed = listener.is_none();
        let mut task = Task::new(Tid(child), group, listener).like(&creator);
        let added_meanwhile = task.additions > 0 && self.is_arming();
        if !thread && added_meanwhile && filters_of(child) < filters_of(parent.as_raw()) {
            // Twice the same filter does no harm.
            task.also = 0;
        }
        let lacks = task.also < self.backend.also.lock().len();
        self.backend.tasks.insert(Tid(child), task);
        if birth == Birth::Process {
            let memory = Registers::read(parent)
                .map_or(Shares::Waiting, |registers| births::shares(&registers, &creator.guest));
            if let Some(task) = self.backend.tasks.get(Tid(child)) {
                self.backend.shortcuts.born(creator.group, &task.guest, memory);
            }
        }
        self.backend.supervisor.born(Tid(parent.as_raw()), Tid(child), birth);
        let child = Pid::from_raw(child);
        if self.early.remove(&child) {
            self.stopped(child, libc::SIGTRAP);
        } else if (unarmed || lacks) && self.control.is_armed() && self.stops.is_none() {
            let _ = ptrace::interrupt(child);
        }
    }

    fn is_arming(&self) -> bool {
        self.armed_at.is_some_and(|at| at.elapsed() < ARMING)
    }

    fn executed(&mut self, tid: Pid) {
        let former = ptrace::getevent(tid).ok().and_then(|it| i32::try_from(it).ok());
        let former = Tid(former.unwrap_or(tid.as_raw()));
        let leader = Tid(tid.as_raw());
        let before = self.backend.tasks.remove(former);
        let listener = before.as_ref().and_then(|task| task.listener.clone());
        let task = Task::new(leader, tid.as_raw(), listener);
        let task = before.map_or(task.clone(), |before| task.like(&before));
        self.backend.tasks.insert(leader, task);
        for tid in [former, leader] {
            self.inside.remove(&Pid::from_raw(tid.0));
            self.backend.errands.left_wait(tid);
        }
        if let Some(stops) = &mut self.stops {
            stops.forget(Pid::from_raw(former.0));
        }
        self.backend.shortcuts.forget(tid.as_raw());
        self.backend.replays.forget(former);
        self.backend.replays.forget(leader);
        self.backend.supervisor.executed(leader, former);
        self.link(tid);
        self.resume(tid, 0);
    }

    /// Gives a new program the dynamic linker of its view. Who cannot have it has no other.
    fn link(&self, tid: Pid) {
        let supervisor = &self.backend.supervisor;
        let leader = Tid(tid.as_raw());
        let Some(bytes) = supervisor.linker(leader) else { return };
        let Some(task) = self.backend.tasks.get(leader) else { return };
        match linker::exchange(tid, &task.guest, &bytes) {
            Ok(base) => supervisor.linked(leader, base),
            Err(error) => {
                tracing::debug!(%tid, %error, "no dynamic linker");
                sys::tgkill(tid.as_raw(), tid.as_raw(), libc::SIGKILL);
            }
        }
    }

    /// A stop that no signal caused: a new task, our interrupt, a group-stop.
    fn stopped(&mut self, tid: Pid, signal: i32) {
        let Some(task) = self.backend.tasks.get(Tid(tid.as_raw())) else {
            self.early.insert(tid);
            return;
        };
        let stop = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        if stop.contains(&signal) {
            self.backend.errands.forget(Tid(tid.as_raw()));
            sys::listen(tid);
            return;
        }
        if self.control.is_armed() && task.listener.is_none() && self.stops.is_none() {
            // If it cannot be armed now, it is tried again at its next stop, not at once.
            self.arm(tid, &task);
            sys::resume(tid, 0);
        } else {
            if self.armed_at.is_some() && self.stops.is_none() {
                again::restart(tid, &task.guest);
            }
            self.extend(tid, &task);
            self.run_errand(tid, &task);
            self.resume(tid, 0);
        }
    }

    fn run_errand(&mut self, tid: Pid, task: &Task) {
        let Backend { tasks, shortcuts, .. } = &*self.backend;
        let means =
            Means { tasks, shortcuts, watching: &self.watching, waiting: &self.waiting_filter };
        match self.backend.errands.run(tid, task, &means) {
            Ok(Outcome::Onward) => {}
            Ok(Outcome::Inside(inside)) => {
                self.inside.insert(tid, *inside);
            }
            Err(error) => tracing::debug!("task {tid}: {error}"),
        }
    }

    fn ended(&mut self, tid: Pid, status: u8) {
        self.early.remove(&tid);
        self.inside.remove(&tid);
        let id = Tid(tid.as_raw());
        let ended = self.backend.tasks.remove(id);
        // After the task is gone: who keeps an answer for it looks for it afterwards.
        self.backend.replays.forget(id);
        self.backend.errands.ended(id);
        if let Some(stops) = &mut self.stops {
            stops.forget(tid);
        }
        if let Some(task) = ended {
            let last = !self.backend.tasks.has_group(task.group);
            if last {
                self.backend.shortcuts.forget(task.group);
            }
            self.backend.supervisor.ended(id, umvu_abi::Pid(task.group), last);
            if let Some(listener) = task.listener
                && last
                && !self.backend.tasks.uses(&listener)
            {
                listener.stop();
                self.listeners.remove(&key(&listener));
            }
        }
        if tid == self.current {
            self.status = status;
            match self.launch_next() {
                Ok(true) => self.open_gate(),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!("{error}");
                    self.status = 127;
                }
            }
        }
    }

    /// Lets a stopped guest run, delivering a signal (0: none). Any stop takes a pending interrupt
    /// away, so one that still has to be armed is interrupted again.
    fn resume(&self, tid: Pid, signal: i32) {
        if self.backend.errands.is_to_watch(Tid(tid.as_raw())) {
            let _ = ptrace::interrupt(tid);
        }
        // The end of a wait, or of an execve(2) that fails, is to be seen.
        if self.stops.is_some() || self.inside.contains_key(&tid) {
            sys::resume_to_call(tid, signal);
            return;
        }
        let id = Tid(tid.as_raw());
        let all = self.backend.also.lock().len();
        if self.interrupted
            && self
                .backend
                .tasks
                .get(id)
                .is_some_and(|task| task.listener.is_none() || task.also < all)
        {
            let _ = ptrace::interrupt(tid);
        }
        sys::resume(tid, signal);
    }

    /// A call of ours has returned to a guest, whose own registers come back, but for the result.
    fn returned(&mut self, tid: Pid, inside: InPlace) {
        let Ok(now) = Registers::read(tid) else { return };
        let InPlace { mut before, wait } = inside;
        match (wait, self.backend.tasks.get(Tid(tid.as_raw()))) {
            (Some(ending), Some(task)) => {
                self.backend.errands.left_wait(Tid(tid.as_raw()));
                before = ending.end(&task.guest, before, now.result());
            }
            _ => before.set_result(now.result()),
        }
        let _ = before.write(tid);
    }

    fn syscall_stop(&mut self, tid: Pid) {
        if let Some(task) = self.backend.tasks.get(Tid(tid.as_raw()))
            && let Some(stops) = &mut self.stops
        {
            stops.stop(tid, &task.guest, task.group, self.control.is_armed());
        } else if let Ok((false, _)) = sys::call_stop(tid)
            && let Some(inside) = self.inside.remove(&tid)
        {
            self.returned(tid, inside);
        }
        self.resume(tid, 0);
    }

    /// A call that the base filter hands to us: a VU call of a view that is not armed, or a clone
    /// that would hide its child.
    fn trapped(&mut self, tid: Pid) {
        if self.inside.get(&tid).is_some_and(|inside| inside.wait.is_some()) {
            return self.resume(tid, 0);
        }
        let Ok(mut registers) = Registers::read(tid) else { return self.resume(tid, 0) };
        let number = registers.number();
        let task = self.backend.tasks.get(Tid(tid.as_raw()));
        if births::is_birth(number) {
            if let Some(task) = task {
                births::show(&mut registers, &task.guest);
            }
        } else if let Ok(place) = self.backend.stopping.binary_search(&number) {
            self.look_at(tid, place, &mut registers);
        } else if number < 0 {
            let id = Tid(tid.as_raw());
            match self.answer(id, Syscall { number, args: registers.args() }) {
                Some(result) => registers.skip(result),
                // The view was armed in this instant and the guest stops for it next: its listener
                // can wait for an answer.
                None if self.control.is_armed() && !self.unreachable.contains(&id) => {
                    registers = registers.again();
                }
                None => registers.skip(Errno::ENOSYS.to_return()),
            }
        }
        let _ = registers.write(tid);
        self.resume(tid, 0);
    }

    /// A call of a watched guest. What cannot be answered on the spot is passed on to its listener.
    fn look_at(&self, tid: Pid, place: usize, registers: &mut Registers) {
        let id = Tid(tid.as_raw());
        let syscall = Syscall { number: registers.number(), args: registers.args() };
        let Some(task) = self.backend.tasks.get(id) else { return };
        match self.handle_call(&task.guest, syscall) {
            Action::Forward => {}
            Action::Return(reply) => {
                let result = task.guest.write_all(&reply.writes).and(reply.result);
                registers.skip(result.unwrap_or_else(Errno::to_return));
            }
            action => match filter::stand_in(place) {
                Some(number) if task.listener.is_some() => {
                    self.backend.replays.keep(id, syscall, action);
                    registers.replace(number, syscall.args);
                }
                _ => registers.skip(Errno::EIO.to_return()),
            },
        }
    }

    fn handle_call(&self, guest: &Arc<TaskGuest>, syscall: Syscall) -> Action {
        let no_later = || Completer::new(Box::new(Never));
        let call =
            Call { syscall, guest: Arc::clone(guest) as Arc<dyn Guest>, defer: Arc::new(no_later) };
        let handle = AssertUnwindSafe(|| self.backend.supervisor.handle(&call));
        catch_unwind(handle).unwrap_or_else(|_| Action::error(Errno::EIO))
    }

    /// What a call returns; None when that cannot be told on the spot.
    fn answer(&self, tid: Tid, syscall: Syscall) -> Option<i64> {
        let Some(guest) = self.backend.tasks.guest(tid) else {
            return Some(Errno::ESRCH.to_return());
        };
        match self.handle_call(&guest, syscall) {
            Action::Return(reply) => {
                let result = guest.write_all(&reply.writes).and(reply.result);
                Some(result.unwrap_or_else(Errno::to_return))
            }
            _ => None,
        }
    }

    fn arm_if_wanted(&mut self) {
        let extended = self.control.is_armed() && *self.control.extended.0.lock();
        if !extended && (self.interrupted || !self.control.is_armed()) {
            return;
        }
        self.interrupted = true;
        self.armed_at = Some(Instant::now());
        if self.stops.is_none() {
            for tid in self.backend.tasks.ids() {
                let _ = ptrace::interrupt(Pid::from_raw(tid.0));
            }
        }
        if extended {
            let (pending, reached) = &*self.control.extended;
            *pending.lock() = false;
            reached.notify_all();
        }
    }

    fn arm(&mut self, tid: Pid, task: &Task) {
        let also = self.backend.also.lock().clone();
        let filter = filter::armed(&self.subscriptions, &also);
        let reach = match arm::inject(&task.guest, tid, task.group, &filter) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::warn!("task {tid}: cannot be armed: {error}");
                self.unreachable.insert(Tid(tid.as_raw()));
                return;
            }
        };
        let (fd, whole) = match reach {
            Reach::Group(fd) => (fd, true),
            Reach::Thread(fd) => (fd, false),
        };
        let listener = match Listener::start(fd, &self.backend) {
            Ok(listener) => listener,
            Err(error) => {
                // Every trapped call of it would fail from now on (ENOSYS).
                tracing::error!("task {tid} ends: no thread to answer its calls: {error}");
                let _ = kill(Pid::from_raw(task.group), Signal::SIGKILL);
                return;
            }
        };
        self.listeners.insert(key(&listener), Arc::clone(&listener));
        if whole {
            self.backend.tasks.armed(task.group, &listener, also.len());
        } else {
            let armed = Task { listener: Some(listener), also: also.len(), ..task.clone() };
            self.backend.tasks.insert(Tid(tid.as_raw()), armed);
        }
    }

    /// Traps the optional calls in an armed guest that have been asked for since.
    fn extend(&self, tid: Pid, task: &Task) {
        let also = self.backend.also.lock().clone();
        if self.stops.is_some() || task.listener.is_none() || task.also >= also.len() {
            return;
        }
        let filter = filter::watching(&also[task.also..], &self.subscriptions);
        let added = arm::add(&task.guest, tid, task.group, &filter);
        if let Err(error) = &added {
            tracing::warn!("task {tid}: what it sees of itself is the kernel's: {error}");
        }
        // Even so: it must not be tried for ever.
        self.backend.tasks.added(Tid(tid.as_raw()), added.unwrap_or(false), also.len());
    }
}

struct Never;

impl crate::api::Answer for Never {
    fn answer(self: Box<Self>, _action: Action) {}

    fn cancelled(&self) -> bool {
        true
    }
}

/// The argument with the path, by the number of the call.
fn paths(rows: &[Subscription]) -> HashMap<i64, u8> {
    rows.iter().filter_map(|row| Some((row.number, row.path?))).collect()
}

fn key(listener: &Arc<Listener>) -> usize {
    Arc::as_ptr(listener) as usize
}
