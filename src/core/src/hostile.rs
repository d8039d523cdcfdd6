//! Hostile structures in guest memory: what fuzz targets and property tests share.
//!
//! Nothing here may panic or copy more than its limits, whatever the bytes are.

use std::os::fd::OwnedFd;

use umvu_abi::{
    Errno, GuestAddr, GuestFd, SockAddr, Tid,
    control::{self, Messages},
    net::SocketSpec,
};
use umvu_tracer::api::{FileIdentity, Guest};

use crate::{
    guest::{self, Purpose},
    handlers::{DATAGRAM_LIMIT, Outgoing, read_header},
};

/// Where the memory of the guest begins.
pub const BASE: u64 = 0x1_0000;

/// Reads the message of a sendmsg(2) whose header is where the guest's memory begins.
pub fn message(memory: &[u8]) {
    let guest = Image(memory);
    let Ok(header) = read_header(&guest, GuestAddr(BASE)) else { return };
    for domain in DOMAINS {
        if let Ok(outgoing) = Outgoing::read(&guest, &header, &spec(domain)) {
            assert!(outgoing.data.len() <= DATAGRAM_LIMIT);
        }
    }
}

const DOMAINS: [i32; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_NETLINK];

fn spec(domain: i32) -> SocketSpec {
    SocketSpec { domain, kind: libc::SOCK_DGRAM, protocol: 0 }
}

/// Reads control messages; those we make are read back as what they were, or cut off.
pub fn control(bytes: &[u8], room: usize) {
    let _ = control::parse(bytes);
    let mut messages = Messages::default();
    for part in bytes.chunks(20) {
        messages.push(libc::SOL_PACKET, 1, part);
    }
    let (made, cut) = messages.fit(room);
    assert!(made.len() <= room);
    assert!(cut || control::parse(&made).is_ok());
}

/// Reads and returns a socket address, with the lengths that a guest gives.
pub fn address(memory: &[u8], length: i32) {
    let guest = Image(memory);
    for (domain, purpose) in DOMAINS.into_iter().zip(PURPOSES.into_iter().cycle()) {
        let read = guest::read_sockaddr(&guest, GuestAddr(BASE), length, &spec(domain), purpose);
        let Ok(addr) = read else { continue };
        assert_eq!(SockAddr::decode(&addr.encode()), Ok(addr));
        let (buffer, room) = (GuestAddr(BASE), GuestAddr(BASE + 4));
        let Ok(writes) = guest::sockaddr_writes(&guest, &addr, buffer, room) else { return };
        let room = guest::read_i32(&guest, room).unwrap_or(0);
        assert!(writes.iter().all(|(at, data)| *at != buffer || fits(data.len(), room)));
    }
}

const PURPOSES: [Purpose; 3] = [Purpose::Connect, Purpose::Bind, Purpose::Send];

fn fits(length: usize, room: i32) -> bool {
    usize::try_from(room).is_ok_and(|room| length <= room)
}

/// A guest of which there is only its memory, from [`BASE`] on.
struct Image<'a>(&'a [u8]);

impl Image<'_> {
    fn from(&self, at: GuestAddr) -> Result<&[u8], Errno> {
        let offset = at.0.checked_sub(BASE).ok_or(Errno::EFAULT)?;
        let offset = usize::try_from(offset).map_err(|_| Errno::EFAULT)?;
        self.0.get(offset..).ok_or(Errno::EFAULT)
    }
}

impl Guest for Image<'_> {
    fn tid(&self) -> Tid {
        Tid(1)
    }

    fn read(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<(), Errno> {
        let bytes = self.from(from)?.get(..buffer.len()).ok_or(Errno::EFAULT)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn read_some(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.from(from)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write(&self, _to: GuestAddr, _data: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn read_string(&self, from: GuestAddr, limit: usize) -> Result<Vec<u8>, Errno> {
        let bytes = self.from(from)?;
        let end = bytes.iter().position(|byte| *byte == 0).ok_or(Errno::EFAULT)?;
        if end < limit { Ok(bytes[..end].to_vec()) } else { Err(Errno::ENAMETOOLONG) }
    }

    fn fetch_fd(&self, _fd: GuestFd) -> Result<OwnedFd, Errno> {
        Err(Errno::EBADF)
    }

    fn identify_fd(&self, _fd: GuestFd) -> Result<FileIdentity, Errno> {
        Err(Errno::EBADF)
    }

    fn fd_link(&self, _fd: GuestFd) -> Result<Vec<u8>, Errno> {
        Err(Errno::EBADF)
    }

    fn cwd_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOENT)
    }

    fn signal(&self, _signal: i32) {}
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A length: right, wrong, huge.
    fn length() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..40,
            Just(1 << 16),
            Just(i64::MAX.cast_unsigned()),
            Just(1 << 63),
            Just(u64::MAX),
            any::<u64>(),
        ]
    }

    /// A pointer into the image, near its edges, or anywhere.
    fn pointer() -> impl Strategy<Value = u64> {
        prop_oneof![4 => BASE..BASE + 400, 1 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
    }

    /// Control messages, mostly well formed, of levels and types that mean something.
    fn controls() -> impl Strategy<Value = Vec<u8>> {
        let level = prop_oneof![Just(0i32), Just(1), Just(41), any::<i32>()];
        let lie = prop_oneof![6 => Just(0u64), 1 => length()];
        vec((level, 0i32..70, vec(any::<u8>(), 0..24), lie), 0..5).prop_map(|list| {
            let mut bytes = Vec::new();
            for (level, kind, data, lie) in list {
                let length = (16 + data.len()) as u64;
                bytes.extend_from_slice(&length.wrapping_add(lie).to_ne_bytes());
                bytes.extend_from_slice(&level.to_ne_bytes());
                bytes.extend_from_slice(&kind.to_ne_bytes());
                bytes.extend_from_slice(&data);
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
            bytes
        })
    }

    /// A `struct msghdr`, and behind it what its pointers may lead to.
    fn image() -> impl Strategy<Value = Vec<u8>> {
        let count = prop_oneof![4 => 0u64..4, 1 => 1020u64..1030, 1 => length()];
        let words = (pointer(), length(), pointer(), count, pointer(), length());
        let vector = vec((pointer(), length()), 0..4);
        (words, vector, controls()).prop_map(|(words, vector, controls)| {
            let (name, name_length, iov, iov_length, control, control_length) = words;
            let words = [name, name_length, iov, iov_length, control, control_length, 0];
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            for (at, length) in vector {
                bytes.extend_from_slice(&at.to_ne_bytes());
                bytes.extend_from_slice(&length.to_ne_bytes());
            }
            bytes.extend_from_slice(&controls);
            bytes.resize(420, 2);
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn any_message_header_is_survived(memory in image()) {
            message(&memory);
        }

        #[test]
        fn any_control_messages_are_survived(bytes in controls(), room in 0usize..200) {
            control(&bytes, room);
        }

        #[test]
        fn any_address_is_survived(
            family in prop_oneof![Just(0u8), Just(2), Just(10), Just(16), Just(17), any::<u8>()],
            rest in vec(any::<u8>(), 0..140),
            length in prop_oneof![0i32..140, any::<i32>()],
        ) {
            address(&[&[family, 0][..], &rest].concat(), length);
        }
    }
}
