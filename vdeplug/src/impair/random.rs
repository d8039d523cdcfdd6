//! [`Random`]: numbers that are the same for the same seed, in every release (SplitMix64).

/// A generator of random numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        // A float has 53 bits: two halves that convert without loss.
        let [a, b, c, d, e, f, g, h] = self.bits().to_be_bytes();
        let high = f64::from(u32::from_be_bytes([a, b, c, d]));
        let low = f64::from(u32::from_be_bytes([e, f, g, h]) >> 11);
        (high * f64::from(1 << 21) + low) / 9_007_199_254_740_992.0
    }

    /// Whether something happens that has this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// Returns a number of the normal distribution with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        // Box and Muller; the logarithm's argument is never 0.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf, "as published");
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| one.bits() == other.bits()));
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut random = Random::new(1);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / 100_000.0;
        let units: Vec<f64> = (0..100_000).map(|_| random.unit()).collect();
        assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((mean(&units) - 0.5).abs() < 0.005);
        let normals: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let squares: Vec<f64> = normals.iter().map(|n| n * n).collect();
        assert!(mean(&normals).abs() < 0.015 && (mean(&squares) - 1.0).abs() < 0.03);
        let hits = (0..100_000).filter(|_| random.happens(0.05)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert!(!random.happens(0.0) && random.happens(1.0));
    }
}
