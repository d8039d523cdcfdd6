//! bind(2) and connect(2) of UNIX sockets by a path in a mounted file system.
//!
//! The socket is bound to the object of its inode, by the guest itself: so its credentials are the
//! guest's, and everything behind the name is the kernel's.

use std::{os::unix::ffi::OsStringExt, sync::Arc};

use umvu_abi::{Errno, files::WRITE};
use umvu_tracer::api::{Action, Call, Instead};

use super::{
    locate,
    resolve::{Last, Place},
};
use crate::{
    Core,
    files::{
        Inode, access,
        names::{self, Make},
    },
};

/// `sun_path`.
const PATH_AT: usize = 2;
const PATH_ROOM: usize = 108;

/// Answers bind(2) for a path of a mounted file system; None when it is none of ours.
pub(crate) fn bind(core: &Core, call: &Call) -> Option<Action> {
    let (place, caller) = (place(core, call)?, core.caller(call.tid()));
    Some(match place {
        Ok(Place::Vacant(vacant)) => {
            let make = Make::Node(libc::S_IFSOCK | 0o777, 0);
            let made = names::make(&caller, &vacant.parent, &vacant.name, make);
            made.and_then(|inode| at_object(core, call, &inode)).unwrap_or_else(Into::into)
        }
        Ok(Place::Inode(_)) => Errno::EADDRINUSE.into(),
        Ok(_) => return None,
        Err(errno) => errno.into(),
    })
}

/// Answers connect(2) for a path of a mounted file system; None when it is none of ours.
pub(crate) fn connect(core: &Core, call: &Call) -> Option<Action> {
    let (place, caller) = (place(core, call)?, core.caller(call.tid()));
    Some(match place {
        Ok(Place::Inode(found)) => {
            let inode = &found.inode;
            let action = match inode.kind() {
                Ok(libc::S_IFSOCK) => access::check(inode, &caller, WRITE).and_then(|()| {
                    // What no guest has bound may be a socket of the host.
                    let host = inode.files.fs.host_path(inode.node);
                    match host.filter(|_| !inode.has_object()) {
                        Some(path) => at_path(call, path),
                        None => at_object(core, call, inode),
                    }
                }),
                Ok(_) => Err(Errno::ECONNREFUSED),
                Err(errno) => Err(errno),
            };
            action.unwrap_or_else(Into::into)
        }
        Ok(Place::Vacant(_)) => Errno::ENOENT.into(),
        Ok(_) => return None,
        Err(errno) => errno.into(),
    })
}

/// What the address in argument 1 names, if that is a path that concerns mounted files.
fn place(core: &Core, call: &Call) -> Option<Result<Place, Errno>> {
    let territory = core.paths.territory(&core.view);
    let is_rooted = core.paths.root(call.tid()).is_some();
    if !territory.has_files() && !is_rooted {
        return None;
    }
    let length = usize::try_from(call.int(2)).ok()?.min(PATH_AT + PATH_ROOM);
    let mut bytes = vec![0; length];
    call.guest.read(call.addr(1), &mut bytes).ok()?;
    let family = bytes.first_chunk().map(|family| u16::from_ne_bytes(*family))?;
    let path = bytes.get(PATH_AT..)?.split(|byte| *byte == 0).next()?;
    if i32::from(family) != libc::AF_UNIX || path.is_empty() {
        return None;
    }
    let start = locate::start(core, call, path).ok()?;
    Some(locate::walk_last(core, &territory, call.tid(), &start, path, Last::Follow))
}

/// The same call with the path of the inode's object.
fn at_object(core: &Core, call: &Call, inode: &Arc<Inode>) -> Result<Action, Errno> {
    // What makes it is bind(2).
    let path = core.objects.obtain(inode, |_| Ok(()))?;
    at_path(call, path.into_os_string().into_vec())
}

/// The same call with another path. Errors: `ENAMETOOLONG`.
fn at_path(call: &Call, path: Vec<u8>) -> Result<Action, Errno> {
    let mut address = u16::try_from(libc::AF_UNIX).unwrap_or(1).to_ne_bytes().to_vec();
    address.extend(path);
    address.push(0);
    if address.len() > PATH_AT + PATH_ROOM {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut args = call.syscall.args;
    args[2] = address.len() as u64;
    let same = Instead::call(call.syscall.number, args);
    Ok(Action::Instead(Instead { data: Some((1, address)), ..same }))
}
