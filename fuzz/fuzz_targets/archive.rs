//! Archives.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| umvu_fs_modules::vufuse::archive::hostile::image(bytes));
