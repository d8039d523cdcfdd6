//! read(2), write(2) and their variants on files whose data is direct: devices, huge files.
//!
//! Such a descriptor is one of an empty file of ours. Its position and flags are the kernel's, shared by
//! duplicates and children as ever; the data goes through the file system. Processes that hold no such
//! descriptor are not trapped here.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::uio::pwrite,
    unistd::{Whence, lseek},
};
use umvu_abi::{
    Errno, GuestAddr,
    files::{Handle, Takes},
};
use umvu_tracer::api::{Action, Before, Call, Reply, Trap, Watch};

use super::{descriptors, locate::os_path};
use crate::{
    Core,
    dispatch::{Handler, Row},
    files::{Held, Inode, shadows::Deed},
    handlers::sockets::data,
};

/// The most that one call moves.
const TRANSFER_LIMIT: usize = 4 << 20;
/// `IOV_MAX`.
const VECTORS_LIMIT: usize = 1024;
const NOTE: &str = "of devices and of files over 512 MiB; others are native";

pub(super) fn rows() -> Vec<Row> {
    let row = |name, handler: Handler| Row {
        name,
        trap: Trap::Watched(Watch::Data, Before::Never),
        interruptible: true,
        handler,
        note: NOTE,
    };
    vec![
        row("read", |core, call| plain(core, call, Way::Read, Place::Current)),
        row("write", |core, call| plain(core, call, Way::Write, Place::Current)),
        row("pread64", |core, call| plain(core, call, Way::Read, Place::Given)),
        row("pwrite64", |core, call| plain(core, call, Way::Write, Place::Given)),
        row("readv", |core, call| vectors(core, call, Way::Read, Place::Current)),
        row("writev", |core, call| vectors(core, call, Way::Write, Place::Current)),
        row("preadv", |core, call| vectors(core, call, Way::Read, Place::Given)),
        row("pwritev", |core, call| vectors(core, call, Way::Write, Place::Given)),
        row("preadv2", |core, call| vectors(core, call, Way::Read, Place::GivenOrCurrent)),
        row("pwritev2", |core, call| vectors(core, call, Way::Write, Place::GivenOrCurrent)),
        row("ftruncate", truncate),
        Row { trap: Trap::Watched(Watch::Looks, Before::Never), ..row("fallocate", allocate) },
        // Callers fall back to read and write.
        row("sendfile", |core, call| unless_direct(core, call, 1, 0)),
        row("splice", |core, call| unless_direct(core, call, 0, 2)),
        row("copy_file_range", |core, call| unless_direct(core, call, 0, 2)),
    ]
}

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

/// Where in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the position of the descriptor, which moves.
    Current,
    /// At the offset in argument 3.
    Given,
    /// At that offset, or at the position when it is -1.
    GivenOrCurrent,
}

/// Whose the data of a descriptor is.
enum Data {
    /// The file system's: it is moved here.
    Direct(Held, Handle),
    /// The kernel's, in a file of ours of which there is not much room left.
    Scarce(Arc<Inode>),
    /// The kernel's.
    Native,
}

/// Errors: `ENODEV` for what was taken away.
fn data(core: &Core, call: &Call, argument: usize) -> Result<Data, Errno> {
    if core.objects.are_revoked()
        && let Ok(link) = call.guest.fd_link(call.fd(argument))
        && core.objects.is_revoked(&link)
    {
        core.objects.await_closed(&link)?;
        return Err(Errno::ENODEV);
    }
    Ok(match descriptors::held(core, call, argument)? {
        None => Data::Native,
        Some(held) => match held.direct {
            Some(handle) => Data::Direct(held, handle),
            None if held.native.is_none() && held.inode.files.room.is_scarce() => {
                Data::Scarce(held.inode)
            }
            None => Data::Native,
        },
    })
}

/// What is held, when its data is direct. Errors: `ENODEV` for what was taken away.
fn direct(core: &Core, call: &Call, argument: usize) -> Result<Option<(Held, Handle)>, Errno> {
    Ok(match data(core, call, argument)? {
        Data::Direct(held, handle) => Some((held, handle)),
        Data::Scarce(_) | Data::Native => None,
    })
}

/// The kind of the file in argument 0, as `st_mode` has it; None when its data is the kernel's.
pub(super) fn kind_of(core: &Core, call: &Call) -> Result<Option<u32>, Errno> {
    direct(core, call, 0)?.map(|(held, _)| held.inode.kind()).transpose()
}

fn plain(core: &Core, call: &Call, way: Way, place: Place) -> Action {
    let memory = vec![(call.addr(1), usize::try_from(call.syscall.args[2]).unwrap_or(0))];
    if let Some(action) = of_a_socket(core, call, way, place, |_| Ok(memory.clone())) {
        return action;
    }
    transfer(core, call, way, place, |_| Ok(memory))
}

fn vectors(core: &Core, call: &Call, way: Way, place: Place) -> Action {
    if let Some(action) = of_a_socket(core, call, way, place, read_vectors) {
        return action;
    }
    transfer(core, call, way, place, read_vectors)
}

/// The answer of a socket whose data calls are trapped; None for others.
fn of_a_socket(
    core: &Core,
    call: &Call,
    way: Way,
    place: Place,
    memory: impl FnOnce(&Call) -> Result<Vec<(GuestAddr, usize)>, Errno>,
) -> Option<Action> {
    if place != Place::Current {
        return None;
    }
    let way = if way == Way::Read { data::Way::In } else { data::Way::Out };
    data::transfer(core, call, way, 0, memory)
}

/// Reads `struct iovec` of the guest. Errors: `EINVAL`, `EFAULT`.
fn read_vectors(call: &Call) -> Result<Vec<(GuestAddr, usize)>, Errno> {
    let count = usize::try_from(call.int(2)).map_err(|_| Errno::EINVAL)?;
    if count > VECTORS_LIMIT {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; 16 * count];
    call.guest.read(call.addr(1), &mut bytes)?;
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
    let one = |n: usize| {
        let length = usize::try_from(word(16 * n + 8)).map_err(|_| Errno::EINVAL)?;
        Ok((GuestAddr(word(16 * n)), length))
    };
    let vectors = (0..count).map(one).collect::<Result<Vec<_>, Errno>>()?;
    let sum = vectors.iter().try_fold(0_usize, |sum, (_, length)| sum.checked_add(*length));
    sum.filter(|sum| isize::try_from(*sum).is_ok()).ok_or(Errno::EINVAL)?;
    Ok(vectors)
}

fn transfer(
    core: &Core,
    call: &Call,
    way: Way,
    place: Place,
    memory: impl FnOnce(&Call) -> Result<Vec<(GuestAddr, usize)>, Errno>,
) -> Action {
    let (held, handle) = match data(core, call, 0) {
        Ok(Data::Direct(held, handle)) => (held, handle),
        Ok(_) if way == Way::Read => return Action::Forward,
        Ok(Data::Scarce(inode)) => return within_room(core, call, place, &inode, memory),
        Ok(Data::Native) => return to_generated(core, call, memory),
        Err(errno) => return errno.into(),
    };
    let moved = memory(call).and_then(|memory| {
        let descriptor = Descriptor::of(call)?;
        descriptor.allows(way)?;
        let at = descriptor.position(call, way, place, &held.inode)?;
        let moved = match way {
            Way::Read => read(call, &held.inode, handle, at, &memory)?,
            Way::Write => write(call, &held.inode, handle, at, &memory)?,
        };
        let current = place == Place::Current
            || place == Place::GivenOrCurrent && call.syscall.args[3] == u64::MAX;
        if moved > 0 {
            let deed = if way == Way::Read { Deed::Read } else { Deed::Write };
            core.objects.tell(&held.inode, deed);
        }
        if way == Way::Write && moved > 0 {
            descriptor.ends_after(&held.inode, at + moved as u64)?;
        }
        if current && is_seekable(&held.inode)? {
            descriptor.go_to(at + moved as u64)?;
        }
        Ok(i64::try_from(moved).unwrap_or(0))
    });
    moved.into()
}

fn is_seekable(inode: &Inode) -> Result<bool, Errno> {
    Ok(inode.kind()? != libc::S_IFCHR)
}

/// A descriptor of a guest, as ours.
struct Descriptor {
    fd: OwnedFd,
    flags: OFlag,
}

fn failed(errno: nix::Error) -> Errno {
    io::Error::from(errno).into()
}

impl Descriptor {
    fn of(call: &Call) -> Result<Self, Errno> {
        let fd = call.guest.fetch_fd(call.fd(0))?;
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(failed)?;
        Ok(Self { fd, flags: OFlag::from_bits_retain(flags) })
    }

    /// Errors: `EBADF`.
    fn allows(&self, way: Way) -> Result<(), Errno> {
        let refused = if way == Way::Read { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
        let path_only = self.flags.contains(OFlag::O_PATH);
        if self.flags & OFlag::O_ACCMODE == refused || path_only {
            Err(Errno::EBADF)
        } else {
            Ok(())
        }
    }

    /// Where the data is to be moved. Errors: `EINVAL`, `ESPIPE`.
    fn position(&self, call: &Call, way: Way, place: Place, inode: &Inode) -> Result<u64, Errno> {
        let given = call.syscall.args[3];
        let at = match place {
            Place::Given | Place::GivenOrCurrent if !is_seekable(inode)? && given != u64::MAX => {
                return Err(Errno::ESPIPE);
            }
            Place::Given => given,
            Place::GivenOrCurrent if given != u64::MAX => given,
            _ if way == Way::Write && self.flags.contains(OFlag::O_APPEND) => {
                inode.attributes(&umvu_abi::files::Caller::root())?.size
            }
            _ => {
                let at = lseek(&self.fd, 0, Whence::SeekCur).map_err(failed)?;
                return u64::try_from(at).map_err(|_| Errno::EINVAL);
            }
        };
        if i64::try_from(at).is_ok() { Ok(at) } else { Err(Errno::EINVAL) }
    }

    /// Lets the stand-in of a file end where that ends now at least: lseek(2) is the kernel's.
    fn ends_after(&self, inode: &Inode, end: u64) -> Result<(), Errno> {
        let stands = nix::sys::stat::fstat(&self.fd).map_err(failed)?.st_size;
        let is_longer = u64::try_from(stands).is_ok_and(|stands| stands < end);
        if is_longer && inode.kind()? == libc::S_IFREG { self.ends_at(end) } else { Ok(()) }
    }

    fn ends_at(&self, end: u64) -> Result<(), Errno> {
        let end = i64::try_from(end).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(&self.fd, end).map_err(failed)
    }

    fn go_to(&self, position: u64) -> Result<(), Errno> {
        let position = i64::try_from(position).map_err(|_| Errno::EFBIG)?;
        lseek(&self.fd, position, Whence::SeekSet).map(drop).map_err(failed)
    }
}

fn read(
    call: &Call,
    inode: &Inode,
    handle: Handle,
    at: u64,
    memory: &[(GuestAddr, usize)],
) -> Result<usize, Errno> {
    let wanted: usize = memory.iter().map(|(_, length)| *length).sum();
    let mut data = vec![0; wanted.min(TRANSFER_LIMIT)];
    let got = inode.files.ask()?.read(inode.node, handle, at, &mut data)?;
    let mut rest = data.get(..got).unwrap_or(&data);
    for (to, length) in memory {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        if !piece.is_empty() {
            call.guest.write(*to, piece)?;
        }
        rest = after;
    }
    Ok(got)
}

/// Writes to a generated file whose tree tells errors; any other is the kernel's.
fn to_generated(
    core: &Core,
    call: &Call,
    memory: impl FnOnce(&Call) -> Result<Vec<(GuestAddr, usize)>, Errno>,
) -> Action {
    let number = || Some(descriptors::look_at(call, call.fd(0))?.ino);
    let found = core.paths.writers.find(number).filter(|entry| entry.tree.tells_errors());
    let Some(entry) = found else { return Action::Forward };
    let written = memory(call).and_then(|memory| {
        let data = gather(call, &memory)?;
        entry.tree.write(&entry.inner, &data)?;
        Ok(i64::try_from(data.len()).unwrap_or(0))
    });
    written.into()
}

/// A write of which only so much is made as there is room for. Errors: `ENOSPC`.
fn within_room(
    core: &Core,
    call: &Call,
    place: Place,
    inode: &Inode,
    memory: impl FnOnce(&Call) -> Result<Vec<(GuestAddr, usize)>, Errno>,
) -> Action {
    let written = memory(call).and_then(|memory| {
        let descriptor = Descriptor::of(call)?;
        let wanted: usize = memory.iter().map(|(_, length)| *length).sum();
        if descriptor.allows(Way::Write).is_err() {
            return Ok(None);
        }
        inode.files.ask()?;
        let at = descriptor.position(call, Way::Write, place, inode)?;
        let fits = room_at(core, call, inode, at, wanted as u64)?;
        match usize::try_from(fits).unwrap_or(wanted) {
            0 if wanted > 0 => Err(Errno::ENOSPC),
            fits if fits >= wanted => Ok(None),
            fits => {
                let mut data = gather(call, &memory)?;
                data.truncate(fits);
                let given = place == Place::Given
                    || place == Place::GivenOrCurrent && call.syscall.args[3] != u64::MAX;
                let offset = i64::try_from(at).map_err(|_| Errno::EINVAL)?;
                let made = match given {
                    true => pwrite(&descriptor.fd, &data, offset),
                    false => nix::unistd::write(&descriptor.fd, &data),
                };
                Ok(Some(i64::try_from(made.map_err(failed)?).unwrap_or(0)))
            }
        }
    });
    written.map_or_else(Into::into, |made| made.map_or(Action::Forward, |made| Ok(made).into()))
}

/// How many bytes of those from `at` on there is room for, whatever has to be written back for it.
/// Errors: those of the file system.
fn room_at(core: &Core, call: &Call, inode: &Inode, at: u64, wanted: u64) -> Result<u64, Errno> {
    let caller = core.caller(call.tid());
    // Who writes the content back holds it while it waits for who serves the files.
    inode.files.ask()?;
    let fresh = wanted - inode.content.lock().fitting(at, wanted, 0);
    if fresh == 0 {
        return Ok(wanted);
    }
    let left = inode.files.room_for(&caller, fresh)?;
    Ok(inode.content.lock().fitting(at, wanted, left))
}

fn write(
    call: &Call,
    inode: &Inode,
    handle: Handle,
    at: u64,
    memory: &[(GuestAddr, usize)],
) -> Result<usize, Errno> {
    let data = gather(call, memory)?;
    inode.files.ask()?.write(inode.node, handle, at, &data)
}

/// What a guest writes, up to the most that one call moves. Errors: `EFAULT`.
fn gather(call: &Call, memory: &[(GuestAddr, usize)]) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    for (from, length) in memory {
        let start = data.len();
        let length = (*length).min(TRANSFER_LIMIT - start);
        data.resize(start + length, 0);
        if length > 0 {
            call.guest.read(*from, &mut data[start..])?;
        }
    }
    Ok(data)
}

/// ftruncate(2). Errors: `EINVAL` for a device.
fn truncate(core: &Core, call: &Call) -> Action {
    match direct(core, call, 0) {
        Ok(Some((held, _))) => {
            let caller = core.caller(call.tid());
            let size = call.syscall.args[1].cast_signed();
            let descriptor = Descriptor::of(call).and_then(|fd| fd.allows(Way::Write).map(|()| fd));
            let truncated = descriptor.map_err(|_| Errno::EINVAL).and_then(|descriptor| {
                crate::files::change::truncate(&held.inode, &caller, size)?;
                descriptor.ends_at(size.cast_unsigned())
            });
            Action::done(truncated)
        }
        Ok(None) => Action::Forward,
        Err(errno) => errno.into(),
    }
}

/// Whether fallocate(2) can be asked for a range. Errors: `EINVAL`.
fn check_range(offset: u64, length: u64) -> Result<(), Errno> {
    match (i64::try_from(offset), i64::try_from(length)) {
        (Ok(_), Ok(1..)) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// fallocate(2). Errors: `ENOSPC`, `EINVAL`.
fn allocate(core: &Core, call: &Call) -> Action {
    let [_, _, offset, length, ..] = call.syscall.args;
    match data(core, call, 0) {
        Ok(Data::Direct(held, handle)) => {
            let done = check_range(offset, length).and_then(|()| {
                held.inode.files.writable()?;
                let fs = held.inode.files.ask()?;
                fs.fallocate(held.inode.node, handle, call.int(1), offset, length)?;
                core.objects.tell(&held.inode, Deed::Write);
                Ok(())
            });
            Action::done(done)
        }
        Ok(Data::Scarce(_) | Data::Native) if call.int(1) & !libc::FALLOC_FL_KEEP_SIZE != 0 => {
            Action::Forward
        }
        Ok(Data::Scarce(_) | Data::Native) => match allocated(core, call, offset, length) {
            Ok(()) => Action::Forward,
            Err(errno) => errno.into(),
        },
        Err(errno) => errno.into(),
    }
}

/// Whether there is room for what is to be allocated in a file of ours. Errors: `ENOSPC`.
fn allocated(core: &Core, call: &Call, offset: u64, length: u64) -> Result<(), Errno> {
    let Some(held) = descriptors::held(core, call, 0)?.filter(|held| held.native.is_none()) else {
        return Ok(());
    };
    check_range(offset, length)?;
    let room = room_at(core, call, &held.inode, offset, length)?;
    if room < length { Err(Errno::ENOSPC) } else { Ok(()) }
}

/// Calls by which the kernel would move data that it has not, or more than there is room for.
fn unless_direct(core: &Core, call: &Call, from: usize, to: usize) -> Action {
    match (data(core, call, from), data(core, call, to)) {
        (Err(errno), _) | (_, Err(errno)) => errno.into(),
        (Ok(Data::Direct(..)), _) | (_, Ok(Data::Direct(..) | Data::Scarce(_))) => {
            Errno::EINVAL.into()
        }
        _ => Action::Forward,
    }
}

/// mmap(2): what is mapped of a file is copied to where the kernel maps it from; what is stored into
/// a shared mapping would not come back, and a device has nothing to map.
pub(crate) fn map(core: &Core, call: &Call) -> Action {
    if call.int(3) & libc::MAP_ANONYMOUS != 0 {
        return Action::Forward;
    }
    let executes = call.int(2) & libc::PROT_EXEC != 0;
    let of = |inode: &Inode| inode.files.executes();
    if executes && descriptors::inode(core, call, 4).is_some_and(|inode| !of(&inode)) {
        return Errno::EPERM.into();
    }
    match direct(core, call, 4) {
        Ok(Some((held, handle))) => match copy_for_map(call, &held.inode, handle) {
            Ok(()) => Action::Forward,
            Err(errno) => errno.into(),
        },
        Ok(None) => Action::Forward,
        Err(errno) => errno.into(),
    }
}

/// Errors: `ENODEV`, `ENOSPC`.
fn copy_for_map(call: &Call, inode: &Inode, handle: Handle) -> Result<(), Errno> {
    const CHUNK: usize = 1 << 20;
    let shared = call.int(3) & libc::MAP_TYPE != libc::MAP_PRIVATE;
    let stored = shared && call.int(2) & libc::PROT_WRITE != 0;
    if inode.kind()? != libc::S_IFREG || stored {
        return Err(Errno::ENODEV);
    }
    let object = call.guest.fd_link(call.fd(4))?;
    let into = std::fs::OpenOptions::new().write(true).open(os_path(&object))?;
    let [_, length, _, _, _, offset] = call.syscall.args;
    let end = offset.saturating_add(length);
    let mut chunk = vec![0; CHUNK];
    let mut at = offset;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let got = inode.files.ask()?.read(inode.node, handle, at, &mut chunk[..wanted])?;
        if got == 0 {
            break;
        }
        into.write_all_at(&chunk[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

/// ioctl(2) on a file of a mounted file system or a device; None for what is the kernel's.
pub(crate) fn control(core: &Core, call: &Call) -> Option<Action> {
    let held = match descriptors::held(core, call, 0) {
        Ok(held) => held?,
        Err(errno) => return Some(errno.into()),
    };
    Some(control_of(core, call, &held).unwrap_or_else(Into::into))
}

/// Requests that the kernel answers for any descriptor: `FIOCLEX`, `FIONCLEX`, `FIONBIO`, `FIOASYNC`.
const OF_DESCRIPTORS: [u32; 4] = [0x5451, 0x5450, 0x5421, 0x5452];
/// How much an old request, whose number tells no size, may read and write.
const OLD_ARGUMENT: usize = 16;

fn control_of(core: &Core, call: &Call, held: &Held) -> Result<Action, Errno> {
    let request = u32::try_from(call.syscall.args[1] & 0xffff_ffff).unwrap_or(0);
    if OF_DESCRIPTORS.contains(&request) {
        return Ok(Action::Forward);
    }
    let inode = &held.inode;
    let fs = inode.files.ask()?;
    let takes = fs.takes(inode.node, request);
    let size = match takes {
        Takes::AsItSays => usize::try_from(request >> 16 & 0x3fff).unwrap_or(0),
        Takes::Bytes(size) => size,
        Takes::Value => 0,
    };
    let is_old = size == 0;
    let mut argument = vec![0; if is_old { OLD_ARGUMENT } else { size }];
    if takes == Takes::Value {
        argument = call.syscall.args[2].to_ne_bytes().to_vec();
    } else if is_old {
        // The argument may be no pointer at all.
        let _ = call.guest.read_some(call.addr(2), &mut argument);
    } else {
        let readable = call.guest.read(call.addr(2), &mut argument);
        if request >> 30 & 1 != 0 {
            readable?;
        }
    }
    let before = argument.clone();
    if inode.kind()? == libc::S_IFREG {
        // Some ask where the data is.
        inode.content.lock().write_back(inode)?;
    }
    let caller = core.caller(call.tid());
    let handle = descriptors::handle_of(held);
    let value = fs.ioctl(&caller, inode.node, handle, request, &mut argument)?;
    let changed = argument != before || !is_old && request >> 31 != 0;
    let writes = if changed { vec![(call.addr(2), argument)] } else { Vec::new() };
    Ok(Action::Return(Reply { result: Ok(value), writes }))
}
