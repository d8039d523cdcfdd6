//! The frames and transports that links are joined to.

pub(crate) use vdeplug::{Frame, Offload, Transport};
