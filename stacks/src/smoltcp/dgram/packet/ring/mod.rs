//! Rings: frames in memory that the guest shares (packet(7), `PACKET_RX_RING`).
//!
//! The guest maps the memory and takes frames from it without any call. The first two versions have
//! a slot for each frame ([`Slots`]); the third packs frames into blocks ([`Blocks`]). A word at the
//! start of each slot or block tells whose it is. Everything else that is known about a ring is kept
//! here: what a guest writes into the memory concerns nobody but itself.

mod blocks;
mod header;
mod request;
mod slots;

#[cfg(test)]
mod tests;

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use smoltcp::time::Instant;
use umvu_abi::Errno;

pub(crate) use self::request::{Request, Version};
use self::{blocks::Blocks, slots::Slots};

/// `TP_STATUS_KERNEL` and `TP_STATUS_USER`: whose a slot or block is.
const KERNEL: u32 = 0;
const USER: u32 = 1;
/// `TP_STATUS_LOSING`: frames have been lost since the statistics were asked for.
const LOSING: u32 = 4;

/// A frame on its way into a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    /// What is kept of it.
    pub(crate) bytes: &'a [u8],
    /// How long it was.
    pub(crate) length: u32,
    /// Where the network's header is, for frames that have a link's.
    pub(crate) link_header: Option<usize>,
    /// `struct sockaddr_ll`.
    pub(crate) name: [u8; 20],
    /// `TP_STATUS_*` of the frame itself.
    pub(crate) status: u32,
    /// The tag that was taken off: its control information and its EtherType.
    pub(crate) vlan: Option<(u16, u16)>,
    /// The time since the epoch.
    pub(crate) time: Duration,
    /// The same of the stack.
    pub(crate) now: Instant,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the ring, which has nothing new for the guest.
    Kept,
    /// It is in the ring, and the guest is to be told.
    Ready,
    /// There was no room.
    Lost,
    /// There was none for it, but a block is the guest's now.
    LostButReady,
}

/// A ring of either kind.
#[derive(Debug)]
pub(crate) enum Ring {
    /// Versions 1 and 2.
    Slots(Slots),
    /// Version 3.
    Blocks(Blocks),
}

impl Ring {
    /// Makes the ring of a request that has been checked. Errors: `ENOMEM`, `EMFILE`.
    pub(crate) fn new(request: &Request, now: Duration) -> Result<Self, Errno> {
        Ok(match request.version {
            Version::V1 | Version::V2 => Self::Slots(Slots::new(request)?),
            Version::V3 => Self::Blocks(Blocks::new(request, now)?),
        })
    }

    /// The memory as a file. Errors: `EINVAL` for another length than the ring's, `EMFILE`.
    pub(crate) fn file(&self, length: usize) -> Result<OwnedFd, Errno> {
        let memory = match self {
            Self::Slots(slots) => slots.memory(),
            Self::Blocks(blocks) => blocks.memory(),
        };
        if length.checked_next_multiple_of(PAGE) != Some(memory.size()) {
            return Err(Errno::EINVAL);
        }
        Ok(memory.file().as_fd().try_clone_to_owned()?)
    }

    /// How many bytes the ring holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Slots(slots) => slots.memory().size(),
            Self::Blocks(blocks) => blocks.memory().size(),
        }
    }

    /// Puts a frame in, if there is room.
    pub(crate) fn put(&mut self, arrival: &Arrival<'_>) -> Outcome {
        match self {
            Self::Slots(slots) => slots.put(arrival),
            Self::Blocks(blocks) => blocks.put(arrival),
        }
    }

    /// Whether the guest has not yet given everything back, as poll(2) tells.
    pub(crate) fn is_readable(&self) -> bool {
        match self {
            Self::Slots(slots) => slots.is_readable(),
            Self::Blocks(blocks) => blocks.is_readable(),
        }
    }

    /// When a block that is not full is to be given to the guest.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            Self::Slots(_) => None,
            Self::Blocks(blocks) => blocks.due(),
        }
    }

    /// Gives the guest the block that has waited long enough; tells whether there was one.
    pub(crate) fn expire(&mut self, now: Instant, time: Duration) -> bool {
        match self {
            Self::Slots(_) => false,
            Self::Blocks(blocks) => blocks.expire(now, time),
        }
    }

    /// The statistics have been asked for: losses from now on are new ones. Tells how often the
    /// ring was found full since the last time.
    pub(crate) fn take_freezes(&mut self) -> u32 {
        match self {
            Self::Slots(slots) => {
                slots.is_losing = false;
                0
            }
            Self::Blocks(blocks) => blocks.take_freezes(),
        }
    }
}

const PAGE: usize = 4096;
