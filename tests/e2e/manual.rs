//! The manual pages and tables that are checked in are those that the program makes.

use std::{fs, process::Command};

use crate::harness::{scratch, umvu};

#[test]
fn the_manual_is_up_to_date() {
    let folder = scratch("man");
    let made = Command::new(umvu()).arg("--man").arg(&folder).status().expect("it runs");
    assert!(made.success());
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/man");
    let mut pages = 0;
    for page in fs::read_dir(&folder).expect("made").flatten() {
        let new = fs::read_to_string(page.path()).expect("text");
        let old = fs::read_to_string(format!("{kept}/{}", page.file_name().display()));
        assert_eq!(old.ok(), Some(new), "run: umvu --man man ({:?})", page.file_name());
        pages += 1;
    }
    let known = fs::read_dir(kept).expect("there").count();
    assert!(pages > 10 && pages == known, "{pages} pages made, {known} kept");
}

#[test]
fn the_table_of_calls_is_up_to_date() {
    let made = Command::new(umvu()).arg("--calls").output().expect("it runs");
    let table = String::from_utf8(made.stdout).expect("text");
    assert!(table.lines().count() > 20, "{table}");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("there");
    assert!(readme.contains(&table), "README.md: the table of calls is not that of umvu --calls");
}
