//! mmap(2) of a packet socket's ring, and the calls that wait for it.
//!
//! The guest's socket is no packet socket of the kernel, so what it maps is a file that the stack
//! shares. Nothing tells us when the guest gives a part of a ring back, so a process with such a
//! mapping has its waits trapped (`clocks`): before each the socket is made to tell the truth.

use std::sync::Arc;

use umvu_abi::Errno;
use umvu_tracer::api::{Action, Before, Call, Instead, Then, Trap, Watch};

use crate::{Core, bridge::Kind, dispatch::Row, paths::transfer};

/// `MAP_SHARED` and `MAP_ANONYMOUS`: of these bits the first one only.
const SHARED: u32 = 0x01;
const MASK: u32 = 0x21;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "mmap",
        trap: Trap::Watched(Watch::Maps, Before::Masked { index: 3, mask: MASK, value: SHARED }),
        interruptible: false,
        handler: mmap,
        note: "the ring of a packet socket, files over 512 MiB and of mounts with `noexec`; all others are the kernel's",
    }]
}

fn mmap(core: &Core, call: &Call) -> Action {
    match core.sockets.find(call, call.fd(4)) {
        Ok(Some(one)) => {
            let Kind::Datagram(datagram) = &one.kind else { return Errno::ENODEV.into() };
            let length = usize::try_from(call.syscall.args[1]).unwrap_or(usize::MAX);
            let memory = match datagram.socket.memory(length) {
                Ok(_) if call.syscall.args[5] != 0 => return Errno::EINVAL.into(),
                Ok(memory) => Arc::new(memory),
                Err(errno) => return errno.into(),
            };
            datagram.note_ring(&one, core.sockets.hub(), call, call.fd(4));
            let syscall = call.syscall;
            let file = Some((4, memory));
            let call = Instead::call(syscall.number, syscall.args);
            let instead = Instead { file, then: Then::Waits, ..call };
            Action::Instead(instead)
        }
        Err(errno @ (Errno::ENFILE | Errno::ENOMEM)) => errno.into(),
        Ok(None) | Err(_) => transfer::map(core, call),
    }
}
