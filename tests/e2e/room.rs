//! A file system that is full: the writer is told, and what it was not told to be lost is there.

use crate::harness::{INSIDE, Place, run, succeed};

/// What tmpfs says natively.
const FULL: &str = "\
write ENOSPC True True True
 over 4 behind ENOSPC
 allocate ENOSPC
 sparse None True
 again True
synced ENOSPC True True True
 over 4 behind ENOSPC
 allocate ENOSPC
 sparse None True
 again True
writev ENOSPC True True True
 over 4 behind ENOSPC
 allocate ENOSPC
 sparse None True
 again True
pwrite ENOSPC True True True
 over 4 behind ENOSPC
 allocate ENOSPC
 sparse None True
 again True
child 1 True
";

fn guest() -> String {
    format!("python3 {}/tests/guests/room.py", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_full_file_system_refuses_the_write_itself() {
    let natively = format!(
        "D=$(mktemp -d); unshare -Urm sh -c 'mount -t tmpfs -o size=8M none $0 && {} $0' $D; rmdir $D",
        guest()
    );
    assert_eq!(succeed(Place::Native, &natively), FULL);
    for place in INSIDE {
        let memory = format!(
            "D=$(mktemp -d); vu_insmod vufuse; vumount -t vufusemem -o size=8M none $D || exit 9
            {} $D; vuumount $D; rmdir $D",
            guest()
        );
        assert_eq!(succeed(place, &memory), FULL, "{place:?}");
    }
}

#[test]
fn a_full_image_is_whole_afterwards() {
    let images = [
        ("ext4", "mkfs.ext4 -q -m 0 i", "vufuseext2", "e2fsck -fn i"),
        // One extent may reach the last block of the file system.
        ("small ext4", "mkfs.ext4 -q -m 0 -O ^has_journal i", "vufuseext2", "e2fsck -fn i"),
        ("ext2", "mkfs.ext2 -q -m 0 i", "vufuseext2", "e2fsck -fn i"),
    ];
    for place in INSIDE {
        for (name, make, module, check) in images {
            let script = format!(
                "D=$(mktemp -d); cd $D; mkdir m; truncate -s 10M i; {make} || exit 9
                vu_insmod vufuse; vumount -t {module} -o rw+ i m || exit 9
                {} m; cd $D; dd if=/dev/urandom of=m/last bs=50000 2>/dev/null; sha256sum <m/last >sum
                vuumount m; {check} >checked 2>&1 || cat checked
                vumount -t {module} -o ro i m; sha256sum <m/last | cmp - sum; vuumount m
                vumount -t {module} -o rw+ i m; rm m/last; vuumount m; {check} >checked 2>&1 || cat checked
                rm -r $D",
                guest()
            );
            let done = run(place, &script);
            assert_eq!(done.out, FULL, "{place:?} {name}: {}", done.err);
        }
    }
}
