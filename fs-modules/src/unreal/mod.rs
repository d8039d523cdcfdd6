//! `unreal`: the whole tree of files again in `/unreal`, and again in `/unreal/unreal`.
//!
//! It is there as soon as the module is loaded. A program that runs there must not see a difference:
//! that is what the module is for.

use std::sync::Arc;

use umvu_abi::{
    files::Outside,
    module::{Module, MountError, MountRequest, Mounted, Standing},
};

const ONCE: Standing = Standing { fstype: "unreal", source: "/", target: "/unreal" };

/// The module.
#[derive(Debug)]
pub struct Unreal;

impl Module for Unreal {
    fn name(&self) -> &'static str {
        "unreal"
    }

    fn description(&self) -> &'static str {
        "/unreal is a view of the whole tree of files, and so is /unreal/unreal"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &["unreal"]
    }

    // The second covers the first, and shows it in what it shows.
    fn standing(&self) -> &'static [Standing] {
        &[ONCE, ONCE]
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        let source = outside.files(request.source.as_bytes())?;
        Ok(Mounted::FileSystem(source.files))
    }
}
