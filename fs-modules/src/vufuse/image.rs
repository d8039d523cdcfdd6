//! The image that a file system is in: a file, or a disk or partition, real or virtual.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Backing, Claim, Outside},
    module::{MountError, MountRequest},
};

use crate::options::Options;

/// What a file system may do to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it: others may read it too.
    Read,
    /// Change it, alone.
    Write,
}

/// Takes the words out that say what may be done. As in the reference, writing has to be asked for by
/// `rw+`: what is mounted without it is read, and unless `ro` was given that is said.
pub fn access(request: &MountRequest, options: &mut Options, outside: &Arc<dyn Outside>) -> Access {
    let writes = options.flag("rw+");
    if request.flags & libc::MS_RDONLY != 0 {
        Access::Read
    } else if writes {
        Access::Write
    } else {
        let told = format!("{}: mounted read-only; to write, mount with -o rw+", request.fstype);
        outside.notice(&told);
        Access::Read
    }
}

/// Opens the source of a mount and claims it. Errors: those of open(2), `EBUSY` when it is mounted
/// already, with a line that names it.
pub fn open(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
    access: Access,
) -> Result<Arc<dyn Backing>, MountError> {
    let named = |errno: Errno| MountError::new(errno, format!("{}: {errno}", request.source));
    let image = outside.backing(request.source.as_bytes(), access == Access::Write);
    let image = image.map_err(|errno| match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS if access == Access::Write => {
            let reason = format!("{}: {errno}; to read it, mount with -o ro", request.source);
            MountError::new(errno, reason)
        }
        errno => named(errno),
    })?;
    let claim = if access == Access::Write { Claim::Alone } else { Claim::Shared };
    image.claim(claim).map_err(|errno| match errno {
        Errno::EBUSY => {
            let reason =
                format!("{}: is in use by another mount; unmount that first", request.source);
            MountError::new(errno, reason)
        }
        errno => named(errno),
    })?;
    Ok(image)
}

/// For formats that are read only: `rw+` is refused. Errors: `EROFS`.
pub fn reads_only(request: &MountRequest, options: &mut Options) -> Result<(), MountError> {
    if options.flag("rw+") {
        let reason = format!("{}: only reads; mount without rw+", request.fstype);
        return Err(MountError::new(Errno::EROFS, reason));
    }
    Ok(())
}
