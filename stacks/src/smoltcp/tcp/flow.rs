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
    segment::{ACK, FIN, RST, SYN, Segment},
    sock::SockId,
};

pub(crate) type FlowId = Id<Flow>;

/// Bytes a connection may hold in each direction unless SO_SNDBUF or SO_RCVBUF say otherwise. The
/// memory is zeroed by the kernel, so it is only used as far as a connection fills it.
pub(crate) const BUFFER: usize = 512 * 1024;

/// Room in a receive buffer that is more than the rounding of any window.
const NARROW: usize = 1 << 14;

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
    /// TCP_NODELAY.
    pub(crate) nodelay: bool,
    /// IP_TTL.
    pub(crate) ttl: u8,
    /// IP_TOS.
    pub(crate) tos: u8,
    /// SO_KEEPALIVE with its TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
    pub(crate) keepalive: Option<(Duration, Duration, u32)>,
    /// TCP_MAXSEG, 0 for none.
    pub(crate) max_segment: usize,
    /// TCP_CONGESTION.
    pub(crate) congestion: CongestionControl,
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
    /// The bytes sent when the last segment with data came.
    sent_before: u64,
    /// The sequence number after the last byte sent, and the one expected next.
    pub(crate) send_next: u32,
    pub(crate) receive_next: u32,
    /// As `send_next`, but for bytes sent alone: these may be probes of a closed window.
    sent_next: u32,
    /// The window of the last segment, not scaled: the peer takes at least as much.
    window: usize,
    /// What it acknowledged.
    acknowledged: u32,
    /// Nothing more is to be sent: the FIN follows once the peer has room for all before it.
    pub(crate) ends: bool,
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
    /// A sequence number whose acknowledgement is awaited, and when it was sent.
    pub(crate) probe: Option<(u32, Instant)>,
    /// Smoothed round-trip time and its variation, in microseconds.
    pub(crate) rtt: u32,
    pub(crate) rttvar: u32,
    /// Bytes.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Packets.
    pub(crate) segments_out: u32,
    pub(crate) segments_in: u32,
    /// The peer's maximum segment, when it told one.
    pub(crate) peer_mss: u16,
    /// The send buffer's size in use.
    pub(crate) retransmits: u32,
}

/// Sockets of ended connections, with their buffers: to make these anew costs more than all the
/// rest of a connection. smoltcp forgets the old connection when it listens or connects.
static SPARE: Mutex<Vec<(SocketSet<'static>, SocketHandle)>> = Mutex::new(Vec::new());
/// How many are kept by the process.
const SPARES: usize = 64;

fn engine(receive: usize, send: usize) -> (SocketSet<'static>, SocketHandle) {
    if (receive, send) == (BUFFER, BUFFER)
        && let Some(spare) = SPARE.lock().pop()
    {
        return spare;
    }
    let receive = SocketBuffer::new(vec![0; receive]);
    let send = SocketBuffer::new(vec![0; send]);
    let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
    let handle = set.add(Socket::new(receive, send));
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
        let (claim, tuning) = Claim::new(tuning);
        let (set, handle) = engine(tuning.receive, tuning.send);
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
            sent_before: 0,
            send_next: 0,
            receive_next: 0,
            sent_next: 0,
            window: 0,
            acknowledged: 0,
            ends: false,
            parked: false,
            statistics: Statistics::default(),
            _claim: claim,
        };
        flow.socket().set_congestion_control(tuning.congestion);
        flow.tune(tuning);
        flow
    }

    /// Ends a connection, keeping what can be used again.
    pub(crate) fn recycle(mut self) {
        self.socket().abort();
        if (self.tuning.receive, self.tuning.send) == (BUFFER, BUFFER) {
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

    /// The most bytes that may wait to be sent.
    pub(crate) fn send_limit(&self) -> usize {
        self.limit.min(self.peek().send_capacity())
    }

    /// How many more bytes may wait to be sent.
    pub(crate) fn send_room(&self) -> usize {
        self.send_limit().saturating_sub(self.peek().send_queue())
    }

    /// Applies options; the buffers of a connection never change, but may be used in part.
    pub(crate) fn tune(&mut self, tuning: Tuning) {
        self.limit = tuning.send;
        let congestion = self.tuning.congestion != tuning.congestion;
        self.tuning = Tuning { receive: self.tuning.receive, send: self.tuning.send, ..tuning };
        if tuning.max_segment > 0 {
            self.most = self.most.min(tuning.max_segment + 40);
        }
        let socket = self.socket();
        if congestion {
            socket.set_congestion_control(tuning.congestion);
        }
        socket.set_nagle_enabled(!tuning.nodelay);
        socket.set_hop_limit(Some(tuning.ttl.max(1)));
        socket.set_keep_alive(tuning.keepalive.map(|(idle, ..)| idle));
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        self.ends = true;
        if self.peek().state() == State::CloseWait {
            self.finish_in_time();
        } else {
            self.socket().close();
            self.seen = self.peek().state();
        }
    }

    /// Lets the FIN go out behind the peer's, if it is to and can: in LAST-ACK smoltcp is deaf to a
    /// window that opens, so it only gets there when the rest fits into what is open.
    pub(crate) fn finish_in_time(&mut self) {
        let socket = self.peek();
        let fits = socket.send_queue() <= self.window;
        if self.ends && socket.state() == State::CloseWait && fits {
            self.socket().close();
            self.seen = self.peek().state();
        }
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

    /// Notes what an outgoing segment says: the numbers that TIME-WAIT will need. Tells whether it
    /// was sent before.
    pub(crate) fn note_sent(&mut self, segment: &Segment, now: Instant) -> bool {
        let statistics = &mut self.statistics;
        let mut again = false;
        let end = segment.end();
        let first = statistics.segments_out == 0;
        if first || (segment.length != 1 && end.wrapping_sub(self.sent_next).cast_signed() > 0) {
            self.sent_next = end;
        }
        if end.wrapping_sub(self.send_next).cast_signed() > 0 || statistics.segments_out == 0 {
            self.send_next = end;
            if statistics.probe.is_none() && end != segment.sequence {
                statistics.probe = Some((end, now));
            }
            statistics.sent += segment.length as u64;
        } else if segment.length > 0 {
            again = true;
            statistics.retransmits = statistics.retransmits.saturating_add(1);
            statistics.probe = None;
        }
        if segment.flags & ACK != 0 {
            self.receive_next = segment.acknowledges;
        }
        statistics.segments_out = statistics.segments_out.wrapping_add(1);
        again
    }

    /// The number that a bare acknowledgement must have when smoltcp gave it an older one.
    ///
    /// To send again, smoltcp goes back with the number of all it sends. When both sides do so, each
    /// drops the acknowledgements of the other as old, and both send the same again for ever. What
    /// was sent stays sent (SND.NXT in RFC 9293, 3.4).
    pub(crate) fn newest(&self, segment: &Segment) -> Option<u32> {
        let bare = segment.length == 0 && segment.is(SYN | FIN | RST | ACK, ACK);
        let behind = self.sent_next.wrapping_sub(segment.sequence).cast_signed() > 0;
        (bare && behind).then_some(self.sent_next)
    }

    /// Whether a bare acknowledgement has a number that smoltcp drops although it says something.
    ///
    /// It may be ahead by data for which there was no room; or behind by the byte with which its
    /// sender probed our window, which smoltcp does not count as sent: when such probes cross and
    /// both find room, neither would ever hear of it. What says nothing new is a probe itself.
    pub(crate) fn misplaced(&self, segment: &Segment) -> bool {
        let ahead = segment.sequence.wrapping_sub(self.receive_next);
        let news =
            segment.acknowledges != self.acknowledged || usize::from(segment.window) != self.window;
        let narrow = self.peek().recv_capacity() - self.peek().recv_queue() < NARROW;
        (narrow && (1..=0xffff).contains(&ahead)) || (news && ahead == u32::MAX)
    }

    /// Whether nothing was sent since the last segment with data came.
    pub(crate) fn only_listens(&mut self) -> bool {
        let sent = self.statistics.sent;
        std::mem::replace(&mut self.sent_before, sent) == sent
    }

    /// Notes an incoming segment: for the round-trip time and the timeouts.
    pub(crate) fn note_received(&mut self, segment: &Segment, now: Instant) {
        self.heard = now;
        self.window = usize::from(segment.window);
        self.acknowledged = segment.acknowledges;
        let statistics = &mut self.statistics;
        statistics.segments_in = statistics.segments_in.wrapping_add(1);
        statistics.received += segment.length as u64;
        if let Some((end, sent)) = statistics.probe
            && segment.flags & ACK != 0
            && segment.acknowledges.wrapping_sub(end).cast_signed() >= 0
        {
            statistics.probe = None;
            let sample = u32::try_from((now - sent).total_micros()).unwrap_or(u32::MAX).max(1);
            if statistics.rtt == 0 {
                (statistics.rtt, statistics.rttvar) = (sample, sample / 2);
            } else {
                let change = statistics.rtt.abs_diff(sample);
                statistics.rttvar = statistics.rttvar - statistics.rttvar / 4 + change / 4;
                statistics.rtt = statistics.rtt - statistics.rtt / 8 + sample / 8;
            }
        }
    }
}
