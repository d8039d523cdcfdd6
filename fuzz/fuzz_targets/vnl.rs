//! Network locators: no text panics, and what parses prints as something that parses alike.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| vdeplug::hostile::locator(text));
