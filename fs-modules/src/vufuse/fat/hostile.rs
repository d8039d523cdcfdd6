//! Images with bytes from anywhere: nothing may panic, hang, take memory without bound or write outside.

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::files::{Backing, Caller, FileSystem, Handle, Node};

use super::{Fat, looks::Looks};
use crate::{
    options::Options,
    vufuse::{
        image::Access,
        walk::{Memory, walk},
    },
};

/// Mounts an image as nobody in particular.
pub(super) fn mounted(image: &Arc<Memory>, access: Access) -> Option<Fat> {
    let mut options = Options::none("vufusefatfs");
    let looks = Looks::of(&mut options, &Caller::root()).ok()?;
    Fat::open(Arc::clone(image) as Arc<dyn Backing>, access, looks, 0).ok()
}

/// Mounts an image, looks at all that is in it and changes something, within bounds.
pub fn image(bytes: &[u8]) {
    let image = Arc::new(Memory(Mutex::new(bytes.to_vec())));
    if let Some(files) = mounted(&image, Access::Read) {
        walk(&files);
    }
    let Some(files) = mounted(&image, Access::Write) else { return };
    let caller = Caller::root();
    let mut names = Vec::new();
    let _ = files.readdir(&caller, Node::ROOT, Handle(0), &mut |entry| names.push(entry.name));
    if let Ok(made) = files.mkdir(&caller, Node::ROOT, b"a new directory", 0o755) {
        let _ = files.mknod(&caller, made.node, b"file", libc::S_IFREG | 0o644, 0);
    }
    for (at, name) in names.iter().take(20).enumerate() {
        let Ok(entry) = files.lookup(&caller, Node::ROOT, name) else { continue };
        let _ = match at % 3 {
            0 => files.write(entry.node, Handle(0), entry.attributes.size, &[7; 5000]).map(|_| ()),
            1 => files.unlink(&caller, Node::ROOT, name),
            _ => files.rename(&caller, (Node::ROOT, name), (Node::ROOT, b"moved"), 0),
        };
    }
    files.stop();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vufuse::walk::{damaged, made};

    /// The kinds, with a tree in them where there is a program to bring it there.
    const KINDS: &[&str] =
        &["-F12 -C image 2048", "-F16 -C image 16384", "-F32 -s1 -C image 34000"];

    fn image_by(kind: &str) -> Option<Vec<u8>> {
        made(&format!("rm src/d/link src/d/e/fifo; mkfs.vfat {kind}; mcopy -s -i image src ::"))
    }

    /// Images are read as a whole when nothing is wrong; else the trials below would show nothing.
    #[test]
    fn an_image_is_walked_through() {
        for kind in KINDS {
            let Some(bytes) = image_by(kind) else { return };
            let image = Arc::new(Memory(Mutex::new(bytes)));
            let files = mounted(&image, Access::Read).expect("an image");
            assert!(walk(&files) > 40, "{kind}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn a_damaged_image_is_survived(
            mut damage in damaged(),
            kind in prop::sample::select(KINDS),
            begin in prop::sample::select(vec![0, 512, 32 * 512]),
        ) {
            damage.begins_at(begin);
            if let Some(mut bytes) = image_by(kind) {
                damage.apply(&mut bytes);
                image(&bytes);
            }
        }

        #[test]
        fn a_damaged_image_of_exfat_is_survived(
            mut damage in damaged(),
            begin in prop::sample::select(vec![0, 12 * 512, 1 << 20, 2 << 20]),
        ) {
            damage.begins_at(begin);
            if let Some(mut bytes) = made("truncate -s 8M image; mkfs.exfat image") {
                damage.apply(&mut bytes);
                image(&bytes);
            }
        }
    }
}
