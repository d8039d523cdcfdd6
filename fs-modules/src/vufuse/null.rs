//! `vufusenull`: a file system without files, the smallest that there is.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, DirEntry, Entry, FileSystem, Handle, Node, Opened, StatFs, Time, Traits,
    },
    module::{MountError, MountRequest},
};

use crate::options::Options;

/// Mounts; the source does not matter. Errors: `EINVAL` for options.
pub fn mount(request: &MountRequest) -> Result<Arc<dyn FileSystem>, MountError> {
    Options::of(request).finish()?;
    Ok(Arc::new(Null { made: Time::now() }))
}

/// The file system.
#[derive(Debug)]
struct Null {
    made: Time,
}

impl FileSystem for Null {
    fn traits(&self) -> Traits {
        Traits { read_only: true, ..Traits::default() }
    }

    fn lookup(&self, _: &Caller, _: Node, _: &[u8]) -> Result<Entry, Errno> {
        Err(Errno::ENOENT)
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        let (mode, time) = (libc::S_IFDIR | 0o755, self.made);
        let times = Attributes { atime: time, mtime: time, ctime: time, ..Attributes::default() };
        Ok(Attributes { ino: node.0, mode, nlink: 2, ..times })
    }

    fn open(&self, _: &Caller, _: Node, _: i32) -> Result<Opened, Errno> {
        Err(Errno::EISDIR)
    }

    fn readdir(
        &self,
        _: &Caller,
        _: Node,
        _: Handle,
        _: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        Ok(())
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        Ok(StatFs { block_size: 4096, name_length: 255, ..StatFs::default() })
    }
}
