//! An image of ext2, ext3 or ext4.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| umvu_fs_modules::vufuse::ext2::hostile::image(bytes));
