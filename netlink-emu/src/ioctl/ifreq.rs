//! `struct ifreq`: a name of 16 bytes and a union of 24.

use std::net::Ipv4Addr;

use umvu_abi::Errno;

use crate::{host::HostNet, values::Interface};

/// The size of `struct ifreq`.
pub(super) const LENGTH: usize = 40;
/// The size of `ifr_name`.
pub(super) const NAME: usize = 16;

/// A view of the guest's structure.
pub(super) struct IfReq<'a> {
    bytes: &'a mut [u8],
}

impl<'a> IfReq<'a> {
    /// Errors: `EINVAL` when it is too short.
    pub(super) fn new(bytes: &'a mut [u8]) -> Result<Self, Errno> {
        if bytes.len() < LENGTH { Err(Errno::EINVAL) } else { Ok(Self { bytes }) }
    }

    /// The name as given, with a label behind a colon if there is one. Errors: `ENODEV` when no
    /// interface can have it.
    pub(super) fn name(&self) -> Result<&str, Errno> {
        text(&self.bytes[..NAME]).map_err(|_| Errno::ENODEV)
    }

    /// The interface of the name, without its label. Errors: `ENODEV`.
    pub(super) fn interface(&self, host: &dyn HostNet) -> Result<Interface, Errno> {
        let name = self.name()?;
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        host.interfaces().into_iter().find(|link| link.is_named(name)).ok_or(Errno::ENODEV)
    }

    pub(super) fn set_name(&mut self, name: &str) {
        self.bytes[..NAME].copy_from_slice(&name_bytes(name));
    }

    pub(super) fn int(&self) -> i32 {
        i32::from_ne_bytes(self.part(0))
    }

    pub(super) fn set_int(&mut self, value: i32) {
        self.set(0, &value.to_ne_bytes());
    }

    pub(super) fn short(&self) -> u16 {
        u16::from_ne_bytes(self.part(0))
    }

    /// The union as a second name (`ifr_newname`).
    pub(super) fn new_name(&self) -> Result<&str, Errno> {
        text(&self.bytes[NAME..NAME + NAME])
    }

    /// The union as a hardware address: `ARPHRD_*` and 6 bytes.
    pub(super) fn mac(&self) -> (u16, [u8; 6]) {
        (self.short(), self.part(2))
    }

    pub(super) fn set_mac(&mut self, hardware_type: u16, mac: [u8; 6]) {
        self.clear();
        self.set(0, &hardware_type.to_ne_bytes());
        self.set(2, &mac);
    }

    /// The union as an IPv4 address. Errors: `EINVAL` for another family.
    pub(super) fn ipv4(&self) -> Result<Ipv4Addr, Errno> {
        if i32::from(self.short()) != libc::AF_INET {
            return Err(Errno::EINVAL);
        }
        Ok(Ipv4Addr::from(self.part::<4>(4)))
    }

    pub(super) fn set_ipv4(&mut self, ip: Ipv4Addr) {
        self.clear();
        self.set(0, &sockaddr(ip));
    }

    /// Sets the whole union to zero.
    pub(super) fn clear(&mut self) {
        self.bytes[NAME..LENGTH].fill(0);
    }

    /// What is behind the structure.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[LENGTH..]
    }

    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.bytes[NAME + at..NAME + at + N]);
        part
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        self.bytes[NAME + at..NAME + at + value.len()].copy_from_slice(value);
    }
}

/// `struct sockaddr_in` with port 0.
pub(super) fn sockaddr(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&2u16.to_ne_bytes());
    bytes[4..8].copy_from_slice(&ip.octets());
    bytes
}

/// Reads the address of a `struct sockaddr_in`; None for another family.
pub(super) fn read_sockaddr(bytes: &[u8]) -> Option<Ipv4Addr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    (i32::from(family) == libc::AF_INET).then(|| octets.into())
}

/// A name, cut to 15 bytes and filled with zeros.
pub(super) fn name_bytes(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    let count = name.len().min(NAME - 1);
    bytes[..count].copy_from_slice(&name.as_bytes()[..count]);
    bytes
}

/// Reads a text up to its end byte.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Errno> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_err(|_| Errno::EINVAL)
}
