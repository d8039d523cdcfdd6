//! An image of bytes from anywhere: whatever it is, calls end with an answer or an error, and nothing is
//! written outside of it.

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Backing, Caller, Changes, FileSystem, Handle, Node, Seek},
};

use super::{
    Ext,
    cache::Mode,
    library::{Library, library},
    mount::open,
};
use crate::vufuse::walk::Memory;

/// How many files are looked at, how deep, and how much of each is read.
const NODES: usize = 400;
const DEPTH: usize = 12;
const BYTES: usize = 1 << 20;

/// Mounts an image to read and to write, looks at all of it and changes it. Does nothing without
/// libext2fs.
pub fn image(bytes: &[u8]) {
    let Ok(library) = library() else { return };
    for mode in [Mode::Sealed, Mode::Open] {
        work(library, bytes.to_vec(), mode);
    }
}

/// What is in the image afterwards.
fn work(library: &'static Library, bytes: Vec<u8>, mode: Mode) -> Vec<u8> {
    let memory = Arc::new(Memory(Mutex::new(bytes)));
    let image: Arc<dyn Backing> = Arc::<Memory>::clone(&memory);
    if let Ok(ext) = open(library, image, mode) {
        let mut left = NODES;
        look(&ext, Node::ROOT, DEPTH, &mut left);
        if mode == Mode::Open {
            change(&ext, Node::ROOT);
        }
        ext.stop();
    }
    std::mem::take(&mut memory.0.lock())
}

fn look(ext: &Ext, node: Node, depth: usize, left: &mut usize) {
    let root = Caller::root();
    let Ok(found) = ext.getattr(&root, node, None) else { return };
    let _ = ext.listxattr(&root, node);
    let _ = ext.readlink(&root, node);
    let _ = ext.statfs(node);
    if found.is_regular() {
        let mut buffer = vec![0; BYTES];
        for at in [0, found.size / 2, found.size.saturating_sub(5)] {
            let _ = ext.read(node, Handle(0), at, &mut buffer);
            let _ = ext.seek(node, Handle(0), at, Seek::Data);
            let _ = ext.seek(node, Handle(0), at, Seek::Hole);
        }
    }
    let mut names = Vec::new();
    let _ = ext.readdir(&root, node, Handle(0), &mut |entry| names.push(entry.name));
    for name in names {
        if *left == 0 || depth == 0 {
            return;
        }
        *left -= 1;
        if let Ok(entry) = ext.lookup(&root, node, &name) {
            look(ext, entry.node, depth - 1, left);
            if ext.writes() {
                alter(ext, node, &name, entry.node);
            }
            ext.forget(entry.node, 1);
        }
    }
}

/// Changes a file that was found.
fn alter(ext: &Ext, parent: Node, name: &[u8], node: Node) {
    let root = Caller::root();
    if ext.getattr(&root, node, None).is_ok_and(|it| it.is_regular()) {
        let _ = ext.write(node, Handle(0), 5000, &[7; 9000]);
        let size = Changes { size: Some(3000), ..Changes::default() };
        let _ = ext.setattr(&root, node, None, &size);
    }
    let _ = ext.setxattr(&root, node, b"user.some", &[1; 300], 0);
    // What the core never asks for: another name for a directory, a name that is there.
    let is_file = ext.getattr(&root, node, None).is_ok_and(|it| !it.is_directory());
    if is_file && ext.lookup(&root, parent, b"another").err() == Some(Errno::ENOENT) {
        let _ = ext.link(&root, node, parent, b"another");
        let _ = ext.rename(&root, (parent, b"another"), (Node::ROOT, b"moved"), 0);
    }
    let _ = ext.unlink(&root, parent, name);
    let _ = ext.rmdir(&root, parent, name);
}

fn change(ext: &Ext, node: Node) {
    let root = Caller::root();
    let _ = ext.mkdir(&root, node, b"new", 0o755).map(|made| {
        for number in 0..40 {
            let name = format!("a name that takes some room {number}");
            let _ = ext.mknod(&root, made.node, name.as_bytes(), libc::S_IFREG | 0o644, 0).map(
                |file| {
                    let _ = ext.write(file.node, Handle(0), 100, &[3; 20_000]);
                    let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    let _ = ext.fallocate(file.node, Handle(0), hole, 5000, 9000);
                    ext.forget(file.node, 1);
                },
            );
        }
        ext.forget(made.node, 1);
    });
    let _ = ext.symlink(&root, node, b"link", &[b'x'; 300]);
    let _ = ext.sync();
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        process::Command,
        sync::atomic::{AtomicU32, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    /// e2fsck(8) finds nothing.
    #[track_caller]
    pub(in super::super) fn judge(image: &[u8]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("umvu-ext2-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::write(&path, image).expect("a file");
        let check = "PATH=$PATH:/sbin:/usr/sbin exec e2fsck -fn \"$0\"";
        let checked = Command::new("bash").arg("-c").arg(check).arg(&path).output();
        let checked = checked.expect("bash(1) runs");
        std::fs::remove_file(path).expect("the file");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }

    /// Small images of each kind with files of each kind, made once.
    pub(in super::super) fn images() -> &'static [Vec<u8>] {
        static IMAGES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        IMAGES.get_or_init(|| {
            let script = r#"
                export PATH=$PATH:/sbin:/usr/sbin; W=$(mktemp -d); cd $W; mkdir -p t/d/e
                seq 20000 > t/seq; ln -s seq t/d/l; ln -s $(printf '%0200d' 1) t/d/long; mkfifo t/p
                printf x | dd of=t/hole bs=1 seek=700000 status=none; for i in $(seq 90); do echo $i > t/d/e/f$i; done
                truncate -s 2M i; mkfs.$1 -q -d t -O $2 i >/dev/null 2>&1; cat i; rm -r $W"#;
            let kinds = [
                ("ext2", "none"),
                ("ext4", "^has_journal"),
                ("ext4", "^has_journal,^metadata_csum,inline_data"),
            ];
            let make = |(kind, features)| {
                let made = Command::new("bash").args(["-c", script, "make", kind, features]).output();
                made.expect("bash(1) runs").stdout
            };
            kinds.into_iter().map(make).collect()
        })
    }

    #[test]
    fn a_whole_image_is_whole_afterwards() {
        let library = library().expect("libext2fs2 is there");
        for bytes in images() {
            assert_eq!(bytes.len(), 2 << 20, "mkfs has made it");
            assert_eq!(&work(library, bytes.clone(), Mode::Sealed), bytes, "only read");
            let after = work(library, bytes.clone(), Mode::Open);
            assert_ne!(&after, bytes);
            judge(&after);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bits_that_flip_and_ends_that_are_cut_do_no_harm(
            which in 0..3_usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
            early in prop::collection::vec((0..300_000_usize, any::<u8>()), 0..40),
            cut in prop::option::weighted(0.1, 0..2_000_000_usize),
        ) {
            let mut bytes = images()[which].clone();
            for (at, value) in flips {
                bytes[at.index(2 << 20)] ^= value;
            }
            // Where the structures are; not the magic number.
            for (at, value) in early.into_iter().filter(|(at, _)| !(1024..1100).contains(at)) {
                bytes[at] = value;
            }
            bytes.truncate(cut.unwrap_or(usize::MAX));
            image(&bytes);
        }
    }
}
