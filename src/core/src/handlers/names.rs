//! uname(2), sethostname(2), setdomainname(2).

use umvu_abi::{Errno, module::HostNames, vu::NAME_FIELD};
use umvu_tracer::api::{Action, Call, Reply};

use crate::{
    Core,
    dispatch::{Row, optional},
};

type Set = fn(&dyn HostNames, Vec<u8>);

pub(crate) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; the view's own names with vumisc";
    vec![
        optional("uname", uname, NOTE),
        optional(
            "sethostname",
            |core, call| set(core, call, |names, name| names.set_node(name)),
            NOTE,
        ),
        optional(
            "setdomainname",
            |core, call| set(core, call, |names, name| names.set_domain(name)),
            NOTE,
        ),
    ]
}

fn uname(core: &Core, call: &Call) -> Action {
    let Some(names) = core.view.host_names() else { return Action::Forward };
    let host = rustix::system::uname();
    let fields = [
        host.sysname().to_bytes().to_vec(),
        names.node().unwrap_or_else(|| host.nodename().to_bytes().to_vec()),
        host.release().to_bytes().to_vec(),
        host.version().to_bytes().to_vec(),
        host.machine().to_bytes().to_vec(),
        names.domain().unwrap_or_else(|| host.domainname().to_bytes().to_vec()),
    ];
    let mut bytes = vec![0; fields.len() * NAME_FIELD];
    for (room, field) in bytes.chunks_exact_mut(NAME_FIELD).zip(&fields) {
        let count = field.len().min(NAME_FIELD - 1);
        room[..count].copy_from_slice(&field[..count]);
    }
    Action::Return(Reply { result: Ok(0), writes: vec![(call.addr(0), bytes)] })
}

fn set(core: &Core, call: &Call, set: Set) -> Action {
    let Some(names) = core.view.host_names() else { return Action::Forward };
    let length = usize::try_from(call.int(1)).ok().filter(|length| *length < NAME_FIELD);
    let Some(length) = length else { return Errno::EINVAL.into() };
    let mut name = vec![0; length];
    if let Err(errno) = call.guest.read(call.addr(0), &mut name) {
        return errno.into();
    }
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(length));
    set(names.as_ref(), name);
    Action::value(0)
}
