//! What a hypervisor is started with.

use std::{ffi::OsString, fmt, io, path::Path, sync::Arc};

use umvu_abi::module::Module;
use umvu_reactor::Reactor;
use umvu_tracer::Mode;

/// Makes the built-in modules, given the event loop that their stacks run on.
pub type ModuleMaker = Box<dyn FnOnce(&Reactor) -> Vec<Arc<dyn Module>>>;

/// Fills the private directory (commands for the guests' PATH) and adapts the environment.
pub type Prepare = Box<dyn FnOnce(&Path, &mut Vec<(OsString, OsString)>) -> io::Result<()>>;

/// The arguments of [`crate::run`].
pub struct Config {
    /// Programs with their arguments, run one after the other: the rc files, then the command.
    pub programs: Vec<Vec<OsString>>,
    /// The environment of the programs.
    pub environment: Vec<(OsString, OsString)>,
    /// How calls are intercepted.
    pub mode: Mode,
    /// The name of the view (`-V`).
    pub view_name: Option<String>,
    /// The built-in modules.
    pub modules: ModuleMaker,
    /// Names of modules to load before the command starts.
    pub preload: Vec<String>,
    /// Debug tags to begin with.
    pub debug_tags: String,
    /// Their colours, as `vudebug` takes them.
    pub debug_colors: String,
    /// Called once the private directory exists.
    pub prepare: Prepare,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("programs", &self.programs).finish_non_exhaustive()
    }
}
