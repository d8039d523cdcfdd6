//! TCP options of incoming segments: what a SYN offers, and selective acknowledgements.

use super::segment::SYN;

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

impl Offer {
    /// Reads the options of a SYN; None for another segment.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        if payload.get(13)? & SYN == 0 {
            return None;
        }
        let mut offer = Self::default();
        options(payload, |kind, value| match (kind, value) {
            (2, [high, low]) => offer.mss = Some(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => offer.scale = Some((*shift).min(14)),
            (4, []) => offer.sack = true,
            _ => {}
        });
        Some(offer)
    }
}

impl Blocks {
    /// Reads the selective acknowledgements of a segment.
    pub(crate) fn parse(payload: &[u8]) -> Self {
        let mut found = Self::default();
        if payload.get(12).is_none_or(|byte| byte >> 4 <= 5) {
            return found;
        }
        options(payload, |kind, value| {
            if kind == 5 {
                for block in value.chunks_exact(8).take(4 - found.count) {
                    let word = |at: usize| {
                        u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
                    };
                    found.blocks[found.count] = (word(0), word(4));
                    found.count += 1;
                }
            }
        });
        found
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

    #[test]
    fn the_offer_of_a_syn_is_found_among_other_options() {
        let syn = segment(SYN, &[1, 3, 3, 7, 4, 2, 1, 1, 2, 4, 5, 180]);
        let offer = Offer { mss: Some(1460), scale: Some(7), sack: true };
        assert_eq!(Offer::parse(&syn), Some(offer));
        assert_eq!(Offer::parse(&segment(SYN, &[])), Some(Offer::default()));
        assert_eq!(Offer::parse(&segment(0, &[])), None);
        // Cut short, without an end, of no length.
        for bad in [&[2, 4, 5, 180, 2, 9, 0, 0][..], &[2, 0, 0, 0], &[3, 1, 7, 7], &[8, 8, 8, 8]] {
            let _ = Offer::parse(&segment(SYN, bad));
        }
    }

    #[test]
    fn blocks_are_read() {
        let mut option = vec![1, 1, 5, 18];
        for word in [10u32, 20, 30, 40] {
            option.extend(word.to_be_bytes());
        }
        assert_eq!(Blocks::parse(&segment(16, &option)).as_slice(), [(10, 20), (30, 40)]);
        assert_eq!(Blocks::parse(&segment(16, &[1, 1, 5, 6, 0, 0, 0, 0])).as_slice(), []);
        assert_eq!(Blocks::parse(&segment(16, &[])).as_slice(), []);
    }
}
