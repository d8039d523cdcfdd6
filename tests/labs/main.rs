//! The longer end-to-end tests: hosts, sessions and terminals with real programs.

mod archives;
mod autoconf;
mod badlinks;
mod cables;
mod capture;
mod distributed;
mod examples;
mod ext2;
mod fat;
mod fuse;
#[path = "../e2e/harness.rs"]
mod harness;
mod images;
mod impairment;
mod interfaces;
mod interop;
mod kernel;
mod layers;
mod library;
mod loops;
mod lost;
mod network;
mod plugins;
mod programs;
mod routers;
mod routing;
mod rtnetlink;
mod servers;
mod slirp;
mod suites;
mod switches;
mod terminal;
mod tunnels;
