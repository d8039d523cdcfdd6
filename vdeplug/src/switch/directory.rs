//! [`Directory`]: the control directory of a switch, and who may make it.
//!
//! The process that binds the `ctl` socket makes the switch. A socket left by a process that died
//! refuses connections and is replaced. The decision is made under an exclusive `flock(2)` of the
//! directory, so that two processes never take each other's fresh socket for a stale one.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    unistd::chown,
};

use crate::switch::server::Access;

const CONTROL: &str = "ctl";
/// How often a socket is looked at before its owner is taken for dead, and the pause between.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);
/// How often the directory may vanish while it is being claimed.
const ATTEMPTS: usize = 64;

/// A directory whose control socket is ours; removed with this value.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory and its control socket; None if another process serves it.
    pub(crate) fn claim(
        path: &Path,
        mode: u32,
        access: Access,
    ) -> io::Result<Option<(Self, UnixListener)>> {
        for _ in 0..ATTEMPTS {
            let created = create(path)?;
            let Some(_lock) = lock(path)? else { continue };
            let control = path.join(CONTROL);
            let Some(listener) = bind(&control)? else { return Ok(None) };
            let directory = Self { path: path.to_owned() };
            access.apply(&control)?;
            remove_stale(path);
            // The permissions of a directory that was there before are not ours to change.
            if created {
                chown(path, None, access.group)?;
                fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            return Ok(Some((directory, listener)));
        }
        Err(Errno::EBUSY.into())
    }
}

impl Drop for Directory {
    /// The listener is closed by now, so that one who listens there is somebody else, who was
    /// quick to take over.
    fn drop(&mut self) {
        let lock = lock(&self.path);
        let control = self.path.join(CONTROL);
        if refuses(call(&control)) {
            let _ = fs::remove_file(&control);
        }
        // Fails if somebody keeps something there, and then it should stay.
        let _ = fs::remove_dir(&self.path);
        drop(lock);
    }
}

/// Makes the directory, for nobody else yet; returns whether it is new.
fn create(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_directory = fs::metadata(path).map(|m| m.is_dir());
            match is_directory {
                Ok(false) => Err(Errno::ENOTDIR.into()),
                // If it has vanished meanwhile, locking will find out.
                Ok(true) | Err(_) => Ok(false),
            }
        }
        Err(error) => Err(error),
    }
}

/// Locks the directory; None if it is no longer at its path.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let found = |result: io::Result<File>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let Some(directory) = found(File::open(path))? else { return Ok(None) };
    directory.lock()?;
    let ours = directory.metadata()?;
    let same = fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
    Ok(same.then_some(directory))
}

/// Binds the control socket, replacing a stale one; None if somebody listens there.
pub(crate) fn bind(control: &Path) -> io::Result<Option<UnixListener>> {
    match UnixListener::bind(control) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(error) => return Err(error),
    }
    // Taken too if we may not connect: joining will say so.
    if !is_stale(control) {
        return Ok(None);
    }
    fs::remove_file(control)?;
    UnixListener::bind(control).map(Some)
}

/// Whether the owner of a control socket has died: nobody listens there, and not a moment later
/// either. A program that has just bound it, as `vde_switch` does, is about to listen.
fn is_stale(control: &Path) -> bool {
    (0..LOOKS).all(|look| {
        if look > 0 {
            thread::sleep(PAUSE);
        }
        refuses(call(control))
    })
}

/// Connects to a control socket without waiting for an owner that is slow to accept.
fn call(control: &Path) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let caller = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    Ok(connect(caller.as_raw_fd(), &UnixAddr::new(control)?)?)
}

/// Whether nobody is behind a socket any more.
fn refuses(connected: io::Result<()>) -> bool {
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes the data sockets that a process which died left behind: they refuse connections.
fn remove_stale(path: &Path) {
    let Ok(probe) = UnixDatagram::unbound() else { return };
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket && refuses(probe.connect(entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: Access = Access { mode: 0o600, group: None };

    /// Ends a switch as its owner does: first it no longer listens.
    fn end(claimed: Option<(Directory, UnixListener)>) {
        let (directory, listener) = claimed.expect("nobody else was there");
        drop(listener);
        drop(directory);
    }

    #[test]
    fn who_takes_over_early_stays() {
        let root = tempfile::tempdir().expect("a directory");
        let (old, listener) =
            Directory::claim(root.path(), 0o2700, ACCESS).expect("a claim").expect("the first");
        drop(listener);
        let new = Directory::claim(root.path(), 0o2700, ACCESS).expect("a claim");
        drop(old);
        assert!(root.path().join(CONTROL).exists());
        end(new);
        assert!(!root.path().exists());
    }

    #[test]
    fn the_first_claims_and_the_second_does_not() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("switch");
        let first = Directory::claim(&path, 0o2700, ACCESS).expect("a claim");
        assert!(first.is_some());
        assert!(Directory::claim(&path, 0o2700, ACCESS).expect("a claim").is_none());
        assert_eq!(fs::metadata(&path).expect("a directory").mode() & 0o7777, 0o2700);
        end(first);
        assert!(!path.exists());
    }

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_stay() {
        let root = tempfile::tempdir().expect("a directory");
        drop(UnixListener::bind(root.path().join(CONTROL)).expect("a socket"));
        drop(UnixDatagram::bind(root.path().join("fd1")).expect("a socket"));
        let _live = UnixDatagram::bind(root.path().join("fd2")).expect("a socket");
        let claimed = Directory::claim(root.path(), 0o2700, ACCESS).expect("a claim");
        assert!(claimed.is_some());
        let exists = |name| root.path().join(name).exists();
        assert_eq!(["ctl", "fd1", "fd2"].map(exists), [true, false, true]);
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Directory::claim(file.path(), 0o2700, ACCESS).expect_err("a file");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn a_directory_with_other_things_stays() {
        let root = tempfile::tempdir().expect("a directory");
        let kept = root.path().join("kept");
        fs::write(&kept, "").expect("a file");
        end(Directory::claim(root.path(), 0o2700, ACCESS).expect("a claim"));
        assert!(kept.exists());
        assert!(!root.path().join(CONTROL).exists());
    }
}
