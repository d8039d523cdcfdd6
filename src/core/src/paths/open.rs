//! open(2), openat(2), openat2(2), creat(2).

use std::{os::fd::OwnedFd, path::PathBuf};

use nix::fcntl::OFlag;
use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, FdReply, SlowHandler, Trap, Watch};

use super::{
    attributes::{self, Caller, Ids},
    content, host, listing,
    locate::{self, At, Target, locate},
    open_inode,
    resolve::{Last, Place, TreeEntry},
    status,
};
use crate::{
    Core,
    dispatch::{Handler, Row},
};

/// `RESOLVE_IN_ROOT`, `RESOLVE_BENEATH`: such paths stay inside a directory of the kernel's.
const CONFINED: u64 = 0x10 | 0x08;
/// The size of the first version of `struct open_how`.
const OPEN_HOW_SIZE: usize = 24;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("open", |core, call| plain(core, call, locate::path(0))),
        row("openat", |core, call| plain(core, call, locate::at(0))),
        row("openat2", openat2),
        row("creat", |core, call| {
            let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_TRUNC;
            open(core, call, locate::path(0), How { flags, mode: mode_of(call, 1) })
        }),
    ]
}

/// Opening a FIFO may wait.
const fn row(name: &'static str, handler: Handler) -> Row {
    let note = "generated files as memfds, directories with mounts";
    Row { name, trap: Trap::Always, interruptible: true, handler, note }
}

/// How to open.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) flags: OFlag,
    pub(super) mode: u32,
}

impl How {
    pub(super) fn reads(self) -> bool {
        self.flags & OFlag::O_ACCMODE != OFlag::O_WRONLY
    }

    pub(super) fn writes(self) -> bool {
        self.flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
    }

    /// Errors: `EINVAL` for flags that `O_TMPFILE` does not go with.
    fn is_sound(self) -> Result<(), Errno> {
        const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let flags = self.flags.bits();
        let is_tmpfile = flags & (libc::O_TMPFILE | libc::O_CREAT) == libc::O_TMPFILE;
        if flags & TMPFILE != 0 && !(is_tmpfile && self.writes()) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    pub(super) fn has(self, flag: OFlag) -> bool {
        self.flags.contains(flag)
    }
}

fn mode_of(call: &Call, argument: usize) -> u32 {
    call.int(argument).cast_unsigned() & 0o7777
}

fn plain(core: &Core, call: &Call, at: At) -> Action {
    let flags = OFlag::from_bits_retain(call.int(at.path + 1));
    open(core, call, at, How { flags, mode: mode_of(call, at.path + 2) })
}

fn openat2(core: &Core, call: &Call) -> Action {
    let mut how = [0; OPEN_HOW_SIZE];
    if call.syscall.args[3] < 24 || call.guest.read(call.addr(2), &mut how).is_err() {
        return Action::Forward;
    }
    let field = |n: usize| {
        let (_, from) = how.split_at(8 * n);
        from.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    let Ok(flags) = i32::try_from(field(0)) else { return Action::Forward };
    if field(2) & CONFINED != 0 {
        return Action::Forward;
    }
    let mode = u32::try_from(field(1) & 0o7777).unwrap_or(0);
    open(core, call, locate::at(0), How { flags: OFlag::from_bits_retain(flags), mode })
}

fn open(core: &Core, call: &Call, at: At, how: How) -> Action {
    if let Err(errno) = how.is_sound() {
        return errno.into();
    }
    let exclusive = how.has(OFlag::O_CREAT | OFlag::O_EXCL);
    let last = if how.has(OFlag::O_NOFOLLOW) || exclusive { Last::Keep } else { Last::Follow };
    let fd = match locate(core, call, at, last) {
        Ok(Target::Kernel) => {
            return status::open(core, call, at, how).unwrap_or(Action::Forward);
        }
        // The real directory serves as a handle as well, and stays recognisable.
        Ok(Target::Virtual(Place::Merged(_))) if how.has(OFlag::O_PATH) => return Action::Forward,
        Ok(Target::Virtual(Place::Inode(_))) if exclusive => Err(Errno::EEXIST),
        Ok(Target::Virtual(Place::Inode(found))) => {
            return open_inode::open(core, call, &found, how);
        }
        Ok(Target::Virtual(Place::Vacant(vacant))) if how.has(OFlag::O_CREAT) => {
            return open_inode::create(core, call, &vacant, how);
        }
        Ok(Target::Virtual(place)) => {
            let fd = open_place(core, call, &place, how);
            return match &place {
                Place::Entry(entry) if how.writes() && entry.tree.tells_errors() => {
                    give(fd, how).watched(Watch::Data)
                }
                _ => give(fd, how),
            };
        }
        Ok(Target::Elsewhere(path)) => return open_elsewhere(core, call, path, how),
        Err(errno) => Err(errno),
    };
    give(fd, how)
}

fn give(fd: Result<OwnedFd, Errno>, how: How) -> Action {
    match fd {
        Ok(fd) => {
            let close_on_exec = how.has(OFlag::O_CLOEXEC);
            Action::ReturnFd(FdReply { fd, close_on_exec, writes: Vec::new(), handing: None })
        }
        Err(errno) => errno.into(),
    }
}

fn open_place(core: &Core, call: &Call, place: &Place, how: How) -> Result<OwnedFd, Errno> {
    if how.has(OFlag::O_CREAT | OFlag::O_EXCL) && !matches!(place, Place::Missing(_)) {
        return Err(Errno::EEXIST);
    }
    match place {
        Place::Node(_) if how.has(OFlag::O_DIRECTORY) => Err(Errno::ENOTDIR),
        Place::Node(mount) if how.has(OFlag::O_PATH) => handle_of_node(core, call, &mount.target),
        Place::Node(_) => Err(Errno::ENXIO),
        // sysfs has no create; a name that procfs does not know is not even looked at.
        Place::Missing(path) if how.has(OFlag::O_CREAT) && path.starts_with(b"/sys") => {
            Err(Errno::EACCES)
        }
        Place::Real(_) | Place::Missing(_) | Place::Inode(_) | Place::Vacant(_) => {
            Err(Errno::ENOENT)
        }
        Place::Entry(entry) => match entry.entry {
            Entry::Directory(_) => open_directory(core, place, how),
            Entry::File { mode } => open_file(core, call, entry, mode, how),
            Entry::Link(_) => Err(Errno::ELOOP),
        },
        Place::Directory(_) | Place::Merged(_) => open_directory(core, place, how),
    }
}

fn open_directory(core: &Core, place: &Place, how: How) -> Result<OwnedFd, Errno> {
    if how.writes() || how.has(OFlag::O_CREAT) {
        return Err(Errno::EISDIR);
    }
    let stand_in = stand_in(core, place)?;
    let flags = (how.flags & (OFlag::O_PATH | OFlag::O_NONBLOCK)) | OFlag::O_DIRECTORY;
    host::open_existing(&stand_in, flags)
}

/// A node cannot be opened but by `O_PATH`; its stand-in in the directory above is a handle.
fn handle_of_node(core: &Core, call: &Call, target: &str) -> Result<OwnedFd, Errno> {
    let (parent, name) = target.rsplit_once('/').ok_or(Errno::ENXIO)?;
    let parent = locate::resolve(core, call.tid(), parent.as_bytes(), Last::Follow)?;
    let parent = stand_in(core, &parent)?;
    host::open_existing(&parent.join(name), OFlag::O_PATH | OFlag::O_NOFOLLOW)
}

/// Shows a directory as a real one. Errors: `ENOTDIR`; those of making it.
pub(super) fn stand_in(core: &Core, place: &Place) -> Result<PathBuf, Errno> {
    let listing = listing::of(place, &core.paths.territory(&core.view))?;
    core.paths.directories.show(place.path(), listing)
}

fn open_file(
    core: &Core,
    call: &Call,
    entry: &TreeEntry,
    mode: u32,
    how: How,
) -> Result<OwnedFd, Errno> {
    if how.has(OFlag::O_DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    if how.has(OFlag::O_PATH) {
        return content::handle(&core.paths.promises.keep(entry)?);
    }
    let wanted = 4 * u32::from(how.reads()) + 2 * u32::from(how.writes());
    let looks = attributes::of_entry(entry);
    if !Caller::of(call.tid(), Ids::Effective).may(&looks, wanted) {
        return Err(Errno::EACCES);
    }
    match (how.reads(), how.writes()) {
        (true, false) => {
            // Some files list sockets: those that are closed must not be among them.
            core.sockets.survey();
            let text = entry.tree.read(&entry.inner)?;
            content::readable(core.paths.promises.keep(entry)?, &text, mode, how.flags)
        }
        _ if mode & 0o222 == 0 => Err(Errno::EACCES),
        (false, _) => core.paths.writers.write_only(entry),
        (true, true) => {
            let text = entry.tree.read(&entry.inner)?;
            core.paths.writers.read_write(entry, text, mode)
        }
    }
}

/// Opens a file of the host for a guest whose directory is materialised.
fn open_elsewhere(core: &Core, call: &Call, path: Vec<u8>, how: How) -> Action {
    let tid = call.tid();
    if !how.has(OFlag::O_PATH)
        && let Ok(place @ Place::Merged(_)) = locate::resolve(core, tid, &path, Last::Keep)
    {
        return give(open_directory(core, &place, how), how);
    }
    let open = |flags| host::open(tid, &path, flags, how.mode);
    if let Some(opened) = host::at_once(&path, how.flags, open) {
        return give(opened, how);
    }
    Action::Slow(SlowHandler(Box::new(move || {
        give(host::open(tid, &path, how.flags, how.mode), how)
    })))
}
