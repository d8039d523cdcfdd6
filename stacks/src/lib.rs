//! Network stacks: smoltcp, kernel namespaces, plugins of libioth, the host and none.
//!
//! Programs open a stack and use its sockets by [`net`]: three hosts in three threads, with nothing
//! of umvu around them. umvu itself mounts stacks by the module [`Vunet`].
//!
//! Each submodule holds one kind of stack and implements [`umvu_abi::net::NetStack`].

mod autoconf;
mod bpf;
mod ffi;
mod ioth;
mod module;
mod names;
pub mod net;
mod null;
mod options;
mod real;
mod resolver;
mod smoltcp;
mod vdestack;

pub use module::Vunet;
#[cfg(any(test, fuzzing))]
pub use smoltcp::hostile;

/// The address families that a stack with a network of its own takes over.
const FAMILIES: [i32; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];
