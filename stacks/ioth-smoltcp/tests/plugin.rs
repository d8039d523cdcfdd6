//! The plugin in a C program, loaded by the rules of libioth in both ways: once for all stacks, and
//! once for each in a link namespace of its own.

use std::{
    error::Error,
    ffi::OsString,
    fs, hint,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::TempDir;

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

/// A directory for the program, in which the plugin has this name.
fn home(name: &str) -> Result<TempDir> {
    let home = tempfile::tempdir()?;
    let plugins = home.path().join(".ioth");
    fs::create_dir(&plugins)?;
    fs::copy(plugin()?, plugins.join(name))?;
    Ok(home)
}

/// The program, about to run with a switch of its own.
fn command(program: &Path, home: &Path) -> Command {
    let mut network = OsString::from("switch://");
    network.push(home.join("switch"));
    let mut command = Command::new("timeout");
    command.arg("120").arg(program).arg(network).env("HOME", home);
    command
}

fn run_as(name: &str) -> Result<()> {
    let home = home(name)?;
    let program = program(home.path())?;
    let done = command(&program, home.path()).output()?;
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

/// Threads of the first copy begin while the program, which has one thread, loads the second copy.
#[test]
#[cfg(target_env = "gnu")]
fn a_second_copy_is_loaded_while_the_first_begins() -> Result<()> {
    let home = home("ioth_smoltcp.so")?;
    let program = program(home.path())?;
    let over = AtomicBool::new(false);
    let runs = || -> Result<()> {
        for _ in 0..60 {
            let done = command(&program, home.path()).arg("open").output()?;
            if !done.status.success() {
                return Err(String::from_utf8_lossy(&done.stderr).into());
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        // With all processors busy the threads begin late.
        for _ in 0..thread::available_parallelism()?.get() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        let all_done = runs();
        over.store(true, Ordering::Relaxed);
        all_done
    })
}
