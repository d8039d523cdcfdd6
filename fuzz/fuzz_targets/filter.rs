//! Programs of classic BPF, and packets that they look at.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| umvu_stacks::hostile::filter(&input.0, &input.1));
