//! Segments from the IP layer: to their connection, a listener, a TIME-WAIT record, or refused.

use std::net::SocketAddr;

use smoltcp::{socket::tcp::State, time::Duration, wire::IpListenEndpoint};
use umvu_abi::Errno;

use super::{
    super::{
        dgram::filter::passes,
        inner::Inner,
        net::marked,
        packet::{IpHeader, payload_sum},
    },
    flow::{BUFFER, Flow, Owner, Path, Terms},
    key::FlowKey,
    segment::{ACK, FIN, RST, SYN, Segment},
    sock::{Phase, SockId},
    timewait::Verdict,
};

/// How long a handshake that a peer began may take (`tcp_synack_retries`).
const HANDSHAKE: Duration = Duration::from_secs(63);
/// Handshakes under way per listener, at least; beyond, a SYN is dropped and comes again.
const PENDING: usize = 128;

/// A packet as the IP layer hands it up.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// The link it came in by.
    pub(crate) link: usize,
    /// Its header.
    pub(crate) header: &'a IpHeader,
    /// The whole packet; whoever takes it may change it.
    pub(crate) ip: &'a mut [u8],
    /// Its checksum needs no check: it never left this machine.
    pub(crate) trusted: bool,
    /// It stands for several segments.
    pub(crate) long: bool,
}

impl Arrival<'_> {
    /// The payload.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.ip[self.header.payload..self.header.total]
    }

    /// Whether the checksum over pseudo header and payload is right.
    pub(crate) fn sums(&self) -> bool {
        let header = self.header;
        self.trusted
            || payload_sum(header.source, header.destination, header.protocol, self.payload())
                == 0xffff
    }
}

impl Inner {
    /// Takes a segment for an address of this stack.
    pub(crate) fn tcp_input(&mut self, arrival: &mut Arrival<'_>) {
        let Some(segment) = Segment::parse(arrival.payload()) else { return };
        if !arrival.sums() {
            return;
        }
        let header = arrival.header;
        let key = FlowKey::new(
            SocketAddr::new(header.destination, segment.destination),
            SocketAddr::new(header.source, segment.source),
        );
        if let Some(id) = self.tcp.demux.get(&key).copied() {
            let owner = self.tcp.flows.get(id).map(|flow| flow.owner);
            if let Some(Owner::Socket(owner) | Owner::Listener(owner)) = owner
                && !self.lets_in(owner, arrival)
            {
                return;
            }
            return self.flow_input(id, arrival.payload(), &segment, arrival.long);
        }
        if let Some(wait) = self.tcp.waits.get(&key) {
            match wait.judge(&segment) {
                Verdict::Ignore => return,
                Verdict::Answer(answer) => {
                    return self.answer_segment(arrival.link, header, &answer);
                }
                Verdict::Forget => return self.forget_wait(&key),
                Verdict::Renew if self.listener(header, &segment).is_some() => {
                    self.forget_wait(&key);
                }
                Verdict::Renew => return,
            }
        }
        if segment.is(SYN | ACK | RST | FIN, SYN)
            && let Some(sock) = self.open_listener(header, &segment)
        {
            if !self.lets_in(sock.0, arrival) {
                return;
            }
            return self.open_passive(sock, key, arrival, &segment);
        }
        // A listener answers nothing but a SYN and what acknowledges (RFC 9293, 3.10.7.2).
        if segment.is(ACK, 0) && self.listener(header, &segment).is_some() {
            return;
        }
        if let Some(reset) = segment.reset() {
            self.answer_segment(arrival.link, header, &reset);
        }
    }

    /// Forgets a TIME-WAIT record.
    pub(crate) fn forget_wait(&mut self, key: &FlowKey) {
        if let Some(wait) = self.tcp.waits.remove(key) {
            self.tcp.leave_port(key.local().port(), wait.reuse);
        }
    }

    /// Whether the filter of a socket lets a packet in.
    fn lets_in(&self, owner: SockId, arrival: &Arrival<'_>) -> bool {
        let filter = self.tcp.socks.get(owner).and_then(|sock| sock.filter.as_ref());
        filter.is_none_or(|filter| {
            passes(filter, arrival, self.links.get(arrival.link).map_or(0, |link| link.index))
        })
    }

    /// The listener for a SYN that some guest still has, and how many connections wait there that
    /// the stack has given away; the others listen no longer.
    fn open_listener(&mut self, header: &IpHeader, segment: &Segment) -> Option<(SockId, usize)> {
        loop {
            let id = self.listener(header, segment)?;
            let sock = self.tcp.socks.get(id)?;
            let room = match &sock.phase {
                Phase::Listening(listener) => listener.backlog.saturating_sub(listener.ready.len()),
                _ => 0,
            };
            if let Some(waiting) = sock.events.waiting(room) {
                return Some((id, waiting));
            }
            self.tcp_reset(id);
        }
    }

    /// The listener for a SYN: the most specific one; of equals, one chosen by the peer's port.
    fn listener(&self, header: &IpHeader, segment: &Segment) -> Option<SockId> {
        let candidates = self.tcp.listeners.get(&segment.destination)?;
        let covering = |specific: bool| {
            candidates.iter().copied().filter(move |id| {
                self.tcp.socks.get(*id).and_then(|sock| sock.bound).is_some_and(|(host, _)| {
                    host.covers(header.destination) && host.ip().is_some() == specific
                })
            })
        };
        for specific in [true, false] {
            let count = covering(specific).count();
            if count > 0 {
                return covering(specific).nth(usize::from(segment.source) % count);
            }
        }
        None
    }

    fn open_passive(
        &mut self,
        (owner, waiting): (SockId, usize),
        key: FlowKey,
        arrival: &mut Arrival<'_>,
        segment: &Segment,
    ) {
        let Some(sock) = self.tcp.socks.get_mut(owner) else { return };
        let Phase::Listening(listener) = &mut sock.phase else { return };
        // Linux lets one more wait than the backlog says.
        if listener.ready.len() + waiting > listener.backlog
            || listener.pending >= listener.backlog.max(PENDING)
        {
            return;
        }
        listener.pending += 1;
        let (tuning, mark) = (sock.options.tuning(), sock.options.mark());
        let local = key.local();
        let device = self.scope_device(key.remote().ip(), arrival.link);
        let Ok(path) = self.path_to(key.remote().ip(), local.ip(), device, mark) else {
            return self.drop_pending(owner);
        };
        let terms = self.tcp_terms(&key);
        let mut flow = Flow::new(key, Owner::Listener(owner), path, (tuning, terms), self.now);
        let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
        if flow.socket().listen(endpoint).is_err() {
            return self.drop_pending(owner);
        }
        flow.seen = State::Listen;
        flow.deadline = Some(self.now + HANDSHAKE);
        let id = self.tcp.flows.insert(flow);
        self.tcp.demux.insert(key, id);
        self.tcp.use_port(local.port(), tuning.reuse);
        self.flow_input(id, arrival.payload(), segment, arrival.long);
    }

    fn drop_pending(&mut self, owner: SockId) {
        if let Some(sock) = self.tcp.socks.get_mut(owner)
            && let Phase::Listening(listener) = &mut sock.phase
        {
            listener.pending = listener.pending.saturating_sub(1);
        }
    }

    /// What a new connection may use.
    pub(crate) fn tcp_terms(&self, key: &FlowKey) -> Terms {
        let on = |name| self.net.number(name) != Some(0);
        let (sack, scaling) = (on("ipv4.tcp_sack"), on("ipv4.tcp_window_scaling"));
        // With 1, as the kernel has it, clocks begin anywhere; with 2 they do not. That of a pair of
        // ends never goes back: who remembers their last connection knows what is new by it.
        let stamps = match self.net.number("ipv4.tcp_timestamps") {
            Some(0) => None,
            Some(2) => Some(0),
            _ => Some(self.tcp.clock_of(key)),
        };
        let most = self.net.config.sysctl("ipv4.tcp_rmem");
        let most = most.and_then(|three| three.split_whitespace().nth(2)?.parse().ok());
        Terms { sack, scaling, stamps, most: most.unwrap_or(BUFFER) }
    }

    /// The path of a connection with both ends known. Errors: `ENETUNREACH`, `EHOSTUNREACH`.
    pub(crate) fn path_to(
        &self,
        remote: std::net::IpAddr,
        local: std::net::IpAddr,
        device: u32,
        mark: u32,
    ) -> Result<Path, Errno> {
        let hop = self.route_flow(&marked(remote, Some(local), device, mark))?;
        Ok(Path {
            link: hop.link,
            next: hop.next,
            mac: None,
            device,
            mark,
            far: self.links.get(hop.link).is_some_and(|link| !link.offload),
            generation: self.generation,
            neighbours: 0,
        })
    }

    /// Takes an ICMP error about a segment of ours: it ends a handshake.
    pub(crate) fn tcp_unreachable(&mut self, key: FlowKey, errno: Errno, info: u32) {
        if let Some(id) = self.tcp.demux.get(&key).copied()
            && let Some(flow) = self.tcp.flows.get_mut(id)
        {
            if errno == Errno::EMSGSIZE {
                // 576 and 1280 are what every path carries; a smaller claim is not believed.
                let least = if key.local().is_ipv4() { 552 } else { 1280 };
                let most = usize::try_from(info).unwrap_or(least).max(least);
                flow.most = flow.most.min(most);
            } else if matches!(flow.seen, State::SynSent | State::SynReceived) {
                self.flow_fail(id, errno);
            } else {
                flow.error = Some(errno);
            }
        }
    }
}
