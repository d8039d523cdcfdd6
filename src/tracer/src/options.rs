//! How a tree is started.

use std::ffi::OsString;

use crate::api::Subscription;

/// How system calls are intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By a seccomp filter with a listener, injected when the view is armed.
    Notifications,
    /// By ptrace stops at every call (`umvu -S`).
    Ptrace,
}

/// What an armed view traps, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The backend.
    pub mode: Mode,
    /// The calls to trap once armed.
    pub subscriptions: Vec<Subscription>,
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name, looked up in PATH, and its arguments; not empty.
    pub command: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
}
