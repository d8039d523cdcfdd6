//! `vufuse`: virtual file systems that are built in. Each has a folder of its own.

pub mod mem;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::Outside,
    module::{Module, MountError, MountRequest, Mounted},
};

/// The module.
#[derive(Debug)]
pub struct Vufuse;

/// The file-system types, for the messages.
const TYPES: &[&str] = &["vufusemem"];

impl Module for Vufuse {
    fn name(&self) -> &'static str {
        "vufuse"
    }

    fn description(&self) -> &'static str {
        "vu virtual file systems (user level FUSE)"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        TYPES
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        _outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        match request.fstype.as_str() {
            "vufusemem" => mem::mount(request).map(Mounted::FileSystem),
            other => {
                let reason =
                    format!("{other}: no such file system (there are: {})", TYPES.join(" "));
                Err(MountError::new(Errno::ENODEV, reason))
            }
        }
    }
}
