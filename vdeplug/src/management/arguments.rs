//! Arguments of management commands: numbers as C reads them, addresses.

use nix::errno::Errno;

use crate::switch::layout::{PortNumber, Vid};

/// Reads a number as atoi(3) does: what is none is 0, what follows it is ignored.
pub(crate) fn number(text: &str) -> i32 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let value = digits.bytes().fold(0_i32, |value, digit| {
        value.saturating_mul(10).saturating_add(i32::from(digit - b'0'))
    });
    if negative { -value } else { value }
}

/// The words of the arguments. Errors: EINVAL when there are fewer than `COUNT`.
pub(crate) fn words<const COUNT: usize>(text: &str) -> Result<[&str; COUNT], Errno> {
    let mut words = text.split_whitespace();
    let mut found = [""; COUNT];
    for word in &mut found {
        *word = words.next().ok_or(Errno::EINVAL)?;
    }
    Ok(found)
}

/// A number of a port, or one that no port has.
pub(crate) fn port(text: &str) -> Result<PortNumber, Errno> {
    PortNumber::try_from(number(text)).map_err(|_| Errno::EINVAL)
}

/// A number of a VLAN, or one that no VLAN has.
pub(crate) fn vlan(text: &str) -> Result<Vid, Errno> {
    Vid::try_from(number(text)).map_err(|_| Errno::EINVAL)
}

/// Reads an address of six bytes with colons between. Errors: EINVAL.
pub(crate) fn mac(text: &str) -> Result<[u8; 6], Errno> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().ok_or(Errno::EINVAL)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| Errno::EINVAL)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_does() {
        let cases =
            [("7", 7), (" 08x", 8), ("x", 0), ("", 0), ("-5", -5), ("99999999999", i32::MAX)];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!(port("-1"), Err(Errno::EINVAL));
        assert_eq!(port("70000"), Err(Errno::EINVAL));
    }

    #[test]
    fn words_must_be_enough() {
        assert_eq!(words(" 1  2 3"), Ok(["1", "2"]));
        assert_eq!(words::<2>("1"), Err(Errno::EINVAL));
    }

    #[test]
    fn addresses_have_six_bytes() {
        assert_eq!(mac("02:0:ff:a:B:c"), Ok([2, 0, 255, 10, 11, 12]));
        for bad in ["", "02:00:00:00:00", "02-00-00-00-00-01", "zz", "100:0:0:0:0:0"] {
            assert_eq!(mac(bad), Err(Errno::EINVAL), "{bad}");
        }
    }
}
