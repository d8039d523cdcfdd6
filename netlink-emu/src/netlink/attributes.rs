//! Attributes of requests, read as tolerantly as the kernel reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;
use umvu_abi::Errno;

/// The attributes of a message or of a nested attribute. Unknown ones are kept and ignored; of
/// several of one type the last counts.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    list: Vec<(u16, &'a [u8])>,
}

impl<'a> Attributes<'a> {
    /// Reads attributes up to the first that is cut off.
    pub(crate) fn parse(bytes: &'a [u8]) -> Self {
        let mut list = Vec::new();
        let mut rest = bytes;
        // The iterator checks lengths; the slice is taken here to keep its lifetime.
        for attribute in NlasIterator::new(bytes) {
            let Ok(attribute) = attribute else { break };
            let length = usize::from(attribute.length());
            let Some(value) = rest.get(4..length) else { break };
            list.push((attribute.kind(), value));
            rest = rest.get(super::message::align(length)..).unwrap_or_default();
        }
        Self { list }
    }

    /// Reads the attributes behind a fixed part of a payload.
    pub(crate) fn after(payload: &'a [u8], fixed: usize) -> Self {
        Self::parse(payload.get(fixed..).unwrap_or_default())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        self.list.iter().copied()
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.list.iter().rev().find(|(held, _)| *held == kind).map(|(_, value)| *value)
    }

    pub(crate) fn nested(&self, kind: u16) -> Option<Self> {
        self.bytes(kind).map(Self::parse)
    }

    /// A number of 4 bytes. Errors: `ERANGE` when it is shorter.
    pub(crate) fn u32(&self, kind: u16) -> Result<Option<u32>, Errno> {
        let Some(bytes) = self.bytes(kind) else { return Ok(None) };
        let bytes = bytes.get(..4).and_then(|b| b.try_into().ok()).ok_or(Errno::ERANGE)?;
        Ok(Some(u32::from_ne_bytes(bytes)))
    }

    /// A number of 2 bytes. Errors: `ERANGE` when it is shorter.
    pub(crate) fn u16(&self, kind: u16) -> Result<Option<u16>, Errno> {
        let Some(bytes) = self.bytes(kind) else { return Ok(None) };
        let bytes = bytes.get(..2).and_then(|b| b.try_into().ok()).ok_or(Errno::ERANGE)?;
        Ok(Some(u16::from_ne_bytes(bytes)))
    }

    /// A number of 1 byte. Errors: `ERANGE` when it is empty.
    pub(crate) fn u8(&self, kind: u16) -> Result<Option<u8>, Errno> {
        self.bytes(kind).map(|bytes| bytes.first().copied().ok_or(Errno::ERANGE)).transpose()
    }

    /// A text, with or without its end byte. Errors: `EINVAL` when it is not UTF-8.
    pub(crate) fn text(&self, kind: u16) -> Result<Option<&'a str>, Errno> {
        self.bytes(kind).map(text).transpose()
    }

    /// A hardware address of 6 bytes; shorter ones of other kinds of links are refused.
    pub(crate) fn mac(&self, kind: u16) -> Result<Option<[u8; 6]>, Errno> {
        self.bytes(kind).map(|bytes| bytes.try_into().map_err(|_| Errno::EINVAL)).transpose()
    }

    /// An IP address; its length tells the family.
    pub(crate) fn ip(&self, kind: u16) -> Result<Option<IpAddr>, Errno> {
        self.bytes(kind).map(ip).transpose()
    }
}

/// Reads a text up to its end byte.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Errno> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_err(|_| Errno::EINVAL)
}

/// Reads an address of 4 or 16 bytes.
pub(crate) fn ip(bytes: &[u8]) -> Result<IpAddr, Errno> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| Errno::ERANGE)?;
    Ok(Ipv6Addr::from(bytes).into())
}

/// Reads a field of the fixed part of a payload; what is cut off counts as zero.
pub(crate) fn field<const N: usize>(payload: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    let given = payload.get(at..).unwrap_or_default();
    let count = given.len().min(N);
    value[..count].copy_from_slice(&given[..count]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_attributes_end_the_list() {
        let bytes = [5, 0, 1, 0, 7, 0, 0, 0, 8, 0, 2, 0x80, 1, 0, 0, 0, 9, 0, 3, 0, 1];
        let attributes = Attributes::parse(&bytes);
        assert_eq!(attributes.u8(1), Ok(Some(7)));
        assert_eq!(attributes.u32(2), Ok(Some(1)));
        assert_eq!(attributes.u32(1), Err(Errno::ERANGE));
        assert_eq!(attributes.bytes(3), None);
        assert_eq!(attributes.iter().count(), 2);
        assert_eq!(Attributes::parse(&[0; 64]).iter().count(), 0);
    }

    #[test]
    fn addresses_are_known_by_their_length() {
        assert_eq!(ip(&[10, 0, 0, 1]), Ok(IpAddr::from([10, 0, 0, 1])));
        assert!(ip(&[0; 16]).is_ok_and(|ip| ip.is_ipv6()));
        assert_eq!(ip(&[0; 5]), Err(Errno::ERANGE));
    }
}
