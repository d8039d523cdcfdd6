//! The smoltcp stack as a plugin of libioth, the library of the Internet of threads.
//!
//! A program that calls `ioth_newstackl("smoltcp", "vxvde://239.0.0.1", NULL)` finds it as
//! `~/.ioth/ioth_smoltcp-r.so` (re-entrant: any number of stacks share one copy) or as
//! `~/.ioth/ioth_smoltcp.so` (each stack has a copy in a link namespace of its own).
//!
//! Theory of operation. `exports` are the C functions that libioth looks for; they turn pointers
//! into slices, keep panics in, and call `calls`. A socket (`open::Open`) is a socket of
//! `umvu_stacks::net` that never waits, and a descriptor (`signal::Signal`) whose only purpose is
//! its readiness: one end of a pair of AF_UNIX sockets, made readable and writable, or not, from
//! the other end. A call that has to wait waits for that descriptor, in the kernel, and so is
//! interrupted by signals as programs expect. Data never passes through it.
//!
//! Lock order: the table of `registry` is locked for a look-up only; a signal's lock is held
//! while the stack is asked for the readiness, never the other way round.

#[cfg(target_env = "gnu")]
mod alone;
mod calls;
pub mod exports;
mod message;
mod open;
mod pointers;
mod registry;
mod requests;
mod signal;
mod sys;
