//! Paths: directories that only the view has, and calls that guests judge themselves.

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

const PATHS: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/paths.py");

#[test]
fn odd_paths_give_what_they_give_on_linux_however_often_they_are_asked() {
    let script = format!("{PATHS} -");
    let native = succeed(Place::Native, &script);
    assert!(native.contains("'stat': 'Bad address'"), "{native}");
    for place in INSIDE {
        let mount = "vumount -t vunetsmoltcp null:// /dev/net/a";
        assert_eq!(succeed(place, &format!("{mount} && {script}")), native, "{place:?}");
    }
}

#[test]
fn mounts_are_seen_at_once_by_processes_that_have_asked_often() {
    let mounts = "vumount -t vunetsmoltcp null:// /srv/b; \
                  vumount -t vunetsmoltcp null:// /fresh/c; vuumount /dev/net/a";
    let script = format!(
        "vumount -t vunetsmoltcp null:// /dev/net/a && {PATHS} '{mounts}' /dev/net/a \
         /usr/../dev/net/a /srv/b //srv/b /etc/../srv/b /srv/./b /fresh /fresh/c | tail -17"
    );
    let (none, node) = ("No such file or directory", "No such device or address");
    let expected = format!(
        "/dev/net/a True\n/usr/../dev/net/a True\n/srv/b False\n//srv/b False\n\
         /etc/../srv/b False\n/srv/./b False\n/fresh False\n/fresh/c False\n\
         /dev/net/a False {none} {none}\n/usr/../dev/net/a False {none} {none}\n\
         /srv/b True ok {node}\n//srv/b True ok {node}\n/etc/../srv/b True ok {node}\n\
         /srv/./b True ok {node}\n/fresh True ok ok\n/fresh/c True ok {node}\n\
         child [False, False, True, True, True, True, True, True]\n"
    );
    for place in INSIDE {
        assert_eq!(succeed(place, &script), expected, "{place:?}");
    }
}
