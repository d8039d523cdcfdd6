//! Both ends of the handshake of a switch.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| vdeplug::hostile::handshake(&pieces));
