//! Interception of a process tree by ptrace and seccomp.
//!
//! [`Tracer`] owns the life of the guests (ptrace): their tree, exec, signals, exit. Calls that
//! the hypervisor answers come by seccomp notifications ([`notify`]) once the view is armed
//! ([`arm`]), or by ptrace stops in the pure ptrace mode ([`stops`]). [`api`] is the contract with the layer
//! above.
//!
//! Architecture invariants: this crate knows no module and no path; `cfg` for an architecture
//! stands only in [`arch`]; ptrace requests are made by one thread.

mod again;
mod apart;
pub mod api;
mod arch;
mod arm;
mod births;
mod errands;
mod filter;
mod follow;
mod guest;
mod handover;
mod launch;
mod linker;
mod notify;
mod options;
mod registers;
mod remote;
mod replay;
mod respite;
mod shortcut;
mod signals;
mod stops;
mod sys;
mod tasks;
mod tracer;
mod turn;
mod vdso;

pub use options::{Mode, Options, Program};
pub use signals::block_signals;
pub use sys::fetch_descriptor;
pub use tracer::{Control, Tracer};
pub use vdso::divert as divert_vdso;
