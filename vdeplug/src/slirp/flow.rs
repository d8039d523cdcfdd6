//! [`Flow`], one TCP connection: a smoltcp socket towards the guest, a [`Stream`] on this host, and
//! the bytes between.
//!
//! Neither side is read further than the other has room: a slow guest closes the window of the
//! host's peer, and a slow peer that of the guest.

use std::net::SocketAddr;

use nix::errno::Errno;
use smoltcp::{
    iface::{Context, SocketHandle, SocketSet, SocketStorage},
    socket::tcp::{Socket, SocketBuffer, State},
    time::{Duration, Instant},
    wire::IpListenEndpoint,
};

use super::stream::Stream;
use crate::ip::segment::Segment;

/// Bytes of a buffer, and of one when there are too many. The kernel gives the memory as it is used.
pub(super) const BUFFER: usize = 256 * 1024;
const SMALL: usize = 32 * 1024;
/// Bytes of all buffers of a network, beyond which new ones are small.
const PLENTY: usize = 256 << 20;
/// Buffers of ended connections that are kept.
const SPARES: usize = 32;
/// How often a silent guest is asked whether it is there, and when it is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const GIVE_UP: Duration = Duration::from_secs(300);
/// Reads in one turn.
const READS: usize = 16;

/// Both ends of a connection, as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: SocketAddr,
    pub(super) far: SocketAddr,
}

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// This host connects; the SYN of the guest waits.
    Connecting { syn: Vec<u8> },
    /// The guest is connected, or on the way to be.
    Joined,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) stage: Stage,
    pub(super) stream: Stream,
    pub(super) engine: Engine,
    /// What the kernel has said of the stream since it last refused.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The stream has ended, and the guest was told.
    ended: bool,
    closed: bool,
    /// The guest has ended, and the stream was told.
    finished: bool,
    /// The stream broke.
    pub(super) broken: bool,
    /// It waits for its turn.
    pub(super) queued: bool,
    pub(super) scheduled: Option<Instant>,
    /// The longest packet that the way to the guest takes.
    pub(super) most: usize,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Goes,
    /// All is said.
    Over,
    /// The guest has broken it.
    Reset,
}

impl Flow {
    pub(super) fn new(key: Key, stage: Stage, stream: Stream, engine: Engine) -> Self {
        let mut flow = Self {
            key,
            stage,
            stream,
            engine,
            readable: false,
            writable: false,
            ended: false,
            closed: false,
            finished: false,
            broken: false,
            queued: false,
            scheduled: None,
            most: usize::MAX,
        };
        let socket = flow.engine.socket();
        socket.set_nagle_enabled(false);
        // One acknowledgement answers a burst, since all of it comes before the turn.
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(GIVE_UP));
        flow
    }

    /// Waits for the SYN of the guest; false if that cannot be.
    pub(super) fn listen(&mut self) -> bool {
        let far = self.key.far;
        let endpoint = IpListenEndpoint { addr: Some(far.ip().into()), port: far.port() };
        self.stage = Stage::Joined;
        self.engine.socket().listen(endpoint).is_ok()
    }

    /// Connects to the guest; false if that cannot be.
    pub(super) fn connect(&mut self, context: &mut Context) -> bool {
        let Key { guest, far } = self.key;
        self.engine.socket().connect(context, guest, far).is_ok()
    }

    /// Moves bytes both ways as far as they go; tells whether more would go at once.
    pub(super) fn pump(&mut self) -> bool {
        self.write_to_host();
        let more = self.read_for_guest();
        if self.broken {
            self.engine.socket().abort();
        }
        more
    }

    fn write_to_host(&mut self) {
        while self.writable && self.engine.peek().can_recv() {
            let stream = &self.stream;
            let write = |bytes: &mut [u8]| match stream.write(bytes) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            };
            match self.engine.socket().recv(write) {
                Ok(Ok(())) | Ok(Err(Errno::EINTR)) => {}
                Ok(Err(Errno::EAGAIN)) => self.writable = false,
                Ok(Err(_)) => {
                    self.broken = true;
                    return;
                }
                Err(_) => break,
            }
        }
        if !self.finished && self.guest_has_ended() {
            self.finished = true;
            self.stream.finish();
        }
    }

    fn read_for_guest(&mut self) -> bool {
        for _ in 0..READS {
            if !self.readable || self.ended || self.broken || !self.engine.peek().can_send() {
                break;
            }
            let stream = &self.stream;
            let read = |room: &mut [u8]| match stream.read(room) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            };
            match self.engine.socket().send(read) {
                Ok(Ok(0)) => self.ended = true,
                Ok(Ok(_)) | Ok(Err(Errno::EINTR)) => {}
                Ok(Err(Errno::EAGAIN)) => self.readable = false,
                Ok(Err(_)) => self.broken = true,
                Err(_) => break,
            }
        }
        let socket = self.engine.socket();
        // In LAST-ACK smoltcp is deaf to a window that opens: all must have arrived before.
        let waits = socket.state() == State::CloseWait && socket.send_queue() > 0;
        if self.ended && !self.closed && !waits {
            self.closed = true;
            socket.close();
        }
        self.readable && !self.ended && !self.broken && socket.can_send()
    }

    /// Whether the FIN of the guest came and all before it has been written.
    fn guest_has_ended(&self) -> bool {
        use State::{CloseWait, Closed, Closing, LastAck, TimeWait};
        let socket = self.engine.peek();
        let ended = matches!(socket.state(), CloseWait | LastAck | Closing | TimeWait);
        // Closed by the last acknowledgement, and not by a reset.
        let closed = self.closed && socket.state() == Closed;
        (ended || closed) && !socket.can_recv()
    }

    /// Tells what has become of it.
    pub(super) fn fate(&self) -> Fate {
        let socket = self.engine.peek();
        match (&self.stage, socket.state()) {
            (Stage::Connecting { .. }, _) => Fate::Goes,
            _ if self.broken => Fate::Over,
            (_, State::Closed | State::TimeWait) if self.closed && self.finished => Fate::Over,
            (_, State::Closed | State::TimeWait) if self.closed && socket.can_recv() => Fate::Goes,
            // A handshake that was refused listens again.
            (_, State::Closed | State::Listen) => Fate::Reset,
            _ => Fate::Goes,
        }
    }
}

/// A smoltcp socket alone in its set.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    /// Bytes of its buffers.
    size: usize,
}

impl Engine {
    fn new(buffer: usize) -> Self {
        let buffers = [(); 2].map(|()| SocketBuffer::new(vec![0; buffer]));
        let [receive, send] = buffers;
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(Socket::new(receive, send));
        Self { set, handle, size: 2 * buffer }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(super) fn peek(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }
}

/// The buffers of a network's connections, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Engines {
    held: usize,
    spares: Vec<Engine>,
}

impl Engines {
    /// Gives an engine, with small buffers when there are too many.
    pub(super) fn take(&mut self) -> Engine {
        let plenty = self.held + 2 * BUFFER > PLENTY;
        let engine = match self.spares.pop() {
            Some(spare) if !plenty => spare,
            _ if plenty => Engine::new(SMALL),
            _ => Engine::new(BUFFER),
        };
        self.held += engine.size;
        engine
    }

    /// Takes one back.
    pub(super) fn give(&mut self, mut engine: Engine) {
        self.held = self.held.saturating_sub(engine.size);
        if engine.size == 2 * BUFFER && self.spares.len() < SPARES {
            engine.socket().abort();
            self.spares.push(engine);
        }
    }
}

/// Whether a segment begins a connection.
pub(super) fn begins(segment: &Segment) -> bool {
    use crate::ip::segment::{ACK, RST, SYN};
    segment.is(SYN | ACK | RST, SYN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_small_when_there_are_too_many_and_used_again() {
        let mut engines = Engines::default();
        let taken: Vec<_> = (0..PLENTY / (2 * BUFFER)).map(|_| engines.take()).collect();
        assert!(taken.iter().all(|engine| engine.size == 2 * BUFFER));
        assert_eq!(engines.take().size, 2 * SMALL);
        for engine in taken {
            engines.give(engine);
        }
        assert_eq!((engines.spares.len(), engines.held), (SPARES, 2 * SMALL));
        assert_eq!(engines.take().size, 2 * BUFFER);
        assert_eq!(engines.spares.len(), SPARES - 1);
    }
}
