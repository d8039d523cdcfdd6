//! Datagrams of a distributed switch.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, Vec<(u8, Vec<u8>)>)| vdeplug::hostile::vxlan(input.0, &input.1));
