//! Whether the license of a plugin lets this program load it: the rules of libioth.
//!
//! libioth compares SPDX identifiers of the plugin and of the program. This program is under
//! `MIT OR Apache-2.0`. Whoever has it may use it under MIT, which lets it be combined with, and
//! conveyed under, any version of the GPL; so it passes wherever libioth lets a program of one of
//! the GPL identifiers pass. What libioth does not know, it denies, and so is it here.

/// The license of this program.
pub(crate) const OWN: &str = "MIT OR Apache-2.0";

/// Whether a plugin with this license, or without one, may be loaded.
pub(crate) fn permits(plugin: Option<&str>) -> bool {
    let Some(license) = plugin else { return true };
    let license = license.strip_prefix("SPDX-License-Identifier: ").unwrap_or(license);
    let lesser = license.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("LGPL-"));
    lesser || PASSES.iter().any(|known| known.eq_ignore_ascii_case(license))
}

/// What passes beside the LGPL: our own license and its two halves, and what MIT may be combined
/// with.
const PASSES: [&str; 8] = [
    OWN,
    "MIT",
    "Apache-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "GPL-2.0-only OR GPL-3.0-only",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licenses_pass_as_libioth_rules() {
        for good in [
            None,
            Some("SPDX-License-Identifier: LGPL-2.1-or-later"),
            Some("lgpl-3.0-only"),
            Some("MIT OR Apache-2.0"),
            Some("SPDX-License-Identifier: GPL-2.0-or-later"),
            Some("GPL-3.0-only"),
        ] {
            assert!(permits(good), "{good:?}");
        }
        for bad in ["", "AGPL-3.0-only", "Proprietary", "GPL-2.0", "SPDX-License-Identifier:MIT"] {
            assert!(!permits(Some(bad)), "{bad}");
        }
    }
}
