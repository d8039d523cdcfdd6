//! Control messages of sendmsg(2).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| umvu_core::hostile::control(&input.1, usize::from(input.0)));
