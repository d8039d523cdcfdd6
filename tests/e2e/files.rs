//! File systems, by a program that does all kinds of things and says what came of it: in a directory of
//! the host, and in mounts of every writable kind.

use std::{fs, process::Command};

use crate::harness::{INSIDE, Place, scratch, succeed};

const PROGRAM: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/files.py");
const DEEP: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/deep.py");
const WATCHES: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/watches.py");
const NAMELESS: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/nameless.py");
const UNIX: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/unix.py");
const PROCFS: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/procfs.py");

/// What a program says in a directory of a tmpfs.
fn native(program: &str) -> String {
    succeed(
        Place::Native,
        &format!("D=$(mktemp -d -p /dev/shm) && chmod 755 $D && cd $D && {program}; rm -rf $D"),
    )
}

/// Runs the program after `mount`, in the directory that `$D` says.
fn compare(mount: &str) {
    let native = native(&format!("{PROGRAM} $D"));
    assert!(native.contains("compiled 42"), "{native}");
    compare_with(&native, &format!("{PROGRAM} $R"), mount);
}

fn compare_with(native: &str, program: &str, mount: &str) {
    for place in INSIDE {
        let folder = scratch("files");
        let script = format!(
            "R=$(mktemp -d -p /dev/shm); chmod 755 $R; M={}; T=$R; trap 'rm -rf $T' EXIT; {mount} && \
             cd $D && {program}",
            folder.display()
        );
        let told = succeed(place, &script);
        assert!(told == native, "{place:?}\n{}", difference(native, &told));
    }
}

/// The first lines that differ.
fn difference(expected: &str, told: &str) -> String {
    let pairs = expected.lines().zip(told.lines()).filter(|(one, other)| one != other);
    let lines: Vec<String> =
        pairs.take(5).map(|(one, other)| format!("-{one}\n+{other}")).collect();
    lines.join("\n")
}

#[test]
fn files_in_memory_are_as_on_linux() {
    compare("vu_insmod vufuse && vumount -t vufusemem -o mode=755 none $M; D=$M");
}

#[test]
fn files_in_an_image_are_as_on_linux() {
    compare(
        "PATH=$PATH:/sbin:/usr/sbin; truncate -s 200M $R.img; T=\"$R $R.img\"; mkfs.ext4 -q $R.img && \
         vu_insmod vufuse && vumount -t vufuseext2 -o rw+ $R.img $M && rmdir $M/lost+found; D=$M",
    );
}

#[test]
fn file_systems_that_wait_are_as_on_linux() {
    compare("vu_insmod vufuse && vumount -t vufusemem -o mode=755,waits none $M; D=$M");
}

#[test]
fn the_whole_tree_is_there_again_in_unreal() {
    compare("vu_insmod unreal; D=/unreal$R");
}

#[test]
fn the_whole_tree_is_there_again_in_unreal_in_unreal() {
    compare("vu_insmod unreal; D=/unreal/unreal$R");
}

#[test]
fn a_bound_directory_is_the_other() {
    compare("vu_insmod mountreal && vumount -t mountreal $R $M; D=$M");
}

#[test]
fn procfs_tells_of_open_files_as_on_linux() {
    let native = native(PROCFS);
    assert!(native.contains("map_files"), "{native}");
    for options in ["mode=755", "mode=755,waits"] {
        let mount = format!("vumount -t vufusemem -o {options} none $M");
        compare_with(&native, PROCFS, &format!("vu_insmod vufuse && {mount}; D=$M"));
    }
}

#[test]
fn procfs_tells_of_files_of_the_host_behind_a_mount() {
    let program = format!("{PROCFS} host");
    let native = native(&program);
    let bind = "vu_insmod mountreal && vumount -t mountreal $R $M; D=$M".to_owned();
    for mount in [bind, "vu_insmod unreal; D=/unreal$R".to_owned(), patched("cow", "a")] {
        compare_with(&native, &program, &mount);
    }
}

#[test]
fn directories_are_deeper_than_a_path_is_long() {
    let native = native(DEEP);
    assert!(native.contains("program 0\nrmtree None"), "{native}");
    let bind = "vu_insmod mountreal && vumount -t mountreal $R $M; D=$M";
    let memory = "vu_insmod vufuse && vumount -t vufusemem none $M; D=$M";
    let unreal = "vu_insmod unreal; D=/unreal/unreal$R";
    for mount in [bind, memory, unreal, &patched("cow", "a")] {
        compare_with(&native, DEEP, mount);
    }
}

/// The words that mount `vufs` on a directory beside its source, in a mode.
fn patched(mode: &str, real: &str) -> String {
    format!(
        "mkdir $R/a $R/b; vu_insmod vufs && vumount -t vufs -o {mode} $R/a $R/b; \
         D=$R/b; R=$R/{real}"
    )
}

#[test]
fn files_in_a_copy_on_write_directory_are_as_on_linux() {
    compare(&patched("cow", "a"));
}

#[test]
fn files_in_a_copy_where_needed_directory_are_as_on_linux() {
    compare(&patched("mincow", "b"));
}

#[test]
fn files_in_a_merged_directory_are_as_on_linux() {
    compare(&patched("merge", "b"));
}

#[test]
fn files_in_a_directory_bound_by_patchwork_are_as_on_linux() {
    compare(&patched("bind", "a"));
}

#[test]
fn files_without_names_are_as_on_linux() {
    let native = native(NAMELESS);
    assert!(native.contains("many 90000"), "{native}");
    let memory = "vu_insmod vufuse && vumount -t vufusemem -o mode=755";
    let image = "PATH=$PATH:/sbin:/usr/sbin; truncate -s 20M $R.img; T=\"$R $R.img\"; \
                 mkfs.ext4 -q $R.img && vu_insmod vufuse && \
                 vumount -t vufuseext2 -o rw+ $R.img $M && rmdir $M/lost+found; D=$M";
    let bind = "vu_insmod mountreal && vumount -t mountreal $R $M; D=$M";
    for mount in [
        format!("{memory} none $M; D=$M").as_str(),
        &format!("{memory},waits none $M; D=$M"),
        image,
        bind,
        "vu_insmod unreal; D=/unreal/unreal$R",
        &patched("merge", "b"),
        &patched("cow", "a"),
        &patched("bind", "a"),
    ] {
        compare_with(&native, NAMELESS, mount);
    }
}

#[test]
fn watched_files_of_mounts_tell_what_linux_tells() {
    let program = format!("{WATCHES} .");
    let native = native(&program);
    assert!(native.contains("MOVED_TO"), "{native}");
    let memory = "vu_insmod vufuse; vumount -t vufusemem -o mode=755";
    let image = "PATH=$PATH:/sbin:/usr/sbin; truncate -s 20M $R.img; T=\"$R $R.img\"; \
                 mkfs.ext4 -q $R.img && vu_insmod vufuse && \
                 vumount -t vufuseext2 -o rw+ $R.img $M && rmdir $M/lost+found; D=$M";
    let again = format!("{memory} none $M; vu_insmod unreal; D=/unreal$M");
    for mount in [
        format!("{memory} none $M; D=$M").as_str(),
        &format!("{memory},waits none $M; D=$M"),
        &again,
        image,
    ] {
        compare_with(&native, &program, mount);
    }
}

#[test]
fn watched_files_of_the_host_tell_what_linux_tells() {
    let program = format!("{WATCHES} . contents");
    let native = native(&program);
    let bind = "vu_insmod mountreal && vumount -t mountreal $R $M; D=$M".to_owned();
    for mount in [
        bind,
        "vu_insmod unreal; D=/unreal/unreal$R".to_owned(),
        patched("cow", "a"),
        patched("merge", "b"),
        patched("bind", "a"),
    ] {
        compare_with(&native, &program, &mount);
    }
}

#[test]
fn unix_sockets_in_mounts_have_the_names_that_were_given() {
    let program = format!("{UNIX} .");
    let native = native(&program);
    assert!(native.contains("late TOP/child"), "{native}");
    for mount in [
        "vu_insmod vufuse; vumount -t vufusemem -o mode=755 none $M; D=$M",
        "vu_insmod vufuse; vumount -t vufusemem -o mode=755,waits none $M; D=$M",
        "vu_insmod mountreal && vumount -t mountreal $R $M; D=$M",
        &patched("cow", "a"),
    ] {
        compare_with(&native, &program, mount);
    }
}

#[test]
fn a_mount_shows_to_who_follows_a_file_in_it() {
    let script = "vu_insmod vufuse; vumount -t vufusemem none $M; cd $M; echo one >log; \
                  tail -n +1 -F log >$O & sleep 1; echo two >>log; mv log log.1; echo three >log; \
                  for i in $(seq 50); do grep -q three $O && break; sleep 0.2; done; kill $!; cat $O";
    for place in INSIDE {
        let folder = scratch("follow");
        let output = folder.with_extension("out");
        let names = format!("M={}; O={}; ", folder.display(), output.display());
        let told = succeed(place, &(names + script));
        let _ = fs::remove_file(&output);
        let lines: Vec<&str> = told.lines().filter(|line| !line.starts_with("tail:")).collect();
        assert_eq!(lines, ["one", "two", "three"], "{place:?}");
    }
}

#[test]
fn mounts_nest_cover_and_go() {
    let folder = scratch("nest");
    fs::write(folder.join("real"), "real\n").expect("scratch is writable");
    let script = format!(
        r#"
        set -e; cd /; M={}
        vu_insmod vufuse mountreal
        vumount -t vufusemem none $M; [ ! -e $M/real ]; echo one > $M/one
        mkdir $M/in; vumount -t vufusemem none $M/in; echo two > $M/in/two
        vumount -t vufusemem none $M/new/deep
        vuumount $M 2>&1 | grep -o 'in use by what is mounted on'
        ls $M $M/in $M/new | tr '\n' ' '; echo
        mv $M/one $M/in/one; cat $M/in/one
        ln $M/in/one $M/hard 2>&1 | grep -o 'Invalid cross-device link'
        ln -s $M/in/two /tmp/umvu-$$; cat /tmp/umvu-$$; rm /tmp/umvu-$$
        vumount -t mountreal $M/in $M/in; cat $M/in/two; vuumount $M/in
        vumount -t vufusemem none $M; ls $M; vuumount $M
        (cd $M/in; vuumount $M/in 2>&1 | grep -o 'in use by')
        exec 3< $M/in/two; vuumount $M/in 2>&1 | grep -o 'in use by'; exec 3<&-
        vuumount $M/in; ls $M/in
        vumount -t vufusemem -o ro none $M/in; touch $M/in/x 2>&1 | grep -o 'Read-only file system'
        vumount -t vufusemem -o sise=3 none $M/in 2>&1 || true
        vuumount $M/in; vuumount $M/new/deep; vuumount $M; cat $M/real
        "#,
        folder.display()
    );
    for place in INSIDE {
        let told = succeed(place, &script);
        let told = told.replace(&folder.display().to_string(), "M");
        assert_eq!(told, NESTED, "{place:?}");
    }
}

const NESTED: &str = "in use by what is mounted on\nM: in new one  M/in: two  M/new: deep \n\
    one\nInvalid cross-device link\ntwo\ntwo\nin use by\nin use by\n\
    Read-only file system\nvumount: vufusemem: sise=3: unknown option\nreal\n";

#[test]
fn there_are_more_files_than_umvu_may_have_descriptors() {
    let script = "vu_insmod vufuse; mkdir -p $M; vumount -t vufusemem none $M; cd $M; mkdir d
        for i in $(seq 1500); do echo $i > d/$i; done; cat d/* | sort -n | md5sum; cd /; vuumount $M";
    let expected = succeed(Place::Native, "seq 1500 | md5sum");
    for place in INSIDE {
        let mut command = Command::new("bash");
        command.args(["-c", r#"ulimit -n 400; exec "$@""#, "-"]).args(place.prefix());
        let told = command.args(["bash", "-c", script]).env("M", scratch("many")).output();
        let told = told.expect("bash(1) runs");
        assert_eq!(String::from_utf8_lossy(&told.stdout), expected, "{place:?} {told:?}");
    }
}
