//! Directories that only the view has: they are entered and left as real ones.

use std::fs;

use crate::harness::{INSIDE, Place, scratch, succeed};

#[test]
fn virtual_directories_are_entered_and_left() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/chdir.py");
    let folder = scratch("directories");
    let top = folder.join("virtual");
    fs::create_dir_all(folder.join("etc/file")).expect("scratch is writable");
    let script = format!("python3 {program} {}", top.display());
    for place in INSIDE {
        fs::create_dir_all(top.join("net")).expect("scratch is writable");
        fs::write(top.join("net/lab"), "").expect("scratch is writable");
        let native = succeed(Place::Native, &script);
        fs::remove_dir_all(&top).expect("just made");
        let mount = format!("vumount -t vunetsmoltcp null:// {}/net/lab", top.display());
        assert_eq!(succeed(place, &format!("{mount} && {script}")), native, "{place:?}");
    }
}
