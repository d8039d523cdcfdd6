//! End to end: only what a guest can see, by the distribution's own programs.
//!
//! Each behaviour runs on plain Linux, in an armed view and in `umvu -S`, or says why it does not.
//! Traffic stays inside umvu or inside namespaces that a test makes.

mod clock;
mod commands;
mod cost;
mod devices;
mod directories;
mod evasions;
mod files;
mod formats;
mod guests;
#[expect(dead_code, reason = "shared with the labs")]
mod harness;
mod hostile;
mod hypervisor;
mod identity;
mod killed;
mod linker;
mod manual;
mod mounts;
mod names;
mod patchwork;
mod room;
mod roots;
mod sockets;
mod system;
