//! The part that smoltcp has in a connection: the handshake and the states of both ends.
//!
//! A smoltcp socket, alone in its set, hears of SYN, FIN and RST only and never has data. It gets
//! small packets of our making, with the numbers that it knows; what it sends is a sign for us to
//! send the like ([`super::emit`]).

use parking_lot::Mutex;
use smoltcp::{
    iface::{SocketHandle, SocketSet, SocketStorage},
    socket::tcp::{CongestionControl, Socket, SocketBuffer, State},
    time::Instant,
};

use super::{
    super::{
        device::{Port, Produced},
        link::Link,
        packet::{Build, HEADROOM, TCP},
        pool,
    },
    key::FlowKey,
    segment::Segment,
};

/// Packets that smoltcp may send in one turn.
const TURN: usize = 8;

/// A socket of smoltcp.
#[derive(Debug)]
pub(crate) struct Engine {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// Something may have changed since it was asked what it has to send.
    stirred: bool,
    /// When it wants to be asked again.
    due: Option<Instant>,
}

/// Sockets of ended connections: smoltcp forgets the old one when it listens or connects.
static SPARE: Mutex<Vec<(SocketSet<'static>, SocketHandle)>> = Mutex::new(Vec::new());
/// How many are kept by the process.
const SPARES: usize = 64;

impl Engine {
    /// Makes one that is closed.
    pub(crate) fn new() -> Self {
        let spare = SPARE.lock().pop();
        let (set, handle) = spare.unwrap_or_else(|| {
            let buffer = || SocketBuffer::new(vec![0; 1]);
            let mut socket = Socket::new(buffer(), buffer());
            socket.set_congestion_control(CongestionControl::None);
            socket.set_ack_delay(None);
            let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
            let handle = set.add(socket);
            (set, handle)
        });
        Self { set, handle, stirred: false, due: None }
    }

    /// Keeps what can be used again.
    pub(crate) fn recycle(mut self) {
        self.socket().abort();
        let mut spare = SPARE.lock();
        if spare.len() < SPARES {
            spare.push((self.set, self.handle));
        }
    }

    /// The socket.
    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.stirred = true;
        self.set.get_mut(self.handle)
    }

    /// Its state.
    pub(crate) fn state(&self) -> State {
        self.set.get::<Socket<'static>>(self.handle).state()
    }

    /// When it may have something to send.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Tells it of a segment without data or options.
    pub(crate) fn hear(
        &mut self,
        key: &FlowKey,
        (flags, sequence, acknowledges): (u8, u32, u32),
        link: &mut Link,
        produced: &mut Vec<Produced>,
        now: Instant,
    ) {
        let (local, remote) = (key.local(), key.remote());
        let build = Build {
            source: remote.ip(),
            destination: local.ip(),
            protocol: TCP,
            ttl: 64,
            tos: 0,
            id: 0,
        };
        let (mut bytes, at) = build.packet(20);
        let (source, destination, window) = (remote.port(), local.port(), u16::MAX);
        let length = 0;
        let head = Segment { source, destination, sequence, acknowledges, flags, window, length };
        head.write(&mut bytes[at..]);
        let mut port = Port { caps: &link.caps, incoming: Some(&bytes[HEADROOM..]), produced };
        link.engine.poll_ingress_single(now, &mut port, &mut self.set);
        self.stirred = true;
        pool::give(bytes);
    }

    /// Lets it send what it has.
    pub(crate) fn speak(&mut self, link: &mut Link, produced: &mut Vec<Produced>, now: Instant) {
        if !self.stirred && self.due.is_none_or(|due| due > now) {
            return;
        }
        for _ in 0..TURN {
            let before = produced.len();
            let mut port = Port { caps: &link.caps, incoming: None, produced };
            link.engine.poll_egress(now, &mut port, &mut self.set);
            if produced.len() == before {
                break;
            }
        }
        self.stirred = false;
        self.due = link.engine.poll_at(now, &self.set);
    }
}
