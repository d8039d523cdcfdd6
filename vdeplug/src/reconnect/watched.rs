//! [`Watched`]: a descriptor and its registration in the epoll instance of a plug.

use std::{ops::Deref, os::fd::AsFd, sync::Arc};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

/// A descriptor that is watched for input as long as this value lives.
///
/// Closing it would end that too, unless a child process shares it.
#[derive(Debug)]
pub(crate) struct Watched<F: AsFd> {
    descriptor: F,
    epoll: Arc<Epoll>,
}

impl<F: AsFd> Watched<F> {
    pub(crate) fn new(descriptor: F, epoll: &Arc<Epoll>) -> nix::Result<Self> {
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        epoll.add(descriptor.as_fd(), EpollEvent::new(interest, 0))?;
        Ok(Self { descriptor, epoll: Arc::clone(epoll) })
    }
}

impl<F: AsFd> Deref for Watched<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.descriptor
    }
}

impl<F: AsFd> Drop for Watched<F> {
    fn drop(&mut self) {
        let _ = self.epoll.delete(self.descriptor.as_fd());
    }
}
