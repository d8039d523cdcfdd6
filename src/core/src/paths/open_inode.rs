//! Opening files of mounted file systems.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::PathBuf,
    sync::Arc,
};

use nix::{
    fcntl::OFlag,
    sys::stat::{Mode, SFlag, mknod},
};
use umvu_abi::{
    Errno,
    files::{Caller, Data, Handle, Opened, READ, Seek, WRITE},
};
use umvu_tracer::api::{Action, Call, FdReply, Instead, SlowHandler, Watch};

use super::{
    exec, host,
    open::How,
    resolve::{Found, Vacant},
};
use crate::{
    Core,
    files::{
        Inode, MountedFiles, access, attributes, change, content, fcntl, names, shadows::Deed,
        whole::as_caller,
    },
};

/// What an open gives to the guest.
enum Given {
    /// A descriptor; calls about it are watched.
    Watched(OwnedFd, Watch),
    /// A descriptor of the host's, which tells the truth by itself.
    Plain(OwnedFd),
    /// What is at this path, opened for the guest: it may take a while.
    Path(PathBuf),
    /// The guest opens this path itself, with these flags: a descriptor that names only is not
    /// handed over.
    Handle(PathBuf, OFlag),
}

/// Opens what is there. Errors: those of open(2).
pub(super) fn open(core: &Core, call: &Call, found: &Found, how: How) -> Action {
    let caller = core.caller(call.tid());
    let given = open_found(core, &caller, &found.inode, how);
    give(core, caller, given, (how, least(&found.inode.files)))
}

/// Makes a regular file where there is none, and opens it. Errors: those of open(2).
pub(super) fn create(core: &Core, call: &Call, vacant: &Vacant, how: How) -> Action {
    let caller = core.caller(call.tid());
    let given = create_at(core, &caller, vacant, how);
    give(core, caller, given, (how, least(&vacant.parent.files)))
}

/// What is watched at least in a process that has a file of a mount open.
fn least(files: &MountedFiles) -> Watch {
    if files.executes() { Watch::Looks } else { Watch::Maps }
}

fn give(
    core: &Core,
    caller: Caller,
    given: Result<Given, Errno>,
    (how, least): (How, Watch),
) -> Action {
    let ours = |path: &PathBuf| path.starts_with(core.objects.root());
    let private = matches!(&given, Ok(Given::Path(path)) if ours(path));
    // Our own files are ours to open.
    let caller = if private { us() } else { caller };
    let objects = Arc::clone(&core.objects);
    let reply = move |fd| FdReply {
        fd,
        close_on_exec: how.has(OFlag::O_CLOEXEC),
        writes: Vec::new(),
        handing: objects.handing(),
    };
    match given {
        Ok(Given::Watched(fd, watch)) => Action::ReturnFd(reply(fd)).watched(watch.max(least)),
        Ok(Given::Handle(path, flags)) => handle(path, flags).watched(Watch::Looks),
        Ok(Given::Plain(fd)) if least == Watch::Maps => Action::ReturnFd(reply(fd)).watched(least),
        Ok(Given::Plain(fd)) => Action::ReturnFd(reply(fd)),
        Ok(Given::Path(path)) => {
            let flags = how.flags & !(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW);
            let path = path.into_os_string().into_vec();
            let opened = move |fd: Result<OwnedFd, Errno>| match fd {
                Ok(fd) if private => Action::ReturnFd(reply(fd)).watched(Watch::Looks),
                Ok(fd) => Action::ReturnFd(reply(fd)),
                Err(errno) => errno.into(),
            };
            let open = |flags| as_caller(&caller, || host::open_plain(&path, flags, 0));
            if let Some(at_once) = host::at_once(&path, flags, open) {
                return opened(at_once);
            }
            // The other end of a FIFO may be long in coming.
            Action::Slow(SlowHandler(Box::new(move || {
                opened(as_caller(&caller, || host::open_plain(&path, flags, 0)))
            })))
        }
        Err(errno) => errno.into(),
    }
}

fn handle(path: PathBuf, flags: OFlag) -> Action {
    let mut path = path.into_os_string().into_vec();
    path.push(0);
    let at = i64::from(libc::AT_FDCWD).cast_unsigned();
    let args = [at, 0, u64::from(flags.bits().cast_unsigned()), 0, 0, 0];
    Action::Instead(Instead { data: Some((1, path)), ..Instead::call(libc::SYS_openat, args) })
}

/// Ourselves, as a caller.
fn us() -> Caller {
    Caller { uid: nix::unistd::Uid::effective().as_raw(), ..Caller::root() }
}

fn open_found(core: &Core, caller: &Caller, inode: &Arc<Inode>, how: How) -> Result<Given, Errno> {
    let kind = inode.kind()?;
    let is_directory = kind == libc::S_IFDIR;
    if how.has(OFlag::O_PATH) {
        if how.has(OFlag::O_DIRECTORY) && !is_directory {
            return Err(Errno::ENOTDIR);
        }
        let object = if is_directory {
            core.objects.directory(inode)?
        } else {
            core.objects.handle(inode)?
        };
        let flags = how.flags & OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let flags = flags | how.flags & OFlag::O_CLOEXEC;
        return Ok(Given::Handle(object, flags));
    }
    if is_directory {
        return open_directory(core, caller, inode, how);
    }
    match kind {
        libc::S_IFLNK => return Err(Errno::ELOOP),
        _ if how.has(OFlag::O_DIRECTORY) => return Err(Errno::ENOTDIR),
        libc::S_IFSOCK => return Err(Errno::ENXIO),
        _ => {}
    }
    let is_device = matches!(kind, libc::S_IFCHR | libc::S_IFBLK);
    if is_device && inode.files.flags().has(libc::MS_NODEV) {
        return Err(Errno::EACCES);
    }
    access::open(inode, caller, wanted(how))?;
    if how.has(OFlag::O_NOATIME) && !caller.owns(&inode.attributes(caller)?) {
        return Err(Errno::EPERM);
    }
    if how.has(OFlag::O_TRUNC) && kind == libc::S_IFREG {
        inode.files.writable()?;
        if inode.attributes(caller)?.size > 0 {
            change::resize(inode, caller, 0)?;
        } else {
            core.objects.tell(inode, Deed::Write);
        }
    }
    if kind == libc::S_IFIFO {
        let object = core.objects.obtain(inode, |path| {
            Ok(mknod(path, SFlag::S_IFIFO, Mode::from_bits_truncate(0o700), 0)?)
        })?;
        core.objects.tell_open(inode, how.writes());
        return Ok(Given::Path(object));
    }
    let given = data(core, caller, inode, how)?;
    core.objects.tell_open(inode, how.writes());
    Ok(given)
}

fn wanted(how: How) -> u32 {
    let reads = if how.reads() { READ } else { 0 };
    reads | if how.writes() || how.has(OFlag::O_TRUNC) { WRITE } else { 0 }
}

fn open_directory(
    core: &Core,
    caller: &Caller,
    inode: &Arc<Inode>,
    how: How,
) -> Result<Given, Errno> {
    if how.has(OFlag::O_TMPFILE) {
        return open_nameless(core, caller, inode, how);
    }
    if how.writes() || how.has(OFlag::O_CREAT) || how.has(OFlag::O_TRUNC) {
        return Err(Errno::EISDIR);
    }
    // One that was removed is open already, by its name in procfs, and nothing is in it.
    if !inode.is_removed() {
        access::open(inode, caller, READ)?;
    }
    let flags = how.flags & OFlag::O_NONBLOCK | OFlag::O_DIRECTORY;
    let fd = host::open_existing(&core.objects.directory(inode)?, flags)?;
    core.objects.tell_open_directory(inode);
    Ok(Given::Watched(fd, Watch::Looks))
}

/// `O_TMPFILE`.
fn open_nameless(
    core: &Core,
    caller: &Caller,
    directory: &Arc<Inode>,
    how: How,
) -> Result<Given, Errno> {
    let (inode, _, opened) =
        names::nameless(caller, directory, how.mode, flags_for_files(how.flags))?;
    let how = How { flags: how.flags & !OFlag::O_TMPFILE, ..how };
    serve(core, caller, &inode, opened, how)
}

fn create_at(core: &Core, caller: &Caller, vacant: &Vacant, how: How) -> Result<Given, Errno> {
    let parent = &vacant.parent;
    if vacant.slash {
        return Err(Errno::EISDIR);
    }
    access::alter(parent, caller)?;
    if parent.is_removed() {
        return Err(Errno::ENOENT);
    }
    if how.has(OFlag::O_DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let fs = parent.files.ask()?;
    let mode = how.mode & !caller.umask;
    let (entry, opened) =
        fs.create(caller, parent.node, &vacant.name, mode, flags_for_files(how.flags))?;
    let inode = parent.files.enter(parent, &vacant.name, &entry);
    core.objects.tell_made(parent, &vacant.name, &inode);
    let how = How { flags: how.flags & !OFlag::O_TRUNC, ..how };
    let given = serve(core, caller, &inode, opened, how)?;
    core.objects.tell_open(&inode, how.writes());
    Ok(given)
}

/// The flags that a file system gets to know.
fn flags_for_files(flags: OFlag) -> i32 {
    let nameless = if flags.contains(OFlag::O_TMPFILE) { OFlag::empty() } else { OFlag::O_EXCL };
    (flags & !(OFlag::O_CREAT | nameless | OFlag::O_TRUNC | OFlag::O_CLOEXEC)).bits()
}

fn data(core: &Core, caller: &Caller, inode: &Arc<Inode>, how: How) -> Result<Given, Errno> {
    let opened = inode.files.ask()?.open(caller, inode.node, flags_for_files(how.flags))?;
    serve(core, caller, inode, opened, how)
}

fn serve(
    core: &Core,
    caller: &Caller,
    inode: &Arc<Inode>,
    opened: Opened,
    how: How,
) -> Result<Given, Errno> {
    let fs = &inode.files.fs;
    let is_large = || {
        let looks = fs.getattr(caller, inode.node, Some(opened.handle));
        looks.is_ok_and(|looks| looks.is_regular() && looks.size > content::WHOLE_LIMIT)
    };
    if matches!(opened.data, Data::Cached { .. } | Data::Direct) {
        core.objects.make_room();
    }
    match opened.data {
        Data::Cached { keep } if inode.content.lock().is_kept() || !is_large() => {
            let opened = Opened { data: Data::Direct, ..opened };
            let scarce = how.writes() && inode.files.expects_writes(caller)?;
            let fd = inode.content.lock().serve(inode, caller, &opened, keep, how.flags)?;
            Ok(Given::Watched(fd, if scarce { Watch::Data } else { Watch::Looks }))
        }
        Data::Cached { .. } | Data::Direct => direct(core, caller, inode, &opened, how),
        // A device that is served by a file has nothing to release.
        Data::Host(fd) => {
            if inode.kind()? == libc::S_IFREG {
                fs.release(inode.node, opened.handle);
            }
            if !(inode.files.traits.guards || inode.files.writable().is_err()) {
                return name(core, inode, fd).map(Given::Plain);
            }
            dress(core, inode, fd, Handle(0)).map(Given::Plain)
        }
        Data::HostDressed(fd) => {
            let is_file = inode.kind()? == libc::S_IFREG;
            if is_file {
                fs.release(inode.node, opened.handle);
            }
            let handle = if is_file { Handle(0) } else { opened.handle };
            let fd = dress(core, inode, fd, handle)?;
            Ok(Given::Watched(fd, Watch::Looks))
        }
        Data::HostPath(path) => {
            fs.release(inode.node, opened.handle);
            Ok(Given::Path(PathBuf::from(std::ffi::OsString::from_vec(path))))
        }
        Data::Same(inner) => {
            fs.release(inode.node, opened.handle);
            // Checked by the one that passed it on.
            let inner = inner.downcast::<Inode>().map_err(|_| Errno::EIO)?;
            let how = How { flags: how.flags & !(OFlag::O_TRUNC | OFlag::O_NOFOLLOW), ..how };
            match open_found(core, &Caller::root(), &inner, how)? {
                // By the path of the outer one.
                Given::Plain(fd) if fcntl::is_marked(&fd) => {
                    name(core, inode, fd).map(Given::Plain)
                }
                given => Ok(given),
            }
        }
    }
}

/// Marks a descriptor of a file of the host as opened by an inode's path.
fn name(core: &Core, inode: &Arc<Inode>, fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let file = File::from(fd);
    if fcntl::mark(&file) {
        core.objects.name(&attributes::of_host(&file.metadata()?), inode);
    }
    Ok(file.into())
}

/// Notes that a file of the host is an inode's.
fn dress(core: &Core, inode: &Arc<Inode>, fd: OwnedFd, handle: Handle) -> Result<OwnedFd, Errno> {
    let file = File::from(fd);
    core.objects.dress(&attributes::of_host(&file.metadata()?), inode, handle);
    Ok(file.into())
}

/// The path by which the kernel can execute a file. Errors: those of open(2); `EACCES` for what has
/// no content that the kernel could execute.
pub(super) fn program(core: &Core, caller: &Caller, inode: &Arc<Inode>) -> Result<Vec<u8>, Errno> {
    let how = How { flags: OFlag::O_RDONLY, mode: 0 };
    let opened = inode.files.ask()?.open(&Caller::root(), inode.node, libc::O_RDONLY)?;
    match serve(core, caller, inode, opened, how)? {
        Given::Watched(file, Watch::Looks) | Given::Plain(file) => {
            let path = exec::own_path(&file).ok_or(Errno::EACCES)?;
            if path.starts_with(core.objects.root()) {
                core.objects.executes(file);
                return core.objects.program(inode, &path);
            }
            let path = path.into_os_string().into_vec();
            core.objects.executed_as(&path, &inode.path());
            Ok(path)
        }
        Given::Watched(..) | Given::Path(_) | Given::Handle(..) => Err(Errno::EACCES),
    }
}

/// A placeholder whose data is moved by the hypervisor.
fn direct(
    core: &Core,
    caller: &Caller,
    inode: &Arc<Inode>,
    opened: &Opened,
    how: How,
) -> Result<Given, Errno> {
    let fs = &inode.files.fs;
    let looks = fs.getattr(caller, inode.node, Some(opened.handle))?;
    let size = match looks.kind() {
        libc::S_IFREG => looks.size,
        libc::S_IFBLK => fs.seek(inode.node, opened.handle, 0, Seek::Hole).unwrap_or(0),
        _ => 0,
    };
    let flags = how.flags & (OFlag::O_ACCMODE | OFlag::O_APPEND | OFlag::O_NONBLOCK);
    let open = |object: &std::path::Path| host::open_existing(object, flags);
    let fd = core.objects.direct(inode, opened.handle, size, open)?;
    Ok(Given::Watched(fd, Watch::Data))
}
