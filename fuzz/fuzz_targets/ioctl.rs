//! Interface requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|calls: Vec<(u8, Vec<u8>)>| netlink_emu::hostile::ioctls(&calls));
