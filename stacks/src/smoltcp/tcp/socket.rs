//! The bridge's side of a TCP socket.

use std::{fmt, io, sync::Arc};

use umvu_abi::{
    Errno, SockAddr,
    net::{Accepted, Socket, SocketEvents, StreamSocket, StreamState},
};

use super::{
    super::{inner::Inner, shared::Shared},
    sock::{Phase, SockId},
};

/// A TCP socket of a stack.
pub(crate) struct TcpSocket {
    shared: Arc<Shared>,
    id: SockId,
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpSocket({:?})", self.id)
    }
}

impl TcpSocket {
    /// Wraps a socket of the stack.
    pub(crate) fn new(shared: Arc<Shared>, id: SockId) -> Self {
        Self { shared, id }
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        // Of one that is closed already nothing follows.
        if !self.shared.look(|inner| inner.tcp_forget_closed(self.id)) {
            self.shared.with(|inner| inner.tcp_forget(self.id));
        }
    }
}

impl Socket for TcpSocket {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.shared.look(|inner| inner.tcp_bind(self.id, addr))
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        self.shared.glance(|inner| inner.tcp_local(self.id))
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        self.shared.glance(|inner| inner.tcp_peer(self.id))
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.shared.with(|inner| inner.tcp_set_option(self.id, level, name, value))
    }

    fn option(&self, level: i32, name: i32, _given: &[u8]) -> Result<Vec<u8>, Errno> {
        self.shared.look(|inner| inner.tcp_option(self.id, level, name))
    }

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.shared.look(|inner| inner.tcp_ioctl(self.id, request, argument))
    }

    fn take_error(&self) -> Option<Errno> {
        self.shared.look(|inner| inner.tcp_take_error(self.id))
    }

    fn close(&self) {
        self.shared.with(|inner| inner.tcp_close(self.id));
    }
}

impl StreamSocket for TcpSocket {
    fn state(&self) -> StreamState {
        self.shared.glance(|inner| inner.tcp_state(self.id))
    }

    fn connect(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.shared.with(|inner| inner.tcp_connect(self.id, addr))
    }

    fn listen(&self, backlog: u32) -> Result<(), Errno> {
        self.shared.look(|inner| inner.tcp_listen(self.id, backlog))
    }

    fn accept(&self, events: &mut dyn FnMut() -> Arc<dyn SocketEvents>) -> Option<Accepted> {
        if !self.shared.glance(|inner| inner.tcp_acceptable(self.id)) {
            return None;
        }
        let observer = events();
        let (id, peer) = self.shared.with(|inner| inner.tcp_accept(self.id, observer))?;
        Some(Accepted { socket: Arc::new(Self::new(Arc::clone(&self.shared), id)), peer })
    }

    fn asked_buffer(&self, option: i32) -> Option<i32> {
        let asked = |inner: &Inner| inner.tcp.socks.get(self.id)?.options.asked_buffer(option);
        self.shared.glance(asked)
    }

    fn transmit(&self, fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.shared.with(|inner| inner.tcp_transmit(self.id, false, fill))
    }

    fn transmit_more(
        &self,
        fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.shared.with(|inner| inner.tcp_transmit(self.id, true, fill))
    }

    fn receive(&self, drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        if !self.shared.glance(|inner| inner.tcp_has_received(self.id)) {
            return Ok(0);
        }
        self.shared.with(|inner| inner.tcp_receive(self.id, drain))
    }

    fn mark_urgent(&self) {
        self.shared.look(|inner| {
            if let Some((_, flow)) = inner.tcp_flow(self.id) {
                flow.sender.urge();
            }
        });
    }

    fn receive_urgent(
        &self,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.shared.look(|inner| {
            let now = inner.now;
            let Some((_, flow)) = inner.tcp_flow(self.id) else { return Ok(0) };
            let taken = flow.receiver.read_urgent(drain, now)?;
            flow.told = flow.receiver.queued();
            Ok(taken)
        })
    }

    fn note_unread(&self, bytes: usize) {
        self.shared.look(|inner| {
            if let Some((_, flow)) = inner.tcp_flow(self.id) {
                flow.receiver.note_unread(bytes as u64);
            }
        });
    }

    fn finish(&self) -> Result<(), Errno> {
        self.shared.with(|inner| inner.tcp_finish(self.id))
    }

    fn reset(&self) {
        self.shared.with(|inner| inner.tcp_reset(self.id));
    }

    fn wants_data(&self) -> bool {
        self.shared.look(|inner| inner.tcp_wants_data(self.id))
    }
}

impl Inner {
    fn tcp_state(&self, id: SockId) -> StreamState {
        let Some(sock) = self.tcp.socks.get(id) else { return StreamState::Closed };
        match sock.phase {
            Phase::Fresh => StreamState::Fresh,
            Phase::Refused(errno) => StreamState::Refused(errno),
            Phase::Connecting(_) => StreamState::Connecting,
            Phase::Listening(_) => StreamState::Listening,
            Phase::Connected(flow) => StreamState::Established {
                peer_closed: self.tcp.flows.get(flow).is_some_and(super::flow::Flow::at_end),
            },
            Phase::Broken(errno, _) => StreamState::Broken(errno),
            Phase::Closed(flow)
                if self.tcp.flows.get(flow).is_some_and(|flow| flow.receiver.queued() > 0) =>
            {
                StreamState::Established { peer_closed: false }
            }
            Phase::Closed(_) | Phase::Over => StreamState::Closed,
        }
    }

    fn tcp_transmit(
        &mut self,
        id: SockId,
        more: bool,
        fill: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let now = self.now;
        let Some((flow_id, flow)) = self.tcp_flow(id) else {
            return Err(Errno::ENOTCONN.into());
        };
        flow.sender.expect_more(more);
        if !flow.may_send() {
            return Err(Errno::EPIPE.into());
        }
        let idle = !flow.sender.is_busy();
        let mut total = 0;
        loop {
            let (written, offered) = flow.sender.write(flow.send_room(), fill);
            let count = match written {
                Ok(count) => count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            };
            total += count;
            if count < offered || offered == 0 {
                break;
            }
        }
        if idle {
            flow.busy = now;
        }
        flow.starved |= flow.send_room() == 0;
        self.tcp.touch(flow_id);
        Ok(total)
    }

    fn tcp_receive(
        &mut self,
        id: SockId,
        drain: &mut dyn FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let now = self.now;
        let Some((flow_id, flow)) = self.tcp_flow(id) else {
            return Err(Errno::ENOTCONN.into());
        };
        let taken = flow.receiver.read(drain, now)?;
        flow.told = flow.receiver.queued();
        if !flow.parked {
            self.tcp.touch(flow_id);
        }
        Ok(taken)
    }

    /// Whether there is something to receive: bytes, or an error.
    fn tcp_has_received(&self, id: SockId) -> bool {
        let flow = self.tcp.socks.get(id).and_then(|sock| self.tcp.flows.get(sock.flow()?));
        flow.is_none_or(|flow| flow.receiver.queued() > 0)
    }

    fn tcp_wants_data(&mut self, id: SockId) -> bool {
        let Some((_, flow)) = self.tcp_flow(id) else { return false };
        let open = flow.may_send();
        let wants = open && flow.send_room() > 0;
        flow.starved |= open && !wants;
        wants
    }

    fn tcp_take_error(&mut self, id: SockId) -> Option<Errno> {
        let sock = self.tcp.socks.get_mut(id)?;
        if matches!(sock.phase, Phase::Refused(_)) {
            sock.phase = Phase::Fresh;
        }
        sock.error.take()
    }
}
