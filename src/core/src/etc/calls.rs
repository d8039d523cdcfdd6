//! The calls that name files, and what each does with one of a stack.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use nix::{fcntl::OFlag, sys::stat::Mode};
use umvu_abi::Errno;
use umvu_tracer::api::{Action, Call, FdReply, Instead};

use super::{Place, files::Folder, host_path, is_us, owned_name};
use crate::Core;

/// What a call does with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opens it; flags and mode follow the path.
    Open(Place),
    /// The same, with `struct open_how`.
    OpenHow(Place),
    /// creat(2).
    Create(Place),
    /// Looks at it.
    Look(Place),
    /// Changes it.
    Change(Place),
    /// Renames one to another.
    Rename(Place, Place),
}

impl Kind {
    pub(super) fn paths(self) -> Vec<Place> {
        match self {
            Self::Open(at) | Self::OpenHow(at) | Self::Create(at) => vec![at],
            Self::Look(at) | Self::Change(at) => vec![at],
            Self::Rename(from, to) => vec![from, to],
        }
    }
}

const fn path(path: usize) -> Place {
    Place { path, directory: None }
}

const fn at(directory: usize) -> Place {
    Place { path: directory + 1, directory: Some(directory) }
}

/// What a call does; None for calls that name no file.
pub(super) fn kind(number: i64) -> Option<Kind> {
    #[cfg(target_arch = "x86_64")]
    if let Some(kind) = old_kind(number) {
        return Some(kind);
    }
    Some(match number {
        libc::SYS_openat => Kind::Open(at(0)),
        libc::SYS_openat2 => Kind::OpenHow(at(0)),
        libc::SYS_newfstatat
        | libc::SYS_statx
        | libc::SYS_faccessat
        | libc::SYS_faccessat2
        | libc::SYS_readlinkat => Kind::Look(at(0)),
        libc::SYS_fchmodat
        | libc::SYS_fchownat
        | libc::SYS_utimensat
        | libc::SYS_unlinkat
        | FCHMODAT2 => Kind::Change(at(0)),
        libc::SYS_getxattr | libc::SYS_lgetxattr | libc::SYS_listxattr | libc::SYS_llistxattr => {
            Kind::Look(path(0))
        }
        libc::SYS_truncate
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr => Kind::Change(path(0)),
        libc::SYS_symlinkat => Kind::Change(at(1)),
        libc::SYS_renameat | libc::SYS_renameat2 => Kind::Rename(at(0), at(2)),
        _ => return None,
    })
}

/// `fchmodat2`, which the C library does not know yet.
const FCHMODAT2: i64 = 452;

/// The calls that newer architectures do without.
#[cfg(target_arch = "x86_64")]
fn old_kind(number: i64) -> Option<Kind> {
    Some(match number {
        libc::SYS_open => Kind::Open(path(0)),
        libc::SYS_creat => Kind::Create(path(0)),
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink => {
            Kind::Look(path(0))
        }
        libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_utime
        | libc::SYS_utimes
        | libc::SYS_unlink => Kind::Change(path(0)),
        libc::SYS_futimesat => Kind::Change(at(0)),
        libc::SYS_symlink => Kind::Change(path(1)),
        libc::SYS_rename => Kind::Rename(path(0), path(1)),
        _ => return None,
    })
}

/// open(2), openat(2).
pub(super) fn open(call: &Call, folder: &Folder, name: &str, place: Place) -> Option<Action> {
    let flags = OFlag::from_bits_retain(call.int(place.path + 1));
    let mode = call.int(place.path + 2).cast_unsigned();
    open_with(call, folder, name, flags, mode)
}

/// openat2(2).
pub(super) fn open_how(call: &Call, folder: &Folder, name: &str, place: Place) -> Option<Action> {
    let mut how = [0; 16];
    call.guest.read(call.addr(place.path + 1), &mut how).ok()?;
    let (flags, mode) = how.split_at(8);
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
    let flags = OFlag::from_bits_retain(i32::try_from(word(flags)).ok()?);
    open_with(call, folder, name, flags, u32::try_from(word(mode)).ok()?)
}

/// creat(2).
pub(super) fn create(call: &Call, folder: &Folder, name: &str, place: Place) -> Option<Action> {
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_TRUNC;
    open_with(call, folder, name, flags, call.int(place.path + 1).cast_unsigned())
}

fn open_with(call: &Call, folder: &Folder, name: &str, flags: OFlag, mode: u32) -> Option<Action> {
    let writes = flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_CREAT);
    if !writes && !folder.has(name) {
        return None;
    }
    if writes && !is_us(call) {
        return Some(Errno::EACCES.into());
    }
    if writes && !flags.contains(OFlag::O_EXCL) && !flags.contains(OFlag::O_TRUNC) {
        folder.take_over(name);
    }
    let opened = nix::fcntl::open(
        &folder.place(name),
        flags | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(mode & 0o755),
    );
    Some(match opened {
        Ok(fd) => Action::ReturnFd(FdReply {
            fd,
            close_on_exec: flags.contains(OFlag::O_CLOEXEC),
            writes: Vec::new(),
            handing: None,
        }),
        Err(errno) => Errno(errno as i32).into(),
    })
}

/// stat(2), access(2), readlink(2) and their like.
pub(super) fn look(call: &Call, folder: &Folder, name: &str, place: Place) -> Option<Action> {
    if !is_us(call) {
        return None;
    }
    if !folder.has(name) {
        if !Folder::is_link_of_host(name) {
            return None;
        }
        // Who follows the link would write to a file of the host's.
        folder.take_over(name);
    }
    Some(anew(call, folder, name, place))
}

/// chmod(2), unlink(2), truncate(2) and their like.
pub(super) fn change(call: &Call, folder: &Folder, name: &str, place: Place) -> Option<Action> {
    if !is_us(call) {
        return Some(Errno::EPERM.into());
    }
    folder.take_over(name);
    Some(anew(call, folder, name, place))
}

/// The call with the path of the private file.
fn anew(call: &Call, folder: &Folder, name: &str, place: Place) -> Action {
    let mut path = folder.place(name).into_os_string().as_bytes().to_vec();
    path.push(0);
    let data = Some((place.path, path));
    let same = Instead::call(call.syscall.number, call.syscall.args);
    Action::Instead(Instead { data, ..same })
}

/// rename(2), renameat(2), renameat2(2): a new file takes the place of an old one.
pub(super) fn rename(
    core: &Core,
    call: &Call,
    folder: &Folder,
    from: Place,
    to: Place,
) -> Option<Action> {
    const EXCHANGE_OR_WHITEOUT: i32 = 2 | 4;
    let flags = if call.syscall.number == libc::SYS_renameat2 { call.int(4) } else { 0 };
    if flags & EXCHANGE_OR_WHITEOUT != 0 {
        return Some(Errno::EINVAL.into());
    }
    if !is_us(call) {
        return Some(Errno::EPERM.into());
    }
    let [old, new] = [from, to].map(|place| owned_name(core, call, place));
    let keeps = flags & 1 != 0;
    let done = match (old, new) {
        (_, Some(new)) if keeps && folder.has(&new) => Err(Errno::EEXIST),
        (Some(old), Some(new)) => {
            folder.take_over(&old);
            fs::rename(folder.place(&old), folder.place(&new)).map_err(|e| Errno::from_io(&e))
        }
        (None, Some(new)) => {
            let from = host_path(call, from).ok_or(Errno::EFAULT);
            from.and_then(|from| transfer(os_path(&from), &folder.place(&new)))
        }
        (Some(old), None) => {
            folder.take_over(&old);
            let to = host_path(call, to).ok_or(Errno::EFAULT);
            to.and_then(|to| transfer(&folder.place(&old), os_path(&to)))
        }
        (None, None) => return None,
    };
    Some(Action::done(done))
}

fn os_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Moves a file or a symbolic link to another file system.
fn transfer(from: &Path, to: &Path) -> Result<(), Errno> {
    if fs::symlink_metadata(from)?.is_symlink() {
        let target = fs::read_link(from)?;
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => symlink(target, to)?,
        }
    } else {
        fs::copy(from, to)?;
    }
    Ok(fs::remove_file(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_what_they_do() {
        assert_eq!(kind(libc::SYS_openat), Some(Kind::Open(at(0))));
        assert_eq!(kind(libc::SYS_renameat2), Some(Kind::Rename(at(0), at(2))));
        assert_eq!(kind(libc::SYS_read), None);
        let Some(Kind::Change(place)) = kind(libc::SYS_symlinkat) else { panic!("a change") };
        assert_eq!((place.path, place.directory), (2, Some(1)));
    }
}
