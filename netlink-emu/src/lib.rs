//! The Linux network configuration interfaces for any stack.
//!
//! A stack implements [`HostNet`] (or, with a [`NetConfig`] inside, the shorter [`ConfigHost`]);
//! this crate makes of it what unmodified programs expect of Linux:
//!
//! - [`netlink`]: rtnetlink(7), sock_diag(7) and the other netlink(7) protocols as sockets;
//! - [`ioctl`]: the `SIOC*` requests of netdevice(7), arp(7) and route configuration;
//! - [`proc`] and [`sysfs`]: `/proc/net`, `/proc/sys/net` and `/sys/class/net` as generated trees.
//! - [`client`] is the other side: requests as programs make them.
//!
//! [`values`] are the plain values all of them share; [`config`] is the in-memory model with
//! Linux's rules. Wire code (`netlink`, `ioctl`, `proc`, `sysfs`) never decides; `config` never
//! touches bytes of a message.
//!
//! Lock order: a stack's lock, then the hub's ([`netlink::NetlinkHub`]), then a socket's queue. No
//! lock of this crate is held while a method of [`HostNet`] runs.

pub mod client;
pub mod config;
pub mod host;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod ioctl;
pub mod netlink;
pub mod proc;
pub mod sysfs;
#[cfg(any(test, fuzzing))]
mod testing;
pub mod text;
pub mod values;

pub use config::{ConfigHost, NetConfig};
pub use host::{Failure, HostNet};
pub use ioctl::interface_ioctl;
