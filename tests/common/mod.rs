//! Runs shell scripts natively and inside umvu, in both interception modes.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

/// Where a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "each test file uses some of them")]
pub enum Place {
    /// Plain Linux.
    Native,
    /// umvu with no module.
    Transparent,
    /// umvu with vunet loaded.
    Armed,
    /// umvu -S with vunet loaded.
    Ptrace,
}

/// The two ways to intercept calls.
#[expect(dead_code, reason = "each test file uses some of them")]
pub const INSIDE: [Place; 2] = [Place::Armed, Place::Ptrace];
/// Everywhere a program may run.
#[expect(dead_code, reason = "each test file uses some of them")]
pub const EVERYWHERE: [Place; 4] = [Place::Native, Place::Transparent, Place::Armed, Place::Ptrace];

/// The program under test.
pub fn umvu() -> &'static str {
    env!("CARGO_BIN_EXE_umvu")
}

/// What a script did.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a shell script in a place; a script that hangs is ended after two minutes.
pub fn run(place: Place, script: &str) -> Done {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]);
    match place {
        Place::Native => &mut command,
        Place::Transparent => command.args([umvu(), "-N"]),
        Place::Armed => command.args([umvu(), "-N", "-m", "vunet"]),
        Place::Ptrace => command.args([umvu(), "-N", "-S", "-m", "vunet"]),
    };
    command.args(["bash", "-c", script]).env("LC_ALL", "C");
    command.output().expect("timeout(1) runs").into()
}

/// Runs a script that must succeed; returns what it printed.
#[track_caller]
pub fn succeed(place: Place, script: &str) -> String {
    let done = run(place, script);
    assert_eq!(done.status, Some(0), "{place:?}: {script}\n{}{}", done.out, done.err);
    done.out
}

/// A path of its own for each caller, below the build's scratch folder.
#[expect(dead_code, reason = "each test file uses some of them")]
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("the build's folder is writable");
    path
}
