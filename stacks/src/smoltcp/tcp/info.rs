//! TCP options that tell about or change a connection, `TCP_INFO` above all (tcp(7)).

use netlink_emu::values::TcpDetails;
use smoltcp::{socket::tcp::State, time::Instant};
use umvu_abi::Errno;

use super::{
    super::{dgram::filter::set_filter, inner::Inner},
    flow::Flow,
    sock::{Phase, SockId},
};

impl Inner {
    /// setsockopt(2).
    pub(crate) fn tcp_set_option(
        &mut self,
        id: SockId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let device = self.device_option(level, name, value)?;
        let sock = self.tcp.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if level == libc::SOL_SOCKET
            && let Some(done) = set_filter(&sock.options, &mut sock.filter, name, value)
        {
            return done;
        }
        if let Some(index) = device {
            sock.options.set_device(index);
        }
        if (level, name) == (libc::SOL_IPV6, libc::IPV6_V6ONLY) && sock.bound.is_some() {
            return Err(Errno::EINVAL);
        }
        if (level, name) == (libc::SOL_TCP, libc::TCP_WINDOW_CLAMP)
            && value.first_chunk() == Some(&[0; 4])
            && !matches!(sock.phase, Phase::Fresh | Phase::Refused(_))
        {
            return Err(Errno::EINVAL);
        }
        sock.options.set(level, name, value)?;
        let (tuning, flow, bound) = (sock.options.tuning(), sock.flow(), sock.bound);
        let sharing = sock.options.sharing(matches!(sock.phase, Phase::Listening(_)));
        if let Some((_, port)) = bound {
            let owner = super::calls::owner_number(id);
            let _ = self.tcp.ports.share(port, owner, sharing);
        }
        if let Some(flow) = flow
            && let Some(entry) = self.tcp.flows.get_mut(flow)
        {
            let reuse = entry.tuning.reuse;
            entry.tune(super::flow::Tuning { reuse, ..tuning });
            self.tcp.touch(flow);
        }
        Ok(())
    }

    /// getsockopt(2).
    pub(crate) fn tcp_option(
        &mut self,
        id: SockId,
        level: i32,
        name: i32,
    ) -> Result<Vec<u8>, Errno> {
        let now = self.now;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => {
                let sock = self.tcp.socks.get_mut(id).ok_or(Errno::EBADF)?;
                let errno = sock.error.take().map_or(0, |errno| errno.0);
                if matches!(sock.phase, Phase::Refused(_)) {
                    sock.phase = Phase::Fresh;
                }
                return Ok(errno.to_ne_bytes().to_vec());
            }
            (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_RCVBUF) => {
                let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
                let knob = if name == libc::SO_SNDBUF { "ipv4.tcp_wmem" } else { "ipv4.tcp_rmem" };
                if let (None, Some(size)) = (sock.options.asked_buffer(name), self.second_of(knob))
                {
                    return Ok(size.to_ne_bytes().to_vec());
                }
            }
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => {
                let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
                return Ok(self.device_name(sock.options.device()));
            }
            (libc::SOL_SOCKET, libc::SO_GET_FILTER) => {
                let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
                return Ok(sock.filter.as_ref().map(|filter| filter.encode()).unwrap_or_default());
            }
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
                return Ok(i32::from(self.tcp_listens(id)).to_ne_bytes().to_vec());
            }
            (libc::SOL_TCP, libc::TCP_INFO) => {
                let listening = self.tcp_listens(id);
                let mtu = self.tcp_mtu(id);
                let flow = self.tcp_flow(id).map(|(_, flow)| &*flow);
                return Ok(tcp_info(flow, listening, mtu, now));
            }
            (libc::SOL_TCP, libc::TCP_MAXSEG) if self.tcp_flow(id).is_some() => {
                let mtu = self.tcp_mtu(id);
                let flow = self.tcp_flow(id).map(|(_, flow)| &*flow);
                let segment = flow.map_or(536, |flow| maximum_segment(flow, mtu));
                return Ok(i32::from(segment).to_ne_bytes().to_vec());
            }
            (libc::SOL_IP, libc::IP_MTU) | (libc::SOL_IPV6, libc::IPV6_MTU) => {
                self.tcp_flow(id).ok_or(Errno::ENOTCONN)?;
                let mtu = i32::try_from(self.tcp_mtu(id)).unwrap_or(i32::MAX);
                return Ok(mtu.to_ne_bytes().to_vec());
            }
            _ => {}
        }
        self.tcp.socks.get(id).ok_or(Errno::EBADF)?.options.get(level, name)
    }

    fn tcp_listens(&self, id: SockId) -> bool {
        self.tcp.socks.get(id).is_some_and(|sock| matches!(sock.phase, Phase::Listening(_)))
    }

    /// The middle one of three numbers: what a buffer has at first.
    fn second_of(&self, knob: &str) -> Option<i32> {
        self.net.config.sysctl(knob)?.split_whitespace().nth(1)?.parse().ok()
    }

    fn tcp_mtu(&mut self, id: SockId) -> usize {
        let link = self.tcp_flow(id).map(|(_, flow)| flow.path.link);
        link.and_then(|link| self.links.get(link)).map_or(1500, |link| link.mtu)
    }

    /// ioctl(2): what waits in the queues.
    pub(crate) fn tcp_ioctl(
        &mut self,
        id: SockId,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i32, Errno> {
        const SIOCOUTQ: u32 = 0x5411;
        const SIOCINQ: u32 = 0x541b;
        const SIOCOUTQNSD: u32 = 0x894b;
        const SIOCATMARK: u32 = 0x8905;
        let count = match request {
            SIOCOUTQ => self.tcp_flow(id).map_or(0, |(_, flow)| flow.sender.queued()),
            SIOCOUTQNSD => {
                let unsent = self.tcp_flow(id).map_or(0, |(_, flow)| flow.sender.unsent());
                usize::try_from(unsent).unwrap_or(usize::MAX)
            }
            SIOCINQ => self.tcp_flow(id).map_or(0, |(_, flow)| flow.receiver.queued()),
            SIOCATMARK => 0,
            _ => return Err(Errno::ENOTTY),
        };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        argument.clear();
        argument.extend_from_slice(&count.to_ne_bytes());
        Ok(0)
    }
}

/// The number that `/proc/net/tcp`, sock_diag and TCP_INFO give a state.
pub(crate) fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}

/// The largest segment of a connection.
pub(crate) fn maximum_segment(flow: &Flow, mtu: usize) -> u16 {
    let header = if flow.key.local().is_ipv4() { 40 } else { 60 };
    let header = header + flow.overhead();
    let own = u16::try_from(mtu.min(flow.most).saturating_sub(header)).unwrap_or(u16::MAX);
    match flow.sender.offer().mss {
        None | Some(0) => own,
        Some(peer) => own.min(peer - u16::try_from(flow.overhead()).unwrap_or(0).min(peer)),
    }
}

/// What TCP_INFO and sock_diag tell of a connection.
pub(crate) fn details(flow: &Flow, mtu: usize, now: Instant) -> TcpDetails {
    let (receiver, sender) = (&flow.receiver, &flow.sender);
    let (statistics, counts, state) = (&flow.statistics, &sender.counts, sender.state());
    let own = u32::from(maximum_segment(flow, mtu));
    let quiet = short((now - flow.heard).total_millis());
    let offer = sender.offer();
    let (space, receive_rtt) = receiver.pace();
    let options = u8::from(flow.times.are_on())
        | if offer.sack { 2 } else { 0 }
        | if offer.scale.is_some() { 4 } else { 0 };
    let send_mss = if sender.is_open() { short(state.mss) } else { own };
    TcpDetails {
        control: sender.control_name(),
        state: state_number(flow.state()),
        ca_state: state.mode,
        retransmits: u8::try_from(counts.backoff).unwrap_or(u8::MAX),
        backoff: u8::try_from(counts.backoff).unwrap_or(u8::MAX),
        options,
        scales: (receiver.shift(), offer.scale.unwrap_or(0)),
        rto: short(state.timeout),
        ato: 10_000,
        send_mss,
        receive_mss: short(receiver.mss()),
        unacked: short(state.unacknowledged),
        sacked: short(state.sacked),
        lost: short(state.lost),
        retrans: short(state.repeated),
        last_data_sent: short(sender.quiet(now).total_millis()),
        last_data_received: quiet,
        last_ack_received: quiet,
        pmtu: u32::try_from(mtu.min(flow.most)).unwrap_or(u32::MAX),
        receive_size: short(receiver.size()),
        receive_space: short(space),
        receive_rtt: short(receive_rtt),
        rtt: short(sender.rtt.smooth),
        rtt_variation: short(sender.rtt.variation),
        ssthresh: state.threshold.map_or(0x7fff_ffff, short),
        cwnd: short(state.window),
        reordering: short(sender.rack.degree.div_ceil(u64::from(send_mss.max(1)))).clamp(3, 300),
        retransmitted: counts.retransmits,
        pacing_rate: state.pacing.unwrap_or(u64::MAX),
        bytes_acked: counts.acknowledged,
        bytes_received: receiver.counts.received,
        segments_out: statistics.segments_out,
        segments_in: statistics.segments_in,
        not_sent: short(sender.unsent()),
        min_rtt: short(sender.rtt.least),
        data_segments_in: statistics.data_segments_in,
        data_segments_out: counts.segments,
        delivery_rate: counts.rate,
        delivered: short(counts.delivered / u64::from(send_mss.max(1))),
        bytes_sent: counts.sent,
        bytes_retransmitted: counts.resent,
        needless: counts.needless,
        reordered: u32::from(sender.rack.reordering),
        beyond: receiver.counts.beyond,
        peer_window: short(state.peer_window),
        ..TcpDetails::default()
    }
}

fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A `struct tcp_info`.
fn tcp_info(flow: Option<&Flow>, listening: bool, mtu: usize, now: Instant) -> Vec<u8> {
    let state = if listening { 10 } else { 7 };
    let none = || TcpDetails { state, ..TcpDetails::default() };
    let mut info = flow.map_or_else(none, |flow| details(flow, mtu, now)).encode();
    info.resize(248, 0);
    info
}
