//! The contract of tun and tap interfaces: what a stack gives to the program behind one.

use std::fmt;

use crate::Errno;

/// What passes between the stack and the program (`IFF_TUN`, `IFF_TAP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

/// Whether packets have `struct tun_pi` in front: flags and the EtherType (`IFF_NO_PI` takes it away).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketInfo {
    /// They have.
    Present,
    /// They have not.
    Absent,
}

/// What a program asks for (`TUNSETIFF`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSpec {
    /// The name of the interface; it may hold `%d`, for the first free number, or be empty.
    pub name: String,
    /// What passes.
    pub kind: TunnelKind,
    /// What is in front of it.
    pub info: PacketInfo,
    /// An interface that exists is refused (`IFF_TUN_EXCL`).
    pub exclusive: bool,
}

/// What a program changes of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelChange {
    /// Whether it stays when no program has it open (`TUNSETPERSIST`).
    Persistent(bool),
    /// Whose it is; None for nobody's (`TUNSETOWNER`).
    Owner(Option<u32>),
    /// Which group's it is (`TUNSETGROUP`).
    Group(Option<u32>),
    /// Whether it has a carrier (`TUNSETCARRIER`).
    Carrier(bool),
}

/// The interface of a program. It ends when nobody has the other end of the program's socket open any
/// more, unless it is persistent.
pub trait Tunnel: Send + Sync + fmt::Debug {
    /// The name now, and whether it is persistent. Errors: `EBADFD` when the interface is gone.
    fn look(&self) -> Result<(String, bool), Errno>;

    /// Changes it. Errors: `EBADFD`.
    fn change(&self, change: TunnelChange) -> Result<(), Errno>;
}
