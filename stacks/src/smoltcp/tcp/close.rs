//! How a connection is brought to its end: close(2), shutdown(2), RST.

use smoltcp::socket::tcp::State;
use umvu_abi::Errno;

use super::{
    super::inner::Inner,
    flow::FlowId,
    sock::{Listener, Phase, SockId},
};

impl Inner {
    /// Forgets a socket.
    pub(crate) fn tcp_forget(&mut self, id: SockId) {
        self.tcp_close(id);
        self.tcp.socks.remove(id);
    }

    /// Forgets a socket that is closed; tells whether it was.
    pub(crate) fn tcp_forget_closed(&mut self, id: SockId) -> bool {
        let closed = self.tcp.socks.get(id).is_none_or(|sock| matches!(sock.phase, Phase::Over));
        if closed {
            self.tcp.socks.remove(id);
        }
        closed
    }

    /// Ends a socket. Its options, names and pending error can still be asked for until it is
    /// forgotten: a guest may hold it although its connection is over.
    pub(crate) fn tcp_close(&mut self, id: SockId) {
        let Some(sock) = self.tcp.socks.get_mut(id) else { return };
        let bound = sock.bound.take();
        let lingers = !matches!(sock.options.linger(), Some(0));
        let phase = std::mem::replace(&mut sock.phase, Phase::Over);
        if let Some((_, port)) = bound {
            self.tcp.ports.release(port, super::calls::owner_number(id));
        }
        match phase {
            Phase::Fresh | Phase::Refused(_) | Phase::Over => {}
            Phase::Connecting(flow) | Phase::Broken(_, flow) | Phase::Closed(flow) => {
                self.flow_remove(flow);
            }
            Phase::Listening(listener) => {
                self.stop_listening(id, bound.map(|bound| bound.1), listener)
            }
            Phase::Connected(flow) => self.flow_close(flow, lingers),
        }
    }

    fn stop_listening(&mut self, id: SockId, port: Option<u16>, listener: Listener) {
        if let Some(port) = port
            && let Some(list) = self.tcp.listeners.get_mut(&port)
        {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.tcp.listeners.remove(&port);
            }
        }
        for flow in listener.ready {
            self.flow_abort(flow);
        }
        self.drop_handshakes(id);
    }

    /// Ends the handshakes that a listener leaves behind.
    fn drop_handshakes(&mut self, owner: SockId) {
        let left: Vec<FlowId> = self
            .tcp
            .flows
            .iter()
            .filter(|(_, flow)| flow.owner == super::flow::Owner::Listener(owner))
            .map(|(id, _)| id)
            .collect();
        for flow in left {
            self.flow_abort(flow);
        }
    }

    fn flow_close(&mut self, id: FlowId, lingers: bool) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        // Unread data is lost with the socket: Linux says so with a RST.
        if flow.receiver.queued() > 0 || !lingers {
            return self.flow_abort(id);
        }
        flow.finish();
        self.flow_orphan(id);
    }

    /// Ends a connection with RST and forgets it.
    pub(crate) fn flow_abort(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        if !flow.parked && flow.state() != State::Closed {
            flow.socket().abort();
            flow.seen = State::Closed;
            self.flow_send(id);
        }
        self.flow_remove(id);
    }

    /// Aborts a connection for the administrator: its socket learns of it (`ECONNABORTED`).
    pub(crate) fn flow_kill(&mut self, id: FlowId) {
        let Some(flow) = self.tcp.flows.get_mut(id) else { return };
        flow.socket().abort();
        flow.seen = State::Closed;
        self.flow_send(id);
        self.flow_fail(id, Errno::ECONNABORTED);
    }

    /// Drops the connection of a socket with RST, or stops listening; the socket stays, or can be
    /// used again when its connection was over.
    pub(crate) fn tcp_reset(&mut self, id: SockId) {
        let Some(sock) = self.tcp.socks.get_mut(id) else { return };
        let flow = sock.flow();
        if let Phase::Listening(listener) = &mut sock.phase {
            let listener = std::mem::take(listener);
            let port = sock.bound.map(|bound| bound.1);
            sock.phase = Phase::Fresh;
            self.stop_listening(id, port, listener);
            self.tcp_loosen(id);
        } else if let Some(flow) = flow {
            sock.phase = Phase::Fresh;
            self.tcp_loosen(id);
            self.flow_abort(flow);
        } else if let Phase::Over = sock.phase {
            sock.phase = Phase::Fresh;
            self.tcp_loosen(id);
        }
    }

    /// A socket has no connection any more: the port that was chosen for it is free, and it keeps the
    /// one that bind(2) named.
    pub(crate) fn tcp_loosen(&mut self, id: SockId) {
        let Some(sock) = self.tcp.socks.get_mut(id) else { return };
        let ends = sock.ends.take();
        if let Some(port) = sock.port().or(ends.map(|(local, _)| local.port())) {
            sock.last_port = port;
        }
        if let Some((host, port)) = sock.bound
            && !sock.keeps_port
        {
            sock.bound = host.ip().map(|_| (host, 0));
            self.tcp.ports.release(port, super::calls::owner_number(id));
        }
    }

    /// Closes the sending side of a connection. Errors: `ENOTCONN`.
    pub(crate) fn tcp_finish(&mut self, id: SockId) -> Result<(), Errno> {
        let sock = self.tcp.socks.get(id).ok_or(Errno::ENOTCONN)?;
        let Phase::Connected(flow) = sock.phase else { return Err(Errno::ENOTCONN) };
        let now = self.now;
        if let Some(flow) = self.tcp.flows.get_mut(flow) {
            flow.finish();
            flow.busy = now;
        }
        self.tcp.touch(flow);
        Ok(())
    }

    /// Resets every connection: the stack ends.
    pub(crate) fn tcp_stop(&mut self) {
        for id in self.tcp.flows.ids() {
            if let Some(flow) = self.tcp.flows.get_mut(id)
                && flow.is_live()
            {
                flow.socket().abort();
                self.flow_send(id);
                self.flow_fail(id, Errno::ECONNRESET);
            }
        }
    }
}
