//! `vufuse`: virtual file systems that are built in. Each has a folder of its own and a line in
//! [`SUBMODULES`]; those on an image begin with [`image`].

pub mod archive;
pub mod ext2;
pub mod fat;
pub mod image;
pub mod iso;
pub mod lru;
pub mod mem;
pub mod null;
pub mod read_only;
pub mod real;
pub mod squash;
#[cfg(any(test, fuzzing))]
pub mod walk;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{FileSystem, Outside},
    module::{Module, MountError, MountRequest, Mounted},
};

/// The module.
#[derive(Debug)]
pub struct Vufuse;

/// Makes a file system by a mount.
type Mount = fn(&MountRequest, &Arc<dyn Outside>) -> Result<Arc<dyn FileSystem>, MountError>;

/// The file-system types, in the order of the messages.
const SUBMODULES: &[(&str, Mount)] = &[
    ("vufusemem", |request, _| mem::mount(request)),
    ("vufusearchive", archive::mount),
    ("vufuseext2", ext2::mount),
    ("vufusefatfs", fat::mount),
    ("vufuseiso", iso::mount),
    ("vufusenull", |request, _| null::mount(request)),
    ("vufusereal", real::mount),
    ("vufusesquash", squash::mount),
];

/// Their names.
const TYPES: [&str; SUBMODULES.len()] = {
    let mut names = [""; SUBMODULES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SUBMODULES[at].0;
        at += 1;
    }
    names
};

impl Module for Vufuse {
    fn name(&self) -> &'static str {
        "vufuse"
    }

    fn description(&self) -> &'static str {
        "vu virtual file systems (user level FUSE)"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &TYPES
    }

    fn native_type(&self, fstype: &str) -> Option<(&'static str, Option<&'static str>)> {
        match fstype {
            "ext2" | "ext3" | "ext4" => Some(("vufuseext2", Some("rw+"))),
            "vfat" | "msdos" | "exfat" => Some(("vufusefatfs", Some("rw+"))),
            "iso9660" => Some(("vufuseiso", None)),
            "squashfs" => Some(("vufusesquash", None)),
            _ => None,
        }
    }

    fn bind_type(&self) -> Option<&'static str> {
        Some("vufusereal")
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        let found = SUBMODULES.iter().find(|(fstype, _)| *fstype == request.fstype);
        let Some((_, mount)) = found else {
            let reason =
                format!("{}: no such file system (there are: {})", request.fstype, TYPES.join(" "));
            return Err(MountError::new(Errno::ENODEV, reason));
        };
        mount(request, outside).map(Mounted::FileSystem)
    }
}
