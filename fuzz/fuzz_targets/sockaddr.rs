//! Socket addresses: no bytes panic, and what decodes encodes to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umvu_abi::SockAddr;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(addr) = SockAddr::decode(bytes) {
        assert_eq!(SockAddr::decode(&addr.encode()), Ok(addr));
    }
});
