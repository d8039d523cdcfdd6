//! `null://`: a cable with nobody at the other end.

use std::{collections::VecDeque, io, os::fd::BorrowedFd, sync::Arc};

use crate::{
    error::OpenError,
    frame::Frame,
    transport::{Transport, Waker},
    vnl::Vnl,
};

/// Opens `null://`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("null", &[])?;
    Ok(Arc::new(Null))
}

#[derive(Debug)]
struct Null;

impl Transport for Null {
    fn send(&self, frames: &mut Vec<Frame>) {
        frames.clear();
    }

    fn receive(&self, _into: &mut VecDeque<Frame>, _budget: usize) -> io::Result<usize> {
        Ok(0)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_waker(&self, _waker: Waker) {}

    /// Nobody minds what the frames lack.
    fn accepts_offload(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn swallows_frames() {
        let null = crate::open("null://", "test").expect("a plug");
        let mut frames = vec![crate::Frame::from(vec![0; 60])];
        null.send(&mut frames);
        assert!(frames.is_empty());
        assert_eq!(null.receive(&mut Default::default(), 9).ok(), Some(0));
        assert_eq!(null.drops(), 0);
    }
}
