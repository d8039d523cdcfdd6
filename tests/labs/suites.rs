//! Test suites that nobody here wrote end inside as they do on plain Linux (`tests/suites/`).

use std::process::Command;

use crate::harness::{scratch, umvu};

#[track_caller]
fn run(options: &[&str]) {
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suites/run");
    let mut command = Command::new(run);
    command.args(options).arg("-w").arg(scratch("suites")).env("UMVU", umvu());
    let output = command.output().expect("python3 is installed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_quick_ones_end_as_on_linux() {
    run(&["-q"]);
}

#[test]
#[ignore = "takes hours, and the packages that tests/suites/run names"]
fn all_end_as_on_linux() {
    run(&[]);
}
