//! `unrealuidgid` and `unrealcap`: virtual ids and capabilities.
//!
//! They mount nothing: a view is changed by their being loaded. The core keeps the ids and sets of
//! each thread, and the owners of files.

use umvu_abi::module::{Facet, Module};

/// Virtual user and group ids: what fakeroot(1) does, and su(1) within the view (`vusu`).
#[derive(Debug)]
pub struct UnrealUidGid;

impl Module for UnrealUidGid {
    fn name(&self) -> &'static str {
        "unrealuidgid"
    }

    fn description(&self) -> &'static str {
        "virtual user and group ids, and owners of files (vusu)"
    }

    fn facets(&self) -> &'static [Facet] {
        &[Facet::Ids]
    }
}

/// Virtual capabilities, which anybody may have.
#[derive(Debug)]
pub struct UnrealCap;

impl Module for UnrealCap {
    fn name(&self) -> &'static str {
        "unrealcap"
    }

    fn description(&self) -> &'static str {
        "virtual capabilities"
    }

    fn facets(&self) -> &'static [Facet] {
        &[Facet::Capabilities]
    }
}
