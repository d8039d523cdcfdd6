//! The frames and transports that links are joined to.

use std::{
    collections::VecDeque, io, num::NonZeroU16, os::fd::BorrowedFd, sync::Arc, time::Instant,
};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offload {
    pub(crate) checksum_pending: bool,
    pub(crate) segment_size: Option<NonZeroU16>,
}
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) offload: Offload,
}
pub(crate) trait Transport: Send + Sync + std::fmt::Debug {
    fn send(&self, frames: &mut Vec<Frame>);
    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize>;
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;
    fn set_waker(&self, waker: Arc<dyn Fn() + Send + Sync>);
    fn accepts_offload(&self) -> bool;
    fn carrier(&self) -> bool;
    fn tick(&self, now: Instant) -> Option<Instant>;
}
