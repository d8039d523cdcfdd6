//! sendto(2) with an address, sendmsg(2), sendmmsg(2).

use umvu_abi::{
    Errno, GuestAddr, SockAddr, control,
    net::{SendControl, SocketSpec},
};
use umvu_tracer::api::{Action, Call, Guest, Reply};

use super::{
    data,
    message::{self, CONTROL_LIMIT, Header, MULTI_SIZE},
    stream::Sending,
    with_socket,
};
use crate::{
    Core,
    bridge::{Datagrams, Kind, Virtual, Way},
    guest::{self, Purpose},
    paths::unix,
};

/// The largest datagram: IP's 64 KiB, and what a netlink request may be.
pub(crate) const DATAGRAM_LIMIT: usize = 1 << 17;
/// `UIO_MAXIOV`: sendmmsg(2) sends no more messages.
pub(crate) const MESSAGES_LIMIT: u64 = 1024;

pub(super) fn sendto(core: &Core, call: &Call) -> Action {
    if call.addr(4).is_null() {
        let ours = libc::MSG_MORE | libc::MSG_OOB | libc::MSG_FASTOPEN;
        let is_plain = call.int(3) & ours == 0;
        if is_plain && !core.sockets.hub().watcher.is_used() {
            return Action::Forward;
        }
        return send(core, call);
    }
    if let Some(action) = unix::send_to(core, call) {
        return action;
    }
    with_socket(core, call, |one| {
        let datagram = match &one.kind {
            Kind::Datagram(datagram) => datagram,
            Kind::Stream(stream) => return Sending::of_sendto(call).send(core, one, stream, call),
        };
        let to = guest::read_sockaddr(
            call.guest.as_ref(),
            call.addr(4),
            call.int(5),
            &one.spec,
            Purpose::Send,
        )?;
        prepare(core, one, datagram, (call.int(3), Some(&to)))?;
        let length = usize::try_from(call.syscall.args[2]).map_err(|_| Errno::EMSGSIZE)?;
        let buffers = [(call.addr(1), length)];
        let data = message::gather(call.guest.as_ref(), &buffers, DATAGRAM_LIMIT)?;
        let sent = datagram.send(call, &data, Some(&to), &data::control(call.int(3)))?;
        Ok(Action::value(i64::try_from(sent).unwrap_or(i64::MAX)))
    })
}

/// Does what is to be done before data is sent. Errors: `EOPNOTSUPP` for what is out of band.
fn prepare(
    core: &Core,
    one: &Virtual,
    datagram: &Datagrams,
    (flags, to): (i32, Option<&SockAddr>),
) -> Result<(), Errno> {
    let hub = core.sockets.hub();
    if flags & libc::MSG_OOB != 0 && datagram.is_named() {
        let peer = || one.socket().peer().ok();
        let to = to.copied().or_else(peer).and_then(|to| to.ip());
        if to.is_none_or(|to| to.ip().to_canonical().is_ipv4()) {
            return Err(Errno::EOPNOTSUPP);
        }
    }
    if one.lists_sockets() {
        core.sockets.survey();
    }
    datagram.flush(one, hub);
    let ip = to.and_then(SockAddr::ip).map(|to| to.ip().to_canonical());
    if ip.is_some_and(|ip| ip.is_multicast()) {
        hub.sweep_groups(&one.mount);
    }
    Ok(())
}

/// send(2), where it is trapped: with `MSG_MORE`, `MSG_FASTOPEN`, or because the socket's data calls are.
fn send(core: &Core, call: &Call) -> Action {
    with_socket(core, call, |one| {
        let flags = call.int(3);
        let hub = core.sockets.hub();
        match &one.kind {
            Kind::Datagram(datagram) => {
                if flags & libc::MSG_MORE != 0 && !datagram.is_strict() {
                    // What is sent next belongs to it.
                    datagram.be_strict(one, hub, call);
                }
                if !datagram.is_strict() && (flags & libc::MSG_OOB == 0 || !datagram.is_named()) {
                    return Ok(Action::Forward);
                }
                prepare(core, one, datagram, (flags, None))?;
                let length = usize::try_from(call.syscall.args[2]).map_err(|_| Errno::EMSGSIZE)?;
                let buffers = [(call.addr(1), length)];
                let data = message::gather(call.guest.as_ref(), &buffers, DATAGRAM_LIMIT)?;
                let sent = datagram.send(call, &data, None, &data::control(flags))?;
                Ok(Action::value(i64::try_from(sent).unwrap_or(i64::MAX)))
            }
            Kind::Stream(stream) if Sending::is_ours(flags) => {
                Sending::of_sendto(call).send(core, one, stream, call)
            }
            Kind::Stream(stream) => {
                Ok(data::refusal(stream, call, Way::Out, flags).unwrap_or(Action::Forward))
            }
        }
    })
}

pub(super) fn sendmsg(core: &Core, call: &Call) -> Action {
    if let Some(action) = unix::send_message(core, call) {
        return action;
    }
    with_socket(core, call, |one| {
        let datagram = match &one.kind {
            Kind::Datagram(datagram) => datagram,
            Kind::Stream(stream) if Sending::is_ours(call.int(2)) => {
                let header = message::read(call.guest.as_ref(), call.addr(1))?;
                return Sending::of_message(header, call.int(2)).send(core, one, stream, call);
            }
            Kind::Stream(stream) => {
                let refused = data::refusal(stream, call, Way::Out, call.int(2));
                return Ok(refused.unwrap_or(Action::Forward));
            }
        };
        match send_one(core, one, datagram, call, (call.addr(1), call.int(2)))? {
            Some(sent) => Ok(Action::value(sent)),
            None => Ok(Action::Forward),
        }
    })
}

/// Sends the message of one header; None when the kernel can carry it to our end by itself.
fn send_one(
    core: &Core,
    one: &Virtual,
    datagram: &Datagrams,
    call: &Call,
    (header, flags): (GuestAddr, i32),
) -> Result<Option<i64>, Errno> {
    let header = message::read(call.guest.as_ref(), header)?;
    let more = flags & libc::MSG_MORE != 0;
    if more && !datagram.is_strict() {
        datagram.be_strict(one, core.sockets.hub(), call);
    }
    let banded = flags & libc::MSG_OOB != 0 && datagram.is_named();
    let plain = !is_named(&header) && header.control.1 == 0 && datagram.is_paired() && !banded;
    if plain && !datagram.is_strict() {
        return Ok(None);
    }
    let message = Outgoing::read(call.guest.as_ref(), &header, &one.spec)?;
    prepare(core, one, datagram, (flags, message.to.as_ref()))?;
    let control = SendControl { more, ..message.control };
    let sent = datagram.send(call, &message.data, message.to.as_ref(), &control)?;
    Ok(Some(i64::try_from(sent).unwrap_or(i64::MAX)))
}

/// A message as it is to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: Option<SockAddr>,
    pub(crate) control: SendControl,
    pub(crate) data: Vec<u8>,
}

impl Outgoing {
    /// Reads what a header leads to. Errors: `EFAULT`, `EINVAL`, `EMSGSIZE`, `ENOBUFS` for too
    /// many control messages.
    pub(crate) fn read(
        guest: &dyn Guest,
        header: &Header,
        spec: &SocketSpec,
    ) -> Result<Self, Errno> {
        let (name, name_length) = header.name;
        let to = if is_named(header) {
            let length = i32::try_from(name_length).map_err(|_| Errno::EINVAL)?;
            Some(guest::read_sockaddr(guest, name, length, spec, Purpose::Send)?)
        } else {
            None
        };
        let (control_at, control_length) = header.control;
        if control_length > CONTROL_LIMIT {
            return Err(Errno::ENOBUFS);
        }
        let mut control = vec![0; control_length];
        if control_length > 0 {
            guest.read(control_at, &mut control)?;
        }
        let control = control::parse(&control)?;
        let data = message::gather(guest, &header.buffers, DATAGRAM_LIMIT)?;
        Ok(Self { to, control, data })
    }
}

fn is_named(header: &Header) -> bool {
    !header.name.0.is_null() && header.name.1 > 0
}

pub(super) fn sendmmsg(core: &Core, call: &Call) -> Action {
    if let Some(action) = unix::send_messages(core, call) {
        return action;
    }
    with_socket(core, call, |one| {
        let datagram = match &one.kind {
            Kind::Datagram(datagram) => datagram,
            Kind::Stream(stream) => {
                let refused = data::refusal(stream, call, Way::Out, call.int(3));
                return Ok(refused.unwrap_or(Action::Forward));
            }
        };
        let mut writes = Vec::new();
        let mut sent = 0;
        for index in 0..call.syscall.args[2].min(MESSAGES_LIMIT) {
            let header = call.addr(1).offset(index * MULTI_SIZE);
            match send_one(core, one, datagram, call, (header, call.int(3))) {
                Ok(Some(length)) => {
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    writes.push((header.offset(56), length.to_ne_bytes().to_vec()));
                    sent += 1;
                }
                Ok(None) if index == 0 => return Ok(Action::Forward),
                Ok(None) => break,
                Err(errno) if index == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(Action::Return(Reply { result: Ok(sent), writes }))
    })
}
