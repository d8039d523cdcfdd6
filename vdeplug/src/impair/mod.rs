//! What a bad link does to frames: loss, delay, duplicates, damage, limits of rate and size.
//!
//! [`Impairment`] says what happens, [`Channel`] does it in one direction. Time and randomness are
//! arguments: a channel is told the time (as a duration since any beginning) with each call and
//! draws its [`Random`] numbers from a seed, so that the same seed loses the same frames, and a
//! test need not wait.
//!
//! A frame passes the stages in this order: its sender's interface ([`speed`]), the longest frame
//! ([`mtu`]), [`loss`], [`duplicates`], the room of the channel ([`capacity`]), damage ([`noise`],
//! [`corruption`]), the bottleneck ([`bandwidth`]) and the [`delay`].
//!
//! ```
//! use std::time::Duration;
//! use vdeplug::impair::{Channel, Impairment, Varying};
//!
//! let impairment = Impairment { delay: Varying::fixed(0.1), ..Impairment::default() };
//! let mut channel = Channel::new(impairment, 7);
//! channel.offer(vec![0; 60], Duration::from_secs(1));
//! assert_eq!(channel.due(), Some(Duration::from_millis(1100)));
//! assert_eq!(channel.take(Duration::from_millis(1099)), None);
//! assert!(channel.take(Duration::from_millis(1100)).is_some());
//! ```
//!
//! [`speed`]: Impairment::speed
//! [`mtu`]: Impairment::mtu
//! [`loss`]: Impairment::loss
//! [`duplicates`]: Impairment::duplicates
//! [`capacity`]: Impairment::capacity
//! [`noise`]: Impairment::noise
//! [`corruption`]: Impairment::corruption
//! [`bandwidth`]: Impairment::bandwidth
//! [`delay`]: Impairment::delay

mod channel;
mod random;

pub use self::{channel::Channel, random::Random};

/// What happens to the frames of one direction. By default nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Impairment {
    /// How long a frame takes, in seconds.
    pub delay: Varying,
    /// The probability that a frame is lost, from 0 to 1.
    pub loss: Varying,
    /// How many frames are lost in a row, on average; 0: losses do not depend on each other.
    pub burst: Varying,
    /// The probability that a frame comes once more (and once more), from 0 to below 1.
    pub duplicates: Varying,
    /// What passes in a second, in bytes; 0: anything. Frames wait, up to the capacity.
    pub bandwidth: Varying,
    /// What the sender's interface sends in a second, in bytes; 0: anything.
    pub speed: Varying,
    /// How many bytes may be under way; 0: as many as memory is given to ([`MOST_BYTES`]).
    pub capacity: u64,
    /// How many bits of a megabyte (2^20 bytes) are flipped.
    pub noise: Varying,
    /// The probability that one bit of a frame is flipped, from 0 to 1.
    pub corruption: Varying,
    /// The longest frame, in bytes; 0: any.
    pub mtu: usize,
    /// The probability that a frame is not delayed, and so overtakes others, from 0 to 1.
    pub reordering: Varying,
    /// Whether frames stay in order although their delays vary (those that overtake do not).
    pub fifo: bool,
}

/// The most memory that the frames of a channel take, in bytes.
pub const MOST_BYTES: u64 = 64 << 20;

impl Default for Impairment {
    fn default() -> Self {
        let none = Varying::fixed(0.0);
        Self {
            delay: none,
            loss: none,
            burst: none,
            duplicates: none,
            bandwidth: none,
            speed: none,
            capacity: 0,
            noise: none,
            corruption: none,
            mtu: 0,
            reordering: none,
            fifo: true,
        }
    }
}

/// A number that may vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varying {
    /// The middle.
    pub base: f64,
    /// How far from it the number may be.
    pub spread: f64,
    /// How it is spread.
    pub shape: Shape,
}

/// A distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All values are equally likely.
    Uniform,
    /// A bell, three deviations of which are the spread.
    Normal,
}

impl Varying {
    /// A number that does not vary.
    #[must_use]
    pub const fn fixed(base: f64) -> Self {
        Self { base, spread: 0.0, shape: Shape::Uniform }
    }

    /// Draws a value, 0 at least.
    pub fn draw(&self, random: &mut Random) -> f64 {
        if self.spread <= 0.0 {
            return self.base.max(0.0);
        }
        let offset = match self.shape {
            Shape::Uniform => random.unit() * 2.0 - 1.0,
            Shape::Normal => random.normal() / 3.0,
        };
        (self.base + self.spread * offset).max(0.0)
    }
}
