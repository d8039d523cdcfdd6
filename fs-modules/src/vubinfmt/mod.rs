//! `vubinfmt`: programs in formats that the kernel does not know, as binfmt_misc has them.
//!
//! Each mount is a folder with `register`, `status` and a file for each format. Its formats hold for
//! all programs, or for those below the path that is its source, as long as it is mounted.

mod entry;
mod fixed;
mod folder;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use umvu_abi::{
    files::Outside,
    module::{ExecFormats, Interpreter, Module, MountError, MountRequest, Mounted},
};

use self::folder::Folder;

/// The module.
#[derive(Debug, Default)]
pub struct Vubinfmt {
    formats: Arc<Formats>,
}

/// What is mounted, oldest first.
#[derive(Debug, Default)]
struct Formats(Mutex<Vec<Weak<Folder>>>);

impl ExecFormats for Formats {
    fn interpreter(&self, path: &[u8], name: &[u8], head: &[u8]) -> Option<Interpreter> {
        let folders: Vec<Arc<Folder>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        folders.iter().rev().find_map(|folder| folder.interpreter(path, name, head))
    }
}

impl Module for Vubinfmt {
    fn name(&self) -> &'static str {
        "vubinfmt"
    }

    fn description(&self) -> &'static str {
        "programs in other formats, as binfmt_misc"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &["vubinfmt"]
    }

    fn exec_formats(&self) -> Option<Arc<dyn ExecFormats>> {
        Some(Arc::clone(&self.formats) as Arc<dyn ExecFormats>)
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        let folder = Arc::new(Folder::new(&request.source, outside));
        let mut mounted = self.formats.0.lock();
        mounted.retain(|other| other.strong_count() > 0);
        mounted.push(Arc::downgrade(&folder));
        Ok(Mounted::Tree(folder))
    }
}
