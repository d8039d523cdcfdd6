//! stat(2), lstat(2), newfstatat(2), statx(2).

use std::path::Path;

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Before, Call, Reply, Trap, Watch};

use super::{
    attributes, descriptors, host,
    layout::{self, Attributes},
    locate::{self, At, Target, locate},
    open, owners,
    resolve::{Last, Place},
    times,
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::Held,
};

const NOTE: &str = "nodes of stacks, generated files and their directories; descriptors are native";

pub(super) fn rows() -> Vec<Row> {
    vec![
        always("stat", |core, call| stat(core, call, locate::path(0), 1, Last::Follow), NOTE),
        always("lstat", |core, call| stat(core, call, locate::path(0), 1, Last::Keep), NOTE),
        by_descriptor("newfstatat", newfstatat, 3),
        // The same call under its name on newer architectures.
        by_descriptor("fstatat", newfstatat, 3),
        by_descriptor("statx", statx, 2),
    ]
}

/// A row of a call that stays native when it asks about a descriptor by `AT_EMPTY_PATH`, unless the
/// process holds virtual files.
const fn by_descriptor(name: &'static str, handler: crate::dispatch::Handler, flags: u8) -> Row {
    const EMPTY: u32 = libc::AT_EMPTY_PATH.cast_unsigned();
    let before = Before::Unless { index: flags, mask: EMPTY, value: EMPTY };
    let trap = Trap::Watched(Watch::Looks, before);
    Row { name, trap, interruptible: false, handler, note: NOTE }
}

/// Whether `AT_EMPTY_PATH` is among the flags.
pub(super) fn is_empty_path(flags: i32) -> bool {
    flags & libc::AT_EMPTY_PATH != 0
}

/// fstat(2) of a file of the host.
pub(super) fn of_native(core: &Core, call: &Call) -> Action {
    match owners::look_at_fd(core, call, call.fd(0)) {
        Some(looks) => give(call, 1, Ok(times::shown(core, (&looks).into())), layout::stat),
        None => Action::Forward,
    }
}

/// fstat(2) of a virtual file, into the buffer in an argument.
pub(super) fn of_held(core: &Core, call: &Call, held: &Held, buffer: usize) -> Action {
    give_bytes(call, buffer, descriptors::encode(core, call, held, layout::stat))
}

fn give_bytes(call: &Call, buffer: usize, bytes: Result<Vec<u8>, Errno>) -> Action {
    match bytes {
        Ok(bytes) => descriptors::give(call, buffer, bytes, 0),
        Err(errno) => errno.into(),
    }
}

fn newfstatat(core: &Core, call: &Call) -> Action {
    if is_empty_path(call.int(3))
        && let Some(held) = descriptors::by_empty_path(core, call, 1)
    {
        return held.map_or_else(Into::into, |held| of_held(core, call, &held, 2));
    }
    stat(core, call, locate::at(0), 2, last(call.int(3)))
}

/// What the `AT_*` flags say about a symbolic link at the end.
pub(super) fn last(flags: i32) -> Last {
    if flags & libc::AT_SYMLINK_NOFOLLOW == 0 { Last::Follow } else { Last::Keep }
}

fn stat(core: &Core, call: &Call, at: At, buffer: usize, last: Last) -> Action {
    look(core, call, at, last, |attributes| give(call, buffer, attributes, layout::stat))
}

fn statx(core: &Core, call: &Call) -> Action {
    if is_empty_path(call.int(2))
        && let Some(held) = descriptors::by_empty_path(core, call, 1)
    {
        let bytes = held.and_then(|held| descriptors::encode(core, call, &held, layout::statx));
        return give_bytes(call, 4, bytes);
    }
    let last = last(call.int(2));
    look(core, call, locate::at(0), last, |attributes| give(call, 4, attributes, layout::statx))
}

fn look(
    core: &Core,
    call: &Call,
    at: At,
    last: Last,
    give: impl FnOnce(Result<Attributes, Errno>) -> Action,
) -> Action {
    let give = |found: Result<Attributes, Errno>| give(found.map(|it| times::shown(core, it)));
    match locate(core, call, at, last) {
        Ok(Target::Kernel) => match owners::look(core, call, at, last) {
            Some(looks) => give(Ok((&looks).into())),
            None => Action::Forward,
        },
        Ok(Target::Virtual(Place::Merged(path))) => give(of_merged(core, &path)),
        Ok(Target::Virtual(Place::Inode(found))) => {
            let caller = core.caller(call.tid());
            give(found.inode.attributes(&caller).map(|looks| (&looks).into()))
        }
        Ok(Target::Virtual(place)) => give(attributes_of(core, &place)),
        Ok(Target::Elsewhere(path)) => match locate::resolve(core, call.tid(), &path, Last::Keep) {
            Ok(Place::Merged(path)) => give(of_merged(core, &path)),
            _ => give(host::look(&path, last).map(|it| (&owners::dress(core, call, it)).into())),
        },
        Err(errno) => errno.into(),
    }
}

fn give(
    call: &Call,
    buffer: usize,
    attributes: Result<Attributes, Errno>,
    encode: fn(&Attributes) -> Vec<u8>,
) -> Action {
    match attributes {
        Ok(attributes) => {
            let writes = vec![(call.addr(buffer), encode(&attributes))];
            Action::Return(Reply { result: Ok(0), writes })
        }
        Err(errno) => errno.into(),
    }
}

/// What a place looks like. Files and directories have the numbers that fstat(2) will show after
/// an open: cp(1) and fts(3) compare them. Errors: `ENOENT`.
fn attributes_of(core: &Core, place: &Place) -> Result<Attributes, Errno> {
    let mut attributes = attributes::of(place).ok_or(Errno::ENOENT)?;
    if let Place::Entry(entry) = place
        && matches!(entry.entry, Entry::File { .. })
    {
        (attributes.dev, attributes.ino) = core.paths.promises.numbers(entry)?;
    }
    if attributes.mode & libc::S_IFMT == libc::S_IFDIR {
        let stand_in = look_at(&open::stand_in(core, place)?)?;
        (attributes.dev, attributes.ino) = (stand_in.dev, stand_in.ino);
        attributes.nlink = stand_in.nlink;
        attributes.times = stand_in.times;
    }
    Ok(attributes)
}

/// A merged directory is the kernel's, but for the numbers and what is mounted in it.
fn of_merged(core: &Core, path: &[u8]) -> Result<Attributes, Errno> {
    let mut attributes = host::stat(path, Last::Follow)?;
    let stand_in = look_at(&core.paths.directories.promise(path)?)?;
    (attributes.dev, attributes.ino) = (stand_in.dev, stand_in.ino);
    // find(1) takes a directory with two links for one without directories in it.
    attributes.nlink += 1;
    Ok(attributes)
}

fn look_at(stand_in: &Path) -> Result<Attributes, Errno> {
    host::stat(stand_in.as_os_str().as_encoded_bytes(), Last::Keep)
}
