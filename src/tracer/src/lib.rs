//! Interception of a process tree by ptrace and seccomp.

pub mod api;
