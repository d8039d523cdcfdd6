//! A fast hasher for the tables looked up once per packet, with a random seed per table.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes [`Fold`] hashers that share one random seed.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0u8) | 1)
    }
}

impl BuildHasher for Seeded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { state: self.0, seed: self.0 }
    }
}

/// Folds each word by a 128-bit multiplication.
#[derive(Debug)]
pub struct Fold {
    state: u64,
    seed: u64,
}

impl Fold {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = product.to_ne_bytes();
        let halves = [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]].map(u64::from_ne_bytes);
        self.state = halves[0] ^ halves[1] ^ self.seed;
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_ne_bytes(last));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.add(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// A hash map with that hasher.
pub type Map<K, V> = std::collections::HashMap<K, V, Seeded>;
