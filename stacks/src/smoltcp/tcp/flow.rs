//! One TCP connection: a smoltcp socket alone in its set, and what the stack keeps beside it.

use smoltcp::{
    socket::tcp::{Socket, State},
    time::{Duration, Instant},
};
use umvu_abi::Errno;

use super::{
    super::{neighbour::Mac, slab::Id},
    engine::Engine,
    key::FlowKey,
    memory::Pressure,
    options::{Blocks, Offer, Options, STAMPED},
    receiver::Receiver,
    segment::Segment,
    sender::{Said, Sender, control::Algorithm},
    sock::SockId,
    times::{Times, millis},
};

pub(crate) type FlowId = Id<Flow>;

/// Bytes a connection may hold in each direction at first, unless SO_SNDBUF or SO_RCVBUF say
/// otherwise.
pub(crate) const BUFFER: usize = 512 * 1024;

/// What the send buffer may grow to when the path holds so much (in Linux `tcp_wmem`).
const GROWN: usize = 6 << 20;

/// From this round-trip time on a path is long wherever it leads: something delays.
const LONG: Duration = Duration::from_millis(1);

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
    /// The mark of its packets (`SO_MARK`).
    pub(crate) mark: u32,
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
    /// SO_RCVBUF was not set: it may grow.
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
    /// TCP_DEFER_ACCEPT: a listener's connections wait so long for data.
    pub(crate) defer: Option<Duration>,
    /// TCP_MAXSEG, 0 for none.
    pub(crate) max_segment: usize,
    /// TCP_CONGESTION.
    pub(crate) congestion: Algorithm,
    /// TCP_USER_TIMEOUT, or how long Linux goes on by default.
    pub(crate) user_timeout: Duration,
    /// SO_REUSEADDR.
    pub(crate) reuse: bool,
}

/// What the stack does at all in its connections (sysctls of `net.ipv4`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// `tcp_sack`.
    pub(crate) sack: bool,
    /// `tcp_window_scaling`.
    pub(crate) scaling: bool,
    /// `tcp_timestamps`, and what our clock begins with.
    pub(crate) stamps: Option<u32>,
    /// What a receive buffer may grow to (`tcp_rmem`).
    pub(crate) most: usize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Both ends.
    pub(crate) key: FlowKey,
    /// The handshake and the states.
    pub(crate) engine: Engine,
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
    /// The receiving half.
    pub(crate) receiver: Receiver,
    /// Timestamps of both.
    pub(crate) times: Times,
    /// What may be agreed upon in the handshake.
    terms: Terms,
    /// It is open, but its listener waits for data.
    pub(crate) deferred: bool,
    /// Keep-alive probes that were not answered.
    pub(crate) probes: u32,
    /// It stopped although it has more to send now.
    pub(crate) stopped: bool,
    /// The bytes sent when the last segment with data came.
    sent_before: u64,
    /// When our SYN was sent, while it was sent once.
    syn: Option<Instant>,
    /// No longer in the tables: the socket only holds received bytes.
    pub(crate) parked: bool,
    /// What TCP_INFO tells.
    pub(crate) statistics: Statistics,
}

/// Measurements for TCP_INFO.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statistics {
    /// Packets.
    pub(crate) segments_out: u32,
    pub(crate) segments_in: u32,
    pub(crate) data_segments_in: u32,
}

impl Flow {
    /// Makes a connection that has neither sent nor received anything.
    pub(crate) fn new(
        key: FlowKey,
        owner: Owner,
        path: Path,
        (tuning, terms): (Tuning, Terms),
        now: Instant,
    ) -> Self {
        let most = if tuning.widens { terms.most } else { tuning.receive };
        let first = if tuning.widens { tuning.receive.min(most) } else { tuning.receive };
        let mut flow = Self {
            key,
            engine: Engine::new(),
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
            receiver: Receiver::new(first, most),
            times: Times::new(terms.stamps.is_some(), terms.stamps.unwrap_or(0)),
            terms,
            deferred: false,
            probes: 0,
            stopped: false,
            sent_before: 0,
            syn: None,
            parked: false,
            statistics: Statistics::default(),
        };
        flow.tune(tuning);
        flow
    }

    /// Ends a connection, keeping what can be used again.
    pub(crate) fn recycle(self) {
        self.engine.recycle();
    }

    /// The smoltcp socket.
    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.engine.socket()
    }

    /// Its state.
    pub(crate) fn state(&self) -> State {
        self.engine.state()
    }

    /// Whether the guest may still send.
    pub(crate) fn may_send(&self) -> bool {
        matches!(self.state(), State::Established | State::CloseWait) && !self.sender.ends()
    }

    /// Whether the way is long enough for buffers to grow.
    pub(crate) fn is_far(&self) -> bool {
        self.path.far || self.sender.rtt.least >= LONG.total_micros()
    }

    /// The most bytes that may wait to be sent or acknowledged.
    pub(crate) fn send_limit(&self) -> usize {
        let limit = Pressure::now().bound(self.limit);
        if !self.tuning.grows || !self.is_far() || limit < self.limit {
            return limit;
        }
        // As much as the path holds, and a little that comes next.
        let flight = usize::try_from(self.sender.capacity()).unwrap_or(GROWN);
        (flight + flight / 4 + self.limit / 4).clamp(self.limit, GROWN)
    }

    /// How many more bytes may wait to be sent.
    pub(crate) fn send_room(&self) -> usize {
        self.send_limit().saturating_sub(self.sender.queued())
    }

    /// Applies options; the receive buffer of a connection never changes by them.
    pub(crate) fn tune(&mut self, tuning: Tuning) {
        self.limit = tuning.send;
        if tuning.nodelay && !self.tuning.nodelay {
            self.sender.push();
        }
        self.tuning = Tuning { receive: self.tuning.receive, ..tuning };
        self.sender.set_algorithm(tuning.congestion);
        if tuning.max_segment > 0 {
            let headers = if self.key.local().is_ipv4() { 40 } else { 60 };
            self.most = self.most.min(tuning.max_segment + headers);
        }
    }

    /// Ends the sending side: a FIN follows the last byte.
    pub(crate) fn finish(&mut self) {
        self.sender.finish();
        self.socket().close();
        self.seen = self.state();
    }

    /// Whether smoltcp must hear of an acknowledgement that the sending half has taken: only that
    /// of our FIN changes a state.
    pub(crate) fn changes_by(&self, said: Said) -> bool {
        let waits = matches!(self.state(), State::FinWait1 | State::Closing | State::LastAck);
        said == Said::Fin && waits
    }

    /// Whether the peer may still send data.
    pub(crate) fn takes_data(&self) -> bool {
        matches!(self.state(), State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether the peer can still be sent to or heard of.
    pub(crate) fn is_live(&self) -> bool {
        !self.parked && self.seen != State::Closed
    }

    /// Whether the peer's FIN came and all before it has been read.
    pub(crate) fn at_end(&self) -> bool {
        self.receiver.queued() == 0
            && matches!(
                self.state(),
                State::CloseWait
                    | State::LastAck
                    | State::Closing
                    | State::TimeWait
                    | State::Closed
            )
    }

    /// Notes that our SYN is sent.
    pub(crate) fn syn_sent(&mut self, sequence: u32, now: Instant) {
        self.syn = (self.statistics.segments_out == 0).then_some(now);
        self.sender.syn_sent(sequence);
    }

    /// What our SYN offers: all, or what the peer's SYN has offered too.
    pub(crate) fn offer(&self, mss: u16, answers: bool) -> Offer {
        let peer = self.sender.offer();
        let scale = self.terms.scaling && (!answers || peer.scale.is_some());
        Offer {
            mss: Some(mss),
            scale: scale.then_some(self.receiver.shift()),
            sack: self.terms.sack && (!answers || peer.sack),
        }
    }

    /// Takes the peer's SYN: what both sides offer is agreed upon.
    pub(crate) fn agree(&mut self, segment: &Segment, options: &Options, now: Instant) {
        let Some(offer) = options.offer else { return };
        let Terms { sack, scaling, .. } = self.terms;
        let scale = offer.scale.filter(|_| scaling);
        self.sender.syn_received(Offer { sack: offer.sack && sack, scale, ..offer });
        self.receiver.syn_received(segment.sequence, scale.is_some());
        self.times.agree(options.stamps, now);
    }

    /// Bytes of options that every segment has.
    pub(crate) fn overhead(&self) -> usize {
        if self.times.are_on() { STAMPED } else { 0 }
    }

    /// The handshake is complete: both halves can begin.
    pub(crate) fn open(&mut self, mss: u64, segment: &Segment, now: Instant) {
        self.sender.start(mss);
        let took = self.syn.take().map(|sent| now - sent);
        if let Some(took) = took {
            self.sender.rtt.sample(took, now);
        }
        self.receiver.start(took, mss, now);
        self.sender.acknowledged(segment, &Blocks::default(), None, now);
    }

    /// Notes the round trip that the echo of a timestamp tells of.
    pub(crate) fn note_round_trip(&mut self, segment: &Segment, echo: u32, now: Instant) {
        let took = millis(now).wrapping_sub(echo);
        // A clock that is so wrong tells nothing.
        if took < 1 << 30 {
            self.receiver.note_round_trip(Duration::from_millis(took.into()), segment.length);
        }
    }

    /// When to send a keep-alive probe next.
    pub(crate) fn keepalive_due(&self) -> Option<Instant> {
        let (idle, interval, _) = self.tuning.keepalive?;
        let quiet = self.sender.is_open() && !self.sender.is_busy();
        quiet.then(|| self.heard + idle + interval * self.probes)
    }

    /// Whether nothing was sent since the last segment with data came.
    pub(crate) fn only_listens(&mut self) -> bool {
        let sent = self.sender.counts.sent;
        std::mem::replace(&mut self.sent_before, sent) == sent
    }

    /// Notes an incoming segment.
    pub(crate) fn note_received(&mut self, segment: &Segment, now: Instant) {
        self.heard = now;
        self.probes = 0;
        let statistics = &mut self.statistics;
        statistics.segments_in = statistics.segments_in.wrapping_add(1);
        let data = u32::from(segment.length > 0);
        statistics.data_segments_in = statistics.data_segments_in.wrapping_add(data);
    }
}
