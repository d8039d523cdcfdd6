//! A format: the syntax of `register`, whether a program is in it, and what its file shows.

use std::sync::Arc;

use umvu_abi::{Errno, module::Interpreter};

use super::fixed::Fixed;

/// How much of a program the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// The longest line that can be registered.
const LINE: usize = 1920;
const FIELDS: usize = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sign {
    /// Bytes at an offset, of which those in the mask count.
    Magic { offset: usize, magic: Vec<u8>, mask: Option<Vec<u8>> },
    /// What follows the last dot of the name.
    Extension(Vec<u8>),
}

/// A registered format.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    sign: Sign,
    pub(super) interpreter: Vec<u8>,
    /// The interpreter itself, when it was looked up at the registration.
    pub(super) fixed: Option<Arc<Fixed>>,
    /// Letters of `POCF`, in the order in which the kernel shows them.
    flags: String,
    pub(super) enabled: bool,
}

impl Entry {
    /// Reads `:name:type:offset:magic:mask:interpreter:flags`; the first letter is what separates.
    /// Errors: `EINVAL`.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Errno> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (separator, rest) = line.split_first().ok_or(Errno::EINVAL)?;
        if line.len() > LINE {
            return Err(Errno::EINVAL);
        }
        let fields: Vec<&[u8]> = rest.splitn(FIELDS, |byte| byte == separator).collect();
        let [name, kind, offset, magic, mask, interpreter, flags] = fields[..] else {
            return Err(Errno::EINVAL);
        };
        let name = std::str::from_utf8(name).map_err(|_| Errno::EINVAL)?;
        if matches!(name, "" | "." | "..") || name.contains('/') || interpreter.is_empty() {
            return Err(Errno::EINVAL);
        }
        let sign = match kind {
            b"M" => magic_of(offset, magic, mask)?,
            b"E" if !magic.is_empty() && !magic.contains(&b'/') => Sign::Extension(magic.to_vec()),
            _ => return Err(Errno::EINVAL),
        };
        if flags.iter().any(|flag| !b"POCF".contains(flag)) {
            return Err(Errno::EINVAL);
        }
        // Credentials of the program need it to be opened.
        let has = |flag: u8| flags.contains(&flag) || flag == b'O' && flags.contains(&b'C');
        let flags = "POCF".bytes().filter(|flag| has(*flag)).map(char::from).collect();
        let interpreter = interpreter.to_vec();
        let name = name.to_owned();
        Ok(Self { name, sign, interpreter, fixed: None, flags, enabled: true })
    }

    /// Whether the interpreter is looked up when the format is registered.
    pub(super) fn is_fixed(&self) -> bool {
        self.flags.contains('F')
    }

    /// What executes a program, if it is in this format.
    pub(super) fn interpreter(&self, name: &[u8], head: &[u8]) -> Option<Interpreter> {
        let is_it = match &self.sign {
            Sign::Extension(extension) => {
                let dot = name.iter().rposition(|byte| *byte == b'.');
                dot.is_some_and(|dot| name[dot + 1..] == **extension)
            }
            Sign::Magic { offset, magic, mask } => {
                // What is shorter is filled up with zeros.
                let byte = |at: usize| head.get(offset + at).copied().unwrap_or(0);
                let counts = |at: usize| mask.as_ref().map_or(0xff, |mask| mask[at]);
                magic.iter().enumerate().all(|(at, wanted)| (byte(at) ^ wanted) & counts(at) == 0)
            }
        };
        (self.enabled && is_it).then(|| Interpreter {
            path: self.interpreter.clone(),
            host: self.fixed.as_ref().map(|fixed| fixed.path()),
            keeps_name: self.flags.contains('P'),
            opens_program: self.flags.contains('O'),
        })
    }

    /// The text of the file.
    pub(super) fn text(&self) -> Vec<u8> {
        let state = if self.enabled { "enabled" } else { "disabled" };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let sign = match &self.sign {
            Sign::Extension(extension) => {
                format!("extension .{}\n", String::from_utf8_lossy(extension))
            }
            Sign::Magic { offset, magic, mask } => {
                let mask =
                    mask.as_ref().map_or(String::new(), |mask| format!("mask {}\n", hex(mask)));
                format!("offset {offset}\nmagic {}\n{mask}", hex(magic))
            }
        };
        let interpreter = String::from_utf8_lossy(&self.interpreter);
        format!("{state}\ninterpreter {interpreter}\nflags: {}\n{sign}", self.flags).into_bytes()
    }
}

fn magic_of(offset: &[u8], magic: &[u8], mask: &[u8]) -> Result<Sign, Errno> {
    let offset = match offset {
        b"" => 0,
        offset => {
            let text = std::str::from_utf8(offset).ok();
            let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|text| text.parse::<usize>().ok()).ok_or(Errno::EINVAL)?
        }
    };
    let magic = unescape(magic);
    let mask = Some(unescape(mask)).filter(|mask| !mask.is_empty());
    let fits = mask.as_ref().is_none_or(|mask| mask.len() == magic.len());
    if magic.is_empty() || !fits || offset > HEAD || magic.len() > HEAD - offset {
        return Err(Errno::EINVAL);
    }
    Ok(Sign::Magic { offset, magic, mask })
}

/// `\xHH` is a byte.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|digits| digits.first_chunk::<2>());
        let byte = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_number_under_a_mask_is_found() {
        let entry =
            Entry::parse(b":arm:M:1:E\\x4cF:\\xff\\xff\\xdf:/bin/qemu:PC\n").expect("valid");
        assert!(entry.interpreter(b"x", b"\x7fELf").is_some_and(|found| found.keeps_name));
        assert!(entry.interpreter(b"x", b"\x7fELX").is_none());
        assert!(entry.interpreter(b"x", b"").is_none());
        let text =
            "enabled\ninterpreter /bin/qemu\nflags: POC\noffset 1\nmagic 454c46\nmask ffffdf\n";
        assert_eq!(String::from_utf8_lossy(&entry.text()), text);
    }

    #[test]
    fn an_extension_is_what_follows_the_last_dot() {
        let entry = Entry::parse(b",py,E,,py,,/usr/bin/python3,").expect("valid");
        assert!(entry.interpreter(b"/x/a.b.py", b"").is_some());
        assert!(entry.interpreter(b"/x/a.py.b", b"").is_none());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let lines: [&[u8]; 10] = [
            b":a:M:+3:x::/i:",
            b"",
            b":a:M::x::/i",
            b":a:X::x::/i:",
            b":a/b:M::x::/i:",
            b":a:M:250:1234567::/i:",
            b":a:M::ab:\\xff:/i:",
            b":a:E::::/i:",
            b":a:M::x:::",
            b":a:M::x::/i:Q",
        ];
        for line in lines {
            let refused = Entry::parse(line).map(drop);
            assert_eq!(refused, Err(Errno::EINVAL), "{}", String::from_utf8_lossy(line));
        }
    }
}
