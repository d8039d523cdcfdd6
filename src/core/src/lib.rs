//! Tasks, views, mounts, system-call handlers and native sockets.
//!
//! [`run`] starts the hypervisor on a command. [`Core`] is the state behind every handler: the
//! [`tasks`] of the tree, the [`view`] (modules and mounts), the [`bridge`] that joins the guests'
//! sockets to their stacks, and the [`rundir`]. [`dispatch`] is the table of intercepted calls.
//!
//! Architecture invariants: no concrete module is named here; there is no table of the guests'
//! descriptors (an object is recognised when it comes back in a trapped call); handlers do not
//! know which backend carried their call.
//!
//! Lock order: view, then tasks, then the bridge's registry, then one bridged socket, then the
//! stack behind it. No lock is held while a completer answers.

pub mod bridge;
pub mod classify;
pub mod config;
pub mod debug;
pub mod dispatch;
pub mod etc;
mod files;
mod guest;
mod handlers;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod identity;
pub mod paths;
pub mod rundir;
pub mod tasks;
pub mod view;

use std::{
    collections::HashSet,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;
use umvu_abi::{Errno, Pid, Tid, patience};
use umvu_reactor::Reactor;
use umvu_tracer::{
    Control, Program, Tracer,
    api::{Action, Birth, Call, Reply, SlowHandler, Supervisor},
};

pub use config::Config;

/// The state of one hypervisor, shared by all its threads.
#[derive(Debug)]
pub struct Core {
    /// The guests' threads.
    pub tasks: tasks::Tasks,
    /// Loaded modules, mounts, names.
    pub view: view::View,
    /// The guests' virtual sockets.
    pub sockets: bridge::Sockets,
    /// Virtual files and directories.
    pub paths: paths::Paths,
    /// What stands for virtual files in the kernel.
    pub(crate) objects: Arc<files::Objects>,
    /// Files of stacks that stand for some in `/etc`.
    pub etc: etc::Files,
    /// The owners that guests have given to files of the host.
    pub(crate) owners: identity::Owners,
    /// The private directory.
    pub run_dir: Arc<rundir::RunDir>,
    reactor: Reactor,
    table: dispatch::Table,
    control: Mutex<Option<Control>>,
    this: Weak<Self>,
}

impl Core {
    /// A handle that outlives the handler, for work on another thread; None while it ends.
    #[must_use]
    pub fn shared(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Answers a call: by a file of the caller's stack, or by its handler.
    fn answer(&self, handler: dispatch::Handler, call: &Call) -> Action {
        let call = match etc::redirect(self, call) {
            Ok(action) => return action,
            Err(call) => call,
        };
        // A frame that the call sends is answered before the call returns, if all are near.
        match self.reactor.on_behalf(|| handler(self, &call)) {
            Action::Return(Reply { result: Err(patience::LATER), .. }) => {
                self.patiently(handler, &call)
            }
            action => action,
        }
    }

    /// Runs a handler on a thread of its own, where it may wait.
    fn patiently(&self, handler: dispatch::Handler, call: &Call) -> Action {
        let Some(core) = self.shared() else { return Errno::EIO.into() };
        let call = call.clone();
        Action::Slow(SlowHandler(Box::new(move || patience::patiently(|| handler(&core, &call)))))
    }

    /// Tells the guests that judge paths themselves what is mounted now.
    pub(crate) fn publish_mounts(&self) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            // The owner of any file may be virtual, and its times.
            let judged = !self.has_virtual_credentials() && self.view.clock().is_none();
            match self.paths.first_components(&self.view).filter(|_| judged) {
                Some(components) => control.trap_paths(&components),
                None => control.trap_every_path(),
            }
        }
    }

    /// Whether the view is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.control.lock().as_ref().is_some_and(Control::is_armed)
    }

    /// Arms the view: from now on the subscribed calls of every guest are trapped.
    pub fn arm(&self) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            control.trap_also(&self.table.numbers_for(&self.view));
            self.publish_mounts();
            control.arm();
            if self.view.clock().is_some() {
                self.divert_vdsos();
            }
        }
    }

    /// Delivers what guests have written to generated files; it may change what is trapped.
    pub(crate) fn settle(&self) {
        if self.paths.settle() && self.view.survey_facets() {
            self.arm();
        }
    }

    /// Has the programs that run already ask the view for the time; those to come have no vDSO.
    fn divert_vdsos(&self) {
        let mut done = HashSet::new();
        // A program may be created by one that is not done yet.
        loop {
            let fresh: Vec<Tid> =
                self.tasks.ids().into_iter().filter(|tid| done.insert(*tid)).collect();
            if fresh.is_empty() {
                return;
            }
            for task in fresh {
                if let Err(error) = umvu_tracer::divert_vdso(task) {
                    tracing::debug!("task {task} keeps the host's time: {error}");
                }
            }
        }
    }
}

impl Supervisor for Core {
    fn handle(&self, call: &Call) -> Action {
        self.settle();
        let action = match self.table.handler(call.syscall.number) {
            Some(handler) => self.answer(handler, call),
            None => Action::Forward,
        };
        self.say(call.tid(), b's', || format!("{} = {}", call.syscall, action));
        action
    }

    fn may_wait(&self, call: &Call) -> bool {
        paths::may_wait(self, call)
    }

    fn started(&self, task: Tid) {
        self.tasks.started(task);
        self.say(task, b't', || "started".to_owned());
    }

    fn born(&self, parent: Tid, child: Tid, birth: Birth) {
        self.settle();
        self.tasks.born(parent, child, birth);
        self.paths.born(parent, child, birth);
        self.say(child, b't', || format!("{birth:?} created by {parent}"));
    }

    fn executed(&self, task: Tid, former: Tid) {
        let keeps_name = self.tasks.get(former).name_keeper().is_some();
        let linker = self.tasks.get(former).take_linker();
        let program = self.tasks.get(former).take_program();
        let called = self.tasks.get(former).take_called();
        self.tasks.executed(task, former);
        self.tasks.get(task).set_linker(linker);
        self.tasks.get(task).set_program(program);
        self.paths.executed(task, former);
        let mut values = Vec::new();
        if let Some(who) = self.credentials(task) {
            values.extend(identity::vector::ids(&who));
        }
        if self.view.clock().is_some() {
            values.push(identity::vector::NO_VDSO);
        }
        if keeps_name {
            values.push(identity::vector::keeps_name());
        }
        identity::vector::rewrite(task, &values);
        if let Some(called) = called {
            identity::vector::rename(task, self.objects.root(), &called);
        }
        self.say(task, b't', || {
            let program = std::fs::read_link(format!("/proc/{task}/exe")).unwrap_or_default();
            format!("executes {}", program.display())
        });
    }

    fn linker(&self, task: Tid) -> Option<Arc<[u8]>> {
        self.tasks.get(task).take_linker()
    }

    fn linked(&self, task: Tid, base: u64) {
        identity::vector::rewrite(task, &[(libc::AT_BASE, base)]);
    }

    fn program(&self, task: Tid) -> Option<OwnedFd> {
        self.tasks.get(task).take_program()
    }

    fn given_program(&self, task: Tid, number: u64) {
        identity::vector::append(task, (libc::AT_EXECFD, number));
    }

    fn ended(&self, task: Tid, group: Pid, last: bool) {
        self.say(task, b't', || "ended".to_owned());
        self.settle();
        self.tasks.ended(task);
        self.paths.ended(task);
        if last {
            self.sockets.sweep_soon();
        }
        let _ = group;
    }
}

/// Runs a command and every descendant of it; returns the command's exit status, 128 plus the
/// signal's number when a signal ended it. Errors: those of starting the tracer and the command.
pub fn run(config: Config) -> io::Result<u8> {
    let mask = umvu_tracer::block_signals()?;
    rundir::remove_stale();
    let run_dir = Arc::new(rundir::RunDir::create()?);
    let reactor = Reactor::start("umvu-net")?;
    let modules = (config.modules)(&reactor);
    let table = dispatch::Table::new();
    let subscriptions = table.subscriptions();
    let sockets = bridge::Sockets::new(&reactor, &run_dir)?;
    let objects = files::Objects::new(run_dir.path());
    let core = Arc::new_cyclic(|this| Core {
        tasks: tasks::Tasks::default(),
        view: view::View::new(modules, config.view_name.clone().unwrap_or_default())
            .with_objects(&objects),
        objects,
        sockets,
        paths: paths::Paths::new(&run_dir),
        etc: etc::Files::new(run_dir.path()),
        owners: identity::Owners::default(),
        run_dir: Arc::clone(&run_dir),
        reactor: reactor.clone(),
        table,
        control: Mutex::new(None),
        this: Weak::clone(this),
    });
    core.objects.serve_guests_of(&core);
    core.view.debug.add(&config.debug_tags).map_err(|_| invalid("-d", &config.debug_tags))?;
    core.view.colors.set(&config.debug_colors).map_err(|_| invalid("-D", &config.debug_colors))?;
    let mut environment = config.environment;
    (config.prepare)(run_dir.path(), &mut environment)?;
    let programs: Vec<Program> = config
        .programs
        .into_iter()
        .map(|command| Program { command, environment: environment.clone() })
        .collect();
    let options = umvu_tracer::Options { mode: config.mode, subscriptions };
    let tracer = Tracer::spawn(programs, options, mask, Arc::clone(&core) as Arc<dyn Supervisor>)?;
    *core.control.lock() = Some(tracer.control());
    core.sockets.hub().watcher.set(tracer.control());
    raise_descriptor_limit();
    for name in &config.preload {
        core.insert_module(name, false).map_err(io::Error::other)?;
        core.arm();
    }
    let status = tracer.run()?;
    core.objects.write_back_all();
    core.view.stop();
    run_dir.remove();
    Ok(status)
}

/// Raises our own limit of descriptors as far as allowed. The guests keep theirs: they have been
/// started already.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn invalid(option: &str, value: &str) -> io::Error {
    io::Error::other(format!("{option} {value}: unknown tag or colour (see vudebug)"))
}
