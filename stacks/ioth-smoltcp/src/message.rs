//! What recvmsg(2) and sendmsg(2) carry, as safe slices.

use std::io::{IoSlice, IoSliceMut};

use umvu_abi::SockAddr;

/// The longest datagram: IP's 64 KiB, and what a netlink message may be.
const LONGEST: usize = 1 << 20;

/// What a receive brought.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// What the call returns.
    pub(crate) length: usize,
    /// The sender.
    pub(crate) source: SockAddr,
    /// The control messages, whole.
    pub(crate) control: umvu_abi::control::Messages,
    /// The `MSG_*` flags that the call gives back.
    pub(crate) flags: i32,
}

/// How many bytes some buffers hold.
pub(crate) fn room(buffers: &[IoSliceMut<'_>]) -> usize {
    buffers.iter().map(|buffer| buffer.len()).sum::<usize>().min(LONGEST)
}

/// Copies a datagram to some buffers.
pub(crate) fn scatter(mut data: &[u8], buffers: &mut [IoSliceMut<'_>]) {
    for buffer in buffers {
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        data = &data[count..];
    }
}

/// Puts the pieces of a datagram together. None when it is longer than any socket takes.
pub(crate) fn gather(pieces: &[IoSlice<'_>]) -> Option<Vec<u8>> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    (length <= LONGEST).then(|| pieces.iter().flat_map(|piece| piece.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_and_one_becomes_pieces() {
        let pieces = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        let whole = gather(&pieces).expect("short");
        assert_eq!(whole, b"one two");
        let (mut a, mut b) = ([0; 2], [0; 9]);
        let mut buffers = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(room(&buffers), 11);
        scatter(&whole, &mut buffers);
        assert_eq!((a, &b[..5]), (*b"on", b"e two".as_slice()));
    }
}
