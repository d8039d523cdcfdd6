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
    use umvu_abi::files::{Caller, FileSystem, Handle, Node};

    use super::*;
    use crate::vufuse::walk::{damaged, made};

    /// Images are read as a whole when nothing is wrong; else the trials below would show nothing.
    #[test]
    fn an_image_is_walked_through() {
        for options in ["-R", "-J", "-R -J", "-l"] {
            let Some(bytes) = made(&format!("genisoimage {options} -o image src")) else { return };
            let files = Iso::new(Arc::new(Bytes(bytes))).expect("an image");
            assert!(walk(&files) > 40, "{options}");
        }
    }

    #[test]
    fn a_file_of_several_records_is_one() {
        let command = "mkdir s; yes a | head -c 4096 > s/a; yes b | head -c 5000 > s/b; genisoimage -o image s";
        let Some(mut bytes) = made(command) else { return };
        let record = bytes.windows(4).position(|name| name == b"A.;1").expect("its name") - 33;
        // More of the file is in the next record.
        bytes[record + 25] |= 0x80;
        let files = Iso::new(Arc::new(Bytes(bytes))).expect("an image");
        let file = files.lookup(&Caller::root(), Node::ROOT, b"a").expect("the file");
        assert_eq!(file.attributes.size, 9096);
        assert_eq!(files.directory(Node::ROOT).expect("names").len(), 1);
        let mut buffer = [0; 10_000];
        assert_eq!(files.read(file.node, Handle(0), 0, &mut buffer), Ok(9096));
        assert_eq!(&buffer[4092..4100], b"a\na\nb\nb\n");
        assert_eq!(files.read(file.node, Handle(0), 4095, &mut buffer[..3]), Ok(3));
        assert_eq!(&buffer[..3], b"\nb\n");
    }

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
