//! A virtual clock: `T = (t - base) * frequency + base + offset`, with t the time of the host.

use parking_lot::RwLock;
use umvu_abi::{
    Errno,
    module::Clock,
    tree::{Entry, Tree},
};

const NAMES: [&str; 3] = ["base", "frequency", "offset"];
const SECOND: f64 = 1e9;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rule {
    /// Nanoseconds, as the offset.
    base: i128,
    frequency: f64,
    offset: i128,
}

/// A mounted clock and its files.
#[derive(Debug)]
pub(super) struct Time(RwLock<Rule>);

impl Default for Time {
    fn default() -> Self {
        Self(RwLock::new(Rule { base: 0, frequency: 1.0, offset: 0 }))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a clock's rate")]
fn scaled(nanos: i128, by: f64) -> i128 {
    // Exact where it can be.
    if by.to_bits() == 1.0_f64.to_bits() { nanos } else { (nanos as f64 * by) as i128 }
}

impl Rule {
    fn show(&self, real: i128) -> i128 {
        scaled(real - self.base, self.frequency) + self.base + self.offset
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
            "frequency" => rule.frequency = value,
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
    }
}
