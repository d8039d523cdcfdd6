//! `vufs`: patchwork of the tree of files. A directory or file is shown at another place, alone or laid
//! over what was there.
//!
//! `bind` (or `move`, the same thing) shows the source in place of the mount point. `merge` shows both, the
//! source first, and changes what was at the mount point. `cow` shows both and puts all changes into the
//! source: copies of what is changed, and whiteouts for what is taken away. `mincow` changes what was at
//! the mount point where that is permitted, else as `cow`.
//!
//! [`overlay`] finds what is in both layers, [`copy`], [`change`] and [`names`] change it, [`meta`] keeps
//! what the host cannot hold: whiteouts, owners, modes, devices ([`format`]). A layer is any part of the
//! tree ([`layer`]), real or virtual. Who has mounted may change in the copies what belongs to others; what
//! he may not read stays unreadable, and begins empty where the virtual administrator writes to it.
//!
//! Lock order: the order of changes, then the table, then one file. Layers are asked with at most the
//! first held.

mod change;
mod copy;
mod format;
mod item;
mod layer;
mod meta;
mod names;
mod overlay;
mod system;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{FileSystem, Outside, Source},
    module::{Module, MountError, MountRequest, Mounted},
};

use self::{
    layer::Held,
    overlay::{Manner, Mode, Overlay},
};
use crate::options::Options;

/// The module.
#[derive(Debug)]
pub struct Vufs;

/// What the options of a mount say.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// None shows the source alone.
    mode: Option<Mode>,
    copies_looks: bool,
    read_only: bool,
    exceptions: Vec<Vec<u8>>,
}

impl Module for Vufs {
    fn name(&self) -> &'static str {
        "vufs"
    }

    fn description(&self) -> &'static str {
        "vu filesystem patchworking"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &["vufs"]
    }

    fn exceptions(&self, request: &MountRequest) -> Vec<Vec<u8>> {
        let wanted = Wanted::of(request);
        let mut exceptions = wanted.map_or_else(|_| Vec::new(), |wanted| wanted.exceptions);
        if request.target == "/" {
            // What the kernel tells about the processes has no copy.
            exceptions.extend([b"/proc".to_vec(), b"/sys".to_vec()]);
        }
        exceptions
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        if request.fstype != "vufs" {
            let reason = format!("{}: no such file system (there is: vufs)", request.fstype);
            return Err(MountError::new(Errno::ENODEV, reason));
        }
        let wanted = Wanted::of(request)?;
        let source = files(outside, &request.source)?;
        let Some(mode) = wanted.mode else {
            return Ok(Mounted::FileSystem(bound(request, outside, source)?));
        };
        let target = files(outside, &request.target)?;
        let manner = Manner {
            mode,
            copies_looks: wanted.copies_looks,
            read_only: wanted.read_only || request.flags & libc::MS_RDONLY != 0,
            owner: outside.caller().uid,
        };
        let [upper, lower] =
            [&source, &target].map(|layer| Held::root(Arc::clone(&layer.files), layer.root));
        let us = umvu_abi::files::Caller::root();
        for (layer, path) in [(&upper, &request.source), (&lower, &request.target)] {
            if !layer.looks(&us)?.is_directory() {
                let reason = format!("{path}: not a directory (a file can only be bound)");
                return Err(MountError::new(Errno::ENOTDIR, reason));
            }
        }
        let overlay = Overlay::new(manner, outside, &upper, &lower)
            .map_err(|errno| MountError::new(errno, format!("{}/.-: {errno}", request.source)))?;
        Ok(Mounted::FileSystem(Arc::new(overlay)))
    }
}

fn files(outside: &Arc<dyn Outside>, path: &str) -> Result<Source, MountError> {
    let found = outside.files(path.as_bytes());
    found.map_err(|errno| MountError::new(errno, format!("{path}: {errno}")))
}

/// The source alone. Errors: `ENOTDIR` for a file over a directory, and the other way round.
fn bound(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
    source: Source,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let us = umvu_abi::files::Caller::root();
    let is_directory = |source: &Source| {
        source.files.getattr(&us, source.root, None).map(|looks| looks.is_directory())
    };
    // A mount point need not exist.
    if let Ok(target) = outside.files(request.target.as_bytes())
        && is_directory(&target)? != is_directory(&source)?
    {
        let reason = format!(
            "{} and {}: one is a directory and the other is not",
            request.source, request.target
        );
        return Err(MountError::new(Errno::ENOTDIR, reason));
    }
    Ok(source.files)
}

impl Wanted {
    fn of(request: &MountRequest) -> Result<Self, MountError> {
        let mut options = Options::of(request);
        let modes = [
            ("bind", None),
            ("move", None),
            ("merge", Some(Mode::Merge)),
            ("cow", Some(Mode::Cow)),
            ("mincow", Some(Mode::MinCow)),
        ];
        let named: Vec<_> = modes.into_iter().filter(|(name, _)| options.flag(name)).collect();
        let exceptions = options.values("except");
        let wanted = Self {
            mode: named.first().and_then(|(_, mode)| *mode),
            copies_looks: !options.flag("nochcopy"),
            read_only: options.flag("ro") && !options.flag("rw"),
            exceptions: exceptions.iter().map(|path| absolute(path)).collect(),
        };
        let refuse = |reason: &str| Err(MountError::new(Errno::EINVAL, format!("vufs: {reason}")));
        if let [(first, _), (second, _), ..] = named.as_slice() {
            return refuse(&format!(
                "{first} and {second}: only one of bind, move, merge, cow and mincow"
            ));
        }
        if exceptions.iter().any(|path| path.split('/').all(|name| matches!(name, "" | "."))) {
            return refuse("except= needs a path below the mount point");
        }
        if exceptions.iter().any(|path| path.split('/').any(|name| name == "..")) {
            return refuse("except= takes no `..`");
        }
        if options.flag("except") {
            return refuse("except needs a path: except=PATH");
        }
        if wanted.mode.is_none() && wanted.read_only {
            return refuse("ro: for a bind mount as a flag only (vumount -r)");
        }
        options.finish()?;
        Ok(wanted)
    }
}

/// A path in normal form, with a slash in front.
fn absolute(path: &str) -> Vec<u8> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.flat_map(|name| [b"/", name.as_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(data: &str) -> Result<Wanted, MountError> {
        let text = |text: &str| text.to_owned();
        Wanted::of(&MountRequest {
            source: text("/tmp/a"),
            target: text("/tmp/b"),
            fstype: text("vufs"),
            flags: 0,
            data: text(data),
            environment: Vec::new(),
            view: String::new(),
        })
    }

    #[test]
    fn words_choose_one_mode() {
        let mode = |data: &str| wanted(data).expect("known words").mode;
        assert_eq!([mode(""), mode("bind"), mode("move")], [None; 3]);
        assert_eq!(mode("merge"), Some(Mode::Merge));
        assert_eq!(mode("mincow,except=/x"), Some(Mode::MinCow));
        let both = wanted("cow,merge").expect_err("two modes");
        assert_eq!(both.errno, Errno::EINVAL);
        assert!(both.reason.contains("merge and cow"), "{}", both.reason);
    }

    #[test]
    fn exceptions_are_paths_below_the_mount_point() {
        let found = wanted("cow,except=proc,except=/a//b/").expect("known words");
        assert_eq!(found.exceptions, [b"/proc".to_vec(), b"/a/b".to_vec()]);
        for wrong in ["except", "except=", "except=/", "except=/a/../b", "sparse", "cow=1"] {
            let error = wanted(wrong).expect_err(wrong);
            assert_eq!(error.errno, Errno::EINVAL, "{wrong}");
            assert!(error.reason.starts_with("vufs: "), "{wrong}: {}", error.reason);
        }
    }
}
