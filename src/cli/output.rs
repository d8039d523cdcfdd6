//! Standard output and error of the commands. A reader that has gone away is no error.

use std::{
    ffi::OsStr,
    io::{self, Write},
};

/// Writes a text to standard output.
pub(super) fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Writes one line to standard error.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// `COMMAND: THING: REASON`, the reason being the hypervisor's if it gave one.
pub(super) fn failed(command: &str, thing: &str, error: &io::Error) {
    match super::vucalls::last_error() {
        Some(reason) => complain(&format!("{command}: {reason}")),
        None => complain(&format!("{command}: {thing}: {}", describe(error))),
    }
}

/// Says that a program could not be executed; the exit status is a shell's: 127 or 126.
pub(super) fn not_run(command: &str, program: &OsStr, error: &io::Error) -> u8 {
    complain(&format!("{command}: {}: {}", program.to_string_lossy(), describe(error)));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The text of strerror(3), without Rust's appendix.
pub(super) fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
