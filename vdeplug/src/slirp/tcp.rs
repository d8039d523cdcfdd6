//! TCP: a guest's SYN waits until this host is connected; then smoltcp answers it in the name of the
//! far end, so that a refusal there is a refusal here.

use std::{
    borrow::Cow, cmp::Reverse, collections::BinaryHeap, fmt, io, net::SocketAddr, num::NonZeroU16,
};

use nix::{errno::Errno, sys::epoll::EpollFlags};
use smoltcp::{
    iface::Interface,
    phy::DeviceCapabilities,
    time::{Duration, Instant},
};

use super::{
    flow::{Engines, Fate, Flow, Key, Stage, begins},
    nat::{Arrival, Nat, Work},
    options::Behind,
    place::{Place, loopback},
    stream::Stream,
};
use crate::{
    frame::Offload,
    ip::{
        device::{self, Port, Produced, Segmentation},
        hash::Map,
        icmp::Trouble,
        packet::{HEADROOM, TCP},
        segment::{RST, Segment},
    },
};

/// Connections of a network.
const MOST: usize = 16_384;
/// Packets that a connection may send in one turn.
const TURN: usize = 16;
/// When to look again at what smoltcp would send and did not.
const RETRY: Duration = Duration::from_millis(1);
const DNS: u16 = 53;

/// All connections.
pub(super) struct Tcp {
    flows: Map<u64, Flow>,
    demux: Map<Key, u64>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    engines: Engines,
    caps: DeviceCapabilities,
    interface: Interface,
    produced: Vec<Produced>,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("flows", &self.flows).finish_non_exhaustive()
    }
}

impl Tcp {
    pub(super) fn new(mtu: usize, seed: u64) -> Self {
        let (caps, interface) =
            device::engine(mtu, Segmentation::Offloaded, seed, Instant::from_secs(1));
        Self {
            flows: Map::default(),
            demux: Map::default(),
            timers: BinaryHeap::new(),
            engines: Engines::default(),
            caps,
            interface,
            produced: Vec::new(),
        }
    }

    /// When a connection needs time next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether a connection has these ends.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.demux.contains_key(key)
    }

    /// Whether there can be no more connections.
    pub(super) fn is_full(&self) -> bool {
        self.flows.len() >= MOST
    }
}

impl Nat {
    /// Takes a segment of a guest.
    pub(super) fn tcp_input(&mut self, arrival: &Arrival<'_>, place: Place) {
        let Some(segment) = Segment::parse(arrival.payload()) else { return };
        let header = arrival.header;
        let key = Key {
            guest: SocketAddr::new(header.source, segment.source),
            far: SocketAddr::new(header.destination, segment.destination),
        };
        if let Some(id) = self.tcp.demux.get(&key).copied() {
            return self.tcp_feed(id, arrival, &segment);
        }
        if place == Place::Group {
            return;
        }
        if begins(&segment) {
            match self.tcp_target(key.far, place) {
                Ok(stream) => self.tcp_open(key, stream, arrival),
                Err(error) => self.tcp_refuse(errno(&error), arrival),
            }
        } else {
            self.tcp_refuse(Errno::ECONNREFUSED, arrival);
        }
    }

    /// Begins to connect to what a guest asks for.
    fn tcp_target(&mut self, far: SocketAddr, place: Place) -> io::Result<Stream> {
        if self.tcp.is_full() {
            return Err(Errno::ECONNREFUSED.into());
        }
        if let Some(service) = self.config.services.iter().find(|service| service.at == far) {
            return match &service.what {
                Behind::Unix(path) => Stream::unix(path),
                Behind::Command(command) => Stream::command(command),
            };
        }
        match place {
            Place::Outside => Stream::connect(far),
            Place::Host if self.config.host_loopback => {
                Stream::connect(SocketAddr::new(loopback(far.ip()), far.port()))
            }
            Place::Resolver if far.port() == DNS => {
                Stream::connect(self.resolver.server().ok_or(Errno::ECONNREFUSED)?)
            }
            Place::Host | Place::Resolver | Place::Service => Err(Errno::ECONNREFUSED.into()),
            Place::Inside => Err(Errno::EHOSTUNREACH.into()),
            Place::Group | Place::Forbidden => Err(Errno::ENETUNREACH.into()),
        }
    }

    fn tcp_open(&mut self, key: Key, stream: Stream, arrival: &Arrival<'_>) {
        let stage = Stage::Connecting { syn: plain(arrival).into_owned() };
        self.tcp_insert(key, stage, stream);
    }

    /// Makes a connection; None if the kernel cannot watch its stream.
    fn tcp_insert(&mut self, key: Key, stage: Stage, stream: Stream) -> Option<u64> {
        let id = self.new_id();
        if let Err(error) = stream.watch(&self.epoll, Work::Tcp(id).token()) {
            tracing::debug!(%error, "cannot watch a connection");
            return None;
        }
        let flow = Flow::new(key, stage, stream, self.tcp.engines.take());
        self.tcp.flows.insert(id, flow);
        self.tcp.demux.insert(key, id);
        Some(id)
    }

    /// Leads a connection that somebody made to this host on to a guest.
    pub(super) fn tcp_forward(&mut self, key: Key, stream: Stream) {
        let Some(id) = self.tcp_insert(key, Stage::Joined, stream) else { return };
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        if !flow.connect(self.tcp.interface.context()) {
            return self.tcp_remove(id, Fate::Reset);
        }
        self.tcp_touch(id);
    }

    /// Answers what cannot be connected.
    fn tcp_refuse(&mut self, error: Errno, arrival: &Arrival<'_>) {
        let trouble = match error {
            Errno::ENETUNREACH | Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT => {
                Trouble::NetUnreachable
            }
            Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ETIMEDOUT
            | Errno::EACCES
            | Errno::EPERM => Trouble::HostUnreachable,
            _ => {
                let segment = Segment::parse(arrival.payload());
                if let Some(reset) = segment.and_then(|segment| segment.reset()) {
                    let bytes = reset.answer(arrival.header);
                    self.lan.send_segment(bytes, Offload::default(), self.now);
                }
                return;
            }
        };
        self.complain(trouble, arrival);
    }

    /// Gives a segment to its connection.
    fn tcp_feed(&mut self, id: u64, arrival: &Arrival<'_>, segment: &Segment) {
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        if let Stage::Connecting { .. } = flow.stage {
            // The SYN once more, or the guest has lost patience.
            if segment.is(RST, RST) {
                self.tcp_remove(id, Fate::Reset);
            }
            return;
        }
        self.tcp_ingress(id, &plain(arrival));
    }

    fn tcp_ingress(&mut self, id: u64, ip: &[u8]) {
        let Tcp { flows, caps, interface, produced, .. } = &mut self.tcp;
        let Some(flow) = flows.get_mut(&id) else { return };
        let mut port = Port { caps, incoming: Some(ip), produced };
        interface.poll_ingress_single(self.now, &mut port, &mut flow.engine.set);
        self.tcp_emit(id);
        self.tcp_touch(id);
    }

    /// Hears from the kernel about a connection's stream.
    pub(super) fn tcp_event(&mut self, id: u64, events: EpollFlags) {
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        let (input, output) = (EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, EpollFlags::EPOLLOUT);
        let end = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        flow.readable |= events.intersects(input | end);
        flow.writable |= events.intersects(output | end);
        if !matches!(flow.stage, Stage::Connecting { .. }) {
            return self.tcp_touch(id);
        }
        if let Some(error) = flow.stream.error() {
            return self.tcp_fail(id, error);
        }
        if let Stage::Connecting { syn } = std::mem::replace(&mut flow.stage, Stage::Joined) {
            if !flow.listen() {
                return self.tcp_remove(id, Fate::Reset);
            }
            self.tcp_ingress(id, &syn);
        }
    }

    /// Ends a connection that could not be made, and tells the guest.
    fn tcp_fail(&mut self, id: u64, error: Errno) {
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        let stage = std::mem::replace(&mut flow.stage, Stage::Joined);
        self.tcp_remove(id, Fate::Over);
        let Stage::Connecting { syn } = stage else { return };
        if let Some(header) = crate::ip::packet::IpHeader::parse(&syn) {
            self.tcp_refuse(error, &Arrival { header: &header, ip: &syn });
        }
    }

    /// Sees to it that a connection has a turn.
    fn tcp_touch(&mut self, id: u64) {
        if let Some(flow) = self.tcp.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.enqueue(Work::Tcp(id));
        }
    }

    /// Lets a connection move bytes and send.
    pub(super) fn tcp_turn(&mut self, id: u64) {
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        flow.queued = false;
        if matches!(flow.stage, Stage::Connecting { .. }) {
            return;
        }
        let more = flow.pump();
        let progress = self.tcp_egress(id);
        let Some(flow) = self.tcp.flows.get_mut(&id) else { return };
        // An acknowledgement may have been all that the end waited for.
        let fate = flow.fate();
        if fate != Fate::Goes {
            return self.tcp_remove(id, fate);
        }
        if more && progress {
            return self.tcp_touch(id);
        }
        self.tcp_schedule(id, progress);
    }

    /// Sends what may be sent, up to a bound; tells whether there was anything.
    fn tcp_egress(&mut self, id: u64) -> bool {
        let Tcp { flows, caps, interface, produced, .. } = &mut self.tcp;
        let Some(flow) = flows.get_mut(&id) else { return false };
        for _ in 0..TURN {
            let before = produced.len();
            let mut port = Port { caps, incoming: None, produced };
            interface.poll_egress(self.now, &mut port, &mut flow.engine.set);
            if produced.len() == before {
                break;
            }
        }
        self.tcp_emit(id)
    }

    /// Sends what smoltcp has produced for a connection.
    fn tcp_emit(&mut self, id: u64) -> bool {
        let most = self.tcp.flows.get(&id).map_or(usize::MAX, |flow| flow.most);
        let mut produced = std::mem::take(&mut self.tcp.produced);
        let progress = !produced.is_empty();
        for packet in produced.drain(..) {
            let mut offload = Offload { checksum_pending: true, segment_size: packet.segment };
            if packet.bytes.len() - HEADROOM > most {
                offload.segment_size = narrower(&packet, most);
            }
            self.lan.send_segment(packet.bytes, offload, self.now);
        }
        self.tcp.produced = produced;
        progress
    }

    fn tcp_schedule(&mut self, id: u64, progress: bool) {
        let now = self.now;
        let Tcp { flows, interface, timers, .. } = &mut self.tcp;
        let Some(flow) = flows.get_mut(&id) else { return };
        let Some(mut at) = interface.poll_at(now, &flow.engine.set) else { return };
        if at <= now {
            if progress {
                return self.tcp_touch(id);
            }
            at = now + RETRY;
        }
        if flow.scheduled.is_none_or(|scheduled| at < scheduled) {
            flow.scheduled = Some(at);
            timers.push(Reverse((at, id)));
        }
    }

    /// Gives those a turn whose time has come.
    pub(super) fn tcp_expire(&mut self) {
        while let Some(Reverse((at, id))) = self.tcp.timers.peek().copied() {
            if at > self.now {
                break;
            }
            self.tcp.timers.pop();
            if let Some(flow) = self.tcp.flows.get_mut(&id)
                && flow.scheduled == Some(at)
            {
                flow.scheduled = None;
                self.tcp_touch(id);
            }
        }
    }

    fn tcp_remove(&mut self, id: u64, fate: Fate) {
        let Some(flow) = self.tcp.flows.remove(&id) else { return };
        self.tcp.demux.remove(&flow.key);
        if fate == Fate::Reset {
            flow.stream.reset();
        }
        self.tcp.engines.give(flow.engine);
    }

    /// A router inside says that packets of a connection are too long.
    pub(super) fn tcp_narrow(&mut self, key: &Key, most: usize) {
        let id = self.tcp.demux.get(key).copied();
        if let Some(flow) = id.and_then(|id| self.tcp.flows.get_mut(&id)) {
            let least = if key.guest.is_ipv4() { 552 } else { 1280 };
            flow.most = flow.most.min(most.max(least));
        }
    }
}

/// The packet of a segment as smoltcp reads it: without what may stand behind the IPv6 header.
fn plain<'a>(arrival: &Arrival<'a>) -> Cow<'a, [u8]> {
    let header = arrival.header;
    if header.source.is_ipv4() || header.payload == 40 {
        return Cow::Borrowed(arrival.ip);
    }
    let payload = arrival.payload();
    let mut plain = arrival.ip[..40].to_vec();
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    plain[4..6].copy_from_slice(&length.to_be_bytes());
    plain[6] = TCP;
    plain.extend_from_slice(payload);
    Cow::Owned(plain)
}

/// The payload of the segments into which a packet is cut so that each fits into `most` bytes.
fn narrower(packet: &Produced, most: usize) -> Option<NonZeroU16> {
    let tcp = if packet.bytes[HEADROOM] >> 4 == 4 { 20 } else { 40 };
    let offset = packet.bytes.get(HEADROOM + tcp + 12)?;
    let room = most.saturating_sub(tcp + usize::from(offset >> 4) * 4);
    let size = u16::try_from(room).ok().and_then(NonZeroU16::new);
    [size, packet.segment].into_iter().flatten().min()
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
