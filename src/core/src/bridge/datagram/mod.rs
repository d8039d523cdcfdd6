//! A virtual datagram socket: UDP, ICMP, RAW, PACKET, NETLINK.
//!
//! Theory of operation. What the stack receives is sent to the guest's AF_UNIX socket by a sender
//! whose name encodes the origin, so that poll, MSG_PEEK and MSG_TRUNC are the kernel's. A guest
//! that sends without naming a destination must be paired with an end of ours: when it has
//! connected, or from birth (netlink). Sends to an address and receives that want one are trapped.
//!
//! An error that concerns a connected socket (ICMP) must wake its polls and native receives. AF_UNIX
//! knows one such error: when the end that a datagram socket is paired with leaves it with unread
//! data in its queue, the kernel says ECONNRESET. Trapped calls tell the true errno.

mod deliver;

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use nix::sys::socket::{SockType, UnixAddr};
use parking_lot::Mutex;
use umvu_abi::{
    Errno, GuestFd, SockAddr,
    control::Wanted,
    net::{Datagram, DatagramMeta, DatagramSocket, SendControl, Shutdown},
};
use umvu_reactor::{Interest, Registration};
use umvu_tracer::api::{Action, Call, Completer, Guest};

use super::{
    Hub, Place, Virtual, alive, ffi,
    origins::{self, Origins},
    receive::{Batch, Request, answer},
    ring::Token,
    unix,
};

/// The largest datagram a guest may send.
const DATAGRAM_LIMIT: usize = 1 << 17;
/// How many bytes wait here when the guest's queue is full.
const BACKLOG_BYTES: usize = 1 << 20;
/// How many datagrams one run takes from each side.
const BATCH: usize = 256;

/// The bridge of one datagram socket.
pub(crate) struct Datagrams {
    /// The stack's side.
    pub(crate) socket: Arc<dyn DatagramSocket>,
    /// The control messages that the guest has asked for.
    pub(crate) wanted: Mutex<Wanted>,
    /// The private name of the guest's socket; none when it is paired from birth.
    path: Option<PathBuf>,
    state: Mutex<State>,
    /// It has been in a group.
    grouped: AtomicBool,
}

/// An error that concerns a guest's socket.
#[derive(Clone, Copy)]
struct Raised {
    errno: Errno,
    /// Whether the kernel's socket tells of it too, in its own way.
    shows: bool,
}

#[derive(Default)]
struct State {
    paired: Option<Pair>,
    /// Datagrams that did not fit the guest's queue, with what the stack counts for them, and their
    /// bytes.
    backlog: VecDeque<(Datagram, usize)>,
    backlog_bytes: usize,
    /// Tells when the guest's queue has room again.
    overflow: Option<(OwnedFd, Registration)>,
    waiters: VecDeque<Waiter>,
    /// The origin of what comes from our end of the pair.
    origin: Option<DatagramMeta>,
    /// Where it was connected, or its options were set that make it strict.
    place: Option<Place>,
    /// Its data calls are to be trapped whatever happens.
    strict: bool,
    /// Where the socket was last seen that waits for errors although it is not connected.
    seen: Option<(Weak<dyn Guest>, GuestFd)>,
    /// When the last datagram came whose time was not told beside it.
    stamp: Option<SystemTime>,
    /// The guest's reading is shut.
    deaf: bool,
    /// The error that the guest's socket has been given, as the stack told it.
    raised: Option<Raised>,
    /// What packet sockets have beside.
    frames: Option<Box<Frames>>,
}

/// What packet sockets have beside what others have.
#[derive(Default)]
struct Frames {
    /// The origins of the datagrams in the guest's queue.
    origins: Origins,
    /// The ring that the guest has mapped.
    token: Option<Token>,
}

impl State {
    fn frames(&mut self) -> &mut Frames {
        self.frames.get_or_insert_default()
    }

    /// The token of the ring that the guest has mapped, and our end that puts it in.
    fn token(&mut self) -> Option<(&mut Token, &OwnedFd)> {
        Some((self.frames.as_mut()?.token.as_mut()?, self.paired.as_ref()?.end.as_ref()))
    }
}

struct Pair {
    end: Arc<OwnedFd>,
    registration: Option<Registration>,
    path: Option<PathBuf>,
}

struct Waiter {
    guest: OwnedFd,
    batch: Batch,
    completer: Completer,
    deadline: Option<Instant>,
}

impl Waiter {
    /// The guest has taken its call back; what it has been given stays for the restarted one.
    fn give_up(mut self) {
        if self.batch.has_some() {
            self.completer.complete(answer(self.batch.finish(Errno::EINTR)));
        } else {
            self.completer.forget();
        }
    }
}

impl Datagrams {
    /// Makes the guest's descriptor and our side of it.
    pub(super) fn create(
        hub: &Hub,
        socket: Arc<dyn DatagramSocket>,
        nonblocking: bool,
    ) -> Result<(OwnedFd, Self), Errno> {
        let mut state = State::default();
        let (guest, path) = if socket.always_paired() {
            let (guest, end) = unix::datagram_pair(nonblocking)?;
            state.paired = Some(Pair { end: Arc::new(end), registration: None, path: None });
            (guest, None)
        } else {
            let guest = unix::create(SockType::Datagram, nonblocking)?;
            let path = hub.path('d', hub.fresh_id());
            unix::bind_path(&guest, &path)?;
            (guest, Some(path))
        };
        let wanted = Mutex::default();
        let (state, grouped) = (Mutex::new(state), AtomicBool::new(false));
        Ok((guest, Self { socket, wanted, path, state, grouped }))
    }

    /// Watches the end of a socket that is paired from birth.
    pub(super) fn watch(&self, one: &Virtual) -> Result<(), Errno> {
        if let Some(pair) = &mut self.state.lock().paired {
            pair.registration = Some(one.handle()?.watch(pair.end.as_fd(), Interest::Read)?);
        }
        Ok(())
    }

    /// connect(2); None dissolves the association.
    pub(crate) fn connect(
        &self,
        one: &Virtual,
        hub: &Hub,
        guest: &OwnedFd,
        (place, peer): (Place, Option<&SockAddr>),
    ) -> Result<(), Errno> {
        self.flush(one, hub);
        self.socket.connect(peer)?;
        self.state.lock().place = Some(place);
        let Some(path) = &self.path else { return Ok(()) };
        let mut state = self.state.lock();
        state.origin = None;
        if peer.is_none() {
            ffi::disconnect(guest)?;
            state.paired = None;
            return Ok(());
        }
        let end = unix::create(SockType::Datagram, true)?;
        let end_path = hub.path('p', hub.fresh_id());
        unix::bind_path(&end, &end_path)?;
        unix::connect_path(guest, &end_path)?;
        unix::connect_path(&end, path)?;
        unix::widen(&end);
        self.limit(one, guest);
        let registration = Some(one.handle()?.watch(end.as_fd(), Interest::Read)?);
        state.paired = Some(Pair { end: Arc::new(end), registration, path: Some(end_path) });
        drop(state);
        one.wake();
        Ok(())
    }

    /// Sends what the kernel has taken of the guest for our end: it was sent before what a call is
    /// about to change.
    pub(crate) fn flush(&self, one: &Virtual, hub: &Hub) {
        if self.path.is_some() && self.is_paired() {
            self.take_from_guest(one, hub);
        }
    }

    /// Notes that the socket joins a group, or leaves one.
    pub(crate) fn note_group(&self) {
        self.grouped.store(true, Ordering::Relaxed);
    }

    /// Whether it has been in a group, and its guest has closed it.
    pub(super) fn is_closed_in_group(&self) -> bool {
        self.grouped.load(Ordering::Relaxed)
            && self.path.as_ref().is_some_and(|path| {
                UnixAddr::new(path.as_path()).is_ok_and(|name| !alive::is_datagram_bound(&name))
            })
    }

    /// Whether what waits in the guest's queue came there by its name: not so when it is paired
    /// from birth.
    pub(crate) fn is_named(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the guest may send without a destination: the kernel carries it to our end.
    pub(crate) fn is_paired(&self) -> bool {
        self.state.lock().paired.is_some()
    }

    /// sendto(2), sendmsg(2). Errors: the stack's, `EMSGSIZE`.
    pub(crate) fn send(
        &self,
        call: &Call,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        if data.len() > DATAGRAM_LIMIT {
            return Err(Errno::EMSGSIZE);
        }
        let wants_errors = self.wanted.lock().wants_errors();
        let mut state = self.state.lock();
        if wants_errors && state.paired.is_none() {
            state.seen = Some((Arc::downgrade(&call.guest), call.fd(0)));
        }
        let raised = state.raised.is_some();
        drop(state);
        if raised && let Some(errno) = self.take_error(&call.guest.fetch_fd(call.fd(0))?) {
            return Err(errno);
        }
        self.socket.send(data, to, control)
    }

    /// recvfrom(2), recvmsg(2): at once, or when something comes.
    pub(crate) fn receive(
        &self,
        one: &Virtual,
        hub: &Arc<Hub>,
        call: &Call,
        mut batch: Batch,
    ) -> Action {
        let guest = match call.guest.fetch_fd(call.fd(0)) {
            Ok(guest) => guest,
            Err(errno) => return errno.into(),
        };
        let mut filled = batch.fill(|request| self.attempt(hub, &guest, request));
        // AF_UNIX lets a few datagrams wait in the guest's queue, and the others wait here.
        if filled == Err(Errno::EAGAIN) {
            hub.settle(&one.mount);
            filled = batch.fill(|request| self.attempt(hub, &guest, request));
        }
        while filled == Err(Errno::EAGAIN) && self.give_to_guest(one, hub) > 0 {
            filled = batch.fill(|request| self.attempt(hub, &guest, request));
        }
        match filled {
            Err(Errno::EAGAIN) if !batch.dont_wait() && !unix::is_nonblocking(&guest) => {
                if self.state.lock().deaf {
                    return answer(batch.fill(|request| Ok(request.nothing())));
                }
            }
            Err(errno) => return answer(batch.finish(errno)),
            result => return answer(result),
        }
        let deadline = unix::receive_timeout(&guest).map(|timeout| Instant::now() + timeout);
        let completer = (call.defer)();
        if !completer.can_come() {
            completer.forget();
            return Action::Pending;
        }
        self.state.lock().waiters.push_back(Waiter { guest, batch, completer, deadline });
        // Something may have come in between.
        one.wake();
        Action::Pending
    }

    fn attempt(
        &self,
        hub: &Hub,
        guest: &OwnedFd,
        request: &Request,
    ) -> Result<super::receive::Outcome, Errno> {
        if request.wants_errors() {
            let error = self.socket.receive_error().ok_or(Errno::EAGAIN)?;
            // Who reads the queue knows of the error.
            let _ = self.take_error(guest);
            return Ok(request.error_message(&error, &self.wanted.lock()));
        }
        if let Some(errno) = self.take_error(guest) {
            return Err(errno);
        }
        let local = self.socket.local().ok();
        // Asked for once the datagram is here, else it may be older than that.
        let origin = |received: &origins::Received<'_>| {
            let mut state = self.state.lock();
            let found = state.frames.as_mut().and_then(|frames| frames.origins.find(received));
            found.or_else(|| Some((state.origin?, None)))
        };
        let wanted = *self.wanted.lock();
        match request.receive(hub, guest, &wanted, origin, local) {
            // Raised since the look above: the kernel's name for it, and the call has taken it.
            Err(Errno::ECONNRESET) => {
                let raised = self.state.lock().raised.take();
                Err(raised.map_or(Errno::ECONNRESET, |raised| raised.errno))
            }
            result => result,
        }
    }

    /// shutdown(2): whose reading is shut waits no longer. Errors: `ENOTCONN`.
    pub(crate) fn shutdown(&self, one: &Virtual, how: Shutdown) -> Result<(), Errno> {
        let done = self.socket.shutdown(how);
        if how != Shutdown::Write {
            self.state.lock().deaf = true;
            one.wake();
        }
        done
    }

    /// When the last datagram came, unless SO_TIMESTAMP told it (`SIOCGSTAMP`).
    pub(crate) fn stamp(&self) -> Option<SystemTime> {
        self.state.lock().stamp
    }

    fn tells_times(&self) -> bool {
        [libc::SO_TIMESTAMP, libc::SO_TIMESTAMPNS].into_iter().any(|name| {
            let value = self.socket.option(libc::SOL_SOCKET, name, &[]);
            value.is_ok_and(|value| value.first().is_some_and(|on| *on != 0))
        })
    }

    /// Takes the pending error, as SO_ERROR does. The guest may have seen it already, by a native
    /// call on its own socket.
    pub(crate) fn take_error(&self, guest: &OwnedFd) -> Option<Errno> {
        if let Some(raised) = self.state.lock().raised.take()
            && (!raised.shows || unix::take_error(guest))
        {
            return Some(raised.errno);
        }
        self.socket.take_error()
    }

    /// Whether its data calls, when they are trapped, are to be answered by us.
    pub(crate) fn is_strict(&self) -> bool {
        self.state.lock().strict
    }

    /// From now on its data calls are trapped.
    pub(crate) fn be_strict(&self, one: &Virtual, hub: &Hub, call: &Call) {
        let place = Place::of(call);
        let mut state = self.state.lock();
        state.strict = true;
        state.place = Some(place.clone());
        drop(state);
        hub.watcher.watch(&place, one.inode());
    }

    /// Has the kernel refuse what no datagram of UDP can hold: AF_UNIX sends no more than the send
    /// buffer, less 32 bytes.
    fn limit(&self, one: &Virtual, guest: &OwnedFd) {
        let udp = [0, libc::IPPROTO_UDP].contains(&one.spec.protocol);
        let most = match one.spec.domain {
            _ if !udp || one.spec.kind != libc::SOCK_DGRAM => return,
            libc::AF_INET => 65_508,
            libc::AF_INET6 => 65_528,
            _ => return,
        };
        let half = (most + 32) / 2;
        let _ = ffi::set_socket_option(guest, libc::SO_SNDBUF, &i32::to_ne_bytes(half));
    }

    /// Gives the guest's socket an error, so that polls and native receives wake.
    fn raise_error(&self, one: &Virtual, hub: &Hub) {
        let Some(path) = &self.path else { return };
        let mut state = self.state.lock();
        if state.paired.is_some() {
            let Some(errno) = self.socket.take_error() else { return };
            state.raised = Some(Raised { errno, shows: false });
            // Once is enough: from then on its data calls are ours, where they are trapped.
            let place = state.place.clone().filter(|_| !state.strict);
            state.strict = true;
            drop(state);
            // Before anybody can see that there is an error.
            if let Some(place) = place {
                hub.watcher.watch(&place, one.inode());
            }
            let state = &mut *self.state.lock();
            if let Some(Pair { end, path: Some(end_path), .. }) = &state.paired
                && let Some(raised) = &mut state.raised
                && !raised.shows
            {
                match hub.leave_unread(end, end_path, path) {
                    Ok(()) => raised.shows = true,
                    Err(_) => state.raised = None,
                }
            }
        } else if let Some((guest, fd)) = &state.seen
            && let Some(guest) = guest.upgrade()
            && let Ok(guest) = guest.fetch_fd(*fd)
            && unix::inode(&guest) == Ok(one.inode())
            // Joining and leaving loses what is queued; then there is nothing to wake either.
            && !unix::is_readable(&guest)
            && let Some(errno) = self.socket.take_error()
            && hub.raise_unpaired(&guest, path).is_ok()
        {
            state.raised = Some(Raised { errno, shows: true });
        }
    }

    /// The guest maps the ring of the socket.
    pub(crate) fn note_ring(&self, one: &Arc<Virtual>, hub: &Hub, call: &Call, fd: GuestFd) {
        let holder = (Arc::downgrade(&call.guest), fd);
        self.state.lock().frames().token = Some(Token::new(holder, one.inode()));
        hub.note_ring(one);
        one.wake();
    }

    /// Has poll(2) say that the ring is readable, when it has become so.
    fn tell_of_ring(&self) {
        let mut state = self.state.lock();
        let Some((token, end)) = state.token() else { return };
        if self.socket.ring_readable() == Some(true) {
            token.put(end);
        }
    }

    /// The guest is about to wait.
    pub(super) fn settle_ring(&self) {
        let mut state = self.state.lock();
        let Some((token, end)) = state.token() else { return };
        let readable = self.socket.ring_readable();
        if let Err(errno) = token.settle(end, readable == Some(true)) {
            tracing::debug!("the holder of a ring: {errno}");
        }
        if readable.is_none() {
            state.frames().token = None;
        }
    }

    /// Gives up receives that their guests have taken back.
    pub(super) fn drop_cancelled(&self) {
        let mut given_up = Vec::new();
        let mut state = self.state.lock();
        for waiter in std::mem::take(&mut state.waiters) {
            if waiter.completer.cancelled() {
                given_up.push(waiter);
            } else {
                state.waiters.push_back(waiter);
            }
        }
        drop(state);
        given_up.into_iter().for_each(Waiter::give_up);
    }

    /// Sends what a guest that has closed its socket had written.
    pub(super) fn send_rest(&self) {
        let state = self.state.lock();
        let Some(pair) = &state.paired else { return };
        let mut buffer = vec![0; DATAGRAM_LIMIT];
        while let Ok(length) = unix::receive(&pair.end, &mut buffer) {
            let _ = self.socket.send(&buffer[..length], None, &SendControl::default());
        }
    }

    /// The guest is gone, or the stack is.
    pub(super) fn discard(&self, _hub: &Hub) {
        let state = std::mem::take(&mut *self.state.lock());
        let paths = [self.path.clone(), state.paired.and_then(|pair| pair.path)];
        for path in paths.into_iter().flatten() {
            let _ = std::fs::remove_file(path);
        }
        for waiter in state.waiters {
            waiter.completer.complete(Action::error(Errno::EBADF));
        }
    }

    /// Moves datagrams both ways: on the reactor.
    pub(super) fn run(&self, one: &Virtual, hub: &Arc<Hub>) {
        let sent = self.take(one, hub);
        let delivered = self.give(one, hub);
        if sent == BATCH || delivered == BATCH {
            one.wake();
        }
    }

    /// The guest's half of that: what it has sent goes into the stack.
    pub(super) fn take(&self, one: &Virtual, hub: &Arc<Hub>) -> usize {
        self.take_from_guest(one, hub)
    }

    /// The stack's half: errors, datagrams, and the receives that wait for them.
    pub(super) fn give(&self, one: &Virtual, hub: &Arc<Hub>) -> usize {
        self.raise_error(one, hub);
        let delivered = self.give_to_guest(one, hub);
        self.tell_of_ring();
        self.serve_waiters(one, hub);
        delivered
    }

    /// Guest to stack: what it sent without naming a destination. Returns how many.
    pub(super) fn take_from_guest(&self, one: &Virtual, hub: &Hub) -> usize {
        let mut buffer = hub.scratch.lock();
        buffer.resize(DATAGRAM_LIMIT, 0);
        for count in 0..BATCH {
            let length = match &self.state.lock().paired {
                Some(pair) => match unix::receive(&pair.end, &mut buffer) {
                    Ok(length) => length,
                    Err(_) => return count,
                },
                None => return count,
            };
            if one.lists_sockets() {
                hub.survey();
            }
            let _ = self.socket.send(&buffer[..length], None, &SendControl::default());
        }
        BATCH
    }
}
