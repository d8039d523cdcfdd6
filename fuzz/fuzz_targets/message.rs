//! Message headers, their vectors and control messages in guest memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|memory: &[u8]| umvu_core::hostile::message(memory));
