//! Requests of loop devices: loop(4), `<linux/loop.h>`.

use umvu_abi::{Errno, files::Takes};

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_REMOVE: u32 = 0x4c81;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;

/// `LO_FLAGS_READ_ONLY`.
pub(super) const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`.
pub(super) const AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_PARTSCAN`.
pub(super) const PARTSCAN: u32 = 8;

/// `struct loop_info64`.
pub(super) const INFO: usize = 232;
/// `struct loop_config`: a descriptor, the size of blocks, the information, room.
const CONFIGURATION: usize = 304;
/// The length of `lo_file_name` and `lo_crypt_name`.
const NAME: usize = 64;

/// What is told and set of a device: the fields of `struct loop_info64` that are not about encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// `st_dev` of the file.
    pub(super) dev: u64,
    /// `st_ino` of the file.
    pub(super) ino: u64,
    /// Where the device begins in the file, in bytes.
    pub(super) offset: u64,
    /// How long it is at most, in bytes; 0 for as long as the file.
    pub(super) limit: u64,
    /// The number of the device.
    pub(super) number: u32,
    /// `LO_FLAGS_*`.
    pub(super) flags: u32,
    /// What the program that has set it up calls the file.
    pub(super) name: [u8; NAME],
}

impl Default for Info {
    fn default() -> Self {
        Self { dev: 0, ino: 0, offset: 0, limit: 0, number: 0, flags: 0, name: [0; NAME] }
    }
}

impl Info {
    fn decode(bytes: &[u8]) -> Self {
        let mut name = [0; NAME];
        name.copy_from_slice(&bytes[56..56 + NAME]);
        // It is text that ends.
        name[NAME - 1] = 0;
        Self {
            offset: u64_at(bytes, 24),
            limit: u64_at(bytes, 32),
            flags: u32_at(bytes, 52),
            name,
            ..Self::default()
        }
    }

    /// As `struct loop_info64`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; INFO];
        for (at, field) in [(0, self.dev), (8, self.ino), (24, self.offset), (32, self.limit)] {
            bytes[at..at + 8].copy_from_slice(&field.to_ne_bytes());
        }
        for (at, field) in [(40, self.number), (52, self.flags)] {
            bytes[at..at + 4].copy_from_slice(&field.to_ne_bytes());
        }
        bytes[56..56 + NAME].copy_from_slice(&self.name);
        bytes
    }
}

/// A request to a loop device.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `LOOP_SET_FD`, `LOOP_CONFIGURE`: the file at a descriptor of the caller.
    Bind(i32, Info),
    /// `LOOP_CLR_FD`.
    Clear,
    /// `LOOP_SET_STATUS64`.
    Set(Info),
    /// `LOOP_GET_STATUS64`.
    Tell,
    /// `LOOP_SET_CAPACITY`.
    Measure,
    /// `LOOP_SET_DIRECT_IO`, `LOOP_SET_BLOCK_SIZE` to what it is.
    Nothing,
    /// What is not there. `EINVAL`.
    Refused,
}

/// A request to the control of loop devices.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `LOOP_CTL_ADD`; None for any number.
    Add(Option<u32>),
    /// `LOOP_CTL_REMOVE`.
    Remove(u32),
    /// `LOOP_CTL_GET_FREE`.
    Free,
}

/// What the argument of a request is.
pub(super) fn takes(request: u32) -> Takes {
    match request {
        LOOP_SET_STATUS64 | LOOP_GET_STATUS64 => Takes::Bytes(INFO),
        LOOP_CONFIGURE => Takes::Bytes(CONFIGURATION),
        LOOP_SET_FD | LOOP_CLR_FD | LOOP_SET_CAPACITY..=LOOP_SET_BLOCK_SIZE => Takes::Value,
        LOOP_CTL_ADD..=LOOP_CTL_GET_FREE => Takes::Value,
        _ => Takes::AsItSays,
    }
}

/// Reads a request to a device; None for one that all block devices know, or none.
pub(super) fn request(request: u32, argument: &[u8]) -> Option<Request> {
    let value = || u64_at(argument, 0);
    let number = |value: u64| i32::try_from(value & 0xffff_ffff).unwrap_or(-1);
    Some(match request {
        LOOP_SET_FD => Request::Bind(number(value()), Info::default()),
        LOOP_CONFIGURE if argument.len() == CONFIGURATION => {
            match u32_at(argument, 4) {
                0 | 512 => {}
                _ => return Some(Request::Refused),
            }
            let fd = number(u32_at(argument, 0).into());
            Request::Bind(fd, Info::decode(&argument[8..8 + INFO]))
        }
        LOOP_CLR_FD => Request::Clear,
        LOOP_SET_STATUS64 if argument.len() == INFO => Request::Set(Info::decode(argument)),
        LOOP_GET_STATUS64 => Request::Tell,
        LOOP_SET_CAPACITY => Request::Measure,
        LOOP_SET_DIRECT_IO if value() == 0 => Request::Nothing,
        LOOP_SET_BLOCK_SIZE if value() == 512 => Request::Nothing,
        LOOP_SET_DIRECT_IO | LOOP_SET_BLOCK_SIZE => Request::Refused,
        _ => return None,
    })
}

/// Reads a request to the control. Errors: `ENOTTY`, `EINVAL` for a number that is none.
pub(super) fn order(request: u32, argument: &[u8]) -> Result<Order, Errno> {
    let value = i32::try_from(u64_at(argument, 0).cast_signed());
    let number = value.ok().and_then(|value| u32::try_from(value).ok());
    Ok(match request {
        LOOP_CTL_ADD => Order::Add(number),
        LOOP_CTL_REMOVE => Order::Remove(number.ok_or(Errno::EINVAL)?),
        LOOP_CTL_GET_FREE => Order::Free,
        _ => return Err(Errno::ENOTTY),
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u64::from_ne_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_told() {
        let info = Info {
            dev: 1,
            ino: 2,
            offset: 3,
            limit: 4,
            number: 5,
            flags: AUTOCLEAR,
            name: [b'x'; 64],
        };
        let bytes = info.encode();
        let told = Info::decode(&bytes);
        assert_eq!((told.offset, told.limit, told.flags), (3, 4, AUTOCLEAR));
        assert!(told.name[..63] == [b'x'; 63] && told.name[63] == 0);
        let whole = [&7_u32.to_ne_bytes()[..], &[0; 4], &bytes, &[0; 64]].concat();
        assert_eq!(request(LOOP_CONFIGURE, &whole), Some(Request::Bind(7, told)));
    }

    #[test]
    fn any_bytes_are_a_request_or_not() {
        for number in 0x4bf0..0x4c90 {
            for length in [0, 1, 8, 16, INFO, CONFIGURATION] {
                let argument = vec![0xff; length];
                let _ = (request(number, &argument), order(number, &argument), takes(number));
            }
        }
        assert_eq!(order(LOOP_CTL_REMOVE, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(order(LOOP_CTL_ADD, &u64::MAX.to_ne_bytes()), Ok(Order::Add(None)));
    }
}
