//! The options of a mount: words with commas between, some with a value.

use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
};

/// The words of a mount's data that are left to look at.
#[derive(Debug)]
pub struct Options {
    fstype: String,
    words: Vec<String>,
}

impl Options {
    /// Splits the data of a request.
    #[must_use]
    pub fn of(request: &MountRequest) -> Self {
        let words = request.data.split(',').filter(|word| !word.is_empty());
        Self { fstype: request.fstype.clone(), words: words.map(str::to_owned).collect() }
    }

    /// Of a mount without options.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn none(fstype: &str) -> Self {
        Self { fstype: fstype.to_owned(), words: Vec::new() }
    }

    /// Takes a word out; tells whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Takes `name=VALUE` out, the last one.
    pub fn value(&mut self, name: &str) -> Option<String> {
        self.values(name).pop()
    }

    /// Takes every `name=VALUE` out.
    pub fn values(&mut self, name: &str) -> Vec<String> {
        let value = |word: &str| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        let found = self.words.iter().filter_map(|word| value(word)).collect();
        self.words.retain(|word| value(word).is_none());
        found
    }

    /// Takes a size out: bytes, or with `k`, `M`, `G` behind. Errors: `EINVAL`.
    pub fn size(&mut self, name: &str) -> Result<Option<u64>, MountError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        match parse_size(&text) {
            Some(size) => Ok(Some(size)),
            None => Err(self.invalid(&format!("{name}={text}: not a size (as 64k, 20M, 1G)"))),
        }
    }

    /// A number in an option. Errors: `EINVAL`.
    pub fn number(&mut self, name: &str, radix: u32) -> Result<Option<u32>, MountError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        match u32::from_str_radix(&text, radix) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.invalid(&format!("{name}={text}: not a number"))),
        }
    }

    /// The end: no word may be left. Errors: `EINVAL`, with the word.
    pub fn finish(self) -> Result<(), MountError> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(self.invalid(&format!("{word}: unknown option"))),
        }
    }

    fn invalid(&self, reason: &str) -> MountError {
        MountError::new(Errno::EINVAL, format!("{}: {reason}", self.fstype))
    }
}

/// Reads a size with a unit.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
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

    fn options(data: &str) -> Options {
        let text = |text: &str| text.to_owned();
        Options::of(&MountRequest {
            source: text("none"),
            target: text("/mnt"),
            fstype: text("vufusemem"),
            flags: 0,
            data: text(data),
            environment: Vec::new(),
            view: String::new(),
        })
    }

    #[test]
    fn words_are_taken_out_until_none_is_left() {
        let mut options = options("ro,size=2M,except=/a,except=/b,mode=1777");
        assert!(options.flag("ro") && !options.flag("ro"));
        assert_eq!(options.size("size").expect("a size"), Some(2 << 20));
        assert_eq!(options.values("except"), ["/a", "/b"]);
        assert_eq!(options.number("mode", 8).expect("a number"), Some(0o1777));
        options.finish().expect("nothing is left");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = options("sise=2").finish().expect_err("unknown");
        assert_eq!(
            (error.errno, error.reason.as_str()),
            (Errno::EINVAL, "vufusemem: sise=2: unknown option")
        );
        assert!(options("size=x").size("size").is_err());
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_size("99999999999G"), None);
    }
}
