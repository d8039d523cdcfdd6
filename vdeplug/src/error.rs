//! [`OpenError`]: why a plug could not be opened, and what to do about it.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

use crate::vnl::VnlError;

/// Why a locator could not be opened. The message is one line: what, why, and what would be right.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The locator is not well-formed, or has parameters that the transport does not.
    #[error(transparent)]
    Syntax(#[from] VnlError),
    /// The scheme is not one of the native transports.
    #[error("{scheme}://: no such transport (there are: {known})")]
    UnknownScheme {
        /// The scheme asked for.
        scheme: String,
        /// The native ones.
        known: String,
    },
    /// There is nothing to plug into.
    #[error("{place}: {problem} ({remedy})")]
    Absent {
        /// The locator.
        place: String,
        /// What is not there.
        problem: String,
        /// How to make it.
        remedy: String,
    },
    /// The far end answered, and it was no.
    #[error("{place}: {problem}")]
    Refused {
        /// The locator.
        place: String,
        /// What was refused.
        problem: String,
        /// The error number that describes it.
        errno: i32,
    },
    /// The system refused.
    #[error("{place}: {action}: {}{}", Errno::from_raw(errno_of(source)).desc(), remedy.map(|r| format!(" ({r})")).unwrap_or_default())]
    System {
        /// The locator.
        place: String,
        /// What was attempted.
        action: String,
        /// What would be right, if that is known.
        remedy: Option<&'static str>,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    /// Returns the error number that a system call would give.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Syntax(_) => libc::EINVAL,
            Self::UnknownScheme { .. } => libc::EPROTONOSUPPORT,
            Self::Absent { .. } => libc::ENOENT,
            Self::Refused { errno, .. } => *errno,
            Self::System { source, .. } => errno_of(source),
        }
    }

    /// Returns a function that turns a system error into this error.
    pub(crate) fn system<E: Into<io::Error>>(place: &str, action: &str) -> impl FnOnce(E) -> Self {
        Self::system_with(place, action, |_| None)
    }

    /// The same, with a remedy that depends on the error number.
    pub(crate) fn system_with<E: Into<io::Error>>(
        place: &str,
        action: &str,
        remedy: impl FnOnce(i32) -> Option<&'static str>,
    ) -> impl FnOnce(E) -> Self {
        let (place, action) = (place.to_owned(), action.to_owned());
        move |error| {
            let source = error.into();
            Self::System { place, action, remedy: remedy(errno_of(&source)), source }
        }
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_with_the_remedy() {
        let remedy = |errno| (errno == libc::EACCES).then_some("ask the owner");
        let error = OpenError::system_with("vde:///x", "connecting", remedy)(Errno::EACCES);
        assert_eq!(error.to_string(), "vde:///x: connecting: Permission denied (ask the owner)");
        assert_eq!(error.errno(), libc::EACCES);
        let error = OpenError::system("vde:///x", "connecting")(Errno::EPERM);
        assert_eq!(error.to_string(), "vde:///x: connecting: Operation not permitted");
    }
}
