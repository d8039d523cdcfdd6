//! The links of processes in procfs: they lead to the file that is open, mapped or executed, whatever
//! has become of the path that their text tells (proc(5)).

use std::sync::Arc;

use umvu_abi::Errno;

use super::{
    super::lexical::{components, number, pop},
    Resolver, Spot, Step, Trail, World,
};
use crate::files::Inode;

/// Where such a link leads.
#[derive(Debug)]
pub(crate) enum Magic {
    /// To a file of a mounted file system.
    Inode(Arc<Inode>),
    /// To a directory at this path of the view.
    Directory(Vec<u8>),
    /// To a file of the host, which is found at this path.
    File(Vec<u8>),
    /// To what the kernel alone finds: it has no path any more.
    Nameless,
}

/// Whether a path is below the directory of a process in procfs.
pub(super) fn is_magic(path: &[u8]) -> bool {
    let process = path.strip_prefix(b"/proc/").and_then(|rest| components(rest).next());
    process.and_then(number).is_some()
}

impl<W: World> Resolver<'_, W> {
    /// What a link of a process is on the way of a path; `target` is its text.
    pub(super) fn follow_magic(&self, path: &[u8], target: Vec<u8>) -> Result<Step, Errno> {
        // Anonymous files (`pipe:[1]`) have no path to go on with: the kernel knows.
        if !target.starts_with(b"/") {
            return Ok(Step::Onward);
        }
        Ok(match self.world.magic(path, target)? {
            Magic::Inode(inode) => Step::Jump(self.trail_of(&inode)),
            Magic::Directory(path) => Step::Jump(self.start(&path)?),
            Magic::File(path) if !self.territory.concerns(&path) => Step::Jump(self.start(&path)?),
            Magic::File(_) | Magic::Nameless => Step::Onward,
        })
    }

    /// A trail that has got to a file, also one that no path leads to any more.
    pub(super) fn trail_of(&self, inode: &Arc<Inode>) -> Trail {
        let mut here = inode.files.target();
        let depth = components(&here).count();
        pop(&mut here);
        let mut trail = match self.start(&here) {
            Ok(trail) if depth > 0 => trail,
            _ => Trail { here: Vec::new(), spots: vec![Spot::Other; depth] },
        };
        let lineage = inode.lineage();
        trail.here = inode.path();
        trail.spots.extend(lineage.into_iter().map(Spot::Inode));
        trail
    }
}
