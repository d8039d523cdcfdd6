//! Device nodes on file systems of the view. Nobody gets a device of the host by one, but those that
//! everybody may use (mem(4), tty(4)): a system in an image or an archive wants its `/dev/null`.

use umvu_abi::{
    Errno,
    files::{Data, Handle, Opened},
};

/// Where the host has a device that everybody may use.
pub(crate) fn host_path(rdev: u64) -> Option<Vec<u8>> {
    let path = match (libc::major(rdev), libc::minor(rdev)) {
        (1, 3) => "/dev/null",
        (1, 5) => "/dev/zero",
        (1, 7) => "/dev/full",
        (1, 8) => "/dev/random",
        (1, 9) => "/dev/urandom",
        (5, 0) => "/dev/tty",
        _ => return None,
    };
    Some(path.as_bytes().to_vec())
}

/// Opens a device. Errors: `ENXIO`, as where there is none behind its number.
pub(crate) fn open(kind: u32, rdev: u64) -> Result<Opened, Errno> {
    let path = host_path(rdev).filter(|_| kind == libc::S_IFCHR).ok_or(Errno::ENXIO)?;
    Ok(Opened { handle: Handle(0), data: Data::HostPath(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_for_everybody_are_opened_and_no_others() {
        let open = |kind, major, minor| open(kind, libc::makedev(major, minor)).map(drop);
        assert_eq!(open(libc::S_IFCHR, 1, 3), Ok(()));
        assert_eq!(open(libc::S_IFBLK, 1, 3), Err(Errno::ENXIO));
        assert_eq!(open(libc::S_IFCHR, 1, 1), Err(Errno::ENXIO));
    }
}
