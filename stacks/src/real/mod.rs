//! The host's own network: sockets of the kernel, handed to the guest as they are.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
};

use crate::ffi::socket;

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
}
