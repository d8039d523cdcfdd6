//! Shared memory where a client of a switch writes what it likes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|writes: Vec<(u16, u64)>| vdeplug::hostile::ring(&writes));
