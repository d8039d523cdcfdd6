//! What touches a plugin's memory: loading it, calling its functions, catching its crashes.

pub(crate) mod crash;
pub(crate) mod functions;
pub(crate) mod library;
pub(crate) mod plugin;
pub(crate) mod transfer;
