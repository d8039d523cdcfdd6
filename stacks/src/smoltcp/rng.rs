//! Random numbers for ports, identifications and initial sequence numbers (SplitMix64).

/// A generator; the seed is the host's or a test's.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Begins at a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap_or(0)
    }

    /// Sixteen bits.
    pub(crate) fn next16(&mut self) -> u16 {
        let [low, high, ..] = self.next().to_ne_bytes();
        u16::from_ne_bytes([low, high])
    }
}
