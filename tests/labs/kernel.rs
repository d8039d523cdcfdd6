//! Images in the kernel's own hands and in ours, by the same script. Only root has the kernel mount one:
//! without loop devices there is nothing to compare with, and the tests say so.

use std::fs;

use crate::harness::{INSIDE, Place, run, scratch, succeed};

/// What a script says with an image mounted by the kernel as `m`; None where it does not mount it.
fn natively(make: &str, options: &str, script: &str) -> Option<String> {
    let work = scratch("kernel");
    let whole = format!(
        "export PATH=$PATH:/sbin:/usr/sbin; cd {}; mkdir m; {make} || exit 8; \
         mount -o loop,{options} i m 2>/dev/null || exit 77; again() {{ umount m; mount -o loop i m; }}
         {{ {script}; }}; code=$?; umount m; exit $code",
        work.display()
    );
    let told =
        run(Place::Native, &format!("unshare -m bash -c '{}'", whole.replace('\'', r"'\''")));
    fs::remove_dir_all(work).expect("scratch goes");
    if told.status == Some(77) || !nix::unistd::geteuid().is_root() {
        eprintln!("the kernel does not mount it here: nothing to compare with");
        return None;
    }
    assert_eq!(told.status, Some(0), "{}", told.out);
    Some(told.out)
}

/// Compares that with what it says inside, in both modes.
fn compare(make: &str, options: &str, script: &str, fstype: &str) {
    let Some(native) = natively(make, options, script) else { return };
    for place in INSIDE {
        let work = scratch("image");
        let told = succeed(
            place,
            &format!(
                "export PATH=$PATH:/sbin:/usr/sbin; cd {}; mkdir m; {make} || exit 8; vu_insmod vufuse; \
                 vumount -t {fstype} -o rw+,{options} i m || exit 9
                 again() {{ vuumount m && vumount -t {fstype} -o rw+ i m; }}
                 {{ {script}; }}; code=$?; vuumount m; exit $code",
                work.display()
            ),
        );
        fs::remove_dir_all(work).expect("scratch goes");
        assert_eq!(told, native, "{place:?} {make}");
    }
}

#[test]
fn file_systems_tell_their_size_as_the_kernel_does() {
    let script = r#"mkdir m/d; head -c 300000 /dev/zero | tr '\0' x > m/d/f; sync -f m/d/f
        stat -f -c '%t %s %S %b %f %a %c %d %l' m; df -P m | awk 'END { print $2, $4, $5 }'
        python3 -c 'import os; print(hex(os.statvfs("m").f_flag))'"#;
    for layout in ["ext2", "ext3", "ext4", "ext4 -b1024 -m1", "ext4 -Obigalloc"] {
        let make = format!("truncate -s 64M i; mkfs.{layout} -q i >/dev/null 2>&1");
        compare(&make, "nosuid,nodev", script, "vufuseext2");
    }
}

const ACCESS: &str = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/access.py");

#[test]
fn files_tell_when_they_were_read_as_the_kernel_does() {
    // Where times are whole seconds, a read and a change have the same.
    for (layout, options, what) in [
        ("ext4", "relatime", ""),
        ("ext4", "strictatime", ""),
        ("ext4", "nodiratime", ""),
        ("ext4", "noatime", ""),
        ("ext4 -I128", "relatime", "times"),
        ("ext2", "relatime", "times"),
    ] {
        let make = format!("truncate -s 64M i; mkfs.{layout} -q i >/dev/null 2>&1");
        let script = format!("(cd m; {ACCESS} {what}); again; (cd m; {ACCESS} kept)");
        compare(&make, options, &script, "vufuseext2");
    }
}

#[test]
fn flags_and_blocks_of_files_are_told_and_hold_as_in_the_kernel() {
    let program = concat!("bash ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/iflags.sh");
    for layout in ["ext4 -b1024", "ext4 -b4096", "ext2 -b4096"] {
        let make = format!("truncate -s 64M i; mkfs.{layout} -q i >/dev/null 2>&1");
        compare(&make, "relatime", &format!("(cd m; {program} 2>&1)"), "vufuseext2");
    }
}

#[test]
fn virtual_disks_are_mounted_without_a_type() {
    let script = r#"set -e; export PATH=$PATH:/sbin:/usr/sbin; cd $(mktemp -d); W=$PWD; mkdir m
        vu_insmod vudev vufuse unrealuidgid; truncate -s 40M disk
        vumount -t vudevpartx -o mode=666 disk /dev/hda 2>/dev/null; plain() { sed "s:$W:W:g" | tr -s ' '; }
        printf 'label: gpt\nsize=20M\n' | sfdisk -q /dev/hda; mkfs.ext4 -q /dev/hda1 2>/dev/null
        as_root() { vusu -c "$1" 2>&1 | plain; }
        as_root 'mount /dev/hda1 m; echo $?; echo hi > m/a; findmnt -n m; df --output=source,fstype m | tail -1; umount /dev/hda1'
        as_root 'mount -r /dev/hda1 m; cat m/a; touch m/b; findmnt -n m; umount m'
        as_root 'mount -t ext4 -o noatime /dev/hda1 m; mount -o remount,ro m; findmnt -n m; touch m/x; umount m; e2fsck -fn /dev/hda1 >/dev/null 2>&1; echo $?'
        vumount -o ro /dev/hda1 m; cat m/a; vuumount m; vuumount /dev/hda
        tar cf i disk; vumount i m; ls m; vuumount m; echo > i; vumount i m 2>&1 || true; rm -r $W"#;
    for place in INSIDE {
        assert_eq!(succeed(place, script), MOUNTED, "{place:?}");
    }
}

const MOUNTED: &str = "0\nW/m /dev/hda1 ext4 rw,relatime\n/dev/hda1 ext4\n\
    hi\ntouch: cannot touch 'm/b': Read-only file system\nW/m /dev/hda1 ext4 ro,relatime\n\
    W/m /dev/hda1 ext4 ro,noatime\ntouch: cannot touch 'm/x': Read-only file system\n0\n\
    hi\ndisk\nvumount: i: is of no type that is known (give -t)\n";
