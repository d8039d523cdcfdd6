//! Socket addresses, and the lengths that go with them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i32, Vec<u8>)| umvu_core::hostile::address(&input.1, input.0));
