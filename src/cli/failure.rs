//! [`Failure`]: why a command ends, for people and for scripts.

use std::{ffi::OsStr, io};

use super::output;

/// A message to print and the status to exit with.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String, pub(super) u8);

impl Failure {
    /// A program could not be executed: the status is a shell's, 127 or 126.
    pub(super) fn not_run(program: &OsStr, error: &io::Error) -> Self {
        let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        Self(format!("{}: {}", program.to_string_lossy(), output::describe(error)), status)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message, 1)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(output::describe(&error), 1)
    }
}
