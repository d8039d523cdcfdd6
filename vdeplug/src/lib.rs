//! Plugs for Virtual Distributed Ethernet, in Rust.
//!
//! [`open`] turns a virtual network locator ([`Vnl`]) into a [`Transport`]: a thing that sends and
//! receives Ethernet [`Frame`]s without ever blocking.
//!
//! | locator | network |
//! |---|---|
//! | `vde://path`, `path`, empty | a port of `vde_switch`, or of a switch as below |
//! | `switch://path`, `hub://path` | a switch in this process, which others join by `vde://path` |
//! | `multi://path`, `bonding://path` | links that others make by `vde://path`, all or in turn |
//! | `vxvde://group` | a distributed switch on an IP multicast group |
//! | `vxlan://group`, `vxlan://host` | RFC 7348, as the kernel's vxlan devices speak it |
//! | `tap://name` | a tap interface of the kernel |
//! | `udp://port->host:port` | a cable through UDP |
//! | `ptp://path` | a cable between two processes |
//! | `cmd://command` | behind the standard streams of a command, such as `ssh host vde_plug` |
//! | `seqpacket://fd`, `seqpacket://path` | a cable that is a socket, inherited or called |
//! | `macvtap://name` | a macvtap interface of the kernel |
//! | `null://` | nothing |
//! | `slirp://` | the network of this host, through the sockets of this user |
//! | `vlan://4{...}` | a VLAN of the network in braces |
//! | `agno://{...}` | an encrypted network inside the one in braces |
//! | `wirefilter://[loss=5/delay=100]{...}` | the network in braces behind a bad link |
//! | `pcap://file{...}` | the network in braces, all of whose frames are kept in a pcapng file |
//! | `strict://{...}` | the network in braces, whose loss is final |
//! | `libvdeplug://{...}` | whatever it is, joined by the C library |
//! | any other, as `pcap://eth0` | joined by a plugin of the C library, if that is installed |
//!
//! A plug whose connection is lost has no carrier, and connects again by itself (`reconnect/`).
//!
//! Two plugs of one switch exchange a frame:
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let place = format!("switch://{}/sw", directory.path().display());
//! use std::collections::VecDeque;
//!
//! let left = vdeplug::open(&place, "left")?;
//! let right = vdeplug::open(&place, "right")?;
//! let frame = vdeplug::Frame::from(vec![0xff; 60]);
//! left.send(&mut vec![frame.clone()]);
//! let mut received = VecDeque::new();
//! right.receive(&mut received, 64)?;
//! assert_eq!(received, [frame]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`ManagedSwitch`] is a switch with ports, VLANs and [`management`], as `vde_switch`;
//! [`cable`] carries frames between two plugs, or between a plug and a stream of bytes.
//!
//! # Code map
//! `vnl.rs` reads locators, `open.rs` finds the transport, `transport.rs` is the contract;
//! `frame.rs` and `complete.rs` are the frames. Each transport is one file or folder:
//! `vde/`, `switch/`, `vxvde/`, `vxlan/`, `tap.rs`, `udp.rs`, `ptp/`, `cmd/`, `seqpacket.rs`,
//! `macvtap.rs`, `null.rs`, `slirp/`; `vlan.rs` and `agno.rs` are filters (`filter.rs`) over any of them, `capture/` watches one, and
//! `library/` is libvdeplug, loaded at run time. `program.rs` is the plug of a tun or tap device. They share `reconnect/` (a
//! connection that comes back), `hostnet.rs` (changes in this host's network), `batch.rs` (many
//! datagrams per system call), `intake.rs` (the same without a copy), `outlet.rs` (a backlog for slow peers), `shared/` (shared
//! memory, where both ends are of this library) and `mac_table.rs`.
//!
//! Invariants: nothing here knows who uses the plugs; no input makes it panic; no method of a
//! [`Transport`] blocks.

mod agno;
mod batch;
pub mod cable;
pub mod capture;
mod cmd;
mod complete;
mod error;
mod filter;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod hostnet;
pub mod impair;
mod intake;
pub mod ip;
mod library;
pub mod mac_table;
mod macvtap;
pub mod management;
mod null;
mod open;
mod outlet;
mod program;
mod ptp;
mod reconnect;
mod seqpacket;
mod shared;
mod slirp;
mod switch;
mod tap;
mod timer;
mod transport;
mod udp;
mod vde;
mod vlan;
mod vnl;
mod vxlan;
mod vxvde;
mod wirefilter;

pub use error::OpenError;
pub use frame::{Frame, MAX_FRAME, MAX_OFFLOADED, MIN_FRAME, Offload};
pub use library::plugins as libvdeplug;
pub use open::open;
pub use program::{Messages, Program};
pub use switch::managed::{ManagedSwitch, SwitchSettings};
pub use transport::{Transport, Waker};
pub use vnl::{Parameter, Parameters, Resolved, Vnl, VnlError};
