//! Virtual files and directories: the path calls of an armed view.

use std::sync::Arc;

use umvu_abi::Errno;
use umvu_tracer::api::Call;

use crate::{dispatch::Row, rundir::RunDir};

/// What the path calls keep.
#[derive(Debug)]
pub struct Paths {}

impl Paths {
    /// Starts with nothing virtual.
    #[must_use]
    pub fn new(_run_dir: &Arc<RunDir>) -> Self {
        Self {}
    }

    /// Makes a path argument absolute and normal, in the caller's view.
    /// Errors: `ENOENT` for the empty path.
    pub fn absolute(&self, call: &Call, path: &str) -> Result<String, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.starts_with('/') {
            return Ok(path.to_owned());
        }
        let cwd = call.guest.cwd_link()?;
        Ok(format!("{}/{path}", String::from_utf8_lossy(&cwd)))
    }
}

/// The rows of the path calls.
#[must_use]
pub fn rows() -> Vec<Row> {
    Vec::new()
}
