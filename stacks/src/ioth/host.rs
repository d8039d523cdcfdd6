//! One stack of a plugin with the thread that it runs on, and the descriptors it has given out.

use std::{collections::HashMap, ffi::CString, os::unix::ffi::OsStrExt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
};
use umvu_reactor::{Handle, Source};

use super::{
    ffi::{
        library::{Library, Namespace},
        plugin::{Plugin, PluginFd},
    },
    license,
    plan::Plan,
    search::{Candidate, Search, VARIABLE},
    spares::{self, Loaded},
    worker::{PATIENCE, PATIENCE_AT_START, START, Worker},
};

/// A stack and its thread.
#[derive(Debug)]
pub(crate) struct Host {
    stack: String,
    worker: Worker,
    running: Arc<Running>,
}

/// What the thread works with.
#[derive(Default)]
pub(crate) struct Running {
    /// None before the start and after the end.
    plugin: Mutex<Option<Arc<Plugin>>>,
    /// The open descriptors, and what holds on to each until it is closed.
    open: Mutex<HashMap<PluginFd, Option<Arc<dyn Source>>>>,
    /// Where the thread receives.
    scratch: Mutex<Vec<u8>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("open", &self.open.lock().len()).finish_non_exhaustive()
    }
}

impl Running {
    /// The stack, on its thread only. Errors: `ENETDOWN` once it has ended.
    pub(crate) fn plugin(&self) -> Result<Arc<Plugin>, Errno> {
        self.plugin.lock().clone().ok_or(Errno::ENETDOWN)
    }

    /// A buffer of at least that size, for the thread only.
    pub(crate) fn scratch(&self, size: usize) -> MutexGuard<'_, Vec<u8>> {
        let mut scratch = self.scratch.lock();
        if scratch.len() < size {
            scratch.resize(size, 0);
        }
        scratch
    }

    /// Records a descriptor that the plugin has opened.
    pub(crate) fn opened(&self, fd: PluginFd) {
        self.open.lock().insert(fd, None);
    }

    /// Keeps a socket, which nobody else has any more, until its descriptor is closed.
    pub(crate) fn keep(&self, fd: PluginFd, socket: Arc<dyn Source>) {
        if let Some(kept) = self.open.lock().get_mut(&fd) {
            *kept = Some(socket);
        }
    }

    /// Closes a descriptor, once.
    pub(crate) fn close(&self, plugin: &Plugin, fd: PluginFd) {
        let removed = self.open.lock().remove(&fd);
        if removed.is_some() {
            plugin.close(fd);
        }
        // What was kept may close others when it goes.
        drop(removed);
    }

    /// Closes what is open and ends the stack.
    fn end(&self) -> Result<(), Errno> {
        let Some(plugin) = self.plugin.lock().take() else { return Ok(()) };
        let open = std::mem::take(&mut *self.open.lock());
        for fd in open.keys() {
            plugin.close(*fd);
        }
        drop(open);
        // The thread is the only one to call it, and this is it.
        let Some(plugin) = Arc::into_inner(plugin) else { return Err(Errno::EBUSY) };
        plugin.end()
    }
}

impl Host {
    /// Finds, loads and starts a stack. Errors: `ENOTSUP` when there is no such plugin or it cannot
    /// be loaded, `EPERM` when its license forbids it, `ENOENT` when it makes no stacks, `EIO` when
    /// it does not come back, else those of its `newstack`.
    pub(crate) fn start(request: &MountRequest) -> Result<Self, MountError> {
        let source = &request.source;
        let plan = Plan::parse(&request.data);
        let search = Search::of(source, &request.environment);
        let found = search.candidates.iter().filter(|one| one.path.exists()).cloned();
        let found: Vec<Candidate> = found.collect();
        if found.is_empty() {
            return Err(MountError::new(
                Errno::ENOTSUP,
                format!(
                    "{source}: no such stack (built in: smoltcp, vdestack, kernel, null; no plugin \
                     {}; {VARIABLE} names another directory)",
                    search.places()
                ),
            ));
        }
        let worker = Worker::start(&search.stack).map_err(|error| {
            MountError::new(Errno::from_io(&error), format!("plugin {}: {error}", search.stack))
        })?;
        let host = Self { stack: search.stack, worker, running: Arc::default() };
        host.load(found, &plan)?;
        Ok(host)
    }

    fn load(&self, found: Vec<Candidate>, plan: &Plan) -> Result<(), MountError> {
        let text = |text: &str| {
            CString::new(text)
                .map_err(|_| MountError::new(Errno::EINVAL, "an option with a NUL".to_owned()))
        };
        let networks =
            plan.networks.iter().map(|network| text(network)).collect::<Result<Vec<_>, _>>()?;
        let options = text(&plan.options)?;
        let (stack, running) = (self.stack.clone(), Arc::clone(&self.running));
        let start = move || {
            let loaded = open(&found, &stack)?;
            let plugin = Plugin::start(loaded, &stack, &networks, &options).map_err(|errno| {
                MountError::new(errno, format!("plugin {stack}: newstack: {errno}"))
            })?;
            *running.plugin.lock() = Some(Arc::new(plugin));
            Ok(())
        };
        self.worker.call(START, PATIENCE_AT_START, start).map_err(|errno| {
            let reason = self
                .worker
                .failure(START, PATIENCE_AT_START, PATIENCE_AT_START)
                .unwrap_or_default();
            MountError::new(errno, reason)
        })?
    }

    /// The name that the plugin's symbols have.
    pub(crate) fn stack(&self) -> &str {
        &self.stack
    }

    /// Whether the plugin has crashed, or has not come back from a call.
    pub(crate) fn is_given_up(&self) -> bool {
        self.worker.is_given_up()
    }

    /// What the thread works with.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Has the thread call the plugin; `what` names the call. Errors: those of the call, `ENETDOWN`
    /// once the stack has ended, `EIO` when the plugin does not come back.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&Plugin, &Running) -> Result<R, Errno> + Send + 'static,
    ) -> Result<R, Errno> {
        let running = Arc::clone(&self.running);
        self.worker.call(what, PATIENCE, move || {
            let plugin = running.plugin()?;
            job(&plugin, &running)
        })?
    }

    /// Has the thread do something, some time.
    pub(crate) fn post(&self, job: impl FnOnce(&Plugin, &Running) + Send + 'static) {
        let running = Arc::clone(&self.running);
        self.worker.post(move || {
            if let Ok(plugin) = running.plugin() {
                job(&plugin, &running);
            }
        });
    }

    /// Makes the handle that runs a socket on the thread.
    pub(crate) fn handle(&self, socket: &Arc<dyn Source>) -> Handle {
        self.worker.handle(socket)
    }

    /// Closes every socket and ends the stack.
    pub(crate) fn stop(&self) {
        let running = Arc::clone(&self.running);
        let ended = self.worker.call("delstack", PATIENCE, move || running.end());
        if let Ok(Err(errno)) = ended {
            tracing::warn!("plugin {}: delstack: {errno}; it stays loaded", self.stack);
        }
    }
}

/// Loads the first file that can be loaded, if the license of the plugin lets us.
fn open(found: &[Candidate], stack: &str) -> Result<Loaded, MountError> {
    let mut reasons = Vec::new();
    for Candidate { path, namespace } in found {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { continue };
        match Loaded::open(&path, *namespace) {
            Ok(loaded) => {
                admit(loaded.library(), stack, &path.to_string_lossy())?;
                return Ok(loaded);
            }
            Err(reason) => reasons.push(explain(&reason, *namespace)),
        }
    }
    Err(MountError::new(Errno::ENOTSUP, format!("plugin {stack}: {}", reasons.join("; "))))
}

/// Whether a library may be a plugin and is one.
fn admit(library: &Library, stack: &str, path: &str) -> Result<(), MountError> {
    let license = library.text(&format!("ioth_{stack}_license"));
    if !license::permits(license.as_deref()) {
        let license = license.unwrap_or_default();
        let own = license::OWN;
        return Err(MountError::new(
            Errno::EPERM,
            format!(
                "plugin {stack}: {path} is under {license:?}, which a program under {own} must not load"
            ),
        ));
    }
    let newstack = format!("ioth_{stack}_newstack");
    match library.symbol(&newstack) {
        Some(_) => Ok(()),
        None => Err(MountError::new(
            Errno::ENOENT,
            format!(
                "plugin {stack}: {path} has no {newstack}: it is no plugin, or of another stack"
            ),
        )),
    }
}

/// Says what to do when a plugin cannot be linked.
fn explain(reason: &str, namespace: Namespace) -> String {
    if namespace == Namespace::Own && spares::is_exhaustion(reason) {
        return format!(
            "no link namespace is left for another stack ({reason}): unmount one, or start umvu \
             with GLIBC_TUNABLES=glibc.rtld.nns=16 for up to 15"
        );
    }
    reason.to_owned()
}
