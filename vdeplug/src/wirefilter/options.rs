//! What `wirefilter://[...]` says: names and values of `wirefilter(1)`, for each direction.

use crate::{
    error::OpenError,
    frame::MAX_FRAME,
    impair::{Impairment, Shape, Varying},
    vnl::{Resolved, Vnl},
};

const NAMES: [&str; 15] = [
    "delay",
    "jitter",
    "loss",
    "burst",
    "lostburst",
    "dup",
    "bandwidth",
    "speed",
    "capacity",
    "noise",
    "corrupt",
    "mtu",
    "reorder",
    "nofifo",
    "seed",
];

/// Both directions of a link: what is sent (left to right) and what is received.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    pub(super) outward: Impairment,
    pub(super) inward: Impairment,
    pub(super) seed: Option<u64>,
}

impl Options {
    pub(super) fn of(vnl: &Vnl) -> Result<Self, OpenError> {
        let parameters = vnl.parameters.resolve("wirefilter", &NAMES)?;
        let seed = parameters.number("seed", 0..=u64::MAX)?;
        let (outward, inward) = (Impairment::default(), Impairment::default());
        let mut options = Self { outward, inward, seed };
        for (name, text) in parameters.all() {
            if name == "seed" {
                continue;
            }
            let (sides, value) = match text.split_at_checked(2) {
                Some(("LR", value)) => ([true, false], value),
                Some(("RL", value)) => ([false, true], value),
                _ => ([true, true], text),
            };
            let directions = [&mut options.outward, &mut options.inward];
            for (direction, _) in directions.into_iter().zip(sides).filter(|(_, chosen)| *chosen) {
                set(direction, name, value).map_err(|expected| {
                    OpenError::from(parameters.bad_value(name, text, expected))
                })?;
            }
        }
        options.check(&parameters)?;
        Ok(options)
    }

    fn check(&self, parameters: &Resolved<'_>) -> Result<(), OpenError> {
        for direction in [&self.outward, &self.inward] {
            let delayed = direction.delay.base > 0.0 || direction.delay.spread > 0.0;
            if direction.reordering.base > 0.0 && !delayed {
                let text = parameters.get("reorder").unwrap_or_default();
                let expected = "together with delay=: what is not delayed overtakes what is";
                return Err(parameters.bad_value("reorder", text, expected).into());
            }
        }
        Ok(())
    }
}

/// Sets one property of one direction. The error says what would be right.
fn set(direction: &mut Impairment, name: &str, text: &str) -> Result<(), &'static str> {
    match name {
        "delay" => {
            direction.delay = Varying { spread: direction.delay.spread, ..scaled(text, MILLI)? };
            // A delay that has a spread of its own replaces an earlier jitter.
            if text.contains('+') {
                direction.delay = scaled(text, MILLI)?;
            }
        }
        "jitter" => direction.delay.spread = scaled(text, MILLI)?.base,
        "loss" => direction.loss = percentage(text)?,
        "burst" | "lostburst" => {
            direction.burst = read(text).ok_or(BURST)?;
            if direction.burst.base != 0.0 && direction.burst.base < 1.0 {
                return Err(BURST);
            }
        }
        "dup" => {
            direction.duplicates = percentage(text)?;
            if direction.duplicates.base + direction.duplicates.spread >= 1.0 {
                return Err("a percentage below 100: each copy may have a copy");
            }
        }
        "bandwidth" => direction.bandwidth = read(text).ok_or(RATE)?,
        "speed" => direction.speed = read(text).ok_or(RATE)?,
        "capacity" => direction.capacity = whole(text).ok_or("a number of bytes, such as 64K")?,
        "noise" => direction.noise = read(text).ok_or("a number of bits in a megabyte")?,
        "corrupt" => direction.corruption = percentage(text)?,
        "mtu" => {
            let longest = u64::try_from(MAX_FRAME).unwrap_or(u64::MAX);
            let mtu = whole(text).filter(|mtu| *mtu <= longest);
            let expected = "a length in bytes, with the Ethernet header, up to 9234";
            direction.mtu = mtu.and_then(|mtu| usize::try_from(mtu).ok()).ok_or(expected)?;
        }
        "reorder" => direction.reordering = percentage(text)?,
        "nofifo" if text.is_empty() => direction.fifo = false,
        "nofifo" => return Err("no value, or LR, or RL"),
        _ => return Err("a name that exists"),
    }
    Ok(())
}

/// What a unit is a part of.
const MILLI: f64 = 1000.0;
const PERCENT: f64 = 100.0;
const BURST: &str = "a number of frames, at least 1";
const RATE: &str = "bytes in a second, such as 128K or 128+64K";
const TIME: &str = "milliseconds, such as 100 or 100+20 or 100+20N";

fn scaled(text: &str, parts: f64) -> Result<Varying, &'static str> {
    let Varying { base, spread, shape } = read(text).ok_or(TIME)?;
    Ok(Varying { base: base / parts, spread: spread / parts, shape })
}

fn percentage(text: &str) -> Result<Varying, &'static str> {
    let value = scaled(text, PERCENT).map_err(|_| "a percentage from 0 to 100")?;
    if value.base + value.spread > 1.0 { Err("a percentage from 0 to 100") } else { Ok(value) }
}

/// Reads `BASE[+SPREAD][K|M|G][U|N]`, as wirefilter does: the factor is that of both numbers.
fn read(text: &str) -> Option<Varying> {
    let (text, shape) = match text.strip_suffix(['N', 'n']) {
        Some(rest) => (rest, Shape::Normal),
        None => (text.strip_suffix(['U', 'u']).unwrap_or(text), Shape::Uniform),
    };
    let (text, factor) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], f64::from(1 << 10)),
        (at, 'm' | 'M') => (&text[..at], f64::from(1 << 20)),
        (at, 'g' | 'G') => (&text[..at], f64::from(1 << 30)),
        _ => (text, 1.0),
    };
    let (base, spread) = text.split_once('+').unwrap_or((text, "0"));
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse::<f64>().ok().filter(|number| digits && number.is_finite())
    };
    let (base, spread) = (number(base)? * factor, number(spread)? * factor);
    Some(Varying { base, spread, shape })
}

fn whole(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, String> {
        let vnl: Vnl = format!("wirefilter://[{text}]{{null://}}").parse().expect("a locator");
        Options::of(&vnl).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_those_of_wirefilter() {
        let both = options("delay=100+20N/loss=5/bandwidth=128+64K/mtu=1514").expect("options");
        assert_eq!(both.outward, both.inward);
        let delay = Varying { base: 0.1, spread: 0.02, shape: Shape::Normal };
        assert_eq!((both.outward.delay, both.outward.loss), (delay, Varying::fixed(0.05)));
        let rate = Varying { base: 131_072.0, spread: 65_536.0, shape: Shape::Uniform };
        assert_eq!((both.outward.bandwidth, both.outward.mtu), (rate, 1514));
        assert_eq!(options("").expect("options").outward, Impairment::default());
    }

    #[test]
    fn directions_are_told_apart() {
        let each = options("loss=LR20.5/loss=RL10/nofifo=RL/dup=1/seed=7").expect("options");
        assert_eq!(each.outward.loss, Varying::fixed(0.205));
        assert_eq!(each.inward.loss, Varying::fixed(0.1));
        assert!(each.outward.fifo && !each.inward.fifo);
        assert_eq!(each.outward.duplicates, each.inward.duplicates);
        assert_eq!(each.seed, Some(7));
    }

    #[test]
    fn jitter_is_the_spread_of_a_delay() {
        let one = options("delay=100+20").expect("options");
        for text in ["delay=100/jitter=20", "jitter=20/delay=100", "jitter=3/delay=100+20"] {
            assert_eq!(options(text), Ok(one.clone()), "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (text, expected) in [
            ("loss=101", "loss=101: should be a percentage from 0 to 100"),
            ("loss=-1", "loss=-1: should be a percentage from 0 to 100"),
            ("dup=100", "dup=100: should be a percentage below 100"),
            ("delay=LRx", "delay=LRx: should be milliseconds, such as 100 or"),
            ("delay=inf", "delay=inf: should be milliseconds"),
            ("delay", "delay=: should be milliseconds"),
            ("bandwidth=1Mbit", "bandwidth=1Mbit: should be bytes in a second"),
            ("burst=0.5", "burst=0.5: should be a number of frames, at least 1"),
            ("mtu=9235", "mtu=9235: should be a length in bytes"),
            ("nofifo=yes", "nofifo=yes: should be no value"),
            ("reorder=5", "reorder=5: should be together with delay="),
            ("capacity=é", "capacity=é: should be a number of bytes"),
            ("delays=1", "no parameter `delays` (there are: delay, jitter,"),
            ("seed=x", "seed=x: should be a number from 0"),
        ] {
            let error = options(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
