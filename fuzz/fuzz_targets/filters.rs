//! Frames through VLANs and an encrypted network.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frames: Vec<Vec<u8>>| vdeplug::hostile::filters(&frames));
