//! Neighbours: what `ip neighbour` shows and changes.

use std::net::IpAddr;

use bitflags::bitflags;
use umvu_abi::IfIndex;

bitflags! {
    /// `NTF_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct NeighbourFlags: u8 {
        /// `NTF_USE`.
        const USE = 0x01;
        /// `NTF_SELF`.
        const SELF = 0x02;
        /// `NTF_PROXY`: answer for this address.
        const PROXY = 0x08;
        /// `NTF_EXT_LEARNED`.
        const EXT_LEARNED = 0x10;
        /// `NTF_ROUTER`.
        const ROUTER = 0x80;
        const _ = !0;
    }
}

/// `NUD_*`: how sure a neighbour's hardware address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// `NUD_NONE`: made, not asked for yet.
    None,
    /// `NUD_INCOMPLETE`: asked for, not answered yet.
    Incomplete,
    /// `NUD_REACHABLE`: confirmed lately.
    Reachable,
    /// `NUD_STALE`: known, not confirmed lately.
    Stale,
    /// `NUD_DELAY`: used while stale.
    Delay,
    /// `NUD_PROBE`: being asked again.
    Probe,
    /// `NUD_FAILED`: does not answer.
    Failed,
    /// `NUD_NOARP`: needs no resolution.
    NoArp,
    /// `NUD_PERMANENT`: set by the administrator.
    Permanent,
}

impl NeighbourState {
    /// The `NUD_*` bit.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Incomplete => 0x01,
            Self::Reachable => 0x02,
            Self::Stale => 0x04,
            Self::Delay => 0x08,
            Self::Probe => 0x10,
            Self::Failed => 0x20,
            Self::NoArp => 0x40,
            Self::Permanent => 0x80,
        }
    }

    /// The state of a `NUD_*` bit; None when several bits are set.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            0x01 => Self::Incomplete,
            0x02 => Self::Reachable,
            0x04 => Self::Stale,
            0x08 => Self::Delay,
            0x10 => Self::Probe,
            0x20 => Self::Failed,
            0x40 => Self::NoArp,
            0x80 => Self::Permanent,
            _ => return None,
        })
    }

    /// Whether packets can be sent to it (`NUD_VALID`).
    #[must_use]
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::None | Self::Incomplete | Self::Failed)
    }
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface it is behind.
    pub interface: IfIndex,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address, if known.
    pub mac: Option<[u8; 6]>,
    /// How sure that is.
    pub state: NeighbourState,
    /// Flags.
    pub flags: NeighbourFlags,
    /// Solicitations sent.
    pub probes: u32,
    /// `NDA_PROTOCOL`: who made it, 0 unspecified.
    pub protocol: u8,
    /// How long ago, in hundredths of a second: `[confirmed, used, updated]`.
    pub ages: [u32; 3],
}

impl Neighbour {
    /// Makes a permanent entry.
    #[must_use]
    pub fn permanent(interface: IfIndex, ip: IpAddr, mac: [u8; 6]) -> Self {
        Self {
            interface,
            ip,
            mac: Some(mac),
            state: NeighbourState::Permanent,
            flags: NeighbourFlags::empty(),
            probes: 0,
            protocol: 0,
            ages: [0; 3],
        }
    }
}
