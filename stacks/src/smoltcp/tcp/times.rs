//! Timestamps: round trips of every segment, and protection against numbers that wrapped
//! (RFC 7323).

use smoltcp::time::{Duration, Instant};

/// How long the peer's last timestamp is a measure for the next: its clock may wrap later.
const FRESH: Duration = Duration::from_secs(24 * 86_400);

/// The timestamps of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Both sides send them.
    on: bool,
    /// Our clock begins here, lest it tells how long we have run.
    offset: u32,
    /// The peer's timestamp that we echo, and when it came.
    recent: Option<(u32, Instant)>,
}

/// A timestamps option: the sender's clock, and the echo of the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) value: u32,
    pub(crate) echo: u32,
}

/// The milliseconds of a clock that wraps.
pub(crate) fn millis(now: Instant) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it wraps")]
    let low = now.total_millis() as u32;
    low
}

impl Times {
    /// Makes them, to be offered or not.
    pub(crate) fn new(on: bool, offset: u32) -> Self {
        Self { on, offset, recent: None }
    }

    /// Whether segments carry them.
    pub(crate) fn are_on(&self) -> bool {
        self.on
    }

    /// Takes the peer's SYN: without the option there it is not used.
    pub(crate) fn agree(&mut self, stamps: Option<Stamps>, now: Instant) {
        match stamps {
            Some(stamps) if self.on => self.recent = Some((stamps.value, now)),
            _ => self.on = false,
        }
    }

    /// What a segment carries that is sent now.
    pub(crate) fn stamps(&self, now: Instant) -> Option<Stamps> {
        let echo = self.recent.map_or(0, |(value, _)| value);
        self.on.then(|| Stamps { value: millis(now).wrapping_add(self.offset), echo })
    }

    /// Whether a segment is an old one whose numbers fit by chance (PAWS; RFC 7323, 5.3).
    pub(crate) fn is_old(&self, stamps: Option<Stamps>, now: Instant) -> bool {
        let (Some(stamps), Some((recent, at)), true) = (stamps, self.recent, self.on) else {
            return false;
        };
        stamps.value.wrapping_sub(recent).cast_signed() < 0 && now - at < FRESH
    }

    /// Keeps the timestamp of a segment that begins with or before what was acknowledged last
    /// (RFC 7323, 4.3): so the echo of a delayed acknowledgement is that of the first segment, and
    /// that of one with a hole before it the one before the hole.
    pub(crate) fn keep(&mut self, stamps: Option<Stamps>, now: Instant) {
        if let Some(stamps) = stamps
            && self.on
            && !self.is_old(Some(stamps), now)
        {
            self.recent = Some((stamps.value, now));
        }
    }

    /// When we sent what the peer echoes, in the milliseconds of [`millis`].
    pub(crate) fn echo(&self, stamps: Option<Stamps>) -> Option<u32> {
        let stamps = stamps.filter(|stamps| self.on && stamps.echo != 0)?;
        Some(stamps.echo.wrapping_sub(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn stamps(value: u32) -> Option<Stamps> {
        Some(Stamps { value, echo: 0 })
    }

    #[test]
    fn older_segments_are_known_until_the_clock_may_have_wrapped() {
        let now = Instant::from_secs(100);
        let mut times = Times::new(true, 5);
        times.agree(stamps(10), now);
        assert!(times.is_old(stamps(9), now) && !times.is_old(stamps(10), now));
        assert!(!times.is_old(None, now));
        times.keep(stamps(9), now);
        assert_eq!(times.stamps(now), Some(Stamps { value: 100_005, echo: 10 }));
        times.keep(stamps(0x8000_0009), now);
        assert!(times.is_old(stamps(10), now), "it wrapped");
        assert!(!times.is_old(stamps(10), now + FRESH));
    }

    #[test]
    fn without_the_peers_consent_there_are_none() {
        let now = Instant::from_secs(1);
        let mut times = Times::new(true, 0);
        times.agree(None, now);
        assert_eq!((times.stamps(now), times.echo(stamps(4))), (None, None));
        let mut times = Times::new(false, 0);
        times.agree(stamps(3), now);
        assert!(!times.are_on());
    }

    #[test]
    fn an_echo_is_a_moment_of_our_clock() {
        let sent = Instant::from_millis(4_294_967_290i64);
        let mut times = Times::new(true, u32::MAX);
        times.agree(stamps(1), sent);
        let value = times.stamps(sent).expect("on").value;
        assert_eq!(times.echo(Some(Stamps { value: 2, echo: value })), Some(millis(sent)));
    }
}
