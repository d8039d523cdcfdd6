//! Netlink messages to every protocol of a stack.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<netlink_emu::hostile::Message>, Vec<u8>)| netlink_emu::hostile::netlink(&input.0, &input.1));
