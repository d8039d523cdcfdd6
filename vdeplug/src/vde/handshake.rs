//! Connecting to a switch, in steps that never block.
//!
//! [`Handshake::start`] connects the control stream, binds the data socket and sends the request;
//! [`Handshake::advance`] reads the reply and connects the data socket to the port it names.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixDatagram, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, setsockopt, socket,
        sockopt,
    },
    unistd::{Gid, chown, geteuid},
};

use crate::{
    error::OpenError,
    shared::{self, memory::Memory},
    vde::wire::{self, ADDRESS, Request},
};

/// Where data sockets go if the directory of the switch is not writable.
const FALLBACK_DIRECTORIES: [&str; 3] = ["/var/run", "/var/tmp", "/tmp"];
/// Names that are tried for the data socket in one directory.
const MOST_NAMES: u32 = 1000;
/// Room for bursts towards the switch; the system may grant less.
const SEND_BUFFER: usize = 1 << 20;

static NEXT_NAME: AtomicU32 = AtomicU32::new(0);

/// Which switch, which port of it, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The locator, for messages.
    pub(crate) place: String,
    /// The directory of the switch.
    pub(crate) directory: PathBuf,
    /// The port; None for any.
    pub(crate) port: Option<u16>,
    /// The name of a group of ports that has its own control socket.
    pub(crate) port_group: Option<String>,
    /// The group that owns the data socket.
    pub(crate) group: Option<Gid>,
    /// The permissions of the data socket.
    pub(crate) mode: Option<u32>,
    /// Who asks, for people.
    pub(crate) description: String,
}

impl Target {
    fn control(&self) -> PathBuf {
        self.directory.join(self.port_group.as_deref().unwrap_or("ctl"))
    }
}

/// A connection to a switch: open while the stream is.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    pub(crate) data: OwnedFd,
    /// Where frames pass; None: the data socket.
    pub(crate) memory: Option<Arc<Memory>>,
}

/// A request that waits for its reply.
#[derive(Debug)]
pub(crate) struct Handshake {
    stream: UnixStream,
    data: UnixDatagram,
    bound: BoundPath,
    reply: Vec<u8>,
    memory: Option<OwnedFd>,
    place: String,
}

/// What came of [`Handshake::advance`].
#[derive(Debug)]
pub(crate) enum Progress {
    Waiting(Handshake),
    Done(Connection),
}

impl Handshake {
    /// Asks the switch for a port.
    pub(crate) fn start(target: &Target) -> Result<Self, OpenError> {
        let stream = connect_control(target)?;
        let (data, bound) = bind_data(target)?;
        let _ = setsockopt(&data, sockopt::SndBuf, &SEND_BUFFER);
        let request = Request {
            port: target.port,
            address: bound.0.clone(),
            description: target.description.clone(),
            shared: true,
        };
        let request = request.encode().ok_or_else(|| too_long(target))?;
        send(stream.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)
            .map_err(OpenError::system(&target.place, "asking the switch for a port"))?;
        Ok(Self::begun(stream, data, bound, target.place.clone()))
    }

    /// A handshake whose request has been sent.
    pub(crate) fn begun(
        stream: UnixStream,
        data: UnixDatagram,
        bound: BoundPath,
        place: String,
    ) -> Self {
        Self { stream, data, bound, reply: Vec::with_capacity(ADDRESS), memory: None, place }
    }

    /// The descriptor that polls readable when [`Self::advance`] has something to do.
    pub(crate) fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The locator, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Reads what has come of the reply.
    pub(crate) fn advance(mut self) -> Result<Progress, OpenError> {
        let mut bytes = [0; ADDRESS];
        let missing = ADDRESS - self.reply.len();
        match shared::memory::receive(&self.stream, &mut bytes[..missing]) {
            Ok((0, _)) => {
                let problem = "the switch refused (no free port, or not this user)".to_owned();
                let errno = libc::ECONNREFUSED;
                return Err(OpenError::Refused { place: self.place, problem, errno });
            }
            Ok((count, memory)) => {
                self.reply.extend_from_slice(&bytes[..count]);
                self.memory = self.memory.or(memory);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(OpenError::system(&self.place, "reading the reply")(e)),
        }
        if self.reply.len() < ADDRESS {
            return Ok(Progress::Waiting(self));
        }
        let Some(port) = wire::decode_address(&self.reply) else {
            let problem = "the reply names no socket: not a VDE switch".to_owned();
            return Err(OpenError::Refused { place: self.place, problem, errno: libc::EPROTO });
        };
        self.data
            .connect(&port)
            .map_err(OpenError::system(&self.place, "connecting to the port"))?;
        drop(self.bound);
        let memory = self.memory.map(|file| Memory::adopt(&file, shared::WORDS)).transpose();
        let memory = memory
            .map_err(OpenError::system(&self.place, "mapping the memory of the switch"))?
            .map(Arc::new);
        Ok(Progress::Done(Connection { stream: self.stream, data: self.data.into(), memory }))
    }
}

pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A socket's name in the file system, removed with this value.
#[derive(Debug)]
pub(crate) struct BoundPath(pub(crate) PathBuf);

impl Drop for BoundPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn connect_control(target: &Target) -> Result<UnixStream, OpenError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(OpenError::system(&target.place, "making a socket"))?;
    let address = UnixAddr::new(&target.control()).map_err(|_| too_long(target))?;
    match connect(stream.as_raw_fd(), &address) {
        Ok(()) => Ok(UnixStream::from(stream)),
        Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) => Err(absent(target)),
        Err(error) => Err(OpenError::system_with(&target.place, "connecting", |errno| {
            (errno == libc::EACCES)
                .then_some("only the owner of the switch may join; see its options for mode, group")
        })(error)),
    }
}

fn absent(target: &Target) -> OpenError {
    let directory = target.directory.display();
    OpenError::Absent {
        place: target.place.clone(),
        problem: match &target.port_group {
            Some(group) if target.directory.join("ctl").exists() => {
                format!("no port group {group} there")
            }
            _ => "no switch there".to_owned(),
        },
        remedy: format!("start one with `vde_switch -s {directory}` or use switch://{directory}"),
    }
}

fn too_long(target: &Target) -> OpenError {
    OpenError::Refused {
        place: target.place.clone(),
        problem: "the path is too long for a socket (107 bytes at most)".to_owned(),
        errno: libc::ENAMETOOLONG,
    }
}

/// Binds the data socket next to the switch, or else where anybody may write.
fn bind_data(target: &Target) -> Result<(UnixDatagram, BoundPath), OpenError> {
    let beside = (target.directory.as_path(), ".");
    let fallback = FALLBACK_DIRECTORIES.map(|directory| (Path::new(directory), "vde."));
    let mut failure = io::Error::from(Errno::EADDRINUSE);
    for (directory, prefix) in [beside].into_iter().chain(fallback) {
        match bind_in(directory, prefix) {
            Ok((data, path)) => {
                open_to_switch(&path.0, target);
                let nonblocking = data.set_nonblocking(true);
                nonblocking.map_err(OpenError::system(&target.place, "preparing a socket"))?;
                return Ok((data, path));
            }
            Err(error) => failure = error,
        }
    }
    Err(OpenError::system(&target.place, "binding a data socket")(failure))
}

fn bind_in(directory: &Path, prefix: &str) -> io::Result<(UnixDatagram, BoundPath)> {
    for _ in 0..MOST_NAMES {
        let number = NEXT_NAME.fetch_add(1, Ordering::Relaxed) % 100_000;
        let path = directory.join(format!("{prefix}{:05}-{number:05}", process::id()));
        match UnixDatagram::bind(&path) {
            Ok(data) => return Ok((data, BoundPath(path))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EADDRINUSE.into())
}

/// Lets the switch send to our socket, as far as we may.
///
/// If it is another user's and shares no group with us, that is everybody: until the handshake is
/// done, when the socket's name disappears.
fn open_to_switch(path: &Path, target: &Target) {
    let switch = fs::metadata(target.control()).ok();
    let foreign = switch.filter(|m| m.uid() != geteuid().as_raw() && m.uid() != 0);
    let group = target.group.or_else(|| foreign.as_ref().map(|m| Gid::from_raw(m.gid())));
    let owned = group.is_some_and(|group| chown(path, None, Some(group)).is_ok());
    let mode = target.mode.unwrap_or(match (owned, foreign, target.group) {
        (true, _, _) => 0o770,
        (false, Some(_), None) => 0o777,
        (false, _, _) => 0o700,
    });
    let _ = fs::set_permissions(path, Permissions::from_mode(mode));
}
