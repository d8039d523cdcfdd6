//! The options of packet sockets (packet(7), `SOL_PACKET`).

use umvu_abi::Errno;

use super::{
    super::{
        super::{inner::Inner, sockopt::Class},
        DgramId,
    },
    ring::{Request, Ring, Version},
};

/// `PACKET_IGNORE_OUTGOING`.
pub(crate) const IGNORE_OUTGOING: i32 = 23;
/// What the rings of a stack may hold together. They exist as far as they have been used.
const MOST: usize = 512 << 20;
/// How many memberships a socket may have.
const MEMBERSHIPS: usize = 1024;

impl Inner {
    /// setsockopt(2); None for an option that only keeps its value.
    pub(crate) fn packet_set_option(
        &mut self,
        id: DgramId,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        self.dgrams.socks.get(id).filter(|sock| sock.class == Class::Packet)?;
        Some(match name {
            libc::PACKET_ADD_MEMBERSHIP => self.packet_join(id, value),
            libc::PACKET_DROP_MEMBERSHIP => self.packet_leave(id, value),
            libc::PACKET_RX_RING => self.packet_ring(id, value),
            libc::PACKET_VERSION => self.packet_version(id, value),
            libc::PACKET_RESERVE => self.packet_reserve(id, value),
            // A flag, and nothing else.
            IGNORE_OUTGOING if !matches!(whole(value), Ok(0 | 1)) => Err(Errno::EINVAL),
            _ => return None,
        })
    }

    /// getsockopt(2), with what the guest's buffer holds; None for an option that only keeps its
    /// value.
    pub(crate) fn packet_option(
        &mut self,
        id: DgramId,
        name: i32,
        given: &[u8],
    ) -> Option<Result<Vec<u8>, Errno>> {
        let sock = self.dgrams.socks.get_mut(id).filter(|sock| sock.class == Class::Packet)?;
        let capture = &mut sock.capture;
        let number = |number: u32| Ok(number.to_ne_bytes().to_vec());
        Some(match name {
            libc::PACKET_VERSION => Ok(capture.version.number().to_ne_bytes().to_vec()),
            libc::PACKET_RESERVE => number(capture.reserve),
            libc::PACKET_HDRLEN => whole(given)
                .and_then(Version::from_number)
                .and_then(|version| number(version.header())),
            libc::PACKET_STATISTICS => {
                let lost = std::mem::take(&mut capture.lost);
                let all = std::mem::take(&mut capture.received).saturating_add(lost);
                let mut value = [all.to_ne_bytes(), lost.to_ne_bytes()].concat();
                let freezes = capture.ring.as_mut().map_or(0, |ring| ring.take_freezes());
                if capture.version == Version::V3 {
                    value.extend_from_slice(&freezes.to_ne_bytes());
                }
                Ok(value)
            }
            _ => return None,
        })
    }

    fn packet_version(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let version = Version::from_number(whole(value)?)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if sock.capture.ring.is_some() {
            return Err(Errno::EBUSY);
        }
        sock.capture.version = version;
        Ok(())
    }

    fn packet_reserve(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let reserve = u32::try_from(whole(value)?).map_err(|_| Errno::EINVAL)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if sock.capture.ring.is_some() {
            return Err(Errno::EBUSY);
        }
        sock.capture.reserve = reserve;
        Ok(())
    }

    /// Makes the ring, or takes it away. What waits in the queue goes, as on Linux.
    fn packet_ring(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let held: usize = self.dgrams.rings().map(Ring::size).sum();
        let time = self.wall_time();
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let capture = &mut sock.capture;
        match Request::decode(capture.version, capture.reserve, value)? {
            None => capture.ring = None,
            Some(_) if capture.ring.is_some() => return Err(Errno::EBUSY),
            Some(request) if held + request.size() > MOST => return Err(Errno::ENOMEM),
            Some(request) => capture.ring = Some(Box::new(Ring::new(&request, time)?)),
        }
        while self.dgram_receive(id).is_some() {}
        Ok(())
    }

    /// All frames reach the sockets anyhow: a wish is only checked and kept.
    fn packet_join(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let wish = membership(value)?;
        if wish.0 == 0 || self.link_at(wish.0).is_none() {
            return Err(Errno::ENODEV);
        }
        if wish.2.len() > 6 {
            return Err(Errno::EINVAL);
        }
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if sock.capture.memberships.len() >= MEMBERSHIPS {
            return Err(Errno::ENOBUFS);
        }
        sock.capture.memberships.push(wish);
        Ok(())
    }

    fn packet_leave(&mut self, id: DgramId, value: &[u8]) -> Result<(), Errno> {
        let wish = membership(value)?;
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        let memberships = &mut sock.capture.memberships;
        if let Some(at) = memberships.iter().position(|one| *one == wish) {
            memberships.swap_remove(at);
        }
        Ok(())
    }

    /// The memory of a socket's ring, for a mapping of this length. Errors: `EINVAL`, `ENODEV`.
    pub(crate) fn dgram_memory(
        &self,
        id: DgramId,
        length: usize,
    ) -> Result<std::os::fd::OwnedFd, Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        if sock.class != Class::Packet {
            return Err(Errno::ENODEV);
        }
        sock.capture.ring.as_ref().ok_or(Errno::EINVAL)?.file(length)
    }

    /// Whether the ring of a socket has something for the guest; None when it has no ring.
    pub(crate) fn ring_readable(&self, id: DgramId) -> Option<bool> {
        Some(self.dgrams.socks.get(id)?.capture.ring.as_ref()?.is_readable())
    }
}

/// An int, and nothing else. Errors: `EINVAL`.
fn whole(value: &[u8]) -> Result<i32, Errno> {
    value.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL)
}

/// `struct packet_mreq`: interface, kind, address. Errors: `EINVAL`.
fn membership(value: &[u8]) -> Result<(u32, u16, Vec<u8>), Errno> {
    let head: &[u8; 16] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let [a, b, c, d, k0, k1, l0, l1, ..] = *head;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let address = value.get(8..8 + length).ok_or(Errno::EINVAL)?;
    Ok((u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([k0, k1]), address.to_vec()))
}
