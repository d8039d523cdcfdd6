//! One connection to a FUSE program: requests go out, replies come back, until one side ends.
//!
//! The program has one end of a pair of sockets (`SOCK_SEQPACKET`: a message is a request or a reply),
//! the session the other. A thread takes in what the program writes; who has asked waits in a
//! [`Ticket`]. Nothing that is sent waits for the program: what it has no room for is queued.
//!
//! Lock order: the state, then a slot.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno as Failure,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{MsgFlags, recv, send},
    },
};
use parking_lot::{Condvar, Mutex};
use umvu_abi::{
    Errno,
    files::GuestFile,
    patience::{self, Wanted},
};

use super::{
    terms::{self, MOST, Terms},
    wire::{Body, EntryOut, IN_HEADER, Opcode, OutHeader, Reader, open_out},
};

/// How often who waits for a reply looks whether the guest still wants it.
const GLANCE: Duration = Duration::from_millis(50);
/// How long an umount waits for the program to bring everything to its place.
const FAREWELL: Duration = Duration::from_secs(20);
/// How long an umount waits for the program to let go of the device.
const LETTING_GO: Duration = Duration::from_secs(2);
/// How many nodes are forgotten by one message.
const FORGETS: usize = 64;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: i32,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) opcode: Opcode,
    pub(super) node: u64,
    pub(super) who: Who,
    pub(super) body: Body,
}

impl Request {
    fn encode(&self, unique: u64) -> Vec<u8> {
        let length = IN_HEADER + self.body.0.len();
        let mut message = Body(Vec::with_capacity(length))
            .u32(u32::try_from(length).unwrap_or(u32::MAX))
            .u32(self.opcode.number())
            .u64(unique)
            .u64(self.node)
            .u32(self.who.uid)
            .u32(self.who.gid)
            .u32(self.who.pid.cast_unsigned())
            .u32(0);
        message.0.extend_from_slice(&self.body.0);
        message.0
    }
}

/// What the program says of its own accord.
pub(super) trait Notified: Send + Sync {
    /// A notification with its code.
    fn notified(&self, code: i32, body: &[u8]);
}

/// Where a reply is put.
#[derive(Debug, Default)]
struct Slot {
    reply: Mutex<Option<Result<Vec<u8>, Errno>>>,
    there: Condvar,
}

impl Slot {
    fn put(&self, reply: Result<Vec<u8>, Errno>) {
        *self.reply.lock() = Some(reply);
        self.there.notify_one();
    }
}

/// Who waits for a reply.
#[derive(Debug)]
enum Waiting {
    /// Somebody.
    Someone(Arc<Slot>),
    /// Nobody any more: what the reply gives is given back.
    NoOne(Opcode, u64),
    /// The session itself.
    Beginning,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The program has not answered INIT.
    Beginning,
    /// It runs on these terms.
    Running(Terms),
    /// Nothing is answered any more.
    Over,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// None once it is closed.
    socket: Option<Arc<OwnedFd>>,
    waiting: HashMap<u64, Waiting>,
    /// What the program had no room for.
    queue: VecDeque<Vec<u8>>,
    forgets: Vec<(u64, u64)>,
}

/// A connection.
pub(super) struct Session {
    state: Mutex<State>,
    begun: Condvar,
    bell: EventFd,
    unique: AtomicU64,
    /// The program's end.
    device: Arc<dyn GuestFile>,
    listener: Mutex<Option<Weak<dyn Notified>>>,
    reader: Mutex<Option<JoinHandle<()>>>,
    owner: Who,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?})", self.device)
    }
}

impl Session {
    /// Begins: INIT is sent, and answered some time later. Errors: `EMFILE`, `EAGAIN`.
    pub(super) fn begin(
        socket: OwnedFd,
        device: Arc<dyn GuestFile>,
        owner: Who,
    ) -> Result<Arc<Self>, Errno> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Errno(errno as i32))?;
        let socket = Arc::new(socket);
        let session = Arc::new(Self {
            state: Mutex::new(State {
                phase: Phase::Beginning,
                socket: Some(Arc::clone(&socket)),
                waiting: HashMap::new(),
                queue: VecDeque::new(),
                forgets: Vec::new(),
            }),
            begun: Condvar::new(),
            bell,
            unique: AtomicU64::new(2),
            device,
            listener: Mutex::default(),
            reader: Mutex::default(),
            owner,
        });
        let running = Arc::clone(&session);
        let reader = thread::Builder::new()
            .name("umvu-fuse".to_owned())
            .spawn(move || running.take_in(&socket))?;
        *session.reader.lock() = Some(reader);
        let body = terms::offer();
        let request = Request { opcode: Opcode::Init, node: 0, who: owner, body };
        let unique = session.next();
        let mut state = session.state.lock();
        state.waiting.insert(unique, Waiting::Beginning);
        session.push(&mut state, request.encode(unique));
        drop(state);
        Ok(session)
    }

    /// Says who hears of notifications.
    pub(super) fn listen(&self, listener: Weak<dyn Notified>) {
        *self.listener.lock() = Some(listener);
    }

    /// The core itself, on behalf of the owner.
    pub(super) fn owner(&self) -> Who {
        self.owner
    }

    fn next(&self) -> u64 {
        // Odd numbers are those of interrupts.
        self.unique.fetch_add(2, Ordering::Relaxed)
    }

    /// The terms that the program has agreed to; waits for it. Errors: `ENOTCONN`; `EINTR` when the
    /// guest is gone; [`patience::LATER`].
    pub(super) fn terms(&self) -> Result<Terms, Errno> {
        let mut state = self.state.lock();
        loop {
            match state.phase {
                Phase::Running(terms) => return Ok(terms),
                Phase::Over => return Err(Errno::ENOTCONN),
                Phase::Beginning => patience::may_wait()?,
            }
            if patience::wanted() == Wanted::NoMore {
                return Err(Errno::EINTR);
            }
            self.begun.wait_for(&mut state, GLANCE);
        }
    }

    /// Asks, and waits for the reply. Errors: what the program says, and those of [`Session::start`].
    pub(super) fn ask(self: &Arc<Self>, request: &Request) -> Result<Vec<u8>, Errno> {
        self.start(request)?.wait()
    }

    /// Asks. Errors: `ENOTCONN`; [`patience::LATER`], before anything is sent.
    pub(super) fn start(self: &Arc<Self>, request: &Request) -> Result<Ticket, Errno> {
        patience::may_wait()?;
        self.terms()?;
        let unique = self.next();
        let message = request.encode(unique);
        let slot = Arc::new(Slot::default());
        let mut state = self.state.lock();
        self.flush_forgets(&mut state);
        if state.phase == Phase::Over {
            return Err(Errno::ENOTCONN);
        }
        state.waiting.insert(unique, Waiting::Someone(Arc::clone(&slot)));
        self.push(&mut state, message);
        drop(state);
        let (opcode, node) = (request.opcode, request.node);
        Ok(Ticket { session: Arc::clone(self), unique, opcode, node, slot, is_done: false })
    }

    /// Says something that needs no reply; does not wait.
    pub(super) fn tell(&self, request: &Request) {
        let mut state = self.state.lock();
        self.flush_forgets(&mut state);
        self.push(&mut state, request.encode(self.next()));
    }

    /// Replies to a notification, which has its number from the program; does not wait.
    pub(super) fn reply_to(&self, unique: u64, request: &Request) {
        let mut state = self.state.lock();
        self.push(&mut state, request.encode(unique));
    }

    /// A node is needed less; does not wait.
    pub(super) fn forget(&self, node: u64, count: u64) {
        let mut state = self.state.lock();
        state.forgets.push((node, count));
        if state.forgets.len() >= FORGETS {
            self.flush_forgets(&mut state);
        }
    }

    fn flush_forgets(&self, state: &mut State) {
        let Phase::Running(terms) = state.phase else { return };
        if state.forgets.is_empty() {
            return;
        }
        let forgets = std::mem::take(&mut state.forgets);
        if forgets.len() == 1 || !terms.has_batch_forget() {
            for (node, count) in forgets {
                let body = Body::new().u64(count);
                let request = Request { opcode: Opcode::Forget, node, who: self.owner, body };
                self.push(state, request.encode(self.next()));
            }
            return;
        }
        let body = Body::new().u32(u32::try_from(forgets.len()).unwrap_or(0)).u32(0);
        let body = forgets.iter().fold(body, |body, (node, count)| body.u64(*node).u64(*count));
        let request = Request { opcode: Opcode::BatchForget, node: 0, who: self.owner, body };
        self.push(state, request.encode(self.next()));
    }

    /// Sends, or queues what there is no room for.
    fn push(&self, state: &mut State, message: Vec<u8>) {
        if state.phase == Phase::Over {
            return;
        }
        if state.queue.is_empty() && transmit(state, &message) {
            return;
        }
        state.queue.push_back(message);
        self.ring();
    }

    fn ring(&self) {
        // Full: it rings already.
        let _ = self.bell.write(1);
    }
}

/// Whether a message is under way, or never will be.
fn transmit(state: &State, message: &[u8]) -> bool {
    let Some(socket) = &state.socket else { return true };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // What the program has left is noticed by the thread that takes in.
    !matches!(
        send(socket.as_raw_fd(), message, flags),
        Err(Failure::EAGAIN | Failure::ENOBUFS | Failure::ENOMEM | Failure::EINTR)
    )
}

/// The thread that takes in.
impl Session {
    fn take_in(&self, socket: &OwnedFd) {
        let mut buffer = vec![0; MOST + 4096];
        while self.is_on() {
            let has_more = !self.state.lock().queue.is_empty();
            let out = if has_more { PollFlags::POLLOUT } else { PollFlags::empty() };
            let mut ready = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN | out),
                PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
            ];
            if poll(&mut ready, PollTimeout::NONE).is_err() {
                continue;
            }
            let seen = ready[0].revents().unwrap_or(PollFlags::empty());
            let _ = self.bell.read();
            if seen.contains(PollFlags::POLLOUT) {
                self.send_queued();
            }
            let is_left = seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            if seen.contains(PollFlags::POLLIN) {
                match recv(
                    socket.as_raw_fd(),
                    &mut buffer,
                    MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
                ) {
                    Ok(0) if is_left => break,
                    Ok(length) => self.received(&buffer[..length.min(buffer.len())], length),
                    Err(Failure::EAGAIN | Failure::EINTR) => {}
                    Err(_) => break,
                }
            } else if is_left {
                break;
            }
        }
        self.over();
    }

    fn is_on(&self) -> bool {
        self.state.lock().phase != Phase::Over
    }

    fn send_queued(&self) {
        let mut state = self.state.lock();
        while let Some(message) = state.queue.pop_front() {
            if !transmit(&state, &message) {
                state.queue.push_front(message);
                return;
            }
        }
    }

    /// A message of the program. Those that are none are dropped.
    fn received(&self, message: &[u8], length: usize) {
        let mut reader = Reader(message);
        let Ok(header) = OutHeader::read(&mut reader) else { return };
        if header.unique == 0 {
            let listener = self.listener.lock().as_ref().and_then(Weak::upgrade);
            if let Some(listener) = listener
                && length == message.len()
            {
                listener.notified(header.error, reader.0);
            }
            return;
        }
        let is_whole = usize::try_from(header.length) == Ok(length) && length == message.len();
        let reply = match header.error {
            _ if !is_whole => Err(Errno::EIO),
            0 => Ok(reader.0),
            // As Linux: other numbers are not for programs.
            error @ -511..=-1 => Err(Errno(-error)),
            _ => Err(Errno::EIO),
        };
        let Some(waiting) = self.state.lock().waiting.remove(&header.unique) else { return };
        match waiting {
            Waiting::Someone(slot) => slot.put(reply.map(<[u8]>::to_vec)),
            Waiting::NoOne(opcode, node) => self.give_back(opcode, node, reply),
            Waiting::Beginning => self.begins(reply),
        }
    }

    fn begins(&self, reply: Result<&[u8], Errno>) {
        let mut state = self.state.lock();
        if state.phase == Phase::Beginning {
            state.phase = match reply.and_then(terms::agreed) {
                Ok(terms) => Phase::Running(terms),
                Err(_) => Phase::Over,
            };
        }
        drop(state);
        self.begun.notify_all();
    }

    /// A reply has come for somebody who is gone.
    fn give_back(&self, opcode: Opcode, node: u64, reply: Result<&[u8], Errno>) {
        let Ok(reply) = reply else { return };
        let mut reader = Reader(reply);
        match opcode {
            Opcode::Lookup
            | Opcode::Mknod
            | Opcode::Mkdir
            | Opcode::Symlink
            | Opcode::Link
            | Opcode::Create => {
                if let Ok(Some(entry)) = EntryOut::read(&mut reader) {
                    if opcode == Opcode::Create
                        && let Ok((handle, _)) = open_out(&mut reader)
                    {
                        self.tell(&release(Opcode::Release, entry.node, handle, 0, self.owner));
                    }
                    self.forget(entry.node, 1);
                }
            }
            Opcode::Open | Opcode::Opendir => {
                let closing =
                    if opcode == Opcode::Open { Opcode::Release } else { Opcode::Releasedir };
                if let Ok((handle, _)) = open_out(&mut reader) {
                    self.tell(&release(closing, node, handle, 0, self.owner));
                }
            }
            _ => {}
        }
    }

    /// Nothing is answered any more: who waits is told.
    fn over(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Over;
        state.queue.clear();
        state.forgets.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.begun.notify_all();
        for one in waiting.into_values() {
            if let Waiting::Someone(slot) = one {
                slot.put(Err(Errno::ENOTCONN));
            }
        }
    }
}

/// RELEASE or RELEASEDIR.
pub(super) fn release(opcode: Opcode, node: u64, handle: u64, flags: u32, who: Who) -> Request {
    let body = Body::new().u64(handle).u32(flags).u32(0).u64(0);
    Request { opcode, node, who, body }
}

/// The end.
impl Session {
    /// Ends: the program is told, and has the time to bring everything to its place; then its device is
    /// taken away, and it has some time to go.
    pub(super) fn finish(self: &Arc<Self>) {
        if self.is_running() {
            let body = Body::new();
            let request = Request { opcode: Opcode::Destroy, node: 0, who: self.owner, body };
            let until = Instant::now() + FAREWELL;
            let asked = patience::patiently(|| self.start(&request));
            let _ = asked.and_then(|ticket| ticket.wait_until(Some(until)));
        }
        self.over();
        self.ring();
        if let Some(reader) = self.reader.lock().take()
            && reader.thread().id() != thread::current().id()
        {
            let _ = reader.join();
        }
        let Some(socket) = self.state.lock().socket.take() else { return };
        self.device.revoke(socket);
        let until = Instant::now() + LETTING_GO;
        while self.device.is_open() && Instant::now() < until && patience::wanted() == Wanted::Still
        {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Running(_))
    }
}

/// A request whose reply is to come.
#[derive(Debug)]
pub(super) struct Ticket {
    session: Arc<Session>,
    unique: u64,
    opcode: Opcode,
    node: u64,
    slot: Arc<Slot>,
    is_done: bool,
}

impl Ticket {
    /// Waits for the reply. The program is told when a signal comes for the guest, and not waited for
    /// when the guest is gone. Errors: what the program says; `ENOTCONN`; `EINTR`.
    pub(super) fn wait(self) -> Result<Vec<u8>, Errno> {
        self.wait_until(None)
    }

    fn wait_until(mut self, until: Option<Instant>) -> Result<Vec<u8>, Errno> {
        let mut is_told = false;
        let slot = Arc::clone(&self.slot);
        let mut reply = slot.reply.lock();
        loop {
            if let Some(reply) = reply.take() {
                self.is_done = true;
                return reply;
            }
            if !slot.there.wait_for(&mut reply, GLANCE).timed_out() {
                continue;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Errno::ETIMEDOUT);
            }
            let wanted = patience::wanted();
            if wanted != Wanted::Still && !is_told {
                is_told = true;
                self.interrupt();
            }
            if wanted == Wanted::NoMore && reply.is_none() {
                return Err(Errno::EINTR);
            }
        }
    }

    fn interrupt(&self) {
        let body = Body::new().u64(self.unique);
        let who = self.session.owner;
        let request = Request { opcode: Opcode::Interrupt, node: 0, who, body };
        let mut state = self.session.state.lock();
        self.session.push(&mut state, request.encode(self.unique | 1));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.session.state.lock();
        if let Some(waiting) = state.waiting.get_mut(&self.unique) {
            *waiting = Waiting::NoOne(self.opcode, self.node);
            return;
        }
        drop(state);
        // It came in this instant.
        if let Some(Ok(reply)) = self.slot.reply.lock().take() {
            self.session.give_back(self.opcode, self.node, Ok(&reply));
        }
    }
}
