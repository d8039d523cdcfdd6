//! getuid(2), setuid(2), getgroups(2) and their like: virtual where a module says so.

use std::sync::Arc;

use umvu_abi::{Errno, module::Facet};
use umvu_tracer::api::{Action, Call, Reply};

use crate::{
    Core,
    dispatch::{Handler, Row, always, optional},
    identity::{Credentials, Ids},
};

/// The id that a call leaves as it is.
const UNCHANGED: u32 = u32::MAX;
/// `NGROUPS_MAX`.
const GROUPS_LIMIT: usize = 65_536;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = changing_rows();
    rows.extend(telling_rows());
    rows
}

fn changing_rows() -> Vec<Row> {
    const NOTE: &str = "virtual ids with unrealuidgid; native without, and remembered";
    let row = |name, handler: Handler| always(name, handler, NOTE);
    vec![
        row("setuid", |core, call| {
            let id = id(call, 0);
            change(core, call, |who| who.change_uid(|ids, all| ids.set(id, all)))
        }),
        row("setgid", |core, call| {
            let id = id(call, 0);
            change(core, call, |who| who.change_gid(|ids, all| ids.set(id, all)))
        }),
        row("setreuid", |core, call| {
            let [real, effective, _] = three(call);
            change(core, call, |who| who.change_uid(|ids, all| ids.set_two([real, effective], all)))
        }),
        row("setregid", |core, call| {
            let [real, effective, _] = three(call);
            change(core, call, |who| who.change_gid(|ids, all| ids.set_two([real, effective], all)))
        }),
        row("setresuid", |core, call| {
            let wanted = three(call);
            change(core, call, |who| who.change_uid(|ids, all| ids.set_three(wanted, all)))
        }),
        row("setresgid", |core, call| {
            let wanted = three(call);
            change(core, call, |who| who.change_gid(|ids, all| ids.set_three(wanted, all)))
        }),
        row("setfsuid", |core, call| {
            let id = id(call, 0);
            let set = |who: &mut Credentials| who.change_uid(|ids, all| Ok(ids.set_files(id, all)));
            changed(core, call, |who| set(who).map(i64::from))
        }),
        row("setfsgid", |core, call| {
            let id = id(call, 0);
            let set = |who: &mut Credentials| who.change_gid(|ids, all| Ok(ids.set_files(id, all)));
            changed(core, call, |who| set(who).map(i64::from))
        }),
        row("setgroups", |core, call| match groups_of(call) {
            Ok(groups) => change(core, call, |who| who.set_groups(groups)),
            Err(errno) if core.view.has(Facet::Ids) => errno.into(),
            Err(_) => forward(core, call),
        }),
    ]
}

fn telling_rows() -> Vec<Row> {
    const NOTE: &str = "native; virtual ids with unrealuidgid";
    let row = |name, handler: Handler| optional(name, handler, NOTE);
    vec![
        row("getuid", |core, call| tell(core, call, |who| who.uid.real)),
        row("geteuid", |core, call| tell(core, call, |who| who.uid.effective)),
        row("getgid", |core, call| tell(core, call, |who| who.gid.real)),
        row("getegid", |core, call| tell(core, call, |who| who.gid.effective)),
        row("getresuid", |core, call| tell_three(core, call, |who| who.uid)),
        row("getresgid", |core, call| tell_three(core, call, |who| who.gid)),
        row("getgroups", get_groups),
    ]
}

fn id(call: &Call, argument: usize) -> u32 {
    call.int(argument).cast_unsigned()
}

fn three(call: &Call) -> [Option<u32>; 3] {
    [0, 1, 2].map(|argument| Some(id(call, argument)).filter(|id| *id != UNCHANGED))
}

/// The kernel's, which remembers what counts for files.
fn forward(core: &Core, call: &Call) -> Action {
    core.paths.caller_changes(call.tid());
    Action::Forward
}

fn change(
    core: &Core,
    call: &Call,
    edit: impl FnOnce(&mut Credentials) -> Result<(), Errno>,
) -> Action {
    changed(core, call, |who| edit(who).map(|()| 0))
}

/// Changes the virtual credentials of a thread, which begin as the kernel's.
fn changed(
    core: &Core,
    call: &Call,
    edit: impl FnOnce(&mut Credentials) -> Result<i64, Errno>,
) -> Action {
    if !core.view.has(Facet::Ids) {
        return forward(core, call);
    }
    let task = core.tasks.get(call.tid());
    let before = task.credentials();
    let mut who = before.map_or_else(|| Credentials::of_kernel(call.tid()), |who| (*who).clone());
    let result = edit(&mut who);
    if result.is_ok() {
        task.set_credentials(Some(Arc::new(who)));
    }
    result.into()
}

/// Lets a thread become anybody, once. Errors: `EOPNOTSUPP` where ids are not virtual.
pub(super) fn free(core: &Core, call: &Call) -> Action {
    if !core.view.has(Facet::Ids) {
        return Errno::EOPNOTSUPP.into();
    }
    let task = core.tasks.get(call.tid());
    if let Some(who) = task.credentials() {
        task.set_credentials(Some(Arc::new(Credentials { is_free: true, ..(*who).clone() })));
    }
    Action::value(0)
}

fn tell(core: &Core, call: &Call, what: fn(&Credentials) -> u32) -> Action {
    match core.credentials(call.tid()) {
        Some(who) => Action::value(i64::from(what(&who))),
        None => Action::Forward,
    }
}

fn tell_three(core: &Core, call: &Call, what: fn(&Credentials) -> Ids) -> Action {
    let Some(who) = core.credentials(call.tid()) else { return Action::Forward };
    let Ids { real, effective, saved, .. } = what(&who);
    let all = [real, effective, saved].into_iter().enumerate();
    let writes = all.map(|(at, id)| (call.addr(at), id.to_ne_bytes().to_vec())).collect();
    Action::Return(Reply { result: Ok(0), writes })
}

fn get_groups(core: &Core, call: &Call) -> Action {
    let Some(who) = core.credentials(call.tid()) else { return Action::Forward };
    let result = Ok(i64::try_from(who.groups.len()).unwrap_or(0));
    match usize::try_from(call.int(0)) {
        Ok(0) => Action::Return(Reply { result, writes: Vec::new() }),
        Ok(room) if room >= who.groups.len() => {
            let bytes = who.groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
            Action::Return(Reply { result, writes: vec![(call.addr(1), bytes)] })
        }
        _ => Errno::EINVAL.into(),
    }
}

/// The list that setgroups(2) is given. Errors: `EINVAL`, `EFAULT`.
fn groups_of(call: &Call) -> Result<Vec<u32>, Errno> {
    let count = usize::try_from(call.int(0)).ok().filter(|count| *count <= GROUPS_LIMIT);
    let mut bytes = vec![0; 4 * count.ok_or(Errno::EINVAL)?];
    call.guest.read(call.addr(1), &mut bytes)?;
    let (words, _) = bytes.as_chunks();
    Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
}
