//! TCP segments to both ends of a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|segments: Vec<umvu_stacks::hostile::Segment>| umvu_stacks::hostile::segments(&segments));
