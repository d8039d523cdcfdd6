//! Types of file systems that the kernel has and a module too: mount(8) finds out what is on a virtual disk, and
//! asks for it by the kernel's name.

use std::{fs, os::unix::fs::FileTypeExt};

use nix::unistd::Uid;
use umvu_abi::module::MountRequest;
use umvu_tracer::api::Call;

use super::mount::PATH_LIMIT;
use crate::{
    Core,
    files::flags::Flags,
    guest,
    paths::{
        locate::{self, os_path},
        resolve::{Last, Place},
    },
    view::Shown,
};

/// The type of a module in place of the kernel's.
pub(super) struct Native {
    fstype: &'static str,
    writes: Option<&'static str>,
}

/// The type of a module for a mount that the kernel would not or could not make: of a virtual disk, of an
/// image, and any of an ordinary user.
pub(super) fn of(core: &Core, call: &Call, fstype: &str) -> Option<Native> {
    let (fstype, writes) = core.view.native_type(fstype)?;
    let source = guest::read_optional_text(call, 0, PATH_LIMIT).ok()?;
    let source = core.absolute(call, source.as_bytes()).ok()?;
    let is_ours = match locate::resolve(core, call.tid(), source.as_bytes(), Last::Follow).ok()? {
        Place::Inode(_) => true,
        Place::Real(path) => {
            let found = fs::metadata(os_path(&path)).ok()?;
            !(Uid::effective().is_root() && found.file_type().is_block_device())
        }
        _ => false,
    };
    is_ours.then_some(Native { fstype, writes })
}

impl Native {
    /// The request that the module gets, and what is shown of the mount.
    pub(super) fn instead_of(self, request: MountRequest) -> (MountRequest, Option<Shown>) {
        let shown = Shown {
            fstype: request.fstype,
            source: request.source.clone(),
            root: "/".to_owned(),
            options: request.data.clone(),
            dev: None,
            flags: Flags::of(request.flags),
            files: None,
        };
        let writes = self.writes.filter(|_| request.flags & libc::MS_RDONLY == 0);
        let words = [request.data.as_str(), writes.unwrap_or_default()];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let request =
            MountRequest { fstype: self.fstype.to_owned(), data: words.join(","), ..request };
        (request, Some(shown))
    }
}
