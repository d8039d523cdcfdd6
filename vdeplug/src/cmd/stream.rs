//! Frames in a stream of bytes: before each its length, two bytes, the most significant first.

use thiserror::Error;

use crate::{
    frame::{MAX_FRAME, is_wire_length},
    transport::Drops,
};

/// The length of a length.
const PREFIX: usize = 2;

/// The bytes are no frames: after this nothing can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the command writes something else than frames (it should end in `vde_plug`)")]
pub(crate) struct Garbage;

/// Writes a frame with its length; None if no length can say it.
pub(crate) fn encode(frame: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(frame.len()).ok()?;
    Some([&length.to_be_bytes(), frame].concat())
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// How many of the bytes have been decoded.
    done: usize,
}

impl Decoder {
    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.done);
        self.done = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next frame that is whole; what is too short to be one is counted as dropped.
    pub(crate) fn next_frame(&mut self, drops: &Drops) -> Result<Option<Vec<u8>>, Garbage> {
        while let Some((length, rest)) = self.bytes[self.done..].split_first_chunk::<PREFIX>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_FRAME {
                return Err(Garbage);
            }
            let Some(frame) = rest.get(..length) else { break };
            self.done += PREFIX + length;
            if is_wire_length(length) {
                return Ok(Some(frame.to_vec()));
            }
            drops.add(usize::from(length > 0));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, Garbage> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame(&Drops::default())? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn lengths_are_big_endian() {
        assert_eq!(encode(&[7; 300]).map(|b| b[..3].to_vec()), Some(vec![1, 44, 7]));
        assert_eq!(encode(&[0; 65_536]), None);
    }

    #[test]
    fn runts_are_skipped_and_text_is_no_network() {
        let runt = [0, 0, 0, 2, 9, 9];
        let frame = encode(&[7; 60]).expect("a length");
        assert_eq!(decode(&[&runt, &frame]), Ok(vec![vec![7; 60]]));
        assert_eq!(decode(&[b"Hello, world\n"]), Err(Garbage));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cuts(
            frames in vec(vec(any::<u8>(), 14..300), 0..6),
            size in 1usize..200,
        ) {
            let bytes: Vec<u8> = frames.iter().filter_map(|frame| encode(frame)).flatten().collect();
            let pieces: Vec<_> = bytes.chunks(size).collect();
            prop_assert_eq!(decode(&pieces), Ok(frames));
        }

        #[test]
        fn any_stream_is_frames_or_garbage(bytes in vec(any::<u8>(), 0..2000), size in 1usize..200) {
            let pieces: Vec<_> = bytes.chunks(size).collect();
            if let Ok(frames) = decode(&pieces) {
                prop_assert!(frames.iter().all(|frame| is_wire_length(frame.len())));
            }
        }
    }
}
