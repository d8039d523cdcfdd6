//! The private directory of one hypervisor, and the removal of those that a killed one left.
//!
//! It is `umvu-UID/PID.START.N` (the user as known outside of a user namespace) under `$XDG_RUNTIME_DIR`, `/dev/shm` or `/tmp`, mode 0700; START is the start
//! time of the process (proc(5), field 22), so that a reused pid is not taken for a living owner; N counts
//! the hypervisors of one process.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::unistd::Uid;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The private directory; [`RunDir::remove`] or a drop removes it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Creates the directory with its `sockets` folder. Errors: those of mkdir(2), `EACCES` when
    /// all parents exist but belong to somebody else.
    pub fn create() -> io::Result<Self> {
        let mut refused = io::ErrorKind::ReadOnlyFilesystem.into();
        let usable = |place: &PathBuf| make_private(place).map_err(|error| refused = error).is_ok();
        let Some(parent) = places().into_iter().find(usable) else { return Err(refused) };
        let pid = std::process::id();
        let start = start_time(pid).unwrap_or(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{pid}.{start}.{number}"));
        make_private(&path)?;
        make_private(&path.join("sockets"))?;
        Ok(Self { path })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the private names of sockets are.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.path.join("sockets")
    }

    /// Removes the directory with all it holds.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the directories of hypervisors of this user that no longer live.
pub fn remove_stale() {
    let folders = places().into_iter().filter_map(|place| fs::read_dir(place).ok());
    for entry in folders.flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(parse) else { continue };
        if start_time(owner.0) != Some(owner.1) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where private directories may be, the best place first: a tmpfs where there is one, since names
/// are made and removed with each datagram socket, and an ordinary file system lists a directory's
/// `.` and `..` anywhere.
fn places() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let bases = [runtime, Some(PathBuf::from("/dev/shm")), Some(PathBuf::from("/tmp"))];
    let usable = |base: &PathBuf| base.is_absolute() && writable(base);
    let user = Uid::effective().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let folder = format!("umvu-{}", outside(&map, user).unwrap_or(user));
    bases.into_iter().flatten().filter(usable).map(|base| base.join(&folder)).collect()
}

/// The user that `user` is outside, by the map of a user namespace (user_namespaces(7)): several
/// users may be 0 in theirs.
fn outside(map: &str, user: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let [inside, outside, count] = [(); 3].map(|()| numbers.next()?.ok());
        let step = user.checked_sub(inside?)?;
        (step < count?).then_some(outside?.checked_add(step)?)
    })
}

fn writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
}

fn parse(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Makes a directory of mode 0700, or accepts one that is ours and closed to others.
fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path)?;
            let ours = found.uid() == Uid::effective().as_raw();
            if found.is_dir() && ours && found.mode() & 0o077 == 0 {
                Ok(())
            } else {
                Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{}: not a private directory of this user", path.display()),
                ))
            }
        }
        Err(error) => Err(error),
    }
}

/// The start time of a process in clock ticks since boot; None when there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_are_parsed() {
        assert_eq!(parse("12.345.0"), Some((12, 345)));
        assert_eq!(parse("x.345.0"), None);
        assert_eq!(parse("12"), None);
    }

    #[test]
    fn a_user_of_a_namespace_is_known_by_its_number_outside() {
        assert_eq!(outside("         0          0 4294967295\n", 7), Some(7));
        assert_eq!(outside("         0       1000          1\n", 0), Some(1000));
        assert_eq!(outside("0 1000 1\n1 100000 65536\n", 3), Some(100_002));
        assert_eq!(outside("0 1000 1\n", 5), None);
        assert_eq!(outside("", 5), None);
    }

    #[test]
    fn the_start_time_of_this_process_is_known() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }
}
