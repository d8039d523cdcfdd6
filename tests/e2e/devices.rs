//! Virtual disks, by the distribution's partitioning and mkfs tools; what they have made is judged by
//! the same tools on the plain image, outside.

use std::{fs, path::Path};

use crate::harness::{INSIDE, Place, run, scratch, succeed};

const TOOLS: &str = "PATH=$PATH:/sbin:/usr/sbin; ";

fn native(script: &str) -> String {
    succeed(Place::Native, &format!("{TOOLS}{script}"))
}

fn inside(place: Place, script: &str) -> String {
    succeed(place, &format!("set -e; {TOOLS}{script}"))
}

/// Copies a partition out of an image, by MiB, and asks fsck(8) about it.
fn fsck(image: &Path, first: u64, size: u64, check: &str) {
    let image = image.display();
    let script = format!(
        "dd if={image} of={image}.part bs=1M skip={first} count={size} conv=sparse status=none && \
         {check} {image}.part && rm {image}.part"
    );
    native(&script);
}

#[test]
fn a_partitioned_disk_is_made_as_in_the_readme() {
    for place in INSIDE {
        let image = scratch("gdisk").join("disk");
        let script = format!(
            r#"
            D={}; vu_insmod vudev; truncate -s 1G $D
            vumount -t vudevpartx $D /dev/hda 2>&1
            [ ! -e /dev/hda1 ]
            printf '%s\n' n '' '' +200M '' n '' '' '' '' p w Y | gdisk /dev/hda | grep successfully
            cd /dev; ls hda*; stat -c '%A %t:%T' hda1 hda2; cd /
            mkfs.ext4 -q /dev/hda1; e2fsck -fn /dev/hda1 2>/dev/null | tail -1 | cut -d, -f1
            mkfs.vfat /dev/hda2 >/dev/null; fsck.vfat -n /dev/hda2 | grep -o '0 files'
            blockdev --getsize64 /dev/hda1; wc -c < /dev/hda1
            vuumount /dev/hda; ls /dev/hda1 2>&1 || true
            "#,
            image.display()
        );
        assert_eq!(inside(place, &script), SESSION, "{place:?}");
        fsck(&image, 1, 200, "e2fsck -fn");
        fsck(&image, 201, 822, "fsck.vfat -n");
        let told = native(&format!("sgdisk -v {}", image.display()));
        assert!(told.contains("No problems found"), "{told}");
        fs::remove_file(image).expect("the image is there");
    }
}

const SESSION: &str = "Bad MBR signature 0 0\n\
    The operation has completed successfully.\n\
    hda\nhda1\nhda2\nbrw------- 0:1\nbrw------- 0:2\n\
    /dev/hda1: 11/51200 files (0.0% non-contiguous)\n0 files\n209715200\n209715200\n\
    ls: cannot access '/dev/hda1': No such file or directory\n";

#[test]
fn util_linux_finds_virtual_disks_by_itself() {
    for place in INSIDE {
        let image = scratch("lsblk").join("disk");
        let script = format!(
            r#"
            vu_insmod vudev; truncate -s 100M {0}; vumount -t vudevpartx {0} /dev/hda 2>/dev/null
            vumount -t vudevramdisk -o size=4M,minor=7,major=241 none /dev/d/r
            printf 'label: gpt\nsize=30M\nsize=20M\n' | sfdisk -q /dev/hda; mkfs.ext4 -q -L root /dev/hda1; mkswap -L s /dev/hda2 >/dev/null
            lsblk -rno NAME,MAJ:MIN,RO,TYPE,SIZE,START,PKNAME /dev/hda; lsblk -rno NAME,MAJ:MIN /dev/d/r
            fdisk -l 2>/dev/null | grep -E '^(Disk )?/dev/(hda|d)' | cut -d' ' -f1,2,3,4; blkid -c /dev/null | grep -E 'hda' | sed 's/ .*TYPE="\([a-z0-9]*\)".*/ \1/' | sort
            grep hda /proc/partitions; findfs LABEL=s; cd -P /sys/class/block/hda2; pwd; cat start size partition; cat ../queue/logical_block_size; cd /
            readlink /sys/block/hda /sys/dev/block/241:7 /sys/class/block/hda1/subsystem; ls /sys/block | grep -cv '^hda$\|^d!r$' | grep -qx "$(ls /proc/self/root/sys/block 2>/dev/null | grep -cv '^hda$\|^d!r$')" && echo others
            blockdev --setro /dev/hda2; cat /sys/block/hda/hda2/ro; sfdisk -q --delete /dev/hda 1; ls -d /sys/block/hda/hda*; partx -u /dev/hda; blockdev --rereadpt /dev/hda
            vuumount /dev/hda; grep -c hda /proc/partitions /proc/diskstats || true; ls /sys/block/hda /sys/dev/block/240:0 2>&1 | grep -o 'No such.*'
            "#,
            image.display()
        );
        assert_eq!(inside(place, &script), FOUND, "{place:?}");
        fs::remove_file(image).expect("the image is there");
    }
}

const FOUND: &str = "hda 240:0 0 disk 100M  \nhda1 0:1 0 part 30M 2048 hda\nhda2 0:2 0 part 20M 63488 hda\n\
    d/r 241:7\nDisk /dev/hda: 100 MiB,\n/dev/hda1   2048\n/dev/hda2  63488 104447\nDisk /dev/d/r: 4 MiB,\n\
    /dev/hda1: ext4\n/dev/hda2: swap\n\x20240        0     102400 hda\n   0        1      30720 hda1\n\x20\x20\x20\
    0        2      20480 hda2\n/dev/hda2\n/sys/devices/virtual/block/hda/hda2\n63488\n40960\n2\n512\n\
    ../devices/virtual/block/hda\n../../devices/virtual/block/d!r\n../../../../../class/block\nothers\n1\n\
    /sys/block/hda/hda2\n/proc/partitions:0\n/proc/diskstats:0\nNo such file or directory\nNo such file or directory\n";

/// Tables of every kind for sfdisk(8), with what it would else choose by chance.
const TABLES: [&str; 2] = [
    "label: dos\\nlabel-id: 0x1234\\n,8M,L\\n,,E\\n,8M,S\\n,10M,L\\n,4M,L\\n",
    "label: gpt\\nlabel-id: 11111111-1111-4111-8111-111111111111\\n\
     size=10M,type=L,uuid=22222222-2222-4222-8222-222222222222\\n\
     size=5M,type=S,uuid=33333333-3333-4333-8333-333333333333\\n",
];

#[test]
fn a_table_on_a_virtual_disk_is_the_table_on_a_plain_image() {
    for table in TABLES {
        let write = |disk: &str| {
            format!(
                "printf '{table}' | sfdisk -q --no-tell-kernel {disk} && sfdisk -d {disk} | \
                 sed s:{disk}:D:"
            )
        };
        let plain = scratch("plain").join("disk");
        let expected =
            native(&format!("truncate -s 40M {0}; {1}", plain.display(), write_at(&write, &plain)));
        for place in INSIDE {
            // On a disk that is virtual itself.
            let script = format!(
                "vu_insmod vudev; vumount -t vudevramdisk -o size=40M,mbr none /dev/rd; \
                 vumount -t vudevpartx /dev/rd /dev/hd; {}; ls /dev/hd* >&2; cmp /dev/rd {}",
                write("/dev/hd"),
                plain.display()
            );
            let done = run(place, &format!("set -e; {TOOLS}{script}"));
            assert_eq!(done.out, expected, "{place:?}\n{}", done.err);
            let listed: Vec<&str> = done.err.lines().filter(|line| *line != "/dev/hd").collect();
            let in_table = expected.lines().filter(|line| line.starts_with('D'));
            let in_table: Vec<String> = in_table
                .filter_map(|line| Some(format!("/dev/hd{}", line[1..].split(' ').next()?)))
                .collect();
            assert_eq!(listed, in_table, "{place:?}");
            assert_eq!(done.status, Some(0), "{place:?}\n{}", done.err);
        }
    }
}

fn write_at(write: &dyn Fn(&str) -> String, image: &Path) -> String {
    write(&image.display().to_string())
}

#[test]
fn partitions_come_and_go_with_parted_and_fdisk() {
    const SCRIPT: &str = r#"
        vu_insmod vudev; vumount -t vudevramdisk -o size=64M none /dev/rd
        vumount -t vudevpartx /dev/rd /dev/hd 2>&1
        parts() { cd /dev; echo hd*; cd /; }
        parted -s /dev/hd mklabel msdos mkpart primary ext2 1MiB 20MiB \
            mkpart extended 20MiB 100% mkpart logical 21MiB 40MiB mkpart logical 42MiB 100% 2>/dev/null
        parts; parted -s /dev/hd rm 5 2>/dev/null; parts
        printf '%s\n' d 2 n p 3 '' '' w | fdisk /dev/hd >/dev/null; parts
        blockdev --rereadpt /dev/hd; blockdev --rereadpt /dev/hd3 2>&1 | grep -o Invalid
        dd if=/dev/zero of=/dev/hd count=1 status=none; parts
        exec 3< /dev/hd; vuumount /dev/hd 2>&1 | grep -o 'in use by'; exec 3<&-
        vuumount /dev/rd 2>&1 | grep -o 'in use by'; vuumount /dev/hd; parts; vuumount /dev/rd
    "#;
    for place in INSIDE {
        let told = inside(place, SCRIPT);
        let expected = "Bad MBR signature 0 0\nhd hd1 hd2 hd5 hd6\nhd hd1 hd2 hd5\nhd hd1 hd3\n\
            Invalid\nhd\nin use by\nin use by\nhd*\n";
        assert_eq!(told, expected, "{place:?}");
    }
}

#[test]
fn blocks_are_written_discarded_and_kept() {
    const SCRIPT: &str = r#"
        vu_insmod vudev; vumount -t vudevramdisk -o size=3M,mode=640,major=240,minor=16 none /dev/rd
        stat -c '%a %t:%T' /dev/rd; blockdev --getsz --getss --getpbsz --getro /dev/rd
        head -c 4M /dev/urandom > $R; ! dd if=$R of=/dev/rd bs=64k status=none 2>&1
        cmp -n 3145728 $R /dev/rd; dd if=/dev/rd bs=64k iflag=direct status=none | cmp -n 3145728 $R
        blkdiscard -o 1M -l 1M /dev/rd; cmp -n 1M -i 1M:0 /dev/rd /dev/zero
        cmp -n 1M -i 2M $R /dev/rd; blkdiscard -z -o 2M /dev/rd; cmp -n 1M -i 2M:0 /dev/rd /dev/zero
        fallocate -z -n -o 4096 -l 4096 /dev/rd; cmp -n 4096 -i 4096:0 /dev/rd /dev/zero
        blockdev --setbsz 1024 /dev/rd; blockdev --setbsz 1000 /dev/rd 2>&1 | grep -o Invalid
        blockdev --setro --getro /dev/rd; ! dd if=$R of=/dev/rd count=1 2>&1 | grep -o 'not permitted'
        vumount -t vudevnull -o mode=666 none /dev/nil; stat -c %A /dev/nil; echo x > /dev/nil
        wc -c < /dev/nil; vumount -t vudevramdisk -o size=1 none /dev/x 2>&1 || true
        vumount -t vudevpartx /nowhere /dev/x 2>&1 || true
    "#;
    for place in INSIDE {
        let scratch = scratch("blocks").join("random");
        let told = inside(place, &format!("R={}\n{SCRIPT}", scratch.display()));
        assert_eq!(told, BLOCKS, "{place:?}");
    }
}

const BLOCKS: &str = "640 f0:10\n6144\n512\n512\n0\n\
    dd: error writing '/dev/rd': No space left on device\nInvalid\n1\nnot permitted\n\
    crw-rw-rw-\n0\nvumount: vudevramdisk: size: at least 512 bytes\n\
    vumount: /nowhere: No such file or directory\n";

#[test]
fn images_of_virtualbox_are_as_qemu_sees_them() {
    const MAKE: &str = r#"
        vu_insmod vudev; vumount -t vudevvdi $I /dev/hd 2>&1
        printf 'label: gpt\n,30M,L\n,+,L\n' | sfdisk -q /dev/hd; cd /dev; echo hd*
        mkfs.ext4 -q /dev/hd1; e2fsck -fn /dev/hd1 2>/dev/null | grep -o ' 11/.* files'
        head -c 5M /dev/urandom > $I.random; dd if=$I.random of=/dev/hd2 bs=3000 seek=99 status=none
        dd if=/dev/hd2 bs=3000 skip=99 status=none | cmp -n 5M - $I.random
        cat /dev/hd > $I.seen; vuumount /dev/hd
    "#;
    for place in INSIDE {
        for kind in ["off", "on"] {
            let image = scratch("vdi").join("disk");
            let image = image.display();
            native(&format!("qemu-img create -q -f vdi -o static={kind} {image} 64M"));
            let told = inside(place, &format!("I={image}\n{MAKE}"));
            let expected = "Bad MBR signature 0 0\nhd hd1 hd2\n 11/7680 files\n";
            assert_eq!(told, expected, "{place:?}");
            let compare = format!("qemu-img compare -f vdi -F raw {image} {image}.seen");
            let told = native(&format!("qemu-img check -f vdi {image} && {compare}"));
            assert!(told.contains("No errors") && told.contains("Images are identical"), "{told}");
            // And what QEMU has written.
            let write = "write -P 7 40M 3M' -c 'write -z 1M 1M";
            native(&format!(
                "qemu-io -f vdi -c '{write}' {image} && \
                 qemu-img convert -f vdi -O raw {image} {image}.raw"
            ));
            let script = format!(
                "vu_insmod vudev; vumount -r -t vudevvdi {image} /dev/hd; cmp /dev/hd {image}.raw; \
                 vumount -t vudevvdi {image}.raw /dev/hx 2>&1 | grep -o 'no VDI, VMDK, VHD or qcow2 image'"
            );
            assert_eq!(inside(place, &script), "no VDI, VMDK, VHD or qcow2 image\n", "{place:?}");
        }
    }
}

/// Makes a disk in an image, and has QEMU compare what it sees there.
const MAKE_DISK: &str = r#"
cd "$W"; head -c 3M /dev/urandom > data; vu_insmod vudev
make_disk() {
    qemu-img create -q -f $2 ${3:+-o $3} $1 40M
    vumount -t vudevvdi $1 /dev/hd 2>/dev/null
    printf 'label: dos\n2048,40000\n' | sfdisk -q /dev/hd
    mkfs.ext4 -q /dev/hd1; e2fsck -fn /dev/hd1 >/dev/null 2>&1 || echo "$*: damaged"
    dd if=data of=/dev/hd bs=4096 seek=7000 status=none
    dd if=data of=/dev/hd bs=1000 seek=31001 count=1500 status=none
    cat /dev/hd > seen; vuumount /dev/hd
    vumount -t vudevvdi $1 /dev/hd; cmp /dev/hd seen; vuumount /dev/hd
    qemu-img compare -q -f $2 -F raw $1 seen || echo "$*: differs"
    case $2 in qcow2|vmdk) qemu-img check -q -f $2 $1 || [ $? = 63 ] || echo "$*: damaged";; esac
}
"#;

#[test]
fn images_of_other_machines_are_as_qemu_sees_them() {
    for place in INSIDE {
        let folder = scratch("images");
        let script = format!(
            r#"W={}{MAKE_DISK}
            make_disk a qcow2
            make_disk b qcow2 cluster_size=512,compat=0.10
            make_disk c.vmdk vmdk subformat=monolithicSparse
            make_disk d.vmdk vmdk subformat=monolithicFlat
            make_disk e.vmdk vmdk subformat=twoGbMaxExtentSparse
            make_disk f vpc subformat=dynamic
            make_disk g vpc subformat=fixed
            mv seen raw; qemu-img convert -c -O qcow2 raw packed
            qemu-img create -q -f qcow2 -b packed -F qcow2 above
            qemu-img create -q -f qcow2 -b raw -F raw bare; cp packed former
            for image in above bare packed; do
                vumount -t vudevvdi $image /dev/hd; cmp /dev/hd raw
                dd if=data of=/dev/hd bs=1000 seek=7 status=none; cat /dev/hd > seen; vuumount /dev/hd
                qemu-img compare -q -f qcow2 -F raw $image seen || echo $image differs
                qemu-img check -q $image || echo $image is damaged
                [ $image = packed ] || cmp packed former
            done; echo done"#,
            folder.display()
        );
        assert_eq!(inside(place, &script), "done\n", "{place:?}");
        let _ = fs::remove_dir_all(folder);
    }
}

#[test]
fn vmdk_images_for_streams_are_read_and_differences_written() {
    for place in INSIDE {
        let folder = scratch("vmdk");
        let script = format!(
            r#"cd {}; vu_insmod vudev; truncate -s 40M raw; mkfs.ext4 -q -d /usr/include/linux raw; head -c 3M /dev/urandom > r
            dd if=r of=raw bs=1M seek=30 conv=notrunc status=none; qemu-img convert -O vmdk -o subformat=streamOptimized raw stream
            vumount -t vudevvdi -o ro stream /dev/hda 2>/dev/null; cmp raw /dev/hda && echo same; blockdev --getro /dev/hda
            e2fsck -fn /dev/hda 2>/dev/null | grep -o non-contiguous; vuumount /dev/hda
            qemu-img convert -O vmdk raw whole; sum=$(sha256sum < whole); qemu-img create -q -f vmdk -b whole -F vmdk part
            qemu-img create -q -f vmdk -b part -F vmdk above
            vumount -t vudevvdi above /dev/hdb 2>/dev/null; cmp raw /dev/hdb && echo same
            for at in 0 100 77777 20000001 31000000 41943030; do printf xyz | dd of=/dev/hdb bs=1 seek=$at conv=notrunc status=none 2>/dev/null || echo full; done
            dd if=/dev/zero of=/dev/hdb bs=64K seek=485 count=3 conv=notrunc status=none; cp /dev/hdb seen; vuumount /dev/hdb
            cmp -s raw seen || echo changed; [ "$sum" = "$(sha256sum < whole)" ] && echo kept
            qemu-img check -q above && qemu-img compare -f vmdk -F raw above seen"#,
            folder.display()
        );
        let wanted = "same\n1\nnon-contiguous\nsame\nchanged\nkept\nImages are identical.\n";
        assert_eq!(inside(place, &script), wanted, "{place:?}");
        let _ = fs::remove_dir_all(folder);
    }
}

#[test]
fn images_that_are_not_whole_are_refused_with_a_sentence() {
    for place in INSIDE {
        let folder = scratch("parts");
        let script = format!(
            r#"cd {}; vu_insmod vudev
            qemu-img create -q -f vmdk whole.vmdk 10M
            qemu-img create -q -f vmdk -b whole.vmdk -F vmdk part.vmdk; cp whole.vmdk new; qemu-io -f vmdk -c 'write 0 1M' whole.vmdk >/dev/null
            qemu-img convert -O vmdk -o subformat=streamOptimized whole.vmdk stream.vmdk
            qemu-img create -q -f vhdx other 10M
            qemu-img create -q -f qcow2 gone 10M; qemu-img create -q -f qcow2 -b gone -F qcow2 alone; rm gone
            qemu-img create -q -f vpc cut 10M; truncate -s -1 cut
            for image in part.vmdk stream.vmdk other alone cut; do
                ! vumount -t vudevvdi $image /dev/hd 2>&1
            done"#,
            folder.display()
        );
        let told = inside(place, &script).replace(&folder.display().to_string(), "");
        assert_eq!(told, REFUSED, "{place:?}");
        let _ = fs::remove_dir_all(folder);
    }
}

const REFUSED: &str = "\
    vumount: part.vmdk: whole.vmdk, of which the VMDK image has the differences, was changed since\n\
    vumount: stream.vmdk: a VMDK image for streams can only be read: mount with -o ro\n\
    vumount: other: a VHDX image: convert it (qemu-img convert -O qcow2)\n\
    vumount: alone: /gone: No such file or directory\n\
    vumount: cut: the VHD image has lost its end: repair it (qemu-img check, qemu-img convert)\n";
