//! Images with bytes from anywhere: nothing may panic, hang or take memory without bound.

use std::sync::Arc;

use super::Squash;
use crate::vufuse::walk::{Bytes, walk};

/// Mounts an image and looks at all that is in it, within bounds.
pub fn image(bytes: &[u8]) {
    if let Ok(files) = Squash::new(Arc::new(Bytes(bytes.to_vec())), 0) {
        walk(&files);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vufuse::walk::{damaged, made};

    fn image_by(compressor: &str) -> Option<Vec<u8>> {
        made(&format!("mksquashfs src image -quiet -no-progress -comp {compressor} -b 4096"))
    }

    /// Images are read as a whole when nothing is wrong; else the trials below would show nothing.
    #[test]
    fn an_image_is_walked_through() {
        for compressor in ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"] {
            let Some(bytes) = image_by(compressor) else { return };
            let files = Squash::new(Arc::new(Bytes(bytes)), 0).expect("an image");
            assert!(walk(&files) > 40, "{compressor}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_image_is_survived(
            damage in damaged(),
            compressor in prop::sample::select(vec!["gzip", "lzma", "lzo", "xz", "lz4", "zstd"]),
        ) {
            if let Some(mut bytes) = image_by(compressor) {
                damage.apply(&mut bytes);
                image(&bytes);
            }
        }
    }
}
