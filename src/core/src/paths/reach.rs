//! Paths of the host that are longer than one call takes (`PATH_MAX`): a directory may be deeper there
//! than in the view.

use std::{
    borrow::Cow,
    ffi::OsString,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use umvu_abi::Errno;

use super::{host, lexical::PATH_MAX, locate::os_path};

/// A path that the kernel takes, as long as this lives.
pub(crate) struct Reached<'a> {
    path: Cow<'a, Path>,
    /// What the path begins at.
    _directory: Option<OwnedFd>,
}

impl Reached<'_> {
    /// What to call with.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A path, from a directory on the way where it is too long. Errors: those of open(2) for that
/// directory.
pub(crate) fn reach(path: &[u8]) -> Result<Reached<'_>, Errno> {
    if path.len() < PATH_MAX {
        return Ok(Reached { path: Cow::Borrowed(os_path(path)), _directory: None });
    }
    let mut left = path.to_vec();
    let mut directory = None;
    while left.len() >= PATH_MAX {
        let slash = left[..PATH_MAX].iter().rposition(|byte| *byte == b'/');
        let slash = slash.filter(|slash| *slash > 0).ok_or(Errno::ENAMETOOLONG)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let next = host::open_existing(os_path(&left[..slash]), flags)?;
        let mut rest = format!("/proc/self/fd/{}", next.as_raw_fd()).into_bytes();
        // A name that is too long for any directory.
        if rest.len() >= slash {
            return Err(Errno::ENAMETOOLONG);
        }
        rest.extend_from_slice(&left[slash..]);
        (left, directory) = (rest, Some(next));
    }
    Ok(Reached { path: Cow::Owned(PathBuf::from(OsString::from_vec(left))), _directory: directory })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_reached_however_deep_it_is() {
        let top = tempfile::tempdir().expect("a folder");
        let mut path = top.path().as_os_str().as_encoded_bytes().to_vec();
        for name in (b'a'..=b'y').cycle().take(60) {
            path.push(b'/');
            path.extend([name; 250]);
            fs::create_dir(reach(&path).expect("the way is there").path()).expect("a directory");
        }
        assert!(path.len() > 3 * PATH_MAX);
        let file = [&path[..], b"/f"].concat();
        fs::write(reach(&file).expect("it is").path(), "x").expect("written");
        assert_eq!(reach(&[&path[..], b"/no/f"].concat()).map(|_| ()), Ok(()));
        path[top.path().as_os_str().len() + 2] = b'!';
        assert_eq!(reach(&path).map(|_| ()), Err(Errno::ENOENT));
        let long = [b"/tmp/".as_slice(), &[b'n'; 2 * PATH_MAX]].concat();
        assert_eq!(reach(&long).map(|_| ()), Err(Errno::ENAMETOOLONG));
    }
}
