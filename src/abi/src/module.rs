//! The contract between the core and its modules.

use std::{ffi::OsString, fmt, sync::Arc};

use crate::{
    Errno,
    files::{Device, FileSystem, Outside},
    net::NetStack,
    tree::Tree,
};

/// A mount as a guest asked for it: mount(2).
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// The source argument, as given (a network locator, a stack's name, a path, `none`).
    pub source: String,
    /// The absolute, resolved mount point.
    pub target: String,
    /// The file-system type, for instance `vunetioth`.
    pub fstype: String,
    /// The `MS_*` flags.
    pub flags: u64,
    /// The data argument: comma-separated options, possibly empty.
    pub data: String,
    /// The environment of the program that mounts, `NAME=VALUE` each; empty when it is not known.
    pub environment: Vec<OsString>,
    /// The name of the view (`umvu -V`), empty when it has none.
    pub view: String,
}

/// Why a mount failed: an error number for the caller and one line for the user.
#[derive(Debug, Clone)]
pub struct MountError {
    /// What mount(2) returns.
    pub errno: Errno,
    /// One line that names the thing and says what would be right; empty when `errno` says all.
    pub reason: String,
}

impl MountError {
    /// Makes an error with a reason.
    pub fn new(errno: Errno, reason: impl Into<String>) -> Self {
        Self { errno, reason: reason.into() }
    }
}

impl From<Errno> for MountError {
    fn from(errno: Errno) -> Self {
        Self { errno, reason: String::new() }
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() { self.errno.fmt(f) } else { f.write_str(&self.reason) }
    }
}

impl std::error::Error for MountError {}

/// What a module puts at a mount point.
#[derive(Debug, Clone)]
pub enum Mounted {
    /// A network stack: a special file of type `S_IFSTACK`.
    Stack(Arc<dyn NetStack>),
    /// A file system: its root covers what was there.
    FileSystem(Arc<dyn FileSystem>),
    /// A device: a special file, with its sub-devices beside it.
    Device(Arc<dyn Device>),
    /// Generated files, which are made at the moment they are opened.
    Tree(Arc<dyn Tree>),
}

/// A mount that `vu_insmod` makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The file-system type.
    pub fstype: &'static str,
    /// The source.
    pub source: &'static str,
    /// The mount point.
    pub target: &'static str,
}

/// A part of what processes see of themselves that a module has virtualized, from the moment it is
/// loaded. The core knows how; in views without such a module it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// User and group ids, and the owners of files (credentials(7)).
    Ids,
    /// Capabilities (capabilities(7)).
    Capabilities,
    /// Host name and domain name (uname(2)).
    HostNames,
    /// The time of day (clock_gettime(2)).
    Clock,
    /// How fast time passes: [`Clock::pace`] is not 1.
    Pace,
}

/// The program that executes others of some format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Its path.
    pub path: Vec<u8>,
    /// Where the host has it, if it was looked up beforehand: then its path is a name only.
    pub host: Option<Vec<u8>>,
    /// Whether it gets the name that the program was called by, behind the program's path.
    pub keeps_name: bool,
    /// Whether it gets the program itself, open for reading (`AT_EXECFD`).
    pub opens_program: bool,
}

/// Formats of programs that a module knows and the kernel does not.
pub trait ExecFormats: Send + Sync + fmt::Debug {
    /// The interpreter of a program, with its absolute path, the name it is executed by, and its first
    /// bytes; None for a format that is not known.
    fn interpreter(&self, path: &[u8], name: &[u8], head: &[u8]) -> Option<Interpreter>;
}

/// A real-time clock that a module keeps for the view; times are nanoseconds since 1970.
pub trait Clock: Send + Sync + fmt::Debug {
    /// What the clock shows at a moment of the host's.
    fn show(&self, real: i128) -> i128;

    /// Has the clock show a time at a moment of the host's.
    fn set(&self, shown: i128, real: i128);

    /// The moment of the host at which the clock shows a time; None when it stands still.
    fn real(&self, shown: i128) -> Option<i128>;

    /// How many seconds of the view pass in one of the host, for sleeps, timers and timeouts: more than
    /// 0.
    fn pace(&self) -> f64;

    /// What `CLOCK_MONOTONIC` shows at a moment of the host's.
    fn monotonic(&self, host: i128) -> i128;

    /// The moment of the host's `CLOCK_MONOTONIC` at which it shows a time.
    fn host_monotonic(&self, shown: i128) -> i128;
}

/// The names of a host that a module keeps for the view.
pub trait HostNames: Send + Sync + fmt::Debug {
    /// The host name; None while it is the host's.
    fn node(&self) -> Option<Vec<u8>>;

    /// The NIS domain name; None while it is the host's.
    fn domain(&self) -> Option<Vec<u8>>;

    /// sethostname(2); at most 64 bytes.
    fn set_node(&self, name: Vec<u8>);

    /// setdomainname(2); at most 64 bytes.
    fn set_domain(&self, name: Vec<u8>);
}

/// A unit of virtualization that `vu_insmod` loads.
pub trait Module: Send + Sync + fmt::Debug {
    /// The name, for instance `vunet`; file-system types that start with it belong to the module.
    fn name(&self) -> &'static str;

    /// The text of `vu_lsmod`, for instance `vu virtual networking`.
    fn description(&self) -> &'static str;

    /// The file-system types it can mount, for error messages.
    fn fstypes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Mounts. Errors: `ENODEV` for an unknown type, else what the submodule reports.
    fn mount(&self, request: &MountRequest) -> Result<Mounted, MountError> {
        Err(MountError::new(
            Errno::ENODEV,
            format!("{}: module {} mounts nothing", request.fstype, self.name()),
        ))
    }

    /// Mounts what looks into the tree of files as it was before. Modules of files and devices
    /// implement this one. Errors: as [`Module::mount`].
    fn mount_over(
        &self,
        request: &MountRequest,
        _outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        self.mount(request)
    }

    /// Paths below the mount point, each with a slash in front, at which a mount leaves everything as it
    /// was.
    fn exceptions(&self, _request: &MountRequest) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// The module's type for one of the kernel's, which an ordinary user cannot have the kernel mount, and the
    /// option with which it may be written to, if it may.
    fn native_type(&self, _fstype: &str) -> Option<(&'static str, Option<&'static str>)> {
        None
    }

    /// The file-system type that a bind mount (`MS_BIND`) becomes, if the module makes them.
    fn bind_type(&self) -> Option<&'static str> {
        None
    }

    /// What the module virtualizes by being loaded, or by what it has mounted.
    fn facets(&self) -> &'static [Facet] {
        &[]
    }

    /// The names of the view, if the module keeps them ([`Facet::HostNames`]).
    fn host_names(&self) -> Option<Arc<dyn HostNames>> {
        None
    }

    /// The formats of programs that the module knows.
    fn exec_formats(&self) -> Option<Arc<dyn ExecFormats>> {
        None
    }

    /// The clock of the view, if the module keeps one ([`Facet::Clock`]).
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        None
    }

    /// What is mounted as soon as the module is loaded, in this order.
    fn standing(&self) -> &'static [Standing] {
        &[]
    }
}
