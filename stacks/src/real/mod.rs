//! The host's own network: sockets of the kernel, handed to the guest as they are.

use std::{os::fd::AsFd, sync::Arc};

use umvu_abi::{
    Errno,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
};

use crate::ffi::{interface, socket};

/// The kernel's stack, as it was before umvu.
#[derive(Debug)]
pub(crate) struct RealStack;

impl NetStack for RealStack {
    fn supports(&self, _domain: i32) -> bool {
        true
    }

    fn socket(
        &self,
        spec: &SocketSpec,
        _events: Arc<dyn SocketEvents>,
    ) -> Result<NewSocket, Errno> {
        socket::open(spec).map(NewSocket::Kernel)
    }

    /// For sockets that are not the stack's: those of AF_UNIX, on which the C library asks.
    fn interface_ioctl(&self, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
        let spec = SocketSpec { domain: libc::AF_INET, kind: libc::SOCK_DGRAM, protocol: 0 };
        interface::serve(socket::open(&spec)?.as_fd(), request, argument)
    }
}
