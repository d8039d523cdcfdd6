//! [`ManagedSwitch`]: a switch with numbered ports, VLANs and management, as `vde_switch`.
//!
//! Others join by `vde://` at its directory; plugs of this process by [`ManagedSwitch::plug`].
//! Management commands (see [`management`](crate::management)) come from the program by
//! [`ManagedSwitch::execute`], or from others at a socket or on a console.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use nix::unistd::{Gid, Group, getegid, geteuid};
use parking_lot::Mutex;

use crate::{
    cable::Stop,
    error::OpenError,
    mac_table::MacTable,
    management::{Reply, Session},
    switch::{
        bridge::Bridge,
        canonical,
        directory::Directory,
        directory_mode,
        fabric::{Fabric, Policy},
        layout::{Endpoint, Guest, Layout, PortNumber},
        local::LocalPlug,
        port::Port,
        server::{Access, Server},
    },
    transport::Transport,
};

/// Endpoints of this process have numbers from here on, above those of clients.
const LOCAL_ENDPOINTS: u64 = 1000;

/// What a switch is like when it starts; [`SwitchSettings::new`] gives `vde_switch`'s defaults.
#[derive(Debug, Clone)]
pub struct SwitchSettings {
    /// Where others join.
    pub directory: PathBuf,
    /// The permissions of its sockets.
    pub mode: u32,
    /// The permissions of the directory; None: according to the mode.
    pub directory_mode: Option<u32>,
    /// The group that owns them, a name or a number.
    pub group: Option<String>,
    /// All ports have smaller numbers than this.
    pub ports: u16,
    /// Whether it is a hub: frames go to all ports.
    pub hub: bool,
    /// How many addresses it can know.
    pub table_size: usize,
    /// The address of the switch itself; None: one by chance.
    pub mac: Option<[u8; 6]>,
    /// The priority in a spanning tree: the smallest becomes the root.
    pub priority: u16,
}

impl SwitchSettings {
    /// Returns the default settings of a switch at `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            mode: 0o600,
            directory_mode: None,
            group: None,
            ports: 32,
            hub: false,
            table_size: 128,
            mac: None,
            priority: 0x8000,
        }
    }
}

/// Times that management changes, in seconds, and the size of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ageing {
    pub(crate) size: usize,
    pub(crate) collection: i32,
    pub(crate) expiry: i32,
    pub(crate) persistence: i32,
}

/// The table holds at least so many addresses, whatever size it says it has: a bucket of
/// `vde_switch`'s table has a list.
const LEAST_TABLE: usize = 16_384;

impl Ageing {
    pub(crate) fn table(self) -> MacTable<PortNumber> {
        let mut table = MacTable::new(self.size.max(LEAST_TABLE), 0, None);
        self.apply(&mut table);
        table
    }

    pub(crate) fn apply(self, table: &mut MacTable<PortNumber>) {
        let seconds = |time: i32| u32::try_from(time).unwrap_or(0);
        table.set_times(seconds(self.expiry), seconds(self.persistence));
    }
}

/// What management sees of a switch.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) directory: PathBuf,
    pub(crate) mode: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) priority: u16,
    pub(crate) started: Instant,
    pub(crate) ageing: Mutex<Ageing>,
    /// The management socket and its permissions.
    pub(crate) socket: Mutex<Option<(PathBuf, u32)>>,
    /// Given by the command `shutdown`.
    pub(crate) shutdown: Stop,
    next_endpoint: AtomicU64,
}

impl Control {
    /// The part with the ports.
    pub(crate) fn bridge(&self) -> &Bridge {
        match self.fabric.bridge() {
            Some(bridge) => bridge,
            None => unreachable!("a managed switch is made with a bridge"),
        }
    }
}

/// A switch of this process, which ends with this value.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use vdeplug::{ManagedSwitch, SwitchSettings};
///
/// let switch = ManagedSwitch::start(SwitchSettings::new(folder.path().join("sw")))?;
/// let guest = vdeplug::open(&format!("vde://{}/sw[port=3]", folder.path().display()), "guest")?;
/// assert_eq!(switch.execute("vlan/create 10").status(), 0);
/// assert_eq!(switch.execute("port/setvlan 3 10").status(), 0);
/// let report = switch.execute("vlan/print 10").to_string();
/// assert!(report.contains(" -- Port 0003 tagged=0 active=1 status=Forwarding\n"));
/// # drop(guest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ManagedSwitch {
    control: Arc<Control>,
    // Dropped in this order: first no more clients, then no more directory.
    _server: Server,
    _directory: Directory,
}

impl ManagedSwitch {
    /// Starts a switch. What a dead one left at the directory is taken over.
    ///
    /// # Errors
    /// [`OpenError::Refused`] (EADDRINUSE) when another process serves the directory;
    /// [`OpenError::System`] when it cannot be made.
    pub fn start(settings: SwitchSettings) -> Result<Self, OpenError> {
        let place = settings.directory.display().to_string();
        let directory = canonical(&place);
        let group = settings.group.as_deref().map(|name| group(&place, name)).transpose()?;
        let access = Access { mode: settings.mode, group };
        let directory_mode = settings.directory_mode.unwrap_or(directory_mode(settings.mode));
        let claimed = Directory::claim(&directory, directory_mode, access);
        let failed = OpenError::system_with(&place, "making the switch's directory", |errno| {
            (errno == libc::ENOTDIR).then_some("the path must be a directory or not exist")
        });
        let Some((claim, listener)) = claimed.map_err(failed)? else {
            return Err(OpenError::Refused {
                place,
                problem: "another switch works there (end it, or choose another directory)"
                    .to_owned(),
                errno: libc::EADDRINUSE,
            });
        };
        let ageing =
            Ageing { size: settings.table_size, collection: 2, expiry: 100, persistence: 3 };
        let bridge = Bridge::new(Layout::new(settings.ports, settings.hub), ageing.table());
        let fabric = Arc::new(Fabric::new(Policy::Bridge(bridge)));
        let server = Server::start(Arc::clone(&fabric), listener, directory.clone(), access)
            .map_err(OpenError::system(&place, "starting the switch"))?;
        let shutdown = Stop::new().map_err(OpenError::system(&place, "starting the switch"))?;
        let control = Control {
            fabric,
            directory,
            mode: settings.mode,
            mac: settings.mac.unwrap_or_else(some_address),
            priority: settings.priority,
            started: Instant::now(),
            ageing: Mutex::new(ageing),
            socket: Mutex::new(None),
            shutdown,
            next_endpoint: AtomicU64::new(LOCAL_ENDPOINTS),
        };
        Ok(Self { control: Arc::new(control), _server: server, _directory: claim })
    }

    /// Executes a management command.
    #[must_use]
    pub fn execute(&self, command: &str) -> Reply {
        let session = Session::new(Arc::clone(&self.control));
        session.map_or_else(Reply::failed, |session| session.execute(command))
    }

    /// Plugs in from this process, at a port or the first free one. `module` says what kind of
    /// plug it is, in at most 11 letters.
    ///
    /// # Errors
    /// EINVAL: no such port; ENOSPC: all are taken.
    pub fn plug(
        &self,
        port: Option<u16>,
        module: &'static str,
        description: &str,
    ) -> io::Result<Arc<dyn Transport>> {
        let endpoint = Endpoint {
            slot: 0,
            id: self.control.next_endpoint.fetch_add(1, Ordering::Relaxed),
            module,
            description: description.to_owned(),
            user: geteuid(),
            stream: None,
        };
        let guest = Guest { port, endpoint, group: getegid() };
        let number = self.control.bridge().layout.read().choose(&guest)?;
        let port = Arc::new(Port::local());
        let fabric = Arc::clone(&self.control.fabric);
        let slot = fabric.admit(Arc::clone(&port), number, guest);
        Ok(Arc::new(LocalPlug::new(fabric, port, slot, ())))
    }

    /// Waits until the command `shutdown` is given, or [`Self::stopper`] is used.
    pub fn wait(&self) {
        self.control.shutdown.wait();
    }

    /// Returns what ends [`Self::wait`].
    #[must_use]
    pub fn stopper(&self) -> Stop {
        self.control.shutdown.clone()
    }

    /// Starts a conversation of management commands.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub fn session(&self) -> io::Result<Session> {
        Session::new(Arc::clone(&self.control))
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The directory where others join.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.control.directory
    }
}

pub(crate) fn group(place: &str, name: &str) -> Result<Gid, OpenError> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number.into());
    }
    let found = Group::from_name(name).ok().flatten();
    found.map(|group| group.gid).ok_or_else(|| OpenError::Refused {
        place: place.to_owned(),
        problem: format!("no group `{name}` on this system"),
        errno: libc::EINVAL,
    })
}

/// An address by chance, with the prefix that switches of VDE have.
fn some_address() -> [u8; 6] {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    [0x00, 0xff, a, b, c, d]
}
