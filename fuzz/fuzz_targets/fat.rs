//! An image of FAT or exFAT.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| umvu_fs_modules::vufuse::fat::hostile::image(bytes));
