//! The labs of `examples/` do what they say.

use std::process::Command;

use crate::harness::{Place, run, umvu};

#[track_caller]
fn works(name: &str) {
    let path = format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "sh", &path]).env("UMVU", umvu());
    let output = command.output().expect("timeout(1) runs");
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("== done: "), "{text}\n{errors}");
}

#[test]
fn two_hosts() {
    works("two-hosts.sh");
}

#[test]
fn client_and_server() {
    works("client-server.sh");
}

#[test]
fn two_sessions_over_vxvde() {
    if run(Place::Native, "unshare -rn true").status == Some(0) {
        works("vxvde.sh");
    }
}
