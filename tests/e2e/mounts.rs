//! mount(8), umount(8), findmnt(8), mountpoint(1) and df(1) as an ordinary user who is virtual root.

use crate::{
    harness::{INSIDE, Place, run},
    patchwork::as_user,
};

/// What root does with mounts on Linux, the type of the file system apart; `$T` is that.
const SESSION: &str = r#"
mkdir a b c; echo x > a/f; plain() { sed "s:$PWD:W:g"; }
mount -t $T -o size=4M none c; echo $?; findmnt -n -o TARGET,FSTYPE c | sed "s/$T/TYPE/" | plain; mountpoint c; mountpoint a
df c | tail -1 | sed 's/[0-9 ]*%/ /' | plain; df --output=size,target c | tail -1 | plain
mount --bind a b; echo $?; cat b/f; mount -o remount,ro,bind b; echo $?; touch b/y; umount b; touch b/y && ls -A b; rm b/y
mount -o remount,ro c; echo $?; touch c/x; findmnt -n -o OPTIONS c | cut -d, -f1; mount -o remount,rw c; echo $?; touch c/x
exec 3< c/x; umount c; echo $?; umount -l c; echo $?; read x <&3; exec 3<&-; ls c; mountpoint c
umount b; echo $?; umount nonexist; echo $?; mount -t nosuch none c; echo $?; mount --bind nonexist c; echo $?
mount --make-rprivate / ; echo $?; mount --make-private c; echo $?
mount -t $T none c; mount --make-private c; echo $?; umount -R c; echo $?; mount --rbind a b; umount b; echo $?
mount -o bind,ro a b; touch b/q; umount b; echo $?
mount -t $T none c; mkdir c/in; mount --bind a c/in; (cd c; mount -n --move . ../b; echo $?; /bin/pwd | sed 's:.*/::'; ls ../b)
ls c; cat b/in/f; mountpoint b; mountpoint c; findmnt -n -o TARGET b | plain; findmnt -n -o TARGET b/in | plain
mount -n --move b b/in; echo $?; mount -n --move a c; echo $?; mount -n --move b nonexist; echo $?; umount b/in; umount b; echo $?
"#;

/// The flags of mounts, and what is mounted once more, remounted and unmounted in all ways.
const FLAGS: &str = include_str!("../guests/mounts.sh");

/// Runs a session in a mount namespace of Linux, and as virtual root in a view.
fn compare(session: &str, sign: &str) {
    let script = format!("cat > s <<'E'\n{session}\nE\n");
    let natively = format!(
        "W=$(mktemp -d); trap 'rm -rf $W' EXIT; cd $W; {script} \
         unshare -rm env T=tmpfs bash s 2>&1 | sed \"s:$W:W:g\"",
    );
    let linux = run(Place::Native, &natively);
    for place in INSIDE {
        let script = format!(
            "vu_insmod vufuse mountreal unrealuidgid; PATH=$PATH:/usr/sbin:/sbin; {script} \
             T=vufusemem vusu -c 'bash s' 2>&1"
        );
        let told = as_user(place, &script);
        assert!(told.contains(sign), "{told}");
        // A mount of an ordinary user of the host tells his ids.
        let is_fit = linux.status == Some(0) && !linux.out.contains("uid=");
        if is_fit && linux.out.contains(sign) {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&told), lines(&linux.out), "{place:?}");
        }
    }
}

#[test]
fn the_programs_of_the_distribution_mount_as_on_linux() {
    compare(SESSION, "c is a mountpoint");
}

#[test]
fn flags_of_mounts_show_and_hold_as_on_linux() {
    compare(FLAGS, "rw,nosuid,nodev,noexec,noatime");
}

#[test]
fn files_in_memory_tell_when_they_were_read_as_on_tmpfs() {
    let program = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/access.py");
    for options in ["relatime", "strictatime", "noatime"] {
        let session =
            format!("mkdir c; mount -t $T -o {options} none c; (cd c; {program}); umount c");
        compare(&session, "no other time True True True");
    }
}

/// In a user namespace nobody makes devices: what mount(2) says of them cannot be compared.
#[test]
fn devices_of_mounts_without_devices_are_not_opened() {
    let script = "vu_insmod vufuse unrealuidgid; mkdir c; vusu -c '
        vumount -t vufusemem -o nodev none c; mknod c/null c 1 3; mkfifo c/fifo
        cat c/null; (echo through >c/fifo &) ; cat c/fifo; vumount -o remount,dev none c; cat c/null; echo $?' 2>&1";
    for place in INSIDE {
        assert_eq!(
            as_user(place, script),
            "cat: c/null: Permission denied\nthrough\n0\n",
            "{place:?}"
        );
    }
}
