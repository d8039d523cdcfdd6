//! The plugin in a C program, loaded by the rules of libioth in both ways: once for all stacks, and
//! once for each in a link namespace of its own.

use std::{
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the program says when all of it works.
const DONE: &str = "ok tcp\nok udp\nok readiness\nok connect\nok netlink\nok ipv6\nok requests\n\
                    ok errors\nok end\n";

/// The plugin, beside this test.
fn plugin() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let directory = test.parent().ok_or("a test is in a directory")?;
    Ok(directory.join("libioth_smoltcp.so"))
}

/// Compiles the C program into a directory.
fn program(directory: &Path) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let program = directory.join("program");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread", "-o"]);
    compiler.arg(&program);
    compiler.args(["program.c", "loader.c"].map(|name| sources.join(name))).arg("-ldl");
    let done = compiler.status().map_err(|error| format!("cc: {error} (install gcc)"))?;
    if done.success() { Ok(program) } else { Err("cc failed".into()) }
}

fn run_as(name: &str) -> Result<()> {
    let home = tempfile::tempdir()?;
    let plugins = home.path().join(".ioth");
    fs::create_dir(&plugins)?;
    fs::copy(plugin()?, plugins.join(name))?;
    let program = program(home.path())?;
    let mut network = OsString::from("switch://");
    network.push(home.path().join("switch"));
    let done = Command::new("timeout")
        .arg("120")
        .arg(program)
        .arg(network)
        .env("HOME", home.path())
        .output()?;
    let complaints = String::from_utf8_lossy(&done.stderr);
    assert_eq!(String::from_utf8_lossy(&done.stdout), DONE, "{complaints}");
    assert!(done.status.success(), "{}: {complaints}", done.status);
    assert!(complaints.contains("colour=red"), "{complaints}");
    Ok(())
}

#[test]
fn one_copy_serves_all_stacks() -> Result<()> {
    run_as("ioth_smoltcp-r.so")
}

#[test]
#[cfg(target_env = "gnu")]
fn each_stack_has_a_copy_of_its_own() -> Result<()> {
    run_as("ioth_smoltcp.so")
}
