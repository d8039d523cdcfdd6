//! `vuctl`: information about the view, its name, debug tags.

use umvu_abi::{Errno, vu};
use umvu_tracer::api::{Action, Call, Reply, SlowHandler};

use super::vu::{UNKNOWN, report, text_out};
use crate::{Core, debug::Tags, guest};

pub(crate) fn vuctl(core: &Core, call: &Call) -> Action {
    let tag = u32::try_from(call.int(0)).unwrap_or(u32::MAX);
    match tag {
        vu::VUCTL_GETINFO => info(core, call),
        vu::VUCTL_SETNAME => match guest::read_text(call, 1, vu::NAME_FIELD) {
            Ok(name) => {
                core.view.set_name(&name);
                Action::value(0)
            }
            Err(errno) => errno.into(),
        },
        vu::VUCTL_GET_DEBUGTAGS => {
            let letters = in_scope(core, call, 3, Tags::letters);
            text_out(call, &letters, 1, 2)
        }
        vu::VUCTL_ADD_DEBUGTAGS => edit(core, call, Tags::add),
        vu::VUCTL_DEL_DEBUGTAGS => edit(core, call, Tags::remove),
        vu::VUCTL_GET_DEBUGTAGNAME => {
            let name = u8::try_from(call.int(1)).ok().and_then(crate::debug::name_of);
            match name {
                Some(name) => text_out(call, name, 2, 3),
                None => UNKNOWN.into(),
            }
        }
        vu::VUCTL_SET_DEBUGCOLOR => match guest::read_text(call, 1, 4096) {
            Ok(colors) => Action::done(core.view.colors.set(&colors)),
            Err(errno) => errno.into(),
        },
        vu::VUCTL_LAST_ERROR => {
            let task = core.tasks.get(call.tid());
            text_out(call, &task.last_error(), 1, 2)
        }
        vu::VUCTL_GET_STACK => {
            let stack = core.tasks.get(call.tid()).stack(call.int(1));
            text_out(call, stack.as_ref().map_or("", |mount| &mount.target), 2, 3)
        }
        vu::VUCTL_ADD_LINK => add_link(core, call),
        vu::VUCTL_FREE_IDS => super::ids::free(core, call),
        _ => UNKNOWN.into(),
    }
}

/// Adds an interface to the caller's stack; opening its network may take a while.
fn add_link(core: &Core, call: &Call) -> Action {
    let words =
        guest::read_text(call, 1, 64).and_then(|name| Ok((name, guest::read_text(call, 2, 4096)?)));
    let (name, vnl) = match words {
        Ok(words) => words,
        Err(errno) => return errno.into(),
    };
    let Some(mount) = core.tasks.get(call.tid()).stack(libc::AF_NETLINK) else {
        return report(core, call, Err(Errno::EOPNOTSUPP.into()));
    };
    let Some(core) = core.shared() else { return Errno::EIO.into() };
    let call = call.clone();
    Action::Slow(SlowHandler(Box::new(move || {
        report(&core, &call, mount.stack().add_interface(&name, &vnl))
    })))
}

/// Uses the tags of the view, or those of the thread when argument `local` is not 0.
fn in_scope<T>(core: &Core, call: &Call, local: usize, use_tags: impl FnOnce(&Tags) -> T) -> T {
    if call.int(local) == 0 {
        use_tags(&core.view.debug)
    } else {
        core.tasks.debug_threads();
        use_tags(&core.tasks.get(call.tid()).debug)
    }
}

fn edit(core: &Core, call: &Call, change: fn(&Tags, &str) -> Result<(), Errno>) -> Action {
    match guest::read_text(call, 1, 4096) {
        Ok(names) => Action::done(in_scope(core, call, 2, |tags| change(tags, &names))),
        Err(errno) => errno.into(),
    }
}

/// Fills `struct vu_info`: a `struct utsname`, the server id and the view's name.
fn info(core: &Core, call: &Call) -> Action {
    if call.addr(1).is_null() {
        return Action::value(0);
    }
    let Ok(uname) = nix::sys::utsname::uname() else { return Errno::EIO.into() };
    let domain = std::fs::read("/proc/sys/kernel/domainname").unwrap_or_default();
    let names = core.view.host_names();
    let node = names.as_ref().and_then(|names| names.node());
    let domain = names.and_then(|names| names.domain()).unwrap_or(domain);
    let text = |name: &[u8]| String::from_utf8_lossy(name).trim_end().to_owned();
    let fields = [
        uname.sysname().to_string_lossy().into_owned(),
        node.map_or_else(|| uname.nodename().to_string_lossy().into_owned(), |node| text(&node)),
        uname.release().to_string_lossy().into_owned(),
        uname.version().to_string_lossy().into_owned(),
        uname.machine().to_string_lossy().into_owned(),
        text(&domain),
        std::process::id().to_string(),
        core.view.name(),
    ];
    let mut bytes = vec![0; vu::VU_INFO_SIZE];
    for (field, room) in fields.iter().zip(bytes.chunks_exact_mut(vu::NAME_FIELD)) {
        let text = field.as_bytes();
        let count = text.len().min(room.len() - 1);
        room[..count].copy_from_slice(&text[..count]);
    }
    Action::Return(Reply { result: Ok(0), writes: vec![(call.addr(1), bytes)] })
}
