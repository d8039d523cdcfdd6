//! `struct tpacket_req` and `struct tpacket_req3`: what a ring is to look like.

use umvu_abi::Errno;

use super::PAGE;

/// `TPACKET_ALIGNMENT`.
const ALIGNMENT: u32 = 16;
/// The most that a ring may hold. It exists as far as it has been used.
const LARGEST: u64 = 256 << 20;

/// The version of a ring's headers (`PACKET_VERSION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Version {
    /// `TPACKET_V1`.
    #[default]
    V1,
    /// `TPACKET_V2`.
    V2,
    /// `TPACKET_V3`.
    V3,
}

impl Version {
    /// Errors: `EINVAL`.
    pub(crate) fn from_number(number: i32) -> Result<Self, Errno> {
        match number {
            0 => Ok(Self::V1),
            1 => Ok(Self::V2),
            2 => Ok(Self::V3),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn number(self) -> i32 {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
            Self::V3 => 2,
        }
    }

    /// The size of the header of a frame (`PACKET_HDRLEN`).
    pub(crate) fn header(self) -> u32 {
        match self {
            Self::V1 | Self::V2 => 32,
            Self::V3 => 48,
        }
    }

    /// The same with the `struct sockaddr_ll` behind it (`TPACKET_HDRLEN` and its kin).
    pub(crate) fn header_and_name(self) -> u32 {
        self.header() + 20
    }

    fn request(self) -> usize {
        match self {
            Self::V1 | Self::V2 => 16,
            Self::V3 => 28,
        }
    }
}

/// A ring as it was asked for, checked as `packet_set_ring` of Linux does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// The version of its headers.
    pub(crate) version: Version,
    /// Room that is left free before each frame (`PACKET_RESERVE`).
    pub(crate) reserve: u32,
    /// The bytes of a block, and how many there are.
    pub(crate) block_size: usize,
    pub(crate) block_count: usize,
    /// The bytes of a frame, and how many fit a block.
    pub(crate) frame_size: usize,
    pub(crate) frames_per_block: usize,
    /// How long frames of the third version may wait, in milliseconds.
    pub(crate) timeout: u32,
    /// Room for the guest in each block of the third version.
    pub(crate) private: usize,
}

impl Request {
    /// Reads the structure; None asks for no ring. Errors: `EINVAL`, `ENOMEM`.
    pub(crate) fn decode(
        version: Version,
        reserve: u32,
        bytes: &[u8],
    ) -> Result<Option<Self>, Errno> {
        if bytes.len() < version.request() {
            return Err(Errno::EINVAL);
        }
        let field = |index: usize| {
            bytes
                .get(index * 4..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |field| u32::from_ne_bytes(*field))
        };
        let [block_size, block_count, frame_size, frame_count] = [0, 1, 2, 3].map(field);
        if block_count == 0 {
            return if frame_count == 0 { Ok(None) } else { Err(Errno::EINVAL) };
        }
        let third = version == Version::V3;
        let (timeout, private) = if third { (field(4), field(5)) } else { (0, 0) };
        let least = version.header_and_name().checked_add(reserve).ok_or(Errno::EINVAL)?;
        let least_block = u64::from(block_header(private)) + u64::from(least);
        let frames_per_block = block_size.checked_div(frame_size).unwrap_or(0);
        let holds = i32::try_from(block_size).is_ok_and(|size| size > 0)
            && size(block_size).is_multiple_of(PAGE)
            && (!third || u64::from(block_size) >= least_block)
            && frame_size >= least
            && frame_size.is_multiple_of(ALIGNMENT)
            && frames_per_block > 0
            && frames_per_block.checked_mul(block_count) == Some(frame_count);
        if !holds {
            return Err(Errno::EINVAL);
        }
        if u64::from(block_size) * u64::from(block_count) > LARGEST {
            return Err(Errno::ENOMEM);
        }
        Ok(Some(Self {
            version,
            reserve,
            block_size: size(block_size),
            block_count: size(block_count),
            frame_size: size(frame_size),
            frames_per_block: size(frames_per_block),
            timeout,
            private: size(private),
        }))
    }

    /// The bytes of the whole ring.
    pub(crate) fn size(&self) -> usize {
        self.block_size * self.block_count
    }
}

/// `BLK_PLUS_PRIV`: the header of a block and the guest's room behind it.
fn block_header(private: u32) -> u32 {
    private.checked_next_multiple_of(8).and_then(|room| room.checked_add(48)).unwrap_or(u32::MAX)
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
