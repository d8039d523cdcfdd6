//! stat(2), lstat(2), newfstatat(2), statx(2).

use umvu_abi::{Errno, tree::Entry};
use umvu_tracer::api::{Action, Call, Reply, Trap};

use super::{
    attributes, host,
    layout::{self, Attributes},
    locate::{self, At, answer},
    open,
    resolve::{Last, Place},
};
use crate::{
    Core,
    dispatch::{Row, always},
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

/// A row of a call that stays native when it asks about a descriptor by `AT_EMPTY_PATH`.
const fn by_descriptor(name: &'static str, handler: crate::dispatch::Handler, flags: u8) -> Row {
    const EMPTY: u32 = libc::AT_EMPTY_PATH.cast_unsigned();
    let trap = Trap::Unless { index: flags, mask: EMPTY, value: EMPTY };
    Row { name, trap, interruptible: false, handler, note: NOTE }
}

fn newfstatat(core: &Core, call: &Call) -> Action {
    stat(core, call, locate::at(0), 2, last(call.int(3)))
}

/// What the `AT_*` flags say about a symbolic link at the end.
pub(super) fn last(flags: i32) -> Last {
    if flags & libc::AT_SYMLINK_NOFOLLOW == 0 { Last::Follow } else { Last::Keep }
}

fn stat(core: &Core, call: &Call, at: At, buffer: usize, last: Last) -> Action {
    let reply = |attributes| give(call, buffer, attributes, layout::stat);
    let of_place = |place| reply(attributes_of(core, &place));
    answer(core, call, at, last, of_place, |path| reply(host::stat(&path, last)))
}

fn statx(core: &Core, call: &Call) -> Action {
    let last = last(call.int(2));
    let reply = |attributes| give(call, 4, attributes, layout::statx);
    let of_place = |place| reply(attributes_of(core, &place));
    answer(core, call, locate::at(0), last, of_place, |path| reply(host::stat(&path, last)))
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
        let stand_in = open::stand_in(core, place)?;
        let stand_in = host::stat(stand_in.as_os_str().as_encoded_bytes(), Last::Keep)?;
        (attributes.dev, attributes.ino) = (stand_in.dev, stand_in.ino);
        attributes.nlink = stand_in.nlink;
        attributes.times = stand_in.times;
    }
    Ok(attributes)
}
