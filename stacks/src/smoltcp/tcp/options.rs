//! TCP options: what a SYN offers, selective acknowledgements, timestamps.

use super::{segment::SYN, times::Stamps};

/// Bytes of timestamps in a segment.
pub(crate) const STAMPED: usize = 12;
/// Bytes of options at most.
const MOST: usize = 40;

/// What the peer's SYN told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The maximum segment size (RFC 9293, 3.7.1).
    pub(crate) mss: Option<u16>,
    /// The shift of its windows (RFC 7323).
    pub(crate) scale: Option<u8>,
    /// Whether it sends and takes selective acknowledgements (RFC 2018).
    pub(crate) sack: bool,
}

/// A block of sequence numbers that arrived: the first, and the one after the last.
pub(crate) type Block = (u32, u32);

/// Selective acknowledgements: up to four.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    blocks: [Block; 4],
    count: usize,
}

impl Blocks {
    /// All of them, in the order of the option.
    pub(crate) fn as_slice(&self) -> &[Block] {
        &self.blocks[..self.count]
    }
}

/// Calls `each` with the kind and the value of every option of a segment.
fn options<'a>(payload: &'a [u8], mut each: impl FnMut(u8, &'a [u8])) {
    let Some(offset) = payload.get(12).map(|byte| usize::from(byte >> 4) * 4) else { return };
    let Some(mut left) = payload.get(20..offset) else { return };
    loop {
        match left {
            [1, rest @ ..] => left = rest,
            [kind, length, ..] if *kind != 0 && *length >= 2 => {
                let length = usize::from(*length);
                let (Some(value), Some(rest)) = (left.get(2..length), left.get(length..)) else {
                    return;
                };
                each(*kind, value);
                left = rest;
            }
            _ => return,
        }
    }
}

/// The options of an incoming segment that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Of a SYN.
    pub(crate) offer: Option<Offer>,
    /// Selective acknowledgements.
    pub(crate) blocks: Blocks,
    /// Timestamps.
    pub(crate) stamps: Option<Stamps>,
}

impl Options {
    /// Reads the options of a segment, which begins with its header.
    pub(crate) fn parse(payload: &[u8]) -> Self {
        let mut found = Self::default();
        let Some(flags) = payload.get(13) else { return found };
        let mut offer = Offer::default();
        let blocks = &mut found.blocks;
        options(payload, |kind, value| match (kind, value) {
            (2, [high, low]) => offer.mss = Some(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => offer.scale = Some((*shift).min(14)),
            (4, []) => offer.sack = true,
            (5, value) => {
                for block in value.chunks_exact(8).take(4 - blocks.count) {
                    blocks.blocks[blocks.count] = (word(block, 0), word(block, 4));
                    blocks.count += 1;
                }
            }
            (8, value) if value.len() == 8 => {
                found.stamps = Some(Stamps { value: word(value, 0), echo: word(value, 4) });
            }
            _ => {}
        });
        found.offer = (flags & SYN != 0).then_some(offer);
        found
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The options of a segment to send, in the order and with the padding that Linux uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    bytes: [u8; MOST],
    length: usize,
}

impl Tail {
    /// Those of a SYN.
    pub(crate) fn offer(offer: &Offer, stamps: Option<Stamps>) -> Self {
        let mut tail = Self { bytes: [1; MOST], length: 0 };
        if let Some(mss) = offer.mss {
            tail.push(&[2, 4]).push(&mss.to_be_bytes());
        }
        match (offer.sack, stamps) {
            (true, Some(stamps)) => tail.push(&[4, 2]).stamp(stamps),
            (true, None) => tail.push(&[1, 1, 4, 2]),
            (false, Some(stamps)) => tail.push(&[1, 1]).stamp(stamps),
            (false, None) => &mut tail,
        };
        if let Some(shift) = offer.scale {
            tail.push(&[1, 3, 3, shift]);
        }
        tail
    }

    /// Those of all others.
    pub(crate) fn with(stamps: Option<Stamps>) -> Self {
        let mut tail = Self { bytes: [1; MOST], length: 0 };
        if let Some(stamps) = stamps {
            tail.push(&[1, 1]).stamp(stamps);
        }
        tail
    }

    /// How many blocks there is room for.
    pub(crate) fn room(&self) -> usize {
        (MOST - self.length - 4) / 8
    }

    /// Adds selective acknowledgements; there is room.
    pub(crate) fn report(mut self, blocks: impl Iterator<Item = Block>) -> Self {
        let begun = self.length;
        self.push(&[1, 1, 5, 2]);
        for (start, end) in blocks {
            self.push(&start.to_be_bytes()).push(&end.to_be_bytes());
            self.bytes[begun + 3] += 8;
        }
        if self.bytes[begun + 3] == 2 {
            self.length = begun;
        }
        self
    }

    /// The bytes, a multiple of four.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn stamp(&mut self, stamps: Stamps) -> &mut Self {
        self.push(&[8, 10]).push(&stamps.value.to_be_bytes()).push(&stamps.echo.to_be_bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut head = vec![0u8; 20];
        head[12] = u8::try_from(5 + options.len() / 4).expect("short") << 4;
        head[13] = flags;
        head.extend(options);
        head
    }

    fn offer(flags: u8, options: &[u8]) -> Option<Offer> {
        Options::parse(&segment(flags, options)).offer
    }

    #[test]
    fn the_offer_of_a_syn_is_found_among_other_options() {
        let expected = Offer { mss: Some(1460), scale: Some(7), sack: true };
        assert_eq!(offer(SYN, &[1, 3, 3, 7, 4, 2, 1, 1, 2, 4, 5, 180]), Some(expected));
        assert_eq!(offer(SYN, &[]), Some(Offer::default()));
        assert_eq!(offer(0, &[]), None);
        // Cut short, without an end, of no length.
        for bad in [&[2, 4, 5, 180, 2, 9, 0, 0][..], &[2, 0, 0, 0], &[3, 1, 7, 7], &[8, 8, 8, 8]] {
            let _ = offer(SYN, bad);
        }
    }

    #[test]
    fn blocks_are_read() {
        let mut option = vec![1, 1, 5, 18];
        for word in [10u32, 20, 30, 40] {
            option.extend(word.to_be_bytes());
        }
        let blocks = |options: &[u8]| Options::parse(&segment(16, options)).blocks;
        assert_eq!(blocks(&option).as_slice(), [(10, 20), (30, 40)]);
        assert_eq!(blocks(&[1, 1, 5, 6, 0, 0, 0, 0]).as_slice(), []);
        assert_eq!(blocks(&[]).as_slice(), []);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let stamps = Some(Stamps { value: 77, echo: 0x0102_0304 });
        for offer in [
            Offer { mss: Some(1460), scale: Some(7), sack: true },
            Offer { mss: Some(536), scale: None, sack: false },
        ] {
            for stamps in [stamps, None] {
                let tail = Tail::offer(&offer, stamps);
                assert!(tail.as_slice().len().is_multiple_of(4));
                let found = Options::parse(&segment(SYN, tail.as_slice()));
                assert_eq!((found.offer, found.stamps), (Some(offer), stamps));
            }
        }
        for (stamps, room) in [(stamps, 3), (None, 4)] {
            let tail = Tail::with(stamps);
            assert_eq!(tail.room(), room);
            let blocks = [(1, 2), (3, 4), (5, 6), (7, 8)];
            let tail = tail.report(blocks.into_iter().take(room));
            let found = Options::parse(&segment(16, tail.as_slice()));
            assert_eq!((found.blocks.as_slice(), found.stamps), (&blocks[..room], stamps));
            assert_eq!(tail.as_slice().len(), 40 - 4 * usize::from(room == 4));
        }
        assert_eq!(Tail::with(stamps).report(std::iter::empty()).as_slice().len(), STAMPED);
    }
}
