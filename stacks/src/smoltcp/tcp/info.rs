//! TCP options that tell about or change a connection, `TCP_INFO` above all (tcp(7)).

use smoltcp::socket::tcp::State;
use umvu_abi::Errno;

use super::{
    super::inner::Inner,
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
        if let Some(index) = device {
            sock.options.set_device(index);
        }
        if (level, name) == (libc::SOL_IPV6, libc::IPV6_V6ONLY) && sock.bound.is_some() {
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
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
                let sock = self.tcp.socks.get(id).ok_or(Errno::EBADF)?;
                let listens = i32::from(matches!(sock.phase, Phase::Listening(_)));
                return Ok(listens.to_ne_bytes().to_vec());
            }
            (libc::SOL_TCP, libc::TCP_INFO) => {
                let listening = self
                    .tcp
                    .socks
                    .get(id)
                    .is_some_and(|sock| matches!(sock.phase, Phase::Listening(_)));
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
            SIOCOUTQ | SIOCOUTQNSD => {
                self.tcp_flow(id).map_or(0, |(_, flow)| flow.peek().send_queue())
            }
            SIOCINQ => self.tcp_flow(id).map_or(0, |(_, flow)| flow.peek().recv_queue()),
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
    let own = u16::try_from(mtu.saturating_sub(header)).unwrap_or(u16::MAX);
    match flow.statistics.peer_mss {
        0 => own,
        peer => own.min(peer),
    }
}

/// A `struct tcp_info`; what smoltcp does not tell is filled with plausible values.
fn tcp_info(
    flow: Option<&Flow>,
    listening: bool,
    mtu: usize,
    now: smoltcp::time::Instant,
) -> Vec<u8> {
    const SIZE: usize = 248;
    let mut info = vec![0u8; SIZE];
    let Some(flow) = flow else {
        info[0] = if listening { 10 } else { 7 };
        return info;
    };
    let mut put = |at: usize, value: u64, bytes: usize| {
        info[at..at + bytes].copy_from_slice(&value.to_ne_bytes()[..bytes]);
    };
    let statistics = &flow.statistics;
    let socket = flow.peek();
    let segment = u64::from(maximum_segment(flow, mtu));
    let quiet = (now - flow.heard).total_millis();
    put(0, u64::from(state_number(socket.state())), 1);
    // Options in use: SACK and window scaling; the scales.
    put(5, 2 | 4, 1);
    put(6, 0x44, 1);
    put(8, 1_000_000u64.max(u64::from(statistics.rtt) * 3), 4);
    put(12, 10_000, 4);
    put(16, segment, 4);
    put(20, segment, 4);
    put(24, socket.send_queue() as u64 / segment.max(1), 4);
    for at in [44, 52, 56] {
        put(at, quiet, 4);
    }
    put(60, mtu as u64, 4);
    put(64, socket.recv_capacity() as u64, 4);
    put(68, u64::from(statistics.rtt), 4);
    put(72, u64::from(statistics.rttvar), 4);
    put(76, 0x7fff_ffff, 4);
    put(80, (socket.send_capacity() as u64 / segment.max(1)).max(10), 4);
    put(84, segment, 4);
    put(88, 3, 4);
    put(96, socket.recv_capacity() as u64, 4);
    put(100, u64::from(statistics.retransmits), 4);
    put(104, u64::MAX, 8);
    put(112, u64::MAX, 8);
    put(120, statistics.sent.saturating_sub(socket.send_queue() as u64), 8);
    put(128, statistics.received, 8);
    put(136, u64::from(statistics.segments_out), 4);
    put(140, u64::from(statistics.segments_in), 4);
    put(144, socket.send_queue() as u64, 4);
    put(148, u64::from(statistics.rtt), 4);
    put(200, statistics.sent, 8);
    info
}
