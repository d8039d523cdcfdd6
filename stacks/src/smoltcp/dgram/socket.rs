//! The bridge's side of a datagram socket.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use umvu_abi::{
    Errno, SockAddr,
    net::{Datagram, DatagramSocket, QueuedError, SendControl, Shutdown, Socket},
};

use super::{
    super::{shared::Shared, sockopt::Class},
    DgramId,
};

/// A datagram socket of a stack.
pub(crate) struct DgramSocket {
    shared: Arc<Shared>,
    id: DgramId,
    class: Class,
}

impl fmt::Debug for DgramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DgramSocket({:?} {:?})", self.class, self.id)
    }
}

impl DgramSocket {
    /// Wraps a socket of the stack.
    pub(crate) fn new(shared: Arc<Shared>, id: DgramId, class: Class) -> Self {
        Self { shared, id, class }
    }
}

impl Drop for DgramSocket {
    fn drop(&mut self) {
        self.shared.look(|inner| inner.dgram_close(self.id));
    }
}

impl Socket for DgramSocket {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        self.shared.look(|inner| inner.dgram_bind(self.id, addr))
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        self.shared.look(|inner| inner.dgram_local(self.id))
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        self.shared.look(|inner| inner.dgram_peer(self.id))
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.shared.with(|inner| inner.dgram_set_option(self.id, level, name, value))
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        self.shared.look(|inner| inner.dgram_option(self.id, level, name, given))
    }

    fn ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        self.shared.look(|inner| inner.dgram_ioctl(self.id, request, argument))
    }

    fn take_error(&self) -> Option<Errno> {
        self.shared.look(|inner| inner.dgrams.socks.get_mut(self.id)?.error.take())
    }

    fn close(&self) {
        self.shared.look(|inner| inner.dgram_close(self.id));
    }
}

impl DatagramSocket for DgramSocket {
    fn connect(&self, peer: Option<&SockAddr>) -> Result<(), Errno> {
        self.shared.look(|inner| inner.dgram_connect(self.id, peer))
    }

    fn always_paired(&self) -> bool {
        self.class == Class::Packet
    }

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<usize, Errno> {
        self.shared.with(|inner| inner.dgram_send(self.id, data, to, control))
    }

    fn receive(&self) -> Option<Datagram> {
        self.shared.look(|inner| inner.dgram_receive(self.id))
    }

    fn receive_charged(&self) -> Option<(Datagram, usize)> {
        self.shared.look(|inner| inner.dgram_lend(self.id))
    }

    fn refuse(&self, datagram: &Datagram) {
        if self.class == Class::Udp {
            self.shared.with(|inner| inner.udp_refuse(datagram));
        }
    }

    fn memory(&self, length: usize) -> Result<OwnedFd, Errno> {
        self.shared.look(|inner| inner.dgram_memory(self.id, length))
    }

    fn ring_readable(&self) -> Option<bool> {
        self.shared.look(|inner| inner.ring_readable(self.id))
    }

    fn receive_error(&self) -> Option<QueuedError> {
        self.shared.look(|inner| inner.dgrams.socks.get_mut(self.id)?.errors.pop_front())
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        self.shared.look(|inner| {
            let sock = inner.dgrams.socks.get_mut(self.id).ok_or(Errno::EBADF)?;
            if sock.class == Class::Packet {
                return Err(Errno::EOPNOTSUPP);
            }
            sock.shut_read |= matches!(how, Shutdown::Read | Shutdown::Both);
            sock.shut_write |= matches!(how, Shutdown::Write | Shutdown::Both);
            sock.peer.map(|_| ()).ok_or(Errno::ENOTCONN)
        })
    }
}
