//! Who may do what: the checks by the mode bits, for file systems that leave them to the core.

use umvu_abi::{
    Errno,
    files::{Attributes, Caller, EXECUTE, Right, WRITE},
};

use super::Inode;

/// Checks a permission. Errors: `EACCES`; `EROFS` for writing where nothing can be changed.
pub(crate) fn check(inode: &Inode, caller: &Caller, wanted: u32) -> Result<(), Errno> {
    if wanted & WRITE != 0 && matches!(inode.kind()?, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK)
    {
        inode.files.writable()?;
    }
    if wanted & EXECUTE != 0 && !inode.files.executes() && inode.kind()? == libc::S_IFREG {
        return Err(Errno::EACCES);
    }
    if inode.files.traits.checks_access {
        return inode.files.ask()?.access(caller, inode.node, wanted);
    }
    if wanted == 0 || caller.is_privileged() && wanted & EXECUTE == 0 {
        return Ok(());
    }
    let fs = inode.files.ask()?;
    let attributes = fs.getattr(caller, inode.node, None)?;
    if caller.may(&attributes, wanted) {
        return Ok(());
    }
    let granted = wanted & WRITE != 0 && fs.grants(caller, &attributes, Right::Change);
    if granted && caller.may(&attributes, wanted & !WRITE) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether a caller may do what only the owner of a file may.
pub(crate) fn owns(inode: &Inode, caller: &Caller, file: &Attributes) -> Result<bool, Errno> {
    let fs = inode.files.ask()?;
    Ok(caller.owns(file) || fs.grants(caller, file, Right::Change))
}

/// Checks that a file may be opened or executed. Errors: as [`check`].
pub(crate) fn open(inode: &Inode, caller: &Caller, wanted: u32) -> Result<(), Errno> {
    if !inode.files.traits.checks_access {
        return check(inode, caller, wanted);
    }
    if wanted & WRITE != 0 {
        inode.files.writable()?;
    }
    inode.files.ask()?.may_open(caller, inode.node, wanted)
}

/// Checks that a directory may be searched. Errors: `EACCES`.
pub(crate) fn search(directory: &Inode, caller: &Caller) -> Result<(), Errno> {
    if directory.files.traits.checks_access || caller.is_privileged() {
        return Ok(());
    }
    check(directory, caller, EXECUTE)
}

/// Checks that names of a directory may be made or taken away. Errors: `EACCES`, `EROFS`.
pub(crate) fn alter(directory: &Inode, caller: &Caller) -> Result<(), Errno> {
    directory.files.writable()?;
    if directory.files.traits.checks_access {
        return Ok(());
    }
    check(directory, caller, WRITE | EXECUTE)
}

/// Checks that a name may be taken out of a directory: its rights and the sticky bit.
/// Errors: `EACCES`, `EPERM`, `EROFS`.
pub(crate) fn remove(directory: &Inode, file: &Inode, caller: &Caller) -> Result<(), Errno> {
    alter(directory, caller)?;
    if directory.files.traits.checks_access || caller.is_privileged() {
        return Ok(());
    }
    let fs = directory.files.ask()?;
    let above = fs.getattr(caller, directory.node, None)?;
    let below = fs.getattr(caller, file.node, None)?;
    let granted = || fs.grants(caller, &below, Right::Change);
    if caller.may_remove(&above, &below) || granted() { Ok(()) } else { Err(Errno::EPERM) }
}
