//! Frames through a switch and a hub.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frames: Vec<vdeplug::hostile::Unfinished>| vdeplug::hostile::forward(&frames));
