//! `struct msghdr` in guest memory: recvmsg(2), sendmsg(2).

use umvu_abi::{Errno, GuestAddr};
use umvu_tracer::api::Guest;

/// The longest address; a longer one is cut (`struct sockaddr_storage`).
const NAME_LIMIT: usize = 128;
/// `UIO_MAXIOV`.
const IOV_LIMIT: usize = 1024;
/// The longest control buffer that is read.
pub(super) const CONTROL_LIMIT: usize = 1 << 16;
/// No buffer reaches beyond this: more than any address of a guest.
const END_OF_MEMORY: u64 = 1 << 56;
/// The most that one call moves (`MAX_RW_COUNT`): what is beyond is cut off.
const COUNT_LIMIT: usize = 0x7fff_f000;
/// The size of `struct msghdr` on a 64-bit machine.
const HEADER_SIZE: usize = 56;
/// The size of `struct mmsghdr`.
pub(super) const MULTI_SIZE: u64 = 64;

/// A decoded `struct msghdr`.
#[derive(Debug)]
pub(crate) struct Header {
    /// The address buffer and its room.
    pub(super) name: (GuestAddr, usize),
    /// The data buffers.
    pub(super) buffers: Vec<(GuestAddr, usize)>,
    /// The control buffer and its room.
    pub(super) control: (GuestAddr, usize),
}

/// Reads a header and its vector. Errors: `EFAULT`, `EMSGSIZE` for more than 1,024 buffers,
/// `EINVAL` for a length that is negative.
pub(crate) fn read(guest: &dyn Guest, at: GuestAddr) -> Result<Header, Errno> {
    let mut bytes = [0; HEADER_SIZE];
    guest.read(at, &mut bytes)?;
    let word = |offset: usize| {
        bytes[offset..].first_chunk().map_or(0, |field: &[u8; 8]| u64::from_ne_bytes(*field))
    };
    let name_room = bytes[8..].first_chunk().map_or(0, |field| i32::from_ne_bytes(*field));
    let name_room = usize::try_from(name_room).map_err(|_| Errno::EINVAL)?;
    let count = usize::try_from(word(24)).map_err(|_| Errno::EMSGSIZE)?;
    if count > IOV_LIMIT {
        return Err(Errno::EMSGSIZE);
    }
    Ok(Header {
        name: (GuestAddr(word(0)), name_room.min(NAME_LIMIT)),
        buffers: read_vector(guest, GuestAddr(word(16)), count)?,
        control: (GuestAddr(word(32)), usize::try_from(word(40)).map_err(|_| Errno::EINVAL)?),
    })
}

fn read_vector(
    guest: &dyn Guest,
    at: GuestAddr,
    count: usize,
) -> Result<Vec<(GuestAddr, usize)>, Errno> {
    let mut bytes = vec![0; count * 16];
    if count > 0 {
        guest.read(at, &mut bytes)?;
    }
    let mut left = COUNT_LIMIT;
    let mut buffers = Vec::with_capacity(count);
    for entry in bytes.chunks_exact(16) {
        let field = |offset: usize| {
            entry[offset..].first_chunk().map_or(0, |field: &[u8; 8]| u64::from_ne_bytes(*field))
        };
        let (base, length) = (field(0), field(8));
        if i64::try_from(length).is_err() {
            return Err(Errno::EINVAL);
        }
        if base.checked_add(length).is_none_or(|end| end > END_OF_MEMORY) {
            return Err(Errno::EFAULT);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
        left -= length;
        buffers.push((GuestAddr(base), length));
    }
    Ok(buffers)
}

/// Gathers the data of a send. Errors: `EFAULT`, `EMSGSIZE` beyond `limit` bytes.
pub(super) fn gather(
    guest: &dyn Guest,
    buffers: &[(GuestAddr, usize)],
    limit: usize,
) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    for (at, length) in buffers {
        let start = data.len();
        if start.saturating_add(*length) > limit {
            return Err(Errno::EMSGSIZE);
        }
        data.resize(start + length, 0);
        if *length > 0 {
            guest.read(*at, &mut data[start..])?;
        }
    }
    Ok(data)
}
