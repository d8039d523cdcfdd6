//! Congestion control: how much may be on its way, and how fast (`TCP_CONGESTION`).

mod bbr;
mod by_loss;
mod cubic;
mod hystart;
mod reno;

use smoltcp::time::{Duration, Instant};

use self::by_loss::ByLoss;

/// Segments of the initial window (RFC 6928).
const INITIAL: u64 = 10;
/// A threshold that was never set.
pub(super) const UNSET: u64 = 1 << 30;

/// The algorithms by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Algorithm {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
    /// By the rate of delivery.
    Bbr,
}

impl Algorithm {
    /// All of them.
    const ALL: [Self; 3] = [Self::Cubic, Self::Reno, Self::Bbr];

    /// Its name in `TCP_CONGESTION`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Reno => "reno",
            Self::Bbr => "bbr",
        }
    }

    /// The algorithm of a name, which a zero may end.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self::ALL.into_iter().find(|one| one.name().as_bytes() == name)
    }

    /// Makes the state of a connection.
    pub(super) fn start(self, mss: u64) -> Box<dyn Control> {
        match self {
            Self::Cubic => Box::new(ByLoss::new(cubic::Cubic::default(), mss)),
            Self::Reno => Box::new(ByLoss::new(reno::Reno::default(), mss)),
            Self::Bbr => Box::new(bbr::Bbr::new(mss)),
        }
    }
}

/// What an acknowledgement told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    /// When it came.
    pub(super) now: Instant,
    /// Bytes that have newly arrived.
    pub(super) delivered: u64,
    /// Bytes that have arrived in all.
    pub(super) total: u64,
    /// Bytes still on their way.
    pub(super) flying: u64,
    /// Something was found lost.
    pub(super) lost: bool,
    /// The round-trip time, when it could be measured.
    pub(super) rtt: Option<Duration>,
    /// The rate of delivery, when it could be measured.
    pub(super) rate: Option<Rate>,
    /// The smoothed round-trip time.
    pub(super) smooth: Duration,
    /// The window was in the way of sending: it may grow.
    pub(super) limited: bool,
    /// The segment size.
    pub(super) mss: u64,
}

/// How fast data arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Bytes per second.
    pub(super) speed: u64,
    /// There was not always something to send.
    pub(super) limited: bool,
    /// Bytes that had arrived when the last of it was sent.
    pub(super) before: u64,
}

/// A fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share(u64, u64);

impl Share {
    const fn of(part: u64, whole: u64) -> Self {
        Self(part, whole)
    }

    fn times(self, number: u64) -> u64 {
        let product = u128::from(number) * u128::from(self.0) / u128::from(self.1);
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

/// An algorithm with its state; bytes.
pub(super) trait Control: std::fmt::Debug + Send {
    /// How much may be on its way.
    fn window(&self) -> u64;
    /// The slow-start threshold.
    fn threshold(&self) -> u64;
    /// How many bytes per second may be sent at most.
    fn pacing(&self) -> Option<u64> {
        None
    }
    /// Whether it sets the window while losses are repaired; else proportional rate reduction does.
    fn repairs_by_itself(&self) -> bool {
        false
    }
    /// Data arrived, and no recovery is under way that reduces the window proportionally.
    fn on_ack(&mut self, ack: &Ack);
    /// The first loss of a window was found; `flying` bytes are on their way.
    fn on_loss(&mut self, flying: u64, mss: u64);
    /// The retransmission timer fired.
    fn on_timeout(&mut self, flying: u64, mss: u64);
    /// All that was lost has been repaired.
    fn on_recovered(&mut self);
    /// The last loss was none.
    fn undo(&mut self);
    /// Nothing was sent for longer than the timeout.
    fn on_idle(&mut self, mss: u64);
}
