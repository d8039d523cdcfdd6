//! Images with bytes from anywhere: nothing may panic, hang or take memory without bound.

use std::sync::Arc;

use super::Iso;
use crate::vufuse::walk::{Bytes, walk};

/// Mounts an image and looks at all that is in it, within bounds.
pub fn image(bytes: &[u8]) {
    if let Ok(files) = Iso::new(Arc::new(Bytes(bytes.to_vec()))) {
        walk(&files);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vufuse::walk::{damaged, made};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_image_is_survived(
            mut damage in damaged(),
            options in prop::sample::select(vec!["-R", "-J", "-R -J", "-l"]),
        ) {
            damage.begins_at(16 * 2048);
            if let Some(mut bytes) = made(&format!("genisoimage {options} -o image src")) {
                damage.apply(&mut bytes);
                image(&bytes);
            }
        }
    }
}
