//! The extended headers of pax(1): records of `LENGTH NAME=VALUE`.

use umvu_abi::files::Time;

/// What extended headers say, of all members that follow or of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Adds what a header has, as far as it is right.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((record, rest)) = record(bytes) {
            self.0.push(record);
            bytes = rest;
        }
    }

    /// The last value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(it, _)| it == name.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The values of names that begin so, with the rest of the names.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix(prefix.as_bytes())?, value.as_slice()))
        })
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        decimal(self.get(name)?)
    }

    /// A time, with as many digits behind the point as it has.
    pub(super) fn time(&self, name: &str) -> Option<Time> {
        let text = std::str::from_utf8(self.get(name)?).ok()?;
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let seconds = whole.parse().ok()?;
        let digits = part.bytes().filter(u8::is_ascii_digit).chain(std::iter::repeat(b'0'));
        let nanos = digits.take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        Some(match nanos {
            // What is behind the point of a negative time goes away from zero.
            1.. if whole.starts_with('-') => {
                Time { seconds: i64::checked_sub(seconds, 1)?, nanos: 1_000_000_000 - nanos }
            }
            _ => Time { seconds, nanos },
        })
    }
}

/// A number in decimal digits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

type Record = (Vec<u8>, Vec<u8>);

fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let text = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some(((text[..equals].to_vec(), text[equals + 1..].to_vec()), &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_anything_in_them() {
        let mut records = Records::default();
        records.read(b"12 path=a\nb\n20 mtime=12.3456789\n14 SCHILY.x==\n9 uid=77\n8 bad=\n");
        assert_eq!(records.get("path"), Some(&b"a\nb"[..]));
        assert_eq!(records.time("mtime"), Some(Time { seconds: 12, nanos: 345_678_900 }));
        assert_eq!(records.below("SCHILY.").collect::<Vec<_>>(), [(&b"x"[..], &b"="[..])]);
        assert_eq!((records.number("uid"), records.get("bad")), (Some(77), None));
    }

    #[test]
    fn times_before_the_epoch() {
        let mut records = Records::default();
        records.read(b"15 mtime=-1.25\n14 atime=-0.5\n12 ctime=-7\n");
        assert_eq!(records.time("mtime"), Some(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(records.time("atime"), Some(Time { seconds: -1, nanos: 500_000_000 }));
        assert_eq!(records.time("ctime"), Some(Time { seconds: -7, nanos: 0 }));
    }

    #[test]
    fn lengths_that_are_wrong_end_it() {
        for bytes in
            [&b"99 a=b\n"[..], b"x a=b\n", b"0 a=b\n", b"3 a=b\n", b"7 a=b", b"2 ", b"6 abc\n"]
        {
            let mut records = Records::default();
            records.read(bytes);
            assert!(records.0.is_empty(), "{bytes:?}");
        }
    }
}
