//! The only unsafe code of the crate: system calls that no safe wrapper offers.

pub(crate) mod call;
#[cfg(test)]
pub(crate) mod filter;
pub(crate) mod helper;
pub(crate) mod interface;
pub(crate) mod memory;
pub(crate) mod shared;
pub(crate) mod socket;
