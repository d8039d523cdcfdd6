//! A virtual clock: `T = (t - base) * frequency + base + offset`, with t the time of the host.
//!
//! The clocks that count from the start of the host follow the frequency too, from the moment on at
//! which it is set, without a jump. They cannot stand still or go back: with a frequency of 0 or less
//! they are the host's.

use parking_lot::RwLock;
use umvu_abi::{
    Errno,
    module::Clock,
    tree::{Entry, Tree},
};

const NAMES: [&str; 3] = ["base", "frequency", "offset"];
const SECOND: f64 = 1e9;
const WHOLE: i128 = 1_000_000_000;
/// What is slower stands still.
const SLOWEST: f64 = 1e-6;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rule {
    /// Nanoseconds, as the offset.
    base: i128,
    frequency: f64,
    offset: i128,
    /// A moment of the host's `CLOCK_MONOTONIC`, and what the view's shows then.
    since: [i128; 2],
}

/// A mounted clock and its files.
#[derive(Debug)]
pub(super) struct Time(RwLock<Rule>);

impl Default for Time {
    fn default() -> Self {
        Self(RwLock::new(Rule { base: 0, frequency: 1.0, offset: 0, since: [0; 2] }))
    }
}

/// A rate as so many for [`WHOLE`], with which times keep their nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "a limited number")]
fn ratio(rate: f64) -> i128 {
    (rate * SECOND).round() as i128
}

fn scaled(nanos: i128, rate: f64) -> i128 {
    nanos.saturating_mul(ratio(rate)).div_euclid(WHOLE)
}

/// What becomes so much, or just more, when it is scaled. The rate is not 0.
fn unscaled(nanos: i128, rate: f64) -> i128 {
    let (nanos, ratio) = (nanos.saturating_mul(WHOLE), ratio(rate));
    nanos.div_euclid(ratio) + i128::from(nanos.rem_euclid(ratio) > 0)
}

impl Rule {
    fn show(&self, real: i128) -> i128 {
        scaled(real - self.base, self.frequency) + self.base + self.offset
    }

    fn pace(&self) -> f64 {
        if self.frequency > 0.0 { self.frequency.max(SLOWEST) } else { 1.0 }
    }

    fn monotonic(&self, host: i128) -> i128 {
        let [from, shown] = self.since;
        shown + scaled(host - from, self.pace())
    }

    /// Changes how fast time passes from a moment of the host's `CLOCK_MONOTONIC` on.
    fn set_frequency(&mut self, frequency: f64, now: i128) {
        self.since = [now, self.monotonic(now)];
        self.frequency = frequency;
    }
}

impl Clock for Time {
    fn show(&self, real: i128) -> i128 {
        self.0.read().show(real)
    }

    fn set(&self, shown: i128, real: i128) {
        let mut rule = self.0.write();
        rule.offset += shown - rule.show(real);
    }

    fn real(&self, shown: i128) -> Option<i128> {
        let rule = self.0.read();
        let moves = rule.frequency.abs() >= SLOWEST;
        let apart = shown - rule.base - rule.offset;
        moves.then(|| unscaled(apart, rule.frequency) + rule.base)
    }

    fn pace(&self) -> f64 {
        self.0.read().pace()
    }

    fn monotonic(&self, host: i128) -> i128 {
        self.0.read().monotonic(host)
    }

    fn host_monotonic(&self, shown: i128) -> i128 {
        let rule = self.0.read();
        let [from, then] = rule.since;
        from + unscaled(shown - then, rule.pace())
    }
}

impl Time {
    /// Whether the clocks that count from the start are not the host's.
    pub(super) fn has_pace(&self) -> bool {
        let rule = self.0.read();
        rule.pace().to_bits() != 1.0_f64.to_bits() || rule.since[0] != rule.since[1]
    }
}

/// The host's `CLOCK_MONOTONIC`.
fn now() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * WHOLE + i128::from(now.tv_nsec)
}

/// Seconds with a fraction.
fn text(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) =
        (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    format!("{sign}{seconds}.{rest:09}\n")
}

impl Tree for Time {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        match path {
            "" => Ok(Entry::Directory(NAMES.map(str::to_owned).to_vec())),
            path if NAMES.contains(&path) => Ok(Entry::File { mode: 0o644 }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let rule = *self.0.read();
        Ok(match path {
            "base" => text(rule.base),
            "offset" => text(rule.offset),
            "frequency" => format!("{}\n", rule.frequency),
            "" => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENOENT),
        }
        .into_bytes())
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        let word = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
        let value: f64 = word.parse().map_err(|_| Errno::EINVAL)?;
        if !value.is_finite() || value.abs() > 1e12 {
            return Err(Errno::EINVAL);
        }
        let mut rule = self.0.write();
        match path {
            "base" => rule.base = scaled(1, value * SECOND),
            "offset" => rule.offset = scaled(1, value * SECOND),
            "frequency" => rule.set_frequency(value, now()),
            _ => return Err(Errno::EACCES),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_holds() {
        let time = Time::default();
        assert_eq!(time.show(5_000_000_001), 5_000_000_001);
        for (name, value) in [("base", "100"), ("frequency", "2"), ("offset", "-10\n")] {
            time.write(name, value.as_bytes()).expect("a number");
        }
        assert_eq!(time.show(103_000_000_000), 96_000_000_000);
        time.set(0, 103_000_000_000);
        assert_eq!(time.show(104_000_000_000), 2_000_000_000);
        assert_eq!(time.read("offset"), Ok(b"-106.000000000\n".to_vec()));
        assert_eq!(time.write("offset", b"x"), Err(Errno::EINVAL));
        assert_eq!(time.real(2_000_000_000), Some(104_000_000_000));
    }

    #[test]
    fn monotonic_clocks_do_not_jump() {
        let mut rule = Rule { base: 7, frequency: 1.0, offset: 9, since: [0; 2] };
        for (frequency, at) in [(2.0, 100), (0.5, 200), (0.0, 300), (-3.0, 400), (1.0, 500)] {
            let before = rule.monotonic(at);
            rule.set_frequency(frequency, at);
            assert_eq!(rule.monotonic(at), before);
        }
        // 100 at 1, then 100 at each of 2, 0.5, 1, 1.
        assert_eq!(rule.monotonic(500), 550);
        let time = Time(RwLock::new(rule));
        assert!(time.has_pace());
        assert_eq!(time.host_monotonic(time.monotonic(777)), 777);
    }
}
