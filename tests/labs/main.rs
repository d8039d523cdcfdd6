//! The longer end-to-end tests: hosts, sessions and terminals with real programs.
//!
//! Not part of `cargo test --workspace` yet, since some of them depend on how fast the machine is:
//! `cargo test --test labs`.

#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the other end-to-end tests")]
mod harness;
mod interop;
mod network;
mod programs;
mod terminal;
