//! Archives with bytes from anywhere: nothing may panic, hang or take memory without bound.

use std::sync::Arc;

use umvu_abi::files::Time;

use super::{Archive, tree::Defaults};
use crate::vufuse::walk::{Bytes, walk};

/// How much may be unpacked.
const ROOM: u64 = 4 << 20;

fn opened(bytes: &[u8]) -> Option<Archive> {
    let defaults = Defaults { owner: [0, 0], time: Time::default() };
    Archive::new(Arc::new(Bytes(bytes.to_vec())), defaults, ROOM).ok()
}

/// Mounts an archive and looks at all that is in it, within bounds.
pub fn image(bytes: &[u8]) {
    if let Some(files) = opened(bytes) {
        walk(&files);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vufuse::walk::{damaged, made};

    /// How archives are made; those of which few have the program may be missing.
    const BY: &[&str] = &[
        "tar cf image --format=v7 src",
        "tar cf image --format=ustar src",
        "tar cf image --format=gnu --sparse src",
        "tar cf image --format=pax --xattrs --sparse src",
        "tar czf image src",
        "tar cjf image src",
        "tar cJf image src",
        "tar c --zstd -f image src",
        "tar c --lzip -f image src",
        "tar c --lzma -f image src",
        "tar c src | lz4 > image",
        "find src | cpio -o -H newc > image",
        "find src | cpio -o -H odc > image",
        "cp src/d/e/file-* . && ar rcs image file-*",
        "zip -ry image src -x '*fifo' && mv image.zip image",
        "zip -0ry image src -x '*fifo' && mv image.zip image",
        "rm src/d/e/fifo; 7z a -snl image src && mv image.7z image",
        "rm src/d/e/fifo; 7z a -m0=ppmd image src && mv image.7z image",
    ];

    /// Archives are read as a whole when nothing is wrong; else the trials below would show nothing.
    #[test]
    fn an_archive_is_walked_through() {
        let mut tried = 0;
        for by in BY {
            let Some(bytes) = made(by) else { continue };
            let files = opened(&bytes).unwrap_or_else(|| panic!("{by}"));
            assert!(walk(&files) >= 40 && files.remark.is_none(), "{by}: {:?}", files.remark);
            tried += 1;
        }
        assert!(tried >= 8, "{tried}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]
        #[test]
        fn a_damaged_archive_is_survived(
            damage in damaged(),
            by in prop::sample::select(BY),
        ) {
            if let Some(mut bytes) = made(by) {
                damage.apply(&mut bytes);
                image(&bytes);
            }
        }
    }
}
