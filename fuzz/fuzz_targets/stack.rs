//! Frames into a stack with sockets of every sort.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|frames: Vec<umvu_stacks::hostile::Crafted>| umvu_stacks::hostile::frames(&frames));
