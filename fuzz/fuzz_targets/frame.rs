//! Frames with work left to do: completing one never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: vdeplug::hostile::Unfinished| vdeplug::hostile::complete(frame));
