//! Native sockets: what a guest holds is an AF_UNIX socket of the kernel, joined here to a stack.
//!
//! [`Sockets`] is the registry. It recognises a socket by its inode number, which every duplicate
//! shares; a socket that the guest accepted by itself is recognised once by the name of its peer.
//! [`Virtual`] is one socket: a [`stream`] or a [`datagram`] bridge. Both run on the reactor and
//! are called by handlers.
//!
//! Lock order: sweeping, registry, then the state of one socket, then its stack. Completers are answered
//! with no lock held.

mod alive;
mod datagram;
mod ends;
mod ffi;
mod names;
mod origins;
mod receive;
mod ring;
mod send;
mod senders;
mod stream;
mod strict;
mod sweep;
#[cfg(test)]
mod tests;
mod unix;
mod unread;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{SockType, UnixAddr},
    unistd::getuid,
};
use parking_lot::{Mutex, RwLock};
use umvu_abi::{
    Errno, GuestFd,
    net::{Holder, NewSocket, Socket, SocketEvents, SocketSpec, StreamSocket},
};
use umvu_reactor::{Handle, Reactor, Ready, Source};
use umvu_tracer::api::{Action, Call, Renewal};

pub(crate) use self::{
    datagram::Datagrams,
    ffi::{host_socket, set_socket_option, socket_option},
    receive::{Batch, Request, time_bytes},
    send::{send_all, send_some},
    stream::{Stream, Way},
    strict::Place,
    unix::{domain, is_nonblocking, set_nonblocking, shut},
};
use self::{names::Names, senders::Senders};
use crate::{rundir::RunDir, view::Mount};

/// How many inodes that are not ours are remembered.
const FOREIGN_LIMIT: usize = 8192;
/// How long after a sweep the next one may follow, at least; and how many times as long as the sweep
/// has taken, since it looks at all sockets.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
const SWEEP_SHARE: u32 = 20;
/// How many datagram sockets of a stack are settled at once.
const SETTLED_MOST: usize = 64;
/// How many sockets may be made between two sweeps.
const SWEEP_EVERY: u64 = 1024;

/// One virtual socket.
pub struct Virtual {
    /// A number of its own, never reused.
    pub(crate) id: u64,
    /// The stack it belongs to.
    pub(crate) mount: Arc<Mount>,
    /// How it was asked for.
    pub(crate) spec: SocketSpec,
    observer: Arc<Observer>,
    handle: OnceLock<Handle>,
    hub: Weak<Hub>,
    /// The two sorts.
    pub(crate) kind: Kind,
}

/// The sorts of virtual sockets.
pub(crate) enum Kind {
    Stream(Stream),
    Datagram(Box<Datagrams>),
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Virtual({}, {:?})", self.id, self.spec)
    }
}

impl Virtual {
    /// The stack's side, for what both sorts answer.
    pub(crate) fn socket(&self) -> &dyn Socket {
        match &self.kind {
            Kind::Stream(stream) => stream.socket.as_ref(),
            Kind::Datagram(datagram) => datagram.socket.as_ref(),
        }
    }

    /// Whether what it sends asks for the sockets of the stack: those that guests have closed
    /// without an event must not be among them.
    pub(crate) fn lists_sockets(&self) -> bool {
        (self.spec.domain, self.spec.protocol) == (libc::AF_NETLINK, libc::NETLINK_SOCK_DIAG)
    }

    /// The inode of the guest's end; 0 while unknown.
    pub(crate) fn inode(&self) -> u64 {
        self.observer.inode.load(Ordering::Relaxed)
    }

    /// Another end takes the place of the guest's.
    fn take_end(&self, fresh: &OwnedFd) -> Result<(), Errno> {
        self.observer.inode.store(unix::inode(fresh)?, Ordering::Relaxed);
        Ok(())
    }

    fn wake(&self) {
        if let Some(handle) = self.handle.get() {
            handle.wake();
        }
    }

    fn handle(&self) -> Result<&Handle, Errno> {
        self.handle.get().ok_or(Errno::EIO)
    }
}

impl Source for Virtual {
    fn run(&self, ready: Ready) {
        let Some(hub) = self.hub.upgrade() else { return };
        match &self.kind {
            Kind::Stream(stream) => stream.run(self, &hub, ready),
            Kind::Datagram(datagram) => datagram.run(self, &hub),
        }
    }
}

/// Wakes a socket that its stack has news for.
#[derive(Default)]
struct Observer {
    handle: OnceLock<Handle>,
    /// The inode of the guest's end; 0 while unknown.
    inode: AtomicU64,
    /// Collects what is closed.
    sweep: OnceLock<Handle>,
    /// The accept queue of a listener.
    queue: Mutex<Option<Queue>>,
    /// What a guest has been given and may not have read.
    unread: unread::Unread,
}

/// Where a guest's listener keeps connections that it has not accepted yet.
struct Queue {
    /// The name of the listening socket.
    name: UnixAddr,
    /// As many as wait there, or more.
    most: usize,
}

impl Observer {
    /// The guest's end listens now, by this name.
    fn listens(&self, name: UnixAddr) {
        *self.queue.lock() = Some(Queue { name, most: 0 });
    }

    /// The guest's listener has been given a connection.
    fn queued(&self) {
        if let Some(queue) = &mut *self.queue.lock() {
            queue.most += 1;
        }
    }
}

impl SocketEvents for Observer {
    fn changed(&self) {
        if let Some(handle) = self.handle.get() {
            handle.wake();
        }
    }

    fn reclaim(&self) -> usize {
        self.unread.reclaim()
    }

    fn waiting(&self, room: usize) -> Option<usize> {
        let mut queue = self.queue.lock();
        let Some(queue) = queue.as_mut() else { return Some(0) };
        let mut waiting = alive::is_bound(&queue.name).then_some(queue.most);
        if waiting.is_some_and(|most| most > room) {
            // What the guest has accepted by itself is only known to the kernel.
            waiting = alive::waiting_at(self.inode.load(Ordering::Relaxed));
            queue.most = waiting.unwrap_or(0);
        }
        if waiting.is_none()
            && let Some(sweep) = self.sweep.get()
        {
            sweep.wake();
        }
        waiting
    }

    fn holder(&self) -> Holder {
        Holder { inode: self.inode.load(Ordering::Relaxed), uid: getuid().as_raw() }
    }
}

#[derive(Default)]
struct Registry {
    by_id: HashMap<u64, Arc<Virtual>>,
    /// By the inodes of the ends that guests have, those of former ones among them.
    by_inode: HashMap<u64, Arc<Virtual>>,
    foreign: HashSet<u64>,
}

impl Registry {
    /// Forgets an inode of a socket.
    fn leave(&mut self, inode: u64, one: &Virtual) {
        if self.by_inode.get(&inode).is_some_and(|other| other.id == one.id) {
            self.by_inode.remove(&inode);
        }
    }
}

/// What all sockets share.
pub(crate) struct Hub {
    reactor: Reactor,
    names: Names,
    directory: PathBuf,
    /// Where guests' sockets are joined to ends of ours; none after a join that failed half-way.
    rendezvous: Mutex<Option<OwnedFd>>,
    senders: Senders,
    socket_device: u64,
    next_id: AtomicU64,
    registry: RwLock<Registry>,
    sweep: OnceLock<Handle>,
    sweeping: Mutex<()>,
    /// Since when the next sweep is allowed.
    next_sweep: Mutex<Instant>,
    /// Where the reactor receives datagrams.
    scratch: Mutex<Vec<u8>>,
    /// Has the data calls on some sockets trapped.
    pub(crate) watcher: strict::Watcher,
    /// The sockets whose rings guests have mapped.
    rings: Mutex<Vec<Weak<Virtual>>>,
}

/// The registry of all virtual sockets of a hypervisor.
pub struct Sockets {
    hub: Arc<Hub>,
    /// Kept, since the reactor does not.
    _sweeper: Arc<dyn Source>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sockets")
    }
}

struct Sweeper(Weak<Hub>);

impl Source for Sweeper {
    fn run(&self, _ready: Ready) {
        if let Some(hub) = self.0.upgrade() {
            let begun = Instant::now();
            *hub.next_sweep.lock() = begun + SWEEP_PAUSE;
            hub.sweep();
            let pause = SWEEP_PAUSE.max(begun.elapsed() * SWEEP_SHARE);
            *hub.next_sweep.lock() = Instant::now() + pause;
        }
    }
}

impl Sockets {
    /// Starts with no sockets. Errors: those of socket(2) and bind(2) in the private directory.
    pub fn new(reactor: &Reactor, run_dir: &RunDir) -> io::Result<Self> {
        let directory = run_dir.sockets();
        let rendezvous = ends::open_rendezvous(&directory)?;
        let hub = Arc::new(Hub {
            reactor: reactor.clone(),
            names: Names::draw()?,
            socket_device: unix::socket_device(&rendezvous)?,
            directory,
            rendezvous: Mutex::new(Some(rendezvous)),
            senders: Senders::default(),
            next_id: AtomicU64::new(1),
            registry: RwLock::default(),
            sweep: OnceLock::new(),
            sweeping: Mutex::default(),
            next_sweep: Mutex::new(Instant::now()),
            scratch: Mutex::default(),
            watcher: strict::Watcher::default(),
            rings: Mutex::default(),
        });
        let sweeper: Arc<dyn Source> = Arc::new(Sweeper(Arc::downgrade(&hub)));
        let sweep = reactor.handle(&sweeper);
        let _ = hub.sweep.set(sweep);
        Ok(Self { hub, _sweeper: sweeper })
    }

    /// Takes what a netlink socket has sent and the reactor has not seen yet: the first request
    /// binds it.
    pub(crate) fn settle_requests(&self, one: &Virtual) {
        if let Kind::Datagram(datagram) = &one.kind
            && one.spec.domain == libc::AF_NETLINK
        {
            datagram.take_from_guest(one, &self.hub);
        }
    }

    /// Makes a socket of a stack for a process; returns the descriptor for the guest. Errors: the stack's.
    pub(crate) fn create(
        &self,
        mount: &Arc<Mount>,
        spec: SocketSpec,
        nonblocking: bool,
        process: u32,
    ) -> Result<OwnedFd, Errno> {
        let observer = Arc::new(Observer::default());
        let events = Arc::clone(&observer) as Arc<dyn SocketEvents>;
        let stack = mount.stack();
        let hub = &self.hub;
        let (guest, kind) = match stack.socket(&spec, Arc::clone(&events)) {
            Ok(NewSocket::Kernel(fd)) => {
                if nonblocking {
                    set_nonblocking(&fd)?;
                }
                return Ok(fd);
            }
            Ok(NewSocket::Stream(socket)) => {
                (unix::create(SockType::Stream, nonblocking)?, Kind::Stream(Stream::fresh(socket)))
            }
            Ok(NewSocket::Datagram(socket)) => {
                if socket.owned_by(process) {
                    hub.sweep();
                }
                let (guest, datagram) = Datagrams::create(hub, socket, nonblocking)?;
                (guest, Kind::Datagram(Box::new(datagram)))
            }
            Err(errno) => return Err(errno),
        };
        let inode = unix::inode(&guest)?;
        hub.enter(mount, spec, kind, observer, inode)?;
        if hub.next_id.load(Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.sweep_soon();
        }
        Ok(guest)
    }

    /// Recognises a descriptor of a guest; None when it is no virtual socket.
    /// Errors: `EBADF`.
    pub(crate) fn find(&self, call: &Call, fd: GuestFd) -> Result<Option<Arc<Virtual>>, Errno> {
        let identity = call.guest.identify_fd(fd)?;
        if identity.dev != self.hub.socket_device {
            return Ok(None);
        }
        match self.look_up(identity.ino) {
            Some(known) => Ok(known),
            None => self.recognise(call, fd, identity.ino, &call.guest.fetch_fd(fd)?),
        }
    }

    /// The same for a call that needs the guest's socket too: to fetch it first is less work.
    /// Errors: `EBADF`.
    pub(crate) fn fetch(
        &self,
        call: &Call,
        fd: GuestFd,
    ) -> Result<Option<(Arc<Virtual>, OwnedFd)>, Errno> {
        let guest = call.guest.fetch_fd(fd)?;
        let (device, inode) = unix::identity(&guest)?;
        if device != self.hub.socket_device {
            return Ok(None);
        }
        let found = match self.look_up(inode) {
            Some(known) => known,
            None => self.recognise(call, fd, inode, &guest)?,
        };
        Ok(found.map(|found| (found, guest)))
    }

    /// Who has this inode: None when it was not seen before, `Some(None)` when it is not ours.
    fn look_up(&self, inode: u64) -> Option<Option<Arc<Virtual>>> {
        let registry = self.hub.registry.read();
        match registry.by_inode.get(&inode) {
            Some(found) => Some(Some(Arc::clone(found))),
            None => registry.foreign.contains(&inode).then_some(None),
        }
    }

    /// Whose socket this is that was not seen before: one that a guest has accepted by itself, or none
    /// of ours.
    fn recognise(
        &self,
        call: &Call,
        fd: GuestFd,
        inode: u64,
        guest: &OwnedFd,
    ) -> Result<Option<Arc<Virtual>>, Errno> {
        let id = unix::peer_name(guest).and_then(|name| self.hub.names.flow_of(&name));
        let mut registry = self.hub.registry.write();
        if let Some(found) = id.and_then(|id| registry.by_id.get(&id).cloned()) {
            found.observer.inode.store(inode, Ordering::Relaxed);
            registry.by_inode.insert(inode, Arc::clone(&found));
            drop(registry);
            if let Kind::Stream(stream) = &found.kind {
                stream.note_seen(call, fd);
            }
            return Ok(Some(found));
        }
        if registry.foreign.len() >= FOREIGN_LIMIT {
            registry.foreign.clear();
        }
        registry.foreign.insert(inode);
        Ok(None)
    }

    /// The flow whose end a guest's accepted socket is joined to.
    pub(crate) fn flow_of(&self, accepted: &OwnedFd) -> Option<Arc<Virtual>> {
        self.hub.flow_of(accepted)
    }

    /// What all sockets share.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// How many sockets of a stack some guest still holds; sweep first.
    #[must_use]
    pub fn count_of(&self, mount: &Arc<Mount>) -> usize {
        let registry = self.hub.registry.read();
        registry.by_id.values().filter(|one| Arc::ptr_eq(&one.mount, mount)).count()
    }

    /// Resets every socket of a stack.
    pub fn close_all_of(&self, mount: &Arc<Mount>) {
        let all: Vec<_> = self.hub.registry.read().by_id.values().cloned().collect();
        for one in all.into_iter().filter(|one| Arc::ptr_eq(&one.mount, mount)) {
            self.hub.discard(&one);
        }
    }

    /// Forgets the sockets that no guest holds any more.
    pub fn sweep(&self) {
        self.hub.sweep();
    }

    /// Prepares for a list of the sockets: none that is closed, and the inodes of all.
    pub(crate) fn survey(&self) {
        self.hub.survey();
    }

    /// Sweeps on the reactor: at once, unless it has just been done.
    pub fn sweep_soon(&self) {
        self.hub.sweep_soon();
    }
}

impl Hub {
    /// Enters a socket into the registry and connects it with the reactor.
    fn enter(
        self: &Arc<Self>,
        mount: &Arc<Mount>,
        spec: SocketSpec,
        kind: Kind,
        observer: Arc<Observer>,
        inode: u64,
    ) -> Result<Arc<Virtual>, Errno> {
        observer.inode.store(inode, Ordering::Relaxed);
        if let Some(sweep) = self.sweep.get() {
            let _ = observer.sweep.set(sweep.clone());
        }
        let one = Arc::new(Virtual {
            observer,
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            mount: Arc::clone(mount),
            spec,
            handle: OnceLock::new(),
            hub: Arc::downgrade(self),
            kind,
        });
        let source: Arc<dyn Source> = Arc::clone(&one) as Arc<dyn Source>;
        let handle = self.reactor.handle(&source);
        let _ = one.observer.handle.set(handle.clone());
        let _ = one.handle.set(handle);
        if let Kind::Datagram(datagram) = &one.kind {
            datagram.watch(&one)?;
        }
        let mut registry = self.registry.write();
        registry.by_id.insert(one.id, Arc::clone(&one));
        if inode != 0 {
            registry.foreign.remove(&inode);
            registry.by_inode.insert(inode, Arc::clone(&one));
        }
        drop(registry);
        one.wake();
        Ok(one)
    }

    /// Enters a connection that a listener accepted.
    fn enter_accepted(
        self: &Arc<Self>,
        listener: &Virtual,
        accept: &dyn StreamSocket,
    ) -> Result<Option<Arc<Virtual>>, Errno> {
        let mut observer = None;
        let taken = accept.accept(&mut || {
            let fresh = Arc::new(Observer::default());
            observer = Some(Arc::clone(&fresh));
            fresh as Arc<dyn SocketEvents>
        });
        let (Some(accepted), Some(observer)) = (taken, observer) else { return Ok(None) };
        let kind = Kind::Stream(Stream::fresh(accepted.socket));
        self.enter(&listener.mount, listener.spec, kind, observer, 0).map(Some)
    }

    /// Gives the guest the fresh end that its socket has taken.
    fn renew(&self, one: &Virtual, at: GuestFd, fd: OwnedFd) -> Result<Action, Errno> {
        let inode = unix::inode(&fd)?;
        let mut registry = self.registry.write();
        let one = registry.by_id.get(&one.id).cloned().ok_or(Errno::ECONNABORTED)?;
        registry.foreign.remove(&inode);
        registry.by_inode.insert(inode, one);
        drop(registry);
        // The former end is recognised until it is closed.
        self.sweep_soon();
        Ok(Action::Renew(Renewal { at, fd }))
    }

    /// A guest is about to wait: what poll(2) says of its rings is made true.
    pub(crate) fn settle_rings(&self) {
        let rings: Vec<Arc<Virtual>> = {
            let mut rings = self.rings.lock();
            rings.retain(|ring| ring.strong_count() > 0);
            rings.iter().filter_map(Weak::upgrade).collect()
        };
        for one in rings {
            if let Kind::Datagram(datagram) = &one.kind {
                datagram.settle_ring();
            }
        }
    }

    /// Notes that a guest maps the ring of a socket.
    fn note_ring(&self, one: &Arc<Virtual>) {
        let mut rings = self.rings.lock();
        let noted = Arc::downgrade(one);
        if !rings.iter().any(|other| other.ptr_eq(&noted)) {
            rings.push(noted);
        }
    }

    /// The flow whose end a guest's accepted socket is joined to.
    fn flow_of(&self, accepted: &OwnedFd) -> Option<Arc<Virtual>> {
        let id = self.names.flow_of(&unix::peer_name(accepted)?)?;
        self.registry.read().by_id.get(&id).cloned()
    }

    /// Carries out what the datagram sockets of a stack have sent already, where the reactor has not
    /// come to it yet: a call that asks what has become of it is to see that. Not with many sockets,
    /// which would make the call wait.
    pub(crate) fn settle(self: &Arc<Self>, mount: &Arc<Mount>) {
        let sockets: Vec<_> = {
            let registry = self.registry.read();
            let mine = registry.by_id.values().filter(|one| Arc::ptr_eq(&one.mount, mount));
            mine.filter(|one| matches!(one.kind, Kind::Datagram(_))).cloned().collect()
        };
        if sockets.len() > SETTLED_MOST {
            return;
        }
        for work in [Datagrams::take, Datagrams::give] {
            for one in &sockets {
                if let Kind::Datagram(datagram) = &one.kind {
                    work(datagram, one, self);
                }
            }
        }
    }

    fn path(&self, kind: char, id: u64) -> PathBuf {
        self.directory.join(format!("{kind}{id}"))
    }

    fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}
