//! Frames with work left to do: completing one never panics.
#![no_main]

use std::num::NonZeroU16;

use libfuzzer_sys::fuzz_target;
use vdeplug::{Frame, Offload};

fuzz_target!(|input: (bool, u16, Vec<u8>)| {
    let (checksum_pending, segment, bytes) = input;
    let offload = Offload { checksum_pending, segment_size: NonZeroU16::new(segment) };
    Frame { bytes, offload }.complete(&mut |_frame| {});
});
