//! `mountreal`: a place of the tree of files once more, at another one (a bind mount).

use std::sync::Arc;

use umvu_abi::{
    files::Outside,
    module::{Module, MountError, MountRequest, Mounted},
};

use crate::options::Options;

/// The module.
#[derive(Debug)]
pub struct MountReal;

impl Module for MountReal {
    fn name(&self) -> &'static str {
        "mountreal"
    }

    fn description(&self) -> &'static str {
        "vu bind mount"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &["mountreal"]
    }

    fn bind_type(&self) -> Option<&'static str> {
        Some("mountreal")
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        Options::of(request).finish()?;
        let source = outside
            .files(request.source.as_bytes())
            .map_err(|errno| MountError::new(errno, format!("{}: {errno}", request.source)))?;
        Ok(Mounted::FileSystem(source.files))
    }
}
