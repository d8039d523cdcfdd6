//! [`Reply`]: the answer to a management command, laid out as `vde_switch` does.
//!
//! Lines of data come between `0000 DATA END WITH '.'` and `.`; the last line is 1000 and the
//! error number, and its text.

use std::{fmt, io};

use nix::errno::Errno;

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What a script said before.
    before: String,
    data: Option<String>,
    status: i32,
}

impl Reply {
    /// The answer without data. Errors become the status.
    pub(crate) fn done(result: Result<(), Errno>) -> Self {
        Self {
            before: String::new(),
            data: None,
            status: result.map_or_else(|errno| errno as i32, |()| 0),
        }
    }

    /// The answer with data, which also a failure has.
    pub(crate) fn data(result: Result<String, Errno>) -> Self {
        match result {
            Ok(text) => Self { before: String::new(), data: Some(text), status: 0 },
            Err(errno) => {
                let data = Some(String::new());
                Self { before: String::new(), data, status: errno as i32 }
            }
        }
    }

    /// The answer when the system refused.
    pub(crate) fn failed(error: io::Error) -> Self {
        Self {
            before: String::new(),
            data: None,
            status: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// Adds a failure to data.
    pub(crate) fn and(mut self, errno: Errno) -> Self {
        self.status = errno as i32;
        self
    }

    /// Puts text before the answer.
    pub(crate) fn after(mut self, text: String) -> Self {
        self.before = text;
        self
    }

    /// Returns 0, or the error number of what went wrong.
    #[must_use]
    pub fn status(&self) -> i32 {
        self.status
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        if let Some(data) = &self.data {
            write!(f, "0000 DATA END WITH '.'\n{data}.\n")?;
        }
        let text = if self.status == 0 { "Success" } else { Errno::from_raw(self.status).desc() };
        writeln!(f, "1{:03} {text}", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_laid_out_as_vde_switch_does() {
        assert_eq!(Reply::done(Ok(())).to_string(), "1000 Success\n");
        assert_eq!(Reply::done(Err(Errno::EEXIST)).to_string(), "1017 File exists\n");
        let data = Reply::data(Ok("a\n".to_owned()));
        assert_eq!(data.to_string(), "0000 DATA END WITH '.'\na\n.\n1000 Success\n");
        let failed = Reply::data(Err(Errno::ENXIO));
        let expected = "0000 DATA END WITH '.'\n.\n1006 No such device or address\n";
        assert_eq!((failed.to_string().as_str(), failed.status()), (expected, 6));
    }
}
