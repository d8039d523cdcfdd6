//! The text of a `vstat` file: what a file is to look like, one `word=value` a line.
//!
//! `type=` is one of `f` (or `-`), `s`, `c`, `b`; `mode=` is octal, without the type; `uid=` and `gid=` are
//! numbers; `rdev=` and `dev=` are `MAJOR,MINOR`; `ctime=` is `SECONDS,NANOSECONDS`, and counts when it is
//! later than the file's own. Unknown words and values that are none are passed over.

use umvu_abi::files::{Attributes, Time};

/// How much of a file is looked at.
pub(super) const TEXT_LIMIT: usize = 1023;

const PERMISSIONS: u32 = 0o7777;

/// What a file is to look like, where that is not what it looks like by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Vstat {
    /// The type bits.
    pub(super) kind: Option<u32>,
    /// The other bits of the mode.
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) rdev: Option<u64>,
    pub(super) dev: Option<u64>,
    pub(super) ctime: Option<Time>,
}

impl Vstat {
    /// Reads the text of a file.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut vstat = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            if let Some((word, value)) = line.split_once('=') {
                vstat.take(word.trim(), value.trim());
            }
        }
        vstat
    }

    fn take(&mut self, word: &str, value: &str) {
        match word {
            "type" => self.kind = kind(value).or(self.kind),
            "mode" => {
                let mode = leading(value, 8).and_then(|mode| u32::try_from(mode).ok());
                self.mode = mode.map(|mode| mode & PERMISSIONS).or(self.mode);
            }
            "uid" => self.uid = id(value).or(self.uid),
            "gid" => self.gid = id(value).or(self.gid),
            "rdev" => self.rdev = device(value).or(self.rdev),
            "dev" => self.dev = device(value).or(self.dev),
            "ctime" => self.ctime = time(value).or(self.ctime),
            _ => {}
        }
    }

    /// Whether a file looks as it does by itself.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The text; empty when there is nothing to say.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |word: &str, value: String| text.push_str(&format!("{word}={value}\n"));
        let kind = self.kind.and_then(letter);
        kind.into_iter().for_each(|kind| line("type", kind.to_string()));
        self.mode.into_iter().for_each(|mode| line("mode", format!("0{mode:o}")));
        // Written signed, as the format has it.
        self.uid.into_iter().for_each(|uid| line("uid", uid.cast_signed().to_string()));
        self.gid.into_iter().for_each(|gid| line("gid", gid.cast_signed().to_string()));
        let pair = |device: u64| format!("{},{}", libc::major(device), libc::minor(device));
        self.rdev.into_iter().for_each(|rdev| line("rdev", pair(rdev)));
        self.dev.into_iter().for_each(|dev| line("dev", pair(dev)));
        self.ctime
            .into_iter()
            .for_each(|time| line("ctime", format!("{},{}", time.seconds, time.nanos)));
        text
    }

    /// Changes what a file looks like by itself into what it is to look like.
    pub(super) fn apply(&self, looks: &mut Attributes) {
        // Only what has neither entries nor a target can pass for something else.
        if let Some(kind) = self.kind
            && matches!(looks.kind(), libc::S_IFREG | libc::S_IFSOCK)
        {
            looks.mode = looks.mode & !libc::S_IFMT | kind;
            if kind != libc::S_IFREG {
                (looks.size, looks.blocks) = (0, 0);
            }
        }
        if let Some(mode) = self.mode {
            looks.mode = looks.mode & !PERMISSIONS | mode;
        }
        looks.uid = self.uid.unwrap_or(looks.uid);
        looks.gid = self.gid.unwrap_or(looks.gid);
        looks.rdev = self.rdev.unwrap_or(looks.rdev);
        looks.dev = self.dev.or(looks.dev);
        looks.ctime = self.ctime.map_or(looks.ctime, |time| time.max(looks.ctime));
    }

    /// Notes the owner and the mode that a file is to have and has not.
    pub(super) fn note(&mut self, wanted: &Attributes, has: &Attributes) {
        let unless = |same: bool, value: u32| if same { None } else { Some(value) };
        self.uid = unless(wanted.uid == has.uid, wanted.uid);
        self.gid = unless(wanted.gid == has.gid, wanted.gid);
        let [mode, own] = [wanted.mode, has.mode].map(|mode| mode & PERMISSIONS);
        self.mode = unless(mode == own || has.is_link(), mode);
    }
}

fn kind(value: &str) -> Option<u32> {
    Some(match value.as_bytes().first()? {
        b'-' | b'f' => libc::S_IFREG,
        b's' => libc::S_IFSOCK,
        b'c' => libc::S_IFCHR,
        b'b' => libc::S_IFBLK,
        _ => return None,
    })
}

fn letter(kind: u32) -> Option<char> {
    match kind {
        libc::S_IFREG => Some('f'),
        libc::S_IFSOCK => Some('s'),
        libc::S_IFCHR => Some('c'),
        libc::S_IFBLK => Some('b'),
        _ => None,
    }
}

/// The number that a text begins with.
fn leading(text: &str, radix: u32) -> Option<u64> {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    u64::from_str_radix(&text[..end], radix).ok()
}

/// A number as C has it: decimal, octal behind `0`, hexadecimal behind `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => leading(digits, 16),
        None if text.starts_with('0') => leading(text, 8),
        None => leading(text, 10),
    }
}

/// An id; those from 2^31 on may be written as negative numbers.
fn id(text: &str) -> Option<u32> {
    match text.strip_prefix('-') {
        Some(digits) => {
            let value = u32::try_from(number(digits)?).ok()?;
            Some(value.wrapping_neg())
        }
        None => u32::try_from(number(text)?).ok(),
    }
}

fn device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(',').unwrap_or((text, "0"));
    let part = |text: &str| u32::try_from(number(text)?).ok();
    Some(libc::makedev(part(major)?, part(minor).unwrap_or(0)))
}

fn time(text: &str) -> Option<Time> {
    let (seconds, nanos) = text.split_once(',').unwrap_or((text, "0"));
    let seconds = i64::try_from(number(seconds)?).ok()?;
    let nanos = number(nanos).and_then(|nanos| u32::try_from(nanos).ok());
    Some(Time { seconds, nanos: nanos.filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "type=b\nmode=0660\nuid=0\ngid=-2\nrdev=8,1\ndev=0,42\nctime=17,5\n";
        let vstat = Vstat::parse(text.as_bytes());
        assert_eq!(vstat.text(), text);
        assert_eq!((vstat.kind, vstat.gid), (Some(libc::S_IFBLK), Some(u32::MAX - 1)));
        assert!(Vstat::parse(b"").is_empty() && Vstat::default().text().is_empty());
    }

    #[test]
    fn numbers_are_those_of_c() {
        let vstat = Vstat::parse(b"uid=0x10\ngid=010\nmode=755\nrdev=5\nctime=9");
        assert_eq!((vstat.uid, vstat.gid, vstat.mode), (Some(16), Some(8), Some(0o755)));
        assert_eq!(vstat.rdev, Some(libc::makedev(5, 0)));
        assert_eq!(vstat.ctime, Some(Time { seconds: 9, nanos: 0 }));
    }

    #[test]
    fn nonsense_says_nothing() {
        for text in [
            &b"uid=\n=\n\n===\ntype=\ntype=d\nmode=9\nrdev=,\nfoo=1"[..],
            b"uid=99999999999999999999\ngid=99999999999\nmode=77777777777777777777777777",
            b"\xff\xfe=1\nuid\0=1\nctime=x,y\ndev=99999999999,1",
        ] {
            assert!(Vstat::parse(text).is_empty(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_directory_does_not_become_a_device() {
        let looks = Attributes { mode: libc::S_IFDIR | 0o755, ..Attributes::default() };
        let mut changed = looks;
        Vstat::parse(b"type=c\nrdev=1,3\nmode=0700").apply(&mut changed);
        assert_eq!(changed.mode, libc::S_IFDIR | 0o700);
    }
}
