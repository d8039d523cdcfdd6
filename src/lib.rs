//! umvu: a virtual operating system in user space.
//!
//! This crate is the assembler: [`modules`] is the one place that names every built-in module;
//! [`cli`] holds the commands.

pub mod cli;

use std::sync::Arc;

use umvu_abi::module::Module;
use umvu_fs_modules::{
    fuse::Fuse,
    identity::{UnrealCap, UnrealUidGid},
    mountreal::MountReal,
    unreal::Unreal,
    vubinfmt::Vubinfmt,
    vudev::Vudev,
    vufs::Vufs,
    vufuse::Vufuse,
    vumisc::Vumisc,
};
use umvu_reactor::Reactor;

/// Every built-in module; the stacks of vunet run on the given event loop.
#[must_use]
pub fn modules(reactor: &Reactor) -> Vec<Arc<dyn Module>> {
    vec![
        Arc::new(umvu_stacks::Vunet::new(reactor.clone())),
        Arc::new(Vufuse),
        Arc::new(Fuse::default()),
        Arc::new(Vufs),
        Arc::new(Vudev),
        Arc::new(MountReal),
        Arc::new(Unreal),
        Arc::new(UnrealUidGid),
        Arc::new(UnrealCap),
        Arc::new(Vumisc::default()),
        Arc::new(Vubinfmt::default()),
    ]
}
