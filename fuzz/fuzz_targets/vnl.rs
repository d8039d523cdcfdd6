//! Network locators: no text panics, and what parses prints as something that parses alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdeplug::Vnl;

fuzz_target!(|text: &str| {
    if let Ok(locator) = text.parse::<Vnl>() {
        let _ = locator.to_string().parse::<Vnl>();
    }
});
