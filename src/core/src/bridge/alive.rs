//! Which of the guests' sockets some descriptor still refers to.
//!
//! A fresh, bound or datagram socket gives no event when its last descriptor is closed. The
//! kernel's list of AF_UNIX sockets (proc(5), `/proc/net/unix`) names the inodes that are left;
//! since reading it is no snapshot, a missing one is asked for by itself (sock_diag(7)).

use std::{
    collections::HashSet,
    os::fd::{AsRawFd, OwnedFd},
    sync::LazyLock,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, UnixAddr, connect, recv, send,
        socket,
    },
};
use parking_lot::Mutex;

const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// `UDIAG_SHOW_PEER` and `UNIX_DIAG_PEER`.
const SHOW_PEER: u32 = 4;
const ATTRIBUTE_PEER: u16 = 2;
/// `UDIAG_SHOW_RQLEN` and `UNIX_DIAG_RQLEN`.
const SHOW_QUEUE: u32 = 16;
const ATTRIBUTE_QUEUE: u16 = 4;
/// How often the list is read when the kernel has no unix_diag.
const READINGS: usize = 3;

/// The inodes of `asked` that are still open somewhere; all of them when the kernel cannot tell.
pub(crate) fn living(asked: &[u64]) -> HashSet<u64> {
    let mut found = HashSet::new();
    let mut missing: HashSet<u64> = asked.iter().copied().collect();
    if !look(&mut missing, &mut found) || missing.is_empty() {
        found.extend(missing);
        return found;
    }
    match Diag::open() {
        Some(diag) => found.extend(missing.into_iter().filter(|inode| diag.is_open(*inode))),
        None => {
            for _ in 1..READINGS {
                look(&mut missing, &mut found);
            }
        }
    }
    found
}

/// Moves what the list names from `missing` to `found`; false when there is no list.
fn look(missing: &mut HashSet<u64>, found: &mut HashSet<u64>) -> bool {
    // Abstract names are any bytes.
    let Ok(list) = std::fs::read("/proc/self/net/unix") else { return false };
    let list = String::from_utf8_lossy(&list);
    found.extend(list.lines().filter_map(inode_of).filter(|inode| missing.remove(inode)));
    true
}

/// The inode of a line: `Num RefCount Protocol Flags Type St Inode [Path]`.
fn inode_of(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Whether a stream socket is still bound to a name. A datagram socket may not connect to it: the
/// error is EPROTOTYPE while there is one, and another when there is none (unix(7)). It costs far less
/// than to ask for an inode, which the kernel seeks among all sockets.
pub(crate) fn is_bound(name: &UnixAddr) -> bool {
    static PROBE: LazyLock<Option<OwnedFd>> = LazyLock::new(|| probe(SockType::Datagram));
    PROBE.as_ref().is_none_or(|probe| finds(probe, name))
}

/// Whether a datagram socket is still bound to a name: the same, the other way round.
pub(crate) fn is_datagram_bound(name: &UnixAddr) -> bool {
    static PROBE: LazyLock<Option<OwnedFd>> = LazyLock::new(|| probe(SockType::Stream));
    PROBE.as_ref().is_none_or(|probe| finds(probe, name))
}

fn probe(kind: SockType) -> Option<OwnedFd> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).ok()
}

fn finds(probe: &OwnedFd, name: &UnixAddr) -> bool {
    let found = connect(probe.as_raw_fd(), name);
    !matches!(found, Err(Errno::ECONNREFUSED | Errno::ENOENT))
}

/// How many connections wait to be accepted from the listener with this inode; None when no
/// descriptor refers to it, 0 when the kernel does not say.
pub(crate) fn waiting_at(inode: u64) -> Option<usize> {
    static DIAG: LazyLock<Option<Mutex<Diag>>> = LazyLock::new(|| Diag::open().map(Mutex::new));
    let asked = DIAG.as_ref().and_then(|diag| diag.lock().waiting_at(inode));
    // A kernel without unix_diag denies all: the list has the last word.
    asked.or_else(|| (!living(&[inode]).is_empty()).then_some(0))
}

/// The inode of the socket that the one with this inode is connected to; None when it has no
/// inode (nobody has accepted it yet) or the kernel cannot tell.
pub(crate) fn peer_of(inode: u64) -> Option<u64> {
    let answer = Diag::open()?.ask(u32::try_from(inode).ok()?, SHOW_PEER)?;
    attribute(&answer, ATTRIBUTE_PEER).map(u64::from).filter(|peer| *peer != 0)
}

/// The number that an attribute of an answer begins with.
fn attribute(answer: &[u8], wanted: u16) -> Option<u32> {
    let mut attributes = answer.get(32..)?;
    while let Some(header) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        if u16::from_ne_bytes([header[2], header[3]]) == wanted {
            return Some(u32::from_ne_bytes(*attributes.get(4..)?.first_chunk()?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

/// Whether an answer says that there is no such socket.
fn is_missing(answer: &[u8]) -> bool {
    let kind = answer.get(4..6).map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let error = answer.get(16..).and_then(|field| field.first_chunk());
    kind == NLMSG_ERROR && error.is_some_and(|error| i32::from_ne_bytes(*error) == -libc::ENOENT)
}

/// A socket for questions about single inodes.
struct Diag(OwnedFd);

impl Diag {
    fn open() -> Option<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).ok()?;
        Some(Self(fd))
    }

    /// Whether a socket has this inode; true when the kernel does not say.
    fn is_open(&self, inode: u64) -> bool {
        let Ok(inode) = u32::try_from(inode) else { return true };
        !self.ask(inode, 0).is_some_and(|answer| is_missing(&answer))
    }

    /// How many connections wait at a listener; None when it is closed.
    fn waiting_at(&self, inode: u64) -> Option<usize> {
        let Ok(number) = u32::try_from(inode) else { return Some(0) };
        match self.ask(number, SHOW_QUEUE) {
            Some(answer) if is_missing(&answer) => None,
            Some(answer) => {
                let waiting = attribute(&answer, ATTRIBUTE_QUEUE).unwrap_or(0);
                Some(usize::try_from(waiting).unwrap_or(usize::MAX))
            }
            None => Some(0),
        }
    }

    /// The answer about an inode, with the attributes that `show` chooses.
    fn ask(&self, inode: u32, show: u32) -> Option<Vec<u8>> {
        send(self.0.as_raw_fd(), &request(inode, show), MsgFlags::empty()).ok()?;
        let mut answer = vec![0; 1024];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

/// A `struct nlmsghdr` and a `struct unix_diag_req` for one inode.
fn request(inode: u32, show: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend_from_slice(&40_u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    // Family AF_UNIX, protocol 0, padding; all states; the inode; what to show; any cookie.
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&inode.to_ne_bytes());
    bytes.extend_from_slice(&show.to_ne_bytes());
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn inode(socket: &UnixStream) -> u64 {
        nix::sys::stat::fstat(socket).expect("an open descriptor").st_ino
    }

    #[test]
    fn an_open_socket_lives_and_a_closed_one_does_not() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let (kept, closed) = (inode(&one), inode(&other));
        drop(other);
        // Descriptors that other tests have just duplicated by a fork may keep it for a moment.
        while living(&[kept, closed]).contains(&closed) {
            std::thread::yield_now();
        }
        assert_eq!(living(&[kept, closed]), HashSet::from([kept]));
        assert_eq!((waiting_at(kept), waiting_at(closed)), (Some(0), None));
    }

    #[test]
    fn a_name_is_bound_until_the_socket_is_closed() {
        let path = format!("/tmp/umvu-test-{}-bound", std::process::id());
        let _ = std::fs::remove_file(&path);
        let name = UnixAddr::new(path.as_str()).expect("short");
        assert!(!is_bound(&name));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("free");
        assert!(is_bound(&name));
        drop(listener);
        while is_bound(&name) {
            std::thread::yield_now();
        }
        std::fs::remove_file(&path).expect("it stays");
    }

    #[test]
    fn names_in_the_list_may_be_any_bytes() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("umvu-test-{}-", std::process::id()).into_bytes();
        let name = [name.as_slice(), &[0xff, 0xc5, b'\n']].concat();
        let addr = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("short");
        let _named = std::os::unix::net::UnixListener::bind_addr(&addr).expect("free");
        an_open_socket_lives_and_a_closed_one_does_not();
    }

    #[test]
    fn a_single_inode_can_be_asked_for() {
        let Some(diag) = Diag::open() else { return };
        let (one, other) = UnixStream::pair().expect("a pair");
        let (kept, closed) = (inode(&one), inode(&other));
        drop(other);
        assert!(diag.is_open(kept));
        let (left, right) = UnixStream::pair().expect("a pair");
        assert_eq!(peer_of(inode(&left)), Some(inode(&right)));
        assert_eq!(peer_of(kept), None);
        while diag.is_open(closed) {
            std::thread::yield_now();
        }
    }
}
