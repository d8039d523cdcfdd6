//! `switch://` and `hub://`: an Ethernet inside this process that other processes can join.
//! `multi://` and `bonding://`: one host, and the links that others make to it.
//!
//! The first to open a path makes the switch; all others join it. Plugs of the same process meet
//! in the registry and exchange frames without system calls ([`fabric`]); other processes come to
//! the control directory ([`server`]), as to any VDE switch, with `vde://path`. A `switch://`
//! whose path is already served by another process is a `vde://` to it.
//!
//! The switch lives as long as a plug of this process; then its directory disappears, and of the
//! others that opened it by the same locator the first makes it again ([`Seat`]). What a process
//! left behind that died is found out by connecting to it.
//!
//! Locks: the registry, held while a switch is made or taken down, comes first; the directory's
//! `flock(2)`, held while deciding who makes the switch, comes second.

pub(crate) mod bridge;
pub(crate) mod directory;
pub(crate) mod events;
pub(crate) mod fabric;
pub(crate) mod layout;
mod local;
pub(crate) mod managed;
pub(crate) mod port;
pub(crate) mod server;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use nix::unistd::{User, geteuid};
use parking_lot::Mutex;

use self::{
    directory::Directory,
    fabric::{Fabric, Policy},
    local::LocalPlug,
    port::Port,
    server::{Access, Server},
};
use crate::{
    error::OpenError,
    mac_table::MacTable,
    reconnect::{Desk, Dial, Plug, Progress},
    transport::Transport,
    vde::{group_id, handshake::Target},
    vnl::Vnl,
};

/// All kinds have them, although only a switch has a table, as in the reference.
const PARAMETERS: [&str; 6] = ["mode", "dirmode", "grp", "hashsize", "hashseed", "expiretime"];
/// The reference has 256; that many stations would already keep a large lab flooding.
const TABLE_SIZE: u64 = 16_384;
const EXPIRY: u32 = 120;
const MODE: u32 = 0o600;
/// How often a path may change hands while we open it.
const ATTEMPTS: usize = 8;

/// What is made if the path has no switch yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Switch,
    Hub,
    Multi,
    Bonding,
}

/// The switches of this process by path.
static REGISTRY: Mutex<BTreeMap<PathBuf, Weak<Switch>>> = Mutex::new(BTreeMap::new());

/// Opens `switch://path[...]`.
pub(crate) fn open_switch(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    open(vnl, Kind::Switch, description)
}

/// Opens `hub://path[...]`.
pub(crate) fn open_hub(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    open(vnl, Kind::Hub, description)
}

/// Opens `multi://path[...]`: all links carry what the host sends.
pub(crate) fn open_multi(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    open(vnl, Kind::Multi, description)
}

/// Opens `bonding://path[...]`: the links share what the host sends.
pub(crate) fn open_bonding(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    open(vnl, Kind::Bonding, description)
}

fn open(vnl: &Vnl, kind: Kind, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let options = Options::of(vnl, kind)?;
    let place = vnl.to_string();
    let path = if vnl.path.is_empty() { default_path() } else { canonical(&vnl.path) };
    let mut attempt = 1;
    loop {
        if let Some(switch) = Switch::find_or_make(&place, &path, &options)? {
            return Ok(Arc::new(plug(switch)));
        }
        let target = Target {
            place: place.clone(),
            directory: path.clone(),
            port: None,
            port_group: None,
            group: options.access.group,
            mode: None,
            description: description.to_owned(),
        };
        match Plug::open(&place, Seat { target, options }) {
            Ok(plug) => return Ok(Arc::new(plug)),
            // The process that made it has just gone: perhaps it is our turn.
            Err(OpenError::Absent { .. } | OpenError::Refused { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A place at a switch, whichever process makes it at the time.
#[derive(Debug)]
struct Seat {
    target: Target,
    options: Options,
}

impl Dial for Seat {
    /// Makes the switch in this process if nobody else serves it, or else joins it.
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let Target { place, directory, .. } = &self.target;
        match Switch::find_or_make(place, directory, &self.options)? {
            Some(switch) => {
                tracing::info!(place, "the switch is now in this process");
                let plug = plug(switch);
                plug.set_waker(desk.waker());
                Ok(Progress::Connected(Box::new(plug)))
            }
            None => self.target.dial(desk),
        }
    }
}

fn default_path() -> PathBuf {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("u{uid}"), |u| u.name);
    PathBuf::from(format!("/tmp/vdenode_{user}"))
}

/// Makes the path the same for everybody who means the same directory, which may not exist yet.
fn canonical(path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    let path = path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path);
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path,
    }
}

#[derive(Debug, Clone, Copy)]
struct Options {
    kind: Kind,
    access: Access,
    directory_mode: u32,
    table_size: usize,
    seed: Option<u64>,
    expiry: u32,
}

impl Options {
    fn of(vnl: &Vnl, kind: Kind) -> Result<Self, OpenError> {
        let scheme = match kind {
            Kind::Switch => "switch",
            Kind::Hub => "hub",
            Kind::Multi => "multi",
            Kind::Bonding => "bonding",
        };
        let parameters = vnl.parameters.resolve(scheme, &PARAMETERS)?;
        let mode = parameters.mode("mode")?.unwrap_or(MODE);
        let size = parameters.number("hashsize", 1..=1 << 24)?.unwrap_or(TABLE_SIZE);
        let expiry = parameters.number("expiretime", 1..=u64::from(u32::MAX))?;
        Ok(Self {
            kind,
            access: Access {
                mode,
                group: parameters.get("grp").map(|name| group_id(&parameters, name)).transpose()?,
            },
            directory_mode: parameters.mode("dirmode")?.unwrap_or(directory_mode(mode)),
            table_size: usize::try_from(size).unwrap_or(usize::MAX),
            seed: parameters.number("hashseed", 0..=u64::MAX)?,
            expiry: expiry.and_then(|e| u32::try_from(e).ok()).unwrap_or(EXPIRY),
        })
    }

    fn fabric(&self) -> Fabric {
        Fabric::new(match self.kind {
            Kind::Switch => {
                let table = MacTable::new(self.table_size, self.expiry, self.seed);
                Policy::Learn(Mutex::new(table))
            }
            Kind::Hub => Policy::Flood,
            Kind::Multi => Policy::Multi,
            Kind::Bonding => Policy::Bonding,
        })
    }
}

/// Whoever may use the sockets may also make one in the directory.
fn directory_mode(mode: u32) -> u32 {
    let of_class = |shift: u32| if mode >> shift & 0o6 != 0 { 0o7 << shift } else { 0 };
    0o2700 | of_class(3) | of_class(0)
}

/// A switch of this process.
#[derive(Debug)]
struct Switch {
    path: PathBuf,
    fabric: Arc<Fabric>,
    // Dropped in this order: first no more clients, then no more directory.
    _server: Server,
    _directory: Directory,
}

impl Switch {
    /// Returns this process's switch, made if need be; None if another process serves the path.
    fn find_or_make(
        place: &str,
        path: &Path,
        options: &Options,
    ) -> Result<Option<Arc<Self>>, OpenError> {
        let mut registry = REGISTRY.lock();
        if let Some(switch) = registry.get(path).and_then(Weak::upgrade) {
            return Ok(Some(switch));
        }
        let claimed = Directory::claim(path, options.directory_mode, options.access);
        let failed = OpenError::system_with(place, "making the switch's directory", |errno| {
            (errno == libc::ENOTDIR).then_some("the path must be a directory or not exist")
        });
        let Some((directory, listener)) = claimed.map_err(failed)? else { return Ok(None) };
        let fabric = Arc::new(options.fabric());
        let server = Server::start(Arc::clone(&fabric), listener, path.into(), options.access)
            .map_err(OpenError::system(place, "starting the switch"))?;
        let switch =
            Arc::new(Self { path: path.into(), fabric, _server: server, _directory: directory });
        registry.insert(path.into(), Arc::downgrade(&switch));
        Ok(Some(switch))
    }
}

/// What a plug holds of its switch; the last one takes the switch down.
#[derive(Debug)]
struct Lease(Option<Arc<Switch>>);

impl Drop for Lease {
    fn drop(&mut self) {
        // Under the lock, so that nobody opens the path while the switch is taken down.
        let mut registry = REGISTRY.lock();
        if let Some(switch) = self.0.take().and_then(Arc::into_inner) {
            registry.remove(&switch.path);
        }
    }
}

/// Plugs into a switch of this process.
fn plug(switch: Arc<Switch>) -> LocalPlug {
    let port = Arc::new(Port::local());
    let fabric = Arc::clone(&switch.fabric);
    let slot = fabric.attach(Arc::clone(&port));
    LocalPlug::new(fabric, port, slot, Lease(Some(switch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_opens_to_whom_the_sockets_do() {
        assert_eq!(directory_mode(0o600), 0o2700);
        assert_eq!(directory_mode(0o660), 0o2770);
        assert_eq!(directory_mode(0o666), 0o2777);
    }

    #[test]
    fn one_directory_has_one_canonical_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("a path");
        let link = root.join("link");
        std::os::unix::fs::symlink(&root, &link).expect("a link");
        let through = |path: PathBuf| canonical(&path.to_string_lossy());
        assert_eq!(through(link.join("new")), root.join("new"));
        assert_eq!(through(root.join("./new/")), root.join("new"));
        assert_eq!(through(link), root);
    }
}
