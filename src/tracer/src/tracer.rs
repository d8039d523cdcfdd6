//! The life of the guests: the tree, exec, signals, job control, exit.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{SigSet, Signal, kill},
    },
    unistd::Pid,
};
use umvu_abi::Tid;

use crate::{
    again,
    api::{Birth, Subscription, Supervisor, Watch},
    births::{self, Shares},
    errands::{Errands, InPlace, Means, Outcome},
    filter::{self, Instruction},
    guest::filters_of,
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

mod arming;
mod calls;
mod control;
mod signalled;

pub use control::Control;

/// How PTRACE_O_TRACESYSGOOD marks a system-call stop.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
/// How long after arming the filters of new processes are counted, since their creation may have
/// come before it.
const ARMING: Duration = Duration::from_secs(2);

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
    /// Signals that are delivered when the call that they interrupt is decided.
    put_off: Vec<(Pid, i32)>,
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
            put_off: Vec::new(),
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
            for (tid, signal) in std::mem::take(&mut self.put_off) {
                self.signalled(tid, signal);
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

    /// Gives a new program the dynamic linker of its view, and an interpreter its program. Who cannot have it has
    /// no other.
    fn link(&self, tid: Pid) {
        let supervisor = &self.backend.supervisor;
        let leader = Tid(tid.as_raw());
        let (bytes, program) = (supervisor.linker(leader), supervisor.program(leader));
        if bytes.is_none() && program.is_none() {
            return;
        }
        let Some(task) = self.backend.tasks.get(leader) else { return };
        let prepare = || {
            linker::finish_exec(tid)?;
            if let Some(bytes) = bytes {
                supervisor.linked(leader, linker::exchange(tid, &task.guest, &bytes)?);
            }
            if let Some(program) = program {
                let number = linker::give(tid, &task.guest, &program)?;
                supervisor.given_program(leader, number.cast_unsigned());
            }
            Ok::<_, io::Error>(())
        };
        if let Err(error) = prepare() {
            tracing::debug!(%tid, %error, "no dynamic linker, or no program for its interpreter");
            sys::tgkill(tid.as_raw(), tid.as_raw(), libc::SIGKILL);
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
        self.put_off.retain(|(other, _)| *other != tid);
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
                self.listeners.remove(&arming::key(&listener));
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
        let id = Tid(tid.as_raw());
        let follows = self.backend.errands.followed.has(id);
        if self.stops.is_some() || follows || self.inside.contains_key(&tid) {
            sys::resume_to_call(tid, signal);
            return;
        }
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
        } else if let Ok((entry, _)) = sys::call_stop(tid) {
            if entry {
                self.followed_call(tid);
            } else if let Some(inside) = self.inside.remove(&tid) {
                self.returned(tid, inside);
            }
        }
        self.resume(tid, 0);
    }
}

/// The argument with the path, by the number of the call.
fn paths(rows: &[Subscription]) -> HashMap<i64, u8> {
    rows.iter().filter_map(|row| Some((row.number, row.path?))).collect()
}
