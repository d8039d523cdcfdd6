//! The vocabulary and contracts that every part of umvu shares.
//!
//! Key types: [`Errno`], the newtypes of [`ids`], [`SockAddr`], the network contract in [`net`]
//! ([`net::NetStack`], [`net::StreamSocket`], [`net::DatagramSocket`]), their control messages in
//! [`control`], files and devices in [`files`] ([`files::FileSystem`], [`files::Device`]), generated
//! file trees in [`tree`], tun and tap interfaces in [`tunnel`], programs in [`elf`], the module contract
//! in [`module`], and in [`patience`] who may wait.
//!
//! Architecture invariant: this crate does no I/O and holds no unsafe code; it depends on no other
//! crate of the workspace.

pub mod control;
pub mod elf;
pub mod errno;
pub mod files;
pub mod ids;
pub mod module;
pub mod net;
pub mod patience;
pub mod sockaddr;
pub mod tree;
pub mod tunnel;
pub mod vu;

pub use errno::Errno;
pub use ids::{GuestAddr, GuestFd, IfIndex, Pid, Tid};
pub use sockaddr::SockAddr;
