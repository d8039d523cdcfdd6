//! The only unsafe code of the crate: system calls that no safe wrapper offers.

pub(crate) mod socket;
