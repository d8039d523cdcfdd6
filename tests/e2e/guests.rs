//! The programs of tests/guests that are compiled.

use std::{path::PathBuf, process::Command};

use crate::harness::scratch;

/// Compiles a program of tests/guests.
pub(crate) fn compiled(name: &str) -> PathBuf {
    let source = format!("{}/tests/guests/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = scratch(name).join(name);
    let done = Command::new("cc").arg("-o").arg(&program).args([&source, "-lpthread"]).status();
    assert!(done.is_ok_and(|status| status.success()), "cc {source}");
    program
}
