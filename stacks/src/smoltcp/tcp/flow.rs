//! One TCP connection: a smoltcp socket alone in its set, and what the stack keeps beside it.

use parking_lot::Mutex;
use smoltcp::{
    iface::{SocketHandle, SocketSet, SocketStorage},
    socket::tcp::{CongestionControl, Socket, SocketBuffer, State},
    time::{Duration, Instant},
};
use umvu_abi::Errno;

use super::{
    super::{neighbour::Mac, slab::Id},
    key::FlowKey,
    memory::Claim,
    options::Blocks,
    segment::{ACK, FIN, RST, SYN, Segment},
    sender::{Said, Sender, control::Algorithm},
    sock::SockId,
};

pub(crate) type FlowId = Id<Flow>;

/// Bytes a connection may hold in each direction unless SO_SNDBUF or SO_RCVBUF say otherwise. The
/// memory is zeroed by the kernel, so it is only used as far as a connection fills it.
pub(crate) const BUFFER: usize = 512 * 1024;

/// What the send buffer may grow to when the path holds so much (in Linux `tcp_wmem`).
const GROWN: usize = 6 << 20;

/// Who a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A socket of a guest.
    Socket(SockId),
    /// A listener: the connection is not accepted yet.
    Listener(SockId),
    /// Nobody: the guest closed it, it only says goodbye.
    Nobody,
}

/// How a connection's packets leave; valid while `generation` is the stack's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// The link, as an index into the stack's.
    pub(crate) link: usize,
    /// Who to send it to there.
    pub(crate) next: std::net::IpAddr,
    /// The hardware address, once known.
    pub(crate) mac: Option<Mac>,
    /// The interface it is bound to, 0 for none.
    pub(crate) device: u32,
    /// Packets may be long under way: they leave this process.
    pub(crate) far: bool,
    /// The configuration it was computed from.
    pub(crate) generation: u64,
    /// The neighbour table it was computed from.
    pub(crate) neighbours: u32,
}

/// What a socket's options mean for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Bytes of the receive buffer.
    pub(crate) receive: usize,
    /// Bytes of the send buffer.
    pub(crate) send: usize,
    /// SO_SNDBUF was not set: it may grow.
    pub(crate) grows: bool,
    /// SO_RCVBUF was not set: it may be longer.
    pub(crate) widens: bool,
    /// TCP_NODELAY.
    pub(crate) nodelay: bool,
    /// TCP_CORK.
    pub(crate) corked: bool,
    /// IP_TTL.
    pub(crate) ttl: u8,
    /// IP_TOS.
    pub(crate) tos: u8,
    /// SO_KEEPALIVE with its TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
    pub(crate) keepalive: Option<(Duration, Duration, u32)>,
    /// TCP_MAXSEG, 0 for none.
    pub(crate) max_segment: usize,
    /// TCP_CONGESTION.
    pub(crate) congestion: Algorithm,
    /// TCP_USER_TIMEOUT, or how long Linux goes on by default.
    pub(crate) user_timeout: Duration,
    /// SO_REUSEADDR.
    pub(crate) reuse: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Both ends.
    pub(crate) key: FlowKey,
    /// The set that holds the one socket.
    pub(crate) set: SocketSet<'static>,
    handle: SocketHandle,
    /// Who it belongs to.
    pub(crate) owner: Owner,
    /// How packets leave.
    pub(crate) path: Path,
    /// What the options say.
    pub(crate) tuning: Tuning,
    /// The state that was last acted upon.
    pub(crate) seen: State,
    /// Waits for its turn to send.
    pub(crate) dirty: bool,
    /// The owner must be told.
    pub(crate) news: bool,
    /// The bridge found the send buffer full and waits for room.
    pub(crate) starved: bool,
    /// Bytes that may wait to be sent: all the buffer, or what SO_SNDBUF has said since.
    limit: usize,
    /// Received bytes that the owner has been told of.
    pub(crate) told: usize,
    /// When the timer queue looks at it next.
    pub(crate) scheduled: Option<Instant>,
    /// Why it will end, when the stack knows it.
    pub(crate) error: Option<Errno>,
    /// Gives up then: an unanswered connect, a lonely FIN-WAIT-2.
    pub(crate) deadline: Option<Instant>,
    /// The longest packet that the path and TCP_MAXSEG allow.
    pub(crate) most: usize,
    /// The last packet received.
    pub(crate) heard: Instant,
    /// When the send queue became busy.
    pub(crate) busy: Instant,
    /// The sending half.
    pub(crate) sender: Sender,
    /// It stopped although it has more to send now.
    pub(crate) stopped: bool,
    /// The bytes sent when the last segment with data came.
    sent_before: u64,
    /// The sequence number expected next, as the peer was told.
    pub(crate) receive_next: u32,
    /// The window that the peer was told, as it stands in segments.
    pub(crate) window: u16,
    /// When our SYN was sent, while it was sent once.
    syn: Option<Instant>,
    /// No longer in the tables: the socket only holds received bytes.
    pub(crate) parked: bool,
    /// What TCP_INFO tells.
    pub(crate) statistics: Statistics,
    /// Its share of the memory of all connections.
    _claim: Claim,
}

/// Measurements for TCP_INFO.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statistics {
    /// Bytes.
    pub(crate) received: u64,
    /// Packets.
    pub(crate) segments_out: u32,
    pub(crate) segments_in: u32,
    pub(crate) data_segments_in: u32,
}

/// Sockets of ended connections, with their buffers: to make these anew costs more than all the
/// rest of a connection. smoltcp forgets the old connection when it listens or connects.
static SPARE: Mutex<Vec<(SocketSet<'static>, SocketHandle)>> = Mutex::new(Vec::new());
/// How many are kept by the process.
const SPARES: usize = 64;

fn engine(receive: usize) -> (SocketSet<'static>, SocketHandle) {
    if receive == BUFFER
        && let Some(spare) = SPARE.lock().pop()
    {
        return spare;
    }
    let receive = SocketBuffer::new(vec![0; receive]);
    // What is sent never passes smoltcp.
    let send = SocketBuffer::new(vec![0; 1]);
    let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
    let mut socket = Socket::new(receive, send);
    socket.set_congestion_control(CongestionControl::None);
    let handle = set.add(socket);
    (set, handle)
}

impl Flow {
    /// Makes a connection that has neither sent nor received anything.
    pub(crate) fn new(
        key: FlowKey,
        owner: Owner,
        path: Path,
        tuning: Tuning,
        now: Instant,
    ) -> Self {
        let (claim, tuning) = Claim::new(tuning, path.far);
        let (set, handle) = engine(tuning.receive);
        let mut flow = Self {
            key,
            set,
            handle,
            owner,
            path,
            tuning,
            seen: State::Closed,
            dirty: false,
            news: false,
            starved: false,
            limit: tuning.send,
            told: 0,
            scheduled: None,
            error: None,
            deadline: None,
            most: usize::MAX,
            heard: now,
            busy: now,
            sender: Sender::new(tuning.congestion),
            stopped: false,
            sent_before: 0,
            receive_next: 0,
            window: 0,
            syn: None,
            parked: false,
            statistics: Statistics::default(),
            _claim: claim,
        };
        flow.tune(tuning);
        flow
    }

    /// Ends a connection, keeping what can be used again.
    pub(crate) fn recycle(mut self) {
        self.socket().abort();
        if self.tuning.receive == BUFFER {
            let mut spare = SPARE.lock();
            if spare.len() < SPARES {
                spare.push((self.set, self.handle));
            }
        }
    }

    /// The smoltcp socket.
    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The smoltcp socket, to look at.
    pub(crate) fn peek(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    /// The most bytes that may wait to be sent or acknowledged.
    pub(crate) fn send_limit(&self) -> usize {
        if !self.tuning.grows || !self.path.far {
            return self.limit;
        }
        // As much as the path holds, and a little that comes next.
        let flight = usize::try_from(self.sender.capacity()).unwrap_or(GROWN);
        (flight + flight / 4 + self.limit / 4).clamp(self.limit, GROWN)
    }

    /// How many more bytes may wait to be sent.
    pub(crate) fn send_room(&self) -> usize {
        self.send_limit().saturating_sub(self.sender.queued())
    }

    /// Applies options; the receive buffer of a connection never changes.
    pub(crate) fn tune(&mut self, tuning: Tuning) {
        self.limit = tuning.send;
        self.tuning = Tuning { receive: self.tuning.receive, ..tuning };
        self.sender.set_algorithm(tuning.congestion);
        if tuning.max_segment > 0 {
            self.most = self.most.min(tuning.max_segment + 40);
        }
        let socket = self.socket();
        socket.set_hop_limit(Some(tuning.ttl.max(1)));
        socket.set_keep_alive(tuning.keepalive.map(|(idle, ..)| idle));
    }

    /// Ends the sending side: a FIN follows the last byte.
    pub(crate) fn finish(&mut self) {
        self.sender.finish();
        self.socket().close();
        self.seen = self.peek().state();
    }

    /// Whether a segment, whose acknowledgement the sending half has taken, says nothing more that
    /// smoltcp must hear of.
    pub(crate) fn needs_no_more(&self, segment: &Segment, said: Said) -> bool {
        let bare = segment.length == 0 && segment.is(SYN | FIN | RST, 0);
        let state = self.peek().state();
        let old = match said {
            Said::Fin => !matches!(state, State::FinWait1 | State::Closing | State::LastAck),
            // In LAST-ACK smoltcp takes what does not acknowledge the FIN for an error.
            _ if state == State::LastAck => return bare,
            Said::Ahead(_) => false,
            Said::Data | Said::Nothing => true,
        };
        let expected = segment.sequence == self.receive_next;
        bare && old && expected && self.tuning.keepalive.is_none()
    }

    /// Whether the peer can still be sent to or heard of.
    pub(crate) fn is_live(&self) -> bool {
        !self.parked && self.seen != State::Closed
    }

    /// Whether the peer's FIN came and all before it has been read.
    pub(crate) fn at_end(&self) -> bool {
        let socket = self.peek();
        !socket.can_recv()
            && matches!(
                socket.state(),
                State::CloseWait
                    | State::LastAck
                    | State::Closing
                    | State::TimeWait
                    | State::Closed
            )
    }

    /// Notes what smoltcp tells the peer: what is expected next, and the window.
    pub(crate) fn note_told(&mut self, segment: &Segment, now: Instant) {
        self.window = segment.window;
        if segment.flags & SYN != 0 {
            self.syn = (self.statistics.segments_out == 0).then_some(now);
            self.sender.syn_sent(segment.sequence);
            // The window of a SYN is not scaled, those of what follows are.
            self.window >>= self.shift();
        }
        if segment.flags & ACK != 0 {
            self.receive_next = segment.acknowledges;
        }
        self.statistics.segments_out = self.statistics.segments_out.wrapping_add(1);
    }

    /// The shift of our windows, as smoltcp chooses it.
    pub(crate) fn shift(&self) -> u32 {
        let bits = usize::BITS - self.peek().recv_capacity().leading_zeros();
        if self.sender.offer().scale.is_some() { bits.saturating_sub(16) } else { 0 }
    }

    /// The handshake is complete: the sending half can begin.
    pub(crate) fn open(&mut self, mss: u64, segment: &Segment, now: Instant) {
        self.sender.start(mss);
        if let Some(sent) = self.syn.take() {
            self.sender.rtt.sample(now - sent, now);
        }
        self.sender.acknowledged(segment, &Blocks::default(), now);
    }

    /// Whether nothing was sent since the last segment with data came.
    pub(crate) fn only_listens(&mut self) -> bool {
        let sent = self.sender.counts.sent;
        std::mem::replace(&mut self.sent_before, sent) == sent
    }

    /// Notes an incoming segment.
    pub(crate) fn note_received(&mut self, segment: &Segment, now: Instant) {
        self.heard = now;
        let statistics = &mut self.statistics;
        statistics.segments_in = statistics.segments_in.wrapping_add(1);
        statistics.received += segment.length as u64;
        let data = u32::from(segment.length > 0);
        statistics.data_segments_in = statistics.data_segments_in.wrapping_add(data);
    }
}
