//! Loop devices: losetup(8) and mount(8) with images, on plain Linux and inside, by the same script. Only root has
//! the kernel set one up: without loop devices there is nothing to compare with, and the tests say so.

use std::fs;

use crate::harness::{INSIDE, Place, run, scratch, succeed};

/// What a script says natively as root; None where there are no loop devices. `as_root` runs one as root.
fn natively(script: &str) -> Option<String> {
    let work = scratch("loops");
    let whole = format!(
        "cd {}; truncate -s 1M probe; L=$(losetup -f --show probe) && losetup -d $L || exit 77\nas_root() {{ bash -c \"$1\"; }}\n{script}",
        work.display()
    );
    fs::write(work.join("script"), whole).expect("scratch is writable");
    let path = work.join("script");
    let told = run(Place::Native, &format!("{TOOLS}unshare -m bash {}", path.display()));
    fs::remove_dir_all(work).expect("scratch goes");
    if told.status == Some(77) || !nix::unistd::geteuid().is_root() {
        eprintln!("the kernel has no loop devices here: nothing to compare with");
        return None;
    }
    assert_eq!(told.status, Some(0), "{}{}", told.out, told.err);
    Some(told.out)
}

const TOOLS: &str = "export PATH=$PATH:/sbin:/usr/sbin; ";

/// The same natively and in both modes; returns what it said.
fn compare(script: &str) -> String {
    let native = natively(script);
    let inside = INSIDE.map(|place| {
        let work = scratch("loops");
        let begin = format!(
            "{TOOLS}cd {}; vu_insmod vudev vufuse unrealuidgid || exit 9\nas_root() {{ vusu -c \"$1\"; }}\n",
            work.display()
        );
        let told = succeed(place, &format!("{begin}{script}"));
        fs::remove_dir_all(work).expect("scratch goes");
        told
    });
    assert_eq!(inside[0], inside[1]);
    if let Some(native) = native {
        assert_eq!(inside[0], native);
    }
    let [told, _] = inside;
    told
}

/// Numbers and places, which differ.
const PLAIN: &str = r#"plain() { sed -e "s,$PWD/,W/,g" -e 's/loop[0-9][0-9]*/loopN/g' -e 's/\[[0-9]*\]:[0-9]*/[FILE]/'; }
"#;

#[test]
fn an_image_is_mounted_as_one_types_it() {
    let told = compare(&format!(
        r#"{PLAIN}truncate -s 20M i; mkfs.ext4 -qF i; mkdir m
        as_root 'mount i m && losetup -j i && losetup -lO BACK-FILE,AUTOCLEAR,RO,OFFSET,SIZELIMIT -j i && findmnt -no SOURCE,FSTYPE m
            echo kept > m/f; umount m; echo $?; losetup -j i' | plain
        as_root 'mount -o loop,ro i m && cat m/f && touch m/f; echo $?; losetup -lnO RO,AUTOCLEAR -j i; umount m' 2>&1 | plain
        truncate -s 40M big; dd if=i of=big bs=1M seek=7 conv=notrunc status=none
        as_root 'mount -o loop,offset=7M,sizelimit=20M big m && cat m/f && losetup -lnO OFFSET,SIZELIMIT -j big; umount m; losetup -j big' | plain
        as_root 'busybox mount -o loop i m && cat m/f; busybox umount m; losetup -j i; busybox losetup -f | tr -d 0-9' | plain
        e2fsck -fn i 2>/dev/null | cut -d, -f1"#
    ));
    assert!(told.contains("kept\n") && told.contains("[FILE] (W/i)"), "{told}");
}

#[test]
fn loop_devices_are_set_up_changed_and_cleared() {
    let told = compare(&format!(
        r#"{PLAIN}head -c 1M /dev/zero > i; as_root 'L=$(losetup -f --show i); echo $L
        blockdev --getsize64 $L; stat -c "%F %t" $L; printf marked | dd of=$L bs=512 seek=3 conv=notrunc status=none; sync
        losetup -f --show i | grep -o loop; losetup -j i | wc -l; truncate -s 2M i; blockdev --getsz $L; losetup -c $L; blockdev --getsz $L
        cat /sys/block/${{L#/dev/}}/loop/{{backing_file,offset,sizelimit,autoclear,partscan,dio}} /sys/block/${{L#/dev/}}/size
        exec 5<$L; losetup -d $L; cat /sys/block/${{L#/dev/}}/loop/autoclear; exec 5<&-; losetup -j i; for l in $(losetup -j i | cut -d: -f1); do losetup -d $l; done; losetup -j i
        losetup $L i; losetup $L i 2>/dev/null; echo $?; losetup -r $L 2>/dev/null; losetup -d $L; losetup -d $L 2>&1 | grep -o "No such.*"; wc -c <$L
        losetup -r $L i; blockdev --getro $L; echo x 2>&1 >$L | grep -o "not permitted"; losetup -d $L' 2>&1 | plain
        dd if=i bs=512 skip=3 count=1 status=none | tr -d '\0'; echo"#
    ));
    assert!(told.ends_with("marked\n"), "{told}");
}

/// Only inside: not every kernel knows partitions.
#[test]
fn partitions_of_an_image_stand_beside_its_loop_device() {
    for place in INSIDE {
        let work = scratch("loops");
        let script = format!(
            r#"{TOOLS}{PLAIN}cd {}; vu_insmod vudev vufuse unrealuidgid || exit 9
            truncate -s 20M i; printf 'label: gpt\nsize=4M\nsize=5M\n' | sfdisk -q i; mkdir m
            vusu -c 'L=$(losetup -Pf --show i); ls ${{L}}p*; mkfs.ext2 -q ${{L}}p1; mount ${{L}}p1 m; echo here > m/f
                lsblk -nro TYPE,SIZE,MOUNTPOINT $L; grep -c "${{L#/dev/}}p" /proc/partitions; umount m
                cat /sys/block/${{L#/dev/}}/${{L#/dev/}}p2/{{start,size,partition}}; losetup -d $L; ls -d ${{L}}p* 2>&1 | grep -o "No such.*"' | plain
            vusu -c 'mount -o loop,offset=1M,sizelimit=4M i m && cat m/f; umount m'"#,
            work.display()
        );
        let told = succeed(place, &script).replace(&format!("{}/", work.display()), "W/");
        assert_eq!(told, PARTITIONS, "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const PARTITIONS: &str = "/dev/loopNp1\n/dev/loopNp2\nloop 20M \npart 4M W/m\npart 5M \n2\n10240\n10240\n2\n\
    No such file or directory\nhere\n";

/// A file of the view, and an image in an image; only inside.
#[test]
fn an_image_in_an_image_is_mounted() {
    for place in INSIDE {
        let work = scratch("loops");
        let script = format!(
            r#"{TOOLS}cd {}; vu_insmod vudev vufuse unrealuidgid || exit 9; truncate -s 20M i; mkfs.ext4 -qF i; mkdir m
            vusu -c 'mount i m && truncate -s 6M m/j && mkfs.vfat m/j >/dev/null && mkdir m/d && mount m/j m/d && echo deep > m/d/f
                umount m; echo $?; losetup -lnO BACK-FILE | grep "$PWD" | sort; umount m/d && umount m; mount i m && mount m/j m/d && cat m/d/f
                umount m/d m; losetup -a | grep "$PWD"'
            e2fsck -fn i >/dev/null 2>&1 && echo clean; ls -d /dev/loop-control; vu_rmmod vudev; stat -c %t:%T /dev/loop-control"#,
            work.display()
        );
        let told = succeed(place, &script).replace(&format!("{}/", work.display()), "W/");
        assert!(
            told.starts_with("32\nW/i\nW/m/j\ndeep\nclean\n/dev/loop-control\n"),
            "{place:?} {told}"
        );
        fs::remove_dir_all(work).expect("scratch goes");
    }
}
