//! Virtual network locators: `scheme://path` with parameters and a nested locator.
//!
//! [`Vnl`] is the parsed text; which parameters exist is the business of each transport, which
//! asks for them through [`Parameters::resolve`]. Text of IP-type schemes (`vxvde`, `udp`, ...)
//! carries parameters as `/key=value`; all others as `[key=value/key=value]`, because their path
//! is a path, or none (`cmd`), because their path is a command line, which stays as it is. Quotes, `\` and `%xx` take the meaning from any character; `{...}` at the end is
//! another locator, for transports that transform frames.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use thiserror::Error;

/// Schemes whose parameters follow the address as `/key=value`.
const IP_TYPE: [&str; 4] = ["vxvde", "vxlan", "udp", "slirp"];
/// Schemes that have been seen with both kinds of parameters.
const EITHER_TYPE: [&str; 1] = ["vlan"];
/// Schemes that take all of the text as it is.
const VERBATIM: [&str; 2] = ["cmd", "libvdeplug"];
/// Locators nested deeper than this are a mistake or an attack.
const DEEPEST: usize = 8;

/// A virtual network locator: the address of a virtual Ethernet.
///
/// ```
/// let vnl: vdeplug::Vnl = "vde:///run/my%20switch[port=3]".parse()?;
/// assert_eq!((vnl.scheme.as_str(), vnl.path.as_str()), ("vde", "/run/my switch"));
/// assert_eq!(vnl.to_string(), "vde:///run/my switch[port=3]");
/// # Ok::<(), vdeplug::VnlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnl {
    /// The transport's name; `vde` if the text had none.
    pub scheme: String,
    /// The path or address, quotes and escapes removed.
    pub path: String,
    /// The parameters, in order.
    pub parameters: Parameters,
    /// The locator in braces.
    pub nested: Option<Box<Vnl>>,
}

/// The parameters of a [`Vnl`] as written: names may be shortened, values may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub Vec<Parameter>);

/// One `name=value` or bare `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name, possibly a prefix of it.
    pub name: String,
    /// What follows the equals sign.
    pub value: Option<String>,
}

/// Why a text is not a locator, or not one for this transport.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VnlError {
    /// A quote, bracket or brace was opened and not closed.
    #[error("{text}: `{open}` is never closed (quote it as %{:02x} if it is part of a name)", u32::from(*.open))]
    Unclosed {
        /// The locator.
        text: String,
        /// The character that opened.
        open: char,
    },
    /// Something follows the closing bracket or brace.
    #[error("{text}: nothing may follow `{close}` (quote it as %{:02x} if it is part of a name)", u32::from(*.close))]
    Trailing {
        /// The locator.
        text: String,
        /// The closing character.
        close: char,
    },
    /// The text starts with `://`.
    #[error("{text}: a scheme must stand before `://`, for example vde{text}")]
    NoScheme {
        /// The locator.
        text: String,
    },
    /// The text contains a NUL, or escapes that are no UTF-8.
    #[error("{text}: not a text (NUL or bytes that are no UTF-8)")]
    NotText {
        /// The locator.
        text: String,
    },
    /// Too many braces.
    #[error("{text}: more than {DEEPEST} locators inside each other")]
    TooDeep {
        /// The locator.
        text: String,
    },
    /// The transport has no such parameter.
    #[error("{scheme}://: no parameter `{name}` (there are: {known})")]
    UnknownParameter {
        /// The transport.
        scheme: String,
        /// The name given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The shortened name fits several parameters.
    #[error("{scheme}://: `{name}` may be any of {candidates}")]
    Ambiguous {
        /// The transport.
        scheme: String,
        /// The name given.
        name: String,
        /// The parameters it fits.
        candidates: String,
    },
    /// The value is not one that this parameter can have.
    #[error("{scheme}://: {name}={value}: should be {expected}")]
    BadValue {
        /// The transport.
        scheme: String,
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

impl FromStr for Vnl {
    type Err = VnlError;

    fn from_str(text: &str) -> Result<Self, VnlError> {
        parse(text, 0)
    }
}

fn parse(text: &str, depth: usize) -> Result<Vnl, VnlError> {
    let owned = || text.to_owned();
    if depth > DEEPEST {
        return Err(VnlError::TooDeep { text: owned() });
    }
    let (scheme, rest) = match text.split_once("://") {
        Some(("", _)) => return Err(VnlError::NoScheme { text: owned() }),
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("vde", text),
    };
    if VERBATIM.contains(&scheme) {
        if rest.contains('\0') {
            return Err(VnlError::NotText { text: owned() });
        }
        let (scheme, path) = (scheme.to_owned(), rest.to_owned());
        return Ok(Vnl { scheme, path, parameters: Parameters::default(), nested: None });
    }
    let mut scanner = Scanner { text, rest: rest.as_bytes() };
    let opening = match scheme {
        scheme if IP_TYPE.contains(&scheme) => "/{",
        scheme if EITHER_TYPE.contains(&scheme) => "/[{",
        _ => "[{",
    };
    let (path, mut stop) = scanner.word(opening.as_bytes())?;
    let mut parameters = Parameters::default();
    if let Some(delimiter @ (b'/' | b'[')) = stop {
        let closing: &[u8] = if delimiter == b'[' { b"/]" } else { b"/{" };
        loop {
            let (word, next) = scanner.word(closing)?;
            parameters.push(&word);
            stop = next;
            if stop != Some(b'/') {
                break;
            }
        }
        if delimiter == b'[' {
            if stop.is_none() {
                return Err(VnlError::Unclosed { text: owned(), open: '[' });
            }
            stop = scanner.after_bracket()?;
        }
    }
    let nested = match stop {
        Some(_) => Some(Box::new(parse(scanner.braces()?, depth + 1)?)),
        None => None,
    };
    Ok(Vnl { scheme: scheme.to_owned(), path, parameters, nested })
}

/// Returns the scheme of a locator.
pub(crate) fn scheme(text: &str) -> &str {
    text.split_once("://").map(|(scheme, _)| scheme).filter(|s| is_scheme(s)).unwrap_or("vde")
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}

/// Reads words from the text, removing quotes and escapes.
struct Scanner<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Reads up to one of `stops` that is not quoted; returns the word and the stop.
    fn word(&mut self, stops: &[u8]) -> Result<(String, Option<u8>), VnlError> {
        let mut word = Vec::new();
        let stop = loop {
            match self.next() {
                None => break None,
                Some(quote @ (b'\'' | b'"')) => self.quoted(quote, &mut word)?,
                Some(b'\\') => word.extend(self.next()),
                Some(b'%') => word.push(self.percent().unwrap_or(b'%')),
                Some(stop) if stops.contains(&stop) => break Some(stop),
                Some(byte) => word.push(byte),
            }
        };
        match String::from_utf8(word) {
            Ok(word) if !word.contains('\0') => Ok((word, stop)),
            _ => Err(VnlError::NotText { text: self.text.to_owned() }),
        }
    }

    fn quoted(&mut self, quote: u8, word: &mut Vec<u8>) -> Result<(), VnlError> {
        loop {
            match self.next() {
                None => return Err(self.unclosed(quote)),
                Some(byte) if byte == quote => return Ok(()),
                Some(byte) => word.push(byte),
            }
        }
    }

    /// Takes two hexadecimal digits; None, taking nothing, if there are none.
    fn percent(&mut self) -> Option<u8> {
        let digit = |at: usize| char::from(*self.rest.get(at)?).to_digit(16);
        let value = digit(0)? * 16 + digit(1)?;
        self.rest = &self.rest[2..];
        u8::try_from(value).ok()
    }

    fn after_bracket(&mut self) -> Result<Option<u8>, VnlError> {
        match self.next() {
            None => Ok(None),
            Some(b'{') => Ok(Some(b'{')),
            Some(_) => Err(VnlError::Trailing { text: self.text.to_owned(), close: ']' }),
        }
    }

    /// Takes the rest, which must end with the brace that closes the one already read.
    fn braces(&mut self) -> Result<&'a str, VnlError> {
        let inside = self.rest;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                None => return Err(self.unclosed(b'{')),
                Some(quote @ (b'\'' | b'"')) => self.quoted(quote, &mut Vec::new())?,
                Some(b'\\') => drop(self.next()),
                Some(b'{') => depth += 1,
                Some(b'}') => depth -= 1,
                Some(_) => {}
            }
        }
        if !self.rest.is_empty() {
            return Err(VnlError::Trailing { text: self.text.to_owned(), close: '}' });
        }
        // Cut at ASCII braces, so still UTF-8.
        std::str::from_utf8(&inside[..inside.len() - 1])
            .map_err(|_| VnlError::NotText { text: self.text.to_owned() })
    }

    fn unclosed(&self, open: u8) -> VnlError {
        VnlError::Unclosed { text: self.text.to_owned(), open: char::from(open) }
    }
}

impl Parameters {
    fn push(&mut self, word: &str) {
        if !word.is_empty() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word, None),
            };
            self.0.push(Parameter { name: name.to_owned(), value });
        }
    }

    /// Matches the parameters with the names that transport `scheme` knows.
    ///
    /// A name may be shortened as long as it stays unambiguous. If `known` contains the empty
    /// name, a bare word that is no name is its value, as the port in `vde:///tmp/sw[3]`. The
    /// last of several values of a parameter counts.
    ///
    /// # Errors
    /// [`VnlError::UnknownParameter`] and [`VnlError::Ambiguous`].
    pub fn resolve<'a>(
        &'a self,
        scheme: &'a str,
        known: &[&'static str],
    ) -> Result<Resolved<'a>, VnlError> {
        let mut values = Vec::new();
        for Parameter { name, value } in &self.0 {
            let matching = |k: &&&str| !k.is_empty() && k.starts_with(name.as_str());
            let candidates: Vec<_> = known.iter().filter(matching).copied().collect();
            let exact = candidates.iter().find(|k| **k == name).copied();
            match (exact, candidates.as_slice(), value) {
                (Some(key), _, _) => values.push((key, value.as_deref().unwrap_or(""))),
                (None, [key], Some(value)) => values.push((key, value)),
                (None, _, None) if known.contains(&"") => values.push(("", name.as_str())),
                (None, [key], None) => values.push((key, "")),
                (None, [], _) => return Err(unknown(scheme, name, known)),
                (None, several, _) => {
                    let (scheme, name) = (scheme.to_owned(), name.to_owned());
                    let candidates = several.join(", ");
                    return Err(VnlError::Ambiguous { scheme, name, candidates });
                }
            }
        }
        Ok(Resolved { scheme, values })
    }
}

fn unknown(scheme: &str, name: &str, known: &[&str]) -> VnlError {
    let names: Vec<_> = known.iter().filter(|k| !k.is_empty()).copied().collect();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    VnlError::UnknownParameter { scheme: scheme.to_owned(), name: name.to_owned(), known }
}

/// Parameters under their full names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'a> {
    scheme: &'a str,
    values: Vec<(&'static str, &'a str)>,
}

impl<'a> Resolved<'a> {
    /// Returns the value of a parameter; the empty text if only its name was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Returns all parameters in order, with empty texts for those that have no value.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.values.iter().copied()
    }

    /// Returns the number of a parameter: decimal, `0x` hexadecimal, and with a suffix k, M, G or T.
    ///
    /// # Errors
    /// [`VnlError::BadValue`] if it is no number in `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, VnlError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match parse_number(value) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(self.bad_value(name, value, &expected))
            }
        }
    }

    /// Returns the permission bits of a parameter, written in octal.
    ///
    /// # Errors
    /// [`VnlError::BadValue`] if it is not octal or beyond 07777.
    pub fn mode(&self, name: &str) -> Result<Option<u32>, VnlError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match u32::from_str_radix(value, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ => Err(self.bad_value(name, value, "permissions in octal, for example 0660")),
        }
    }

    /// Builds the error for a value that does not fit.
    #[must_use]
    pub fn bad_value(&self, name: &str, value: &str, expected: &str) -> VnlError {
        VnlError::BadValue {
            scheme: self.scheme.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

fn parse_number(text: &str) -> Option<u64> {
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return u64::from_str_radix(hexadecimal, 16).ok();
    }
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        b't' | b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl fmt::Display for Vnl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if VERBATIM.contains(&self.scheme.as_str()) {
            return write!(f, "{}://{}", self.scheme, self.path);
        }
        let ip_type = [&IP_TYPE[..], &EITHER_TYPE].concat().contains(&self.scheme.as_str());
        write!(f, "{}://{}", self.scheme, Escaped(&self.path, if ip_type { "/" } else { "" }))?;
        for (index, Parameter { name, value }) in self.parameters.0.iter().enumerate() {
            f.write_str(if index == 0 && !ip_type { "[" } else { "/" })?;
            write!(f, "{}", Escaped(name, "/="))?;
            if let Some(value) = value {
                write!(f, "={}", Escaped(value, "/"))?;
            }
        }
        if !ip_type && !self.parameters.0.is_empty() {
            f.write_str("]")?;
        }
        match &self.nested {
            Some(nested) => write!(f, "{{{nested}}}"),
            None => Ok(()),
        }
    }
}

/// A word with everything quoted that would be read as syntax; also the given characters.
struct Escaped<'a>(&'a str, &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_ascii_control() || "'\"\\%[]{}".contains(c) || self.1.contains(c) {
                write!(f, "%{:02x}", u32::from(c))
            } else {
                write!(f, "{c}")
            }
        })
    }
}

#[cfg(test)]
#[path = "vnl_tests.rs"]
mod tests;
