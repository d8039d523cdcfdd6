//! capget(2), capset(2), and what prctl(2) does about capabilities.

use std::sync::Arc;

use umvu_abi::{Errno, Tid, module::Facet};
use umvu_tracer::api::{Action, Call, Reply};

use crate::{
    Core,
    dispatch::{Row, optional},
    identity::{Credentials, capabilities::Capabilities},
};

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

pub(crate) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; virtual with unrealcap, and with unrealuidgid for virtual ids";
    vec![optional("capget", capget, NOTE), optional("capset", capset, NOTE)]
}

/// What a call does with the sets of its caller, and what it returns.
type Change = Box<dyn FnOnce(&mut Capabilities) -> Result<i64, Errno>>;

/// Who has virtual capabilities.
fn holder(core: &Core, tid: Tid) -> Option<Credentials> {
    let known = core.credentials(tid).map(|who| (*who).clone());
    known.or_else(|| core.view.has(Facet::Capabilities).then(|| Credentials::of_kernel(tid)))
}

/// The header of capget(2): how many words each set has, and whose sets. Errors: `EFAULT`; what is
/// to be written for a version that is not known.
fn header(call: &Call) -> Result<Result<(usize, i32), Action>, Errno> {
    let mut bytes = [0; 8];
    call.guest.read(call.addr(0), &mut bytes)?;
    let [version, pid] = [&bytes[..4], &bytes[4..]]
        .map(|word| word.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word)));
    Ok(match version {
        VERSION_1 => Ok((1, pid.cast_signed())),
        VERSION_2 | VERSION_3 => Ok((2, pid.cast_signed())),
        _ => {
            let writes = vec![(call.addr(0), VERSION_3.to_ne_bytes().to_vec())];
            let asks = call.addr(1).is_null();
            let result = if asks { Ok(0) } else { Err(Errno::EINVAL) };
            Err(Action::Return(Reply { result, writes }))
        }
    })
}

fn capget(core: &Core, call: &Call) -> Action {
    let (words, pid) = match header(call) {
        Ok(Ok(header)) => header,
        Ok(Err(action)) => return action,
        Err(errno) => return errno.into(),
    };
    let tid = match pid {
        0 => call.tid(),
        ..0 => return Errno::EINVAL.into(),
        pid => Tid(pid),
    };
    let Some(who) = holder(core, tid) else { return Action::Forward };
    if call.addr(1).is_null() {
        return Action::value(0);
    }
    let Capabilities { effective, permitted, inheritable, .. } = who.capabilities;
    let half = |word: usize, set: u64| u32::try_from(set >> (32 * word) & 0xffff_ffff).unwrap_or(0);
    let of_word = |word| [effective, permitted, inheritable].map(|set| half(word, set));
    let bytes = (0..words).flat_map(of_word).flat_map(u32::to_ne_bytes).collect();
    Action::Return(Reply { result: Ok(0), writes: vec![(call.addr(1), bytes)] })
}

fn capset(core: &Core, call: &Call) -> Action {
    let (words, pid) = match header(call) {
        Ok(Ok(header)) => header,
        Ok(Err(action)) => return action,
        Err(errno) => return errno.into(),
    };
    let Some(who) = holder(core, call.tid()) else { return Action::Forward };
    if pid != 0 && pid != call.tid().0 {
        return Errno::EPERM.into();
    }
    let mut bytes = vec![0; 12 * words];
    if let Err(errno) = call.guest.read(call.addr(1), &mut bytes) {
        return errno.into();
    }
    let mut sets = [0_u64; 3];
    for (at, word) in bytes.as_chunks().0.iter().enumerate() {
        sets[at % 3] |= u64::from(u32::from_ne_bytes(*word)) << (32 * (at / 3));
    }
    let is_any = core.view.has(Facet::Capabilities);
    edit(core, call, who, |own| {
        if is_any {
            own.choose(sets);
            return Ok(0);
        }
        own.set(sets).map(|()| 0)
    })
}

fn edit(
    core: &Core,
    call: &Call,
    mut who: Credentials,
    change: impl FnOnce(&mut Capabilities) -> Result<i64, Errno>,
) -> Action {
    let result = change(&mut who.capabilities);
    if result.is_ok() {
        core.tasks.get(call.tid()).set_credentials(Some(Arc::new(who)));
    }
    result.into()
}

/// prctl(2) about capabilities; None for other options, and where they are the kernel's.
pub(super) fn prctl(core: &Core, call: &Call) -> Option<Action> {
    let [_, argument, capability, ..] = call.syscall.args;
    let change: Change = match call.int(0) {
        libc::PR_GET_KEEPCAPS => Box::new(|own| Ok(i64::from(own.are_kept()))),
        libc::PR_SET_KEEPCAPS => Box::new(move |own| own.keep(argument).map(|()| 0)),
        libc::PR_CAPBSET_READ => Box::new(move |own| own.is_bound(argument).map(i64::from)),
        libc::PR_CAPBSET_DROP => Box::new(move |own| own.drop_bound(argument).map(|()| 0)),
        libc::PR_GET_SECUREBITS => Box::new(|own| Ok(i64::from(own.securebits))),
        libc::PR_SET_SECUREBITS => Box::new(move |own| {
            own.securebits = u32::try_from(argument).map_err(|_| Errno::EPERM)?;
            Ok(0)
        }),
        libc::PR_CAP_AMBIENT => Box::new(move |own| ambient(own, call_int(argument), capability)),
        _ => return None,
    };
    // The ids may become virtual next, and the capabilities with them.
    let lasts = matches!(call.int(0), libc::PR_SET_KEEPCAPS | libc::PR_SET_SECUREBITS);
    let begins = lasts && core.view.has(Facet::Ids);
    let who =
        holder(core, call.tid()).or_else(|| begins.then(|| Credentials::of_kernel(call.tid())))?;
    Some(edit(core, call, who, change))
}

fn call_int(argument: u64) -> i32 {
    i32::try_from(argument).unwrap_or(-1)
}

fn ambient(own: &mut Capabilities, what: i32, capability: u64) -> Result<i64, Errno> {
    match what {
        libc::PR_CAP_AMBIENT_IS_SET => own.is_ambient(capability).map(i64::from),
        libc::PR_CAP_AMBIENT_RAISE => own.raise_ambient(capability).map(|()| 0),
        libc::PR_CAP_AMBIENT_LOWER => own.lower_ambient(capability).map(|()| 0),
        libc::PR_CAP_AMBIENT_CLEAR_ALL => {
            own.ambient = 0;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
