//! `msocket`: a socket of a given stack, and the choice of the default stack.

use std::sync::Arc;

use umvu_abi::{Errno, module::Mounted, sockaddr, vu};
use umvu_tracer::api::{Action, Call};

use super::sockets::create;
use crate::{Core, guest, view::Mount};

const PATH_LIMIT: usize = 4096;
/// The families that `SOCK_DEFAULT` with domain 0 chooses, where the stack supports them.
const FAMILIES: [u16; 4] =
    [sockaddr::AF_INET, sockaddr::AF_INET6, sockaddr::AF_NETLINK, sockaddr::AF_PACKET];
/// The number after the last address family that can be chosen.
const FAMILY_LIMIT: i32 = 64;

pub(crate) fn msocket(core: &Core, call: &Call) -> Action {
    match decode(core, call) {
        Ok(Choice::Default(stack)) => Action::done(choose(core, call, stack.as_ref())),
        Ok(Choice::Socket(stack)) => {
            create(core, call, stack, [call.int(1), call.int(2), call.int(3)])
        }
        Err(errno) => errno.into(),
    }
}

enum Choice {
    Default(Option<Arc<Mount>>),
    Socket(Option<Arc<Mount>>),
}

/// A NULL path means the thread's default; the word `kernel` means the kernel's stack.
fn decode(core: &Core, call: &Call) -> Result<Choice, Errno> {
    let default_asked = call.int(2) == vu::SOCK_DEFAULT;
    if call.addr(0).is_null() {
        let stack = core.tasks.get(call.tid()).stack(call.int(1));
        return if default_asked { Err(Errno::EINVAL) } else { Ok(Choice::Socket(stack)) };
    }
    let path = guest::read_text(call, 0, PATH_LIMIT)?;
    let stack = if path == "kernel" {
        None
    } else {
        let path = core.absolute(call, path.as_bytes())?;
        match core.view.mount_at(&path) {
            Some(mount) if matches!(mount.content, Mounted::Stack(_)) => Some(mount),
            Some(_) => return Err(Errno::ENOTSUP),
            None => return Err(Errno::ENOENT),
        }
    };
    Ok(if default_asked { Choice::Default(stack) } else { Choice::Socket(stack) })
}

fn choose(core: &Core, call: &Call, stack: Option<&Arc<Mount>>) -> Result<(), Errno> {
    let task = core.tasks.get(call.tid());
    let domain = call.int(1);
    if domain == 0 {
        let families = FAMILIES.map(i32::from);
        let served = |family: &i32| stack.is_none_or(|mount| mount.stack().supports(*family));
        for family in families.into_iter().filter(served) {
            task.choose_stack(family, stack.cloned());
        }
        return Ok(());
    }
    if !(1..FAMILY_LIMIT).contains(&domain) {
        return Err(Errno::EINVAL);
    }
    if stack.is_some_and(|mount| !mount.stack().supports(domain)) {
        return Err(Errno::EAFNOSUPPORT);
    }
    task.choose_stack(domain, stack.cloned());
    Ok(())
}
