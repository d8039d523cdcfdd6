//! The stack without a network: no socket can be made.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    net::{NetStack, NewSocket, SocketEvents, SocketSpec},
};

/// A stack that refuses every socket with `EAFNOSUPPORT`.
#[derive(Debug)]
pub(crate) struct NullStack;

impl NetStack for NullStack {
    fn supports(&self, _domain: i32) -> bool {
        true
    }

    fn socket(
        &self,
        _spec: &SocketSpec,
        _events: Arc<dyn SocketEvents>,
    ) -> Result<NewSocket, Errno> {
        Err(Errno::EAFNOSUPPORT)
    }
}
