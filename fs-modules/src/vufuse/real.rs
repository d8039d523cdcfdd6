//! `vufusereal`: a directory, or a file, of the tree once more at another place.

use std::sync::Arc;

use umvu_abi::{
    files::{FileSystem, Outside},
    module::{MountError, MountRequest},
};

use crate::options::Options;

/// Mounts; the source is looked up as the caller sees it. Errors: those of stat(2) by its name.
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    // What the reference asks for to write; here mount(2) alone decides that.
    options.flag("rw+");
    options.finish()?;
    let source = outside.files(request.source.as_bytes());
    let named = |errno| MountError::new(errno, format!("{}: {errno}", request.source));
    Ok(source.map_err(named)?.files)
}
