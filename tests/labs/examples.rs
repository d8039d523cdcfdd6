//! The labs of `examples/` do what they say, each by its one command.

use std::process::{Command, Output};

use crate::harness::{Place, run, umvu};

fn lab(arguments: &[&str]) -> Output {
    let path = format!("{}/examples/lab", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "180", &path]).args(arguments).env("UMVU", umvu());
    command.output().expect("timeout(1) runs")
}

/// The lab of this number succeeds; its checks are its own.
#[track_caller]
fn works(number: u32) {
    let output = lab(&[&number.to_string()]);
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let done = output.status.success() && text.contains("check: ") && text.contains("== done: ");
    assert!(done, "{text}\n{errors}");
}

/// Whether a user may make namespaces here, which some of the labs' hosts are.
fn namespaces() -> bool {
    run(Place::Native, "unshare -rn true").status == Some(0)
}

#[test]
fn one_two_hosts() {
    works(1);
}

#[test]
fn two_what_a_switch_learns() {
    if namespaces() {
        works(2);
    }
}

#[test]
fn three_sessions_over_vxvde() {
    if namespaces() {
        works(3);
    }
}

#[test]
fn four_a_router() {
    if namespaces() {
        works(4);
    }
}

#[test]
fn five_names_and_pages() {
    works(5);
}

#[test]
fn six_a_faulty_link() {
    works(6);
}

#[test]
fn seven_vlans() {
    if namespaces() {
        works(7);
    }
}

#[test]
fn eight_three_kinds_of_stack() {
    if namespaces() {
        works(8);
    }
}

#[test]
fn the_labs_are_listed_and_each_has_a_page_and_a_picture() {
    let output = lab(&[]);
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(list.lines().count(), 8, "{list}");
    for line in list.lines() {
        assert!(line.trim().split_once("  ").is_some_and(|(_, topic)| !topic.is_empty()), "{line}");
    }
    for file in ["README.md", "topology.svg", "lab.sh"] {
        let pattern = format!("{}/examples/[0-9]*/{file}", env!("CARGO_MANIFEST_DIR"));
        let counted = Command::new("sh").args(["-c", &format!("ls {pattern} | wc -l")]).output();
        let counted = counted.expect("sh(1) runs").stdout;
        assert_eq!(String::from_utf8_lossy(&counted).trim(), "8", "{file}");
    }
    assert_eq!(lab(&["nine"]).status.code(), Some(1));
}
