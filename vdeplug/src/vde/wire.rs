//! The handshake of `vde_switch` on its control socket: requests and replies as bytes.
//!
//! A request (version 3, packed, host byte order) is magic, version, type, the address of the
//! client's datagram socket and a description that ends with the message. The reply is the
//! address of the datagram socket that the switch set up for this client.
//!
//! Bytes behind a zero that ends the description are read by nobody but switches of this library:
//! [`MARK`] there asks for shared memory (see `shared/`).

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

const MAGIC: u32 = 0xfeed_face;
const VERSION: u32 = 3;
/// `sizeof(struct sockaddr_un)`.
pub(crate) const ADDRESS: usize = 110;
/// A request without its description.
pub(crate) const REQUEST: usize = 12 + ADDRESS;
/// The longest request that is read.
pub(crate) const LONGEST_REQUEST: usize = REQUEST + 1024;

/// The longest request that every switch reads at once (that of libvdeplug).
const LONGEST_PLAIN: usize = REQUEST + 128;
/// What asks for shared memory; the number is that of its layout.
const MARK: &[u8] = b"\0umvu-ring-1";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The port of the switch; None for any.
    pub(crate) port: Option<u16>,
    /// Where the client's datagram socket is bound.
    pub(crate) address: PathBuf,
    /// Who the client is, for people.
    pub(crate) description: String,
    /// Whether the client can do with shared memory.
    pub(crate) shared: bool,
}

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// More bytes may make it one.
    Short,
    /// Nothing makes it one.
    Foreign,
}

impl Request {
    /// Writes the request; None if the path is too long for a socket address.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(REQUEST + self.description.len());
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend(VERSION.to_ne_bytes());
        // Type 0 is a new connection; bits from 8 on are the port, 0 for any.
        bytes.extend((u32::from(self.port.unwrap_or(0)) << 8).to_ne_bytes());
        bytes.extend(encode_address(&self.address)?);
        bytes.extend(self.description.as_bytes());
        if self.shared && bytes.len() + MARK.len() <= LONGEST_PLAIN {
            bytes.extend(MARK);
        }
        Some(bytes)
    }

    /// Reads a request.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let word = |at: usize| {
            let word: [u8; 4] =
                bytes.get(at..at + 4).and_then(|w| w.try_into().ok()).ok_or(Malformed::Short)?;
            Ok(u32::from_ne_bytes(word))
        };
        if (word(0)?, word(4)?) != (MAGIC, VERSION) {
            return Err(Malformed::Foreign);
        }
        let (kind, port) = (word(8)? & 0xff, word(8)? >> 8);
        let port = u16::try_from(port).map_err(|_| Malformed::Foreign)?;
        let address = bytes.get(12..REQUEST).ok_or(Malformed::Short)?;
        let address = decode_address(address).ok_or(Malformed::Foreign)?;
        // Types 0 and 1 are new connections; the distinction is historic.
        if kind > 1 {
            return Err(Malformed::Foreign);
        }
        let rest = &bytes[REQUEST..];
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        let (description, rest) = rest.split_at(end);
        let description = String::from_utf8_lossy(description).into_owned();
        let shared = rest == MARK;
        Ok(Self { port: (port != 0).then_some(port), address, description, shared })
    }
}

/// Writes a path as a `struct sockaddr_un`; None if it does not fit.
pub(crate) fn encode_address(path: &Path) -> Option<[u8; ADDRESS]> {
    let path = path.as_os_str().as_bytes();
    let mut bytes = [0; ADDRESS];
    let family = u16::try_from(libc::AF_UNIX).ok()?.to_ne_bytes();
    bytes[..2].copy_from_slice(&family);
    // One byte stays zero: the path ends there.
    bytes.get_mut(2..2 + path.len()).filter(|_| path.len() < ADDRESS - 2)?.copy_from_slice(path);
    Some(bytes)
}

/// Reads the path of a `struct sockaddr_un`; None if it is of another family or has no path.
pub(crate) fn decode_address(bytes: &[u8]) -> Option<PathBuf> {
    let family = i32::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
    let path = bytes[2..].split(|b| *b == 0).next()?;
    (family == libc::AF_UNIX && !path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let address = PathBuf::from("/tmp/sw/.00042-00000");
        let description = "lab: user=a pid=42".to_owned();
        Request { port: Some(7), address, description, shared: false }
    }

    #[test]
    fn requests_are_laid_out_as_the_switch_reads_them() {
        let bytes = request().encode().expect("a short path");
        assert_eq!(bytes[..4], 0xfeed_face_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], 3_u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 0x700_u32.to_ne_bytes());
        assert_eq!(bytes[12..14], 1_u16.to_ne_bytes());
        assert_eq!(&bytes[14..34], b"/tmp/sw/.00042-00000");
        assert_eq!(&bytes[122..], b"lab: user=a pid=42");
        assert_eq!(Request::decode(&bytes), Ok(request()));
        let large = Request { port: Some(300), ..request() };
        assert_eq!(Request::decode(&large.encode().expect("a short path")), Ok(large));
    }

    #[test]
    fn shared_memory_is_asked_for_behind_the_description() {
        let request = Request { shared: true, ..request() };
        let bytes = request.encode().expect("a short path");
        assert_eq!(&bytes[122..], b"lab: user=a pid=42\0umvu-ring-1");
        assert_eq!(Request::decode(&bytes), Ok(request.clone()));
        // Another layout, or half of a mark, is not this one.
        let mut other = bytes.clone();
        *other.last_mut().expect("bytes") = b'2';
        assert_eq!(Request::decode(&other).map(|request| request.shared), Ok(false));
        let short = Request::decode(&bytes[..bytes.len() - 1]);
        assert_eq!(short.map(|request| request.shared), Ok(false));
        // What vde_switch might read in two pieces is not sent.
        let long = Request { description: "x".repeat(120), ..request };
        assert_eq!(long.encode().map(|bytes| bytes.len()), Some(REQUEST + 120));
    }

    #[test]
    fn short_and_foreign_requests_are_told_apart() {
        let bytes = request().encode().expect("a short path");
        assert_eq!(Request::decode(&bytes[..121]), Err(Malformed::Short));
        assert_eq!(Request::decode(&[]), Err(Malformed::Short));
        let mut other = bytes.clone();
        other[4] = 1;
        assert_eq!(Request::decode(&other), Err(Malformed::Foreign));
        let mut other = bytes;
        other[12] = 2;
        assert_eq!(Request::decode(&other), Err(Malformed::Foreign));
    }

    #[test]
    fn paths_too_long_for_an_address_are_refused() {
        assert!(encode_address(Path::new(&"x".repeat(107))).is_some());
        assert!(encode_address(Path::new(&"x".repeat(108))).is_none());
    }
}
