//! The guests' threads and what each of them inherits.

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::Tid;
use umvu_tracer::api::Birth;

use crate::{debug::Tags, identity::Credentials, view::Mount};

/// The stack of each address family; a family that is absent uses the kernel's.
pub type Stacks = BTreeMap<i32, Arc<Mount>>;

/// One thread of a guest.
#[derive(Debug)]
pub struct Task {
    /// Its kernel id.
    pub tid: Tid,
    stacks: Mutex<Arc<Stacks>>,
    /// What the guest thinks of its memory (PR_SET_DUMPABLE(2const)); one for all threads.
    dumpable: Arc<AtomicBool>,
    /// The debug tags of this thread alone, inherited by those it creates.
    pub debug: Tags,
    last_error: Mutex<String>,
    /// The interpreter that it is about to execute, if that gets the program's own name too.
    keeps_name: Mutex<Option<Vec<u8>>>,
    /// The dynamic linker of the program that it is about to execute, when it is not the kernel's choice.
    linker: Mutex<Option<Arc<[u8]>>>,
    /// The program that its interpreter gets, open for reading.
    program: Mutex<Option<OwnedFd>>,
    /// What it has named, when the kernel is told another path.
    called: Mutex<Option<Vec<u8>>>,
    /// What it executes in place of what it has named.
    executes: Mutex<Option<Vec<u8>>>,
    /// Virtual credentials; none while they are the kernel's.
    credentials: Mutex<Option<Arc<Credentials>>>,
}

impl Task {
    fn new(tid: Tid, stacks: Arc<Stacks>) -> Self {
        let dumpable = Arc::new(AtomicBool::new(true));
        Self {
            tid,
            stacks: Mutex::new(stacks),
            dumpable,
            debug: Tags::default(),
            last_error: Mutex::new(String::new()),
            keeps_name: Mutex::default(),
            called: Mutex::default(),
            executes: Mutex::default(),
            linker: Mutex::default(),
            program: Mutex::default(),
            credentials: Mutex::default(),
        }
    }

    /// The virtual credentials; None while they are the kernel's.
    #[must_use]
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.lock().clone()
    }

    /// Gives the thread credentials, which those that it creates inherit.
    pub fn set_credentials(&self, credentials: Option<Arc<Credentials>>) {
        *self.credentials.lock() = credentials;
    }

    /// Says which interpreter that is to be executed gets the program's own name too.
    pub(crate) fn keep_name(&self, interpreter: Option<Vec<u8>>) {
        *self.keeps_name.lock() = interpreter;
    }

    /// That interpreter.
    pub(crate) fn name_keeper(&self) -> Option<Vec<u8>> {
        self.keeps_name.lock().clone()
    }

    /// Says by which name the program goes that it is about to execute, when the kernel has another.
    pub(crate) fn calls(&self, name: Option<Vec<u8>>) {
        *self.called.lock() = name;
    }

    /// Hands that over.
    pub(crate) fn take_called(&self) -> Option<Vec<u8>> {
        self.called.lock().take()
    }

    /// Says which dynamic linker, an ELF file, the program gets that it is about to execute.
    pub(crate) fn set_linker(&self, bytes: Option<Arc<[u8]>>) {
        *self.linker.lock() = bytes;
    }

    /// Hands that over.
    pub(crate) fn take_linker(&self) -> Option<Arc<[u8]>> {
        self.linker.lock().take()
    }

    /// Says which program, open for reading, the interpreter gets that it is about to execute.
    pub(crate) fn set_program(&self, program: Option<OwnedFd>) {
        *self.program.lock() = program;
    }

    /// Hands that over.
    pub(crate) fn take_program(&self) -> Option<OwnedFd> {
        self.program.lock().take()
    }

    /// Says which path it is to execute in place of the one that it has named.
    pub(crate) fn executes(&self, path: Option<Vec<u8>>) {
        *self.executes.lock() = path;
    }

    /// Whether that path is about to be executed, which is asked once.
    pub(crate) fn is_executing(&self, path: &[u8]) -> bool {
        self.executes.lock().take().is_some_and(|told| told == path)
    }

    /// Whether the guest wants its memory dumped and traced.
    #[must_use]
    pub fn is_dumpable(&self) -> bool {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// Notes what the guest wants; the kernel is not told, since it would shut us out.
    pub fn set_dumpable(&self, wanted: bool) {
        self.dumpable.store(wanted, Ordering::Relaxed);
    }

    /// The default stacks of the thread.
    #[must_use]
    pub fn stacks(&self) -> Arc<Stacks> {
        Arc::clone(&self.stacks.lock())
    }

    /// The default stack of one address family; None for the kernel's.
    #[must_use]
    pub fn stack(&self, domain: i32) -> Option<Arc<Mount>> {
        self.stacks.lock().get(&domain).cloned()
    }

    /// Chooses the stack of one family, for this thread and those it will create.
    pub fn choose_stack(&self, domain: i32, mount: Option<Arc<Mount>>) {
        let mut stacks = self.stacks.lock();
        let changed = Arc::make_mut(&mut stacks);
        match mount {
            Some(mount) => changed.insert(domain, mount),
            None => changed.remove(&domain),
        };
    }

    /// Keeps the reason of the last failure, or the notice of a mount, for `VUCTL_LAST_ERROR`; empty clears it.
    pub fn set_last_error(&self, reason: impl Into<String>) {
        *self.last_error.lock() = reason.into();
    }

    /// The reason of the last failure.
    #[must_use]
    pub fn last_error(&self) -> String {
        self.last_error.lock().clone()
    }
}

/// All threads of the tree, by kernel id.
#[derive(Debug, Default)]
pub struct Tasks {
    by_tid: RwLock<HashMap<Tid, Arc<Task>>>,
    /// Whether any thread ever had debug tags of its own.
    debugged: AtomicBool,
}

impl Tasks {
    /// Enters the first task of the tree.
    pub fn started(&self, tid: Tid) {
        let task = Arc::new(Task::new(tid, Arc::default()));
        self.by_tid.write().insert(tid, task);
    }

    /// Enters a new task, which inherits from its creator.
    pub fn born(&self, parent: Tid, child: Tid, birth: Birth) {
        let parent = self.get(parent);
        let mut task = Task::new(child, parent.stacks());
        task.debug = parent.debug.clone();
        task.set_credentials(parent.credentials());
        match birth {
            Birth::Thread => task.dumpable = Arc::clone(&parent.dumpable),
            Birth::Process => task.set_dumpable(parent.is_dumpable()),
        }
        self.by_tid.write().insert(child, Arc::new(task));
    }

    /// Follows an exec: the calling thread takes the leader's id.
    pub fn executed(&self, task: Tid, former: Tid) {
        let former_task = self.get(former);
        let mut fresh = Task::new(task, former_task.stacks());
        fresh.debug = former_task.debug.clone();
        let kept = former_task.credentials().map(|before| Arc::new(before.after_exec()));
        fresh.set_credentials(kept);
        let mut tasks = self.by_tid.write();
        tasks.remove(&former);
        tasks.insert(task, Arc::new(fresh));
    }

    /// Forgets a task.
    pub fn ended(&self, task: Tid) {
        self.by_tid.write().remove(&task);
    }

    /// Finds a task; one that is unknown has the kernel's view of everything.
    #[must_use]
    pub fn get(&self, tid: Tid) -> Arc<Task> {
        let known = self.by_tid.read().get(&tid).cloned();
        known.unwrap_or_else(|| Arc::new(Task::new(tid, Arc::default())))
    }

    /// Whether a debug tag is active for one thread.
    #[must_use]
    pub fn debugs(&self, tid: Tid, tag: u8) -> bool {
        self.debugged.load(Ordering::Relaxed)
            && self.by_tid.read().get(&tid).is_some_and(|task| task.debug.has(tag))
    }

    /// Says that a thread gets debug tags of its own.
    pub fn debug_threads(&self) {
        self.debugged.store(true, Ordering::Relaxed);
    }

    /// How many tasks use a mounted stack by default.
    #[must_use]
    pub fn users_of(&self, mount: &Arc<Mount>) -> usize {
        let tasks = self.by_tid.read();
        tasks.values().filter(|t| t.stacks().values().any(|used| Arc::ptr_eq(used, mount))).count()
    }

    /// Sends every task that uses a stack back to the kernel's.
    pub fn leave_stack(&self, mount: &Arc<Mount>) {
        for task in self.by_tid.read().values() {
            let families: Vec<i32> = task
                .stacks()
                .iter()
                .filter(|(_, used)| Arc::ptr_eq(used, mount))
                .map(|(family, _)| *family)
                .collect();
            for family in families {
                task.choose_stack(family, None);
            }
        }
    }

    /// The ids of all tasks.
    #[must_use]
    pub fn ids(&self) -> Vec<Tid> {
        self.by_tid.read().keys().copied().collect()
    }
}
