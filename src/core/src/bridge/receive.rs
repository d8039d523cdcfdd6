//! One receive that is answered by the hypervisor: recvfrom(2), recvmsg(2), recvmmsg(2).

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, OwnedFd},
    time::{Instant, SystemTime},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use umvu_abi::{
    Errno, GuestAddr, SockAddr,
    control::{Messages, Wanted},
    net::QueuedError,
};
use umvu_tracer::api::{Action, Reply};

use super::{
    Hub,
    origins::{Origin, Received},
    unix,
};

/// The most that one receive copies.
const RECEIVE_LIMIT: usize = 1 << 17;
/// `SCM_TIMESTAMP` has the number of SO_TIMESTAMP.
const TIMESTAMP: i32 = libc::SO_TIMESTAMP;
const TIMESTAMP_NS: i32 = libc::SO_TIMESTAMPNS;

/// Where the guest wants what.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The data buffers.
    pub(crate) buffers: Vec<(GuestAddr, usize)>,
    /// `MSG_*`.
    pub(crate) flags: i32,
    /// The buffer of the source address and its room; NULL when it is not wanted.
    pub(crate) name: (GuestAddr, usize),
    /// Where the length of the address goes (an int), NULL when nowhere.
    pub(crate) name_length: GuestAddr,
    /// The control buffer of recvmsg(2) and its room.
    pub(crate) control: (GuestAddr, usize),
    /// The `msghdr` of recvmsg(2): the lengths and flags are written back; NULL for recvfrom(2).
    pub(crate) header: GuestAddr,
    /// For recvmmsg(2): where the length of the message goes; the call then returns 1.
    pub(crate) message_length: GuestAddr,
}

/// The messages that one call wants: one, or several of recvmmsg(2).
#[derive(Debug)]
pub(crate) struct Batch {
    requests: Vec<Request>,
    /// How many are done, and the memory to write for them.
    filled: usize,
    writes: Vec<(GuestAddr, Vec<u8>)>,
    /// The call returns with what there is, once there is one (`MSG_WAITFORONE`).
    one_is_enough: bool,
    /// No further message is waited for after this (the argument of recvmmsg(2)).
    until: Option<Instant>,
}

impl From<Request> for Batch {
    fn from(request: Request) -> Self {
        Self::new(vec![request], None)
    }
}

impl Batch {
    /// All `requests`, at least one, have the same flags.
    pub(crate) fn new(requests: Vec<Request>, until: Option<Instant>) -> Self {
        let one_is_enough = requests.iter().any(|one| one.flags & libc::MSG_WAITFORONE != 0);
        Self { requests, filled: 0, writes: Vec::new(), one_is_enough, until }
    }

    pub(crate) fn dont_wait(&self) -> bool {
        self.requests.iter().any(Request::dont_wait)
    }

    /// Whether messages have been taken that no answer has told of yet.
    pub(crate) fn has_some(&self) -> bool {
        self.filled > 0
    }

    /// Receives as much as `attempt` gives. Errors: `EAGAIN` when the call has to wait for more;
    /// [`finish`](Self::finish) tells what it returns if it does not.
    pub(crate) fn fill(
        &mut self,
        mut attempt: impl FnMut(&Request) -> Result<Outcome, Errno>,
    ) -> Result<Outcome, Errno> {
        if let [only] = self.requests.as_slice() {
            return attempt(only);
        }
        while let Some(request) = self.requests.get(self.filled) {
            match attempt(request) {
                Ok((_, writes)) => self.writes.extend(writes),
                Err(Errno::EAGAIN) if self.filled > 0 && self.one_is_enough => break,
                Err(Errno::EAGAIN) => return Err(Errno::EAGAIN),
                Err(errno) => return self.finish(errno),
            }
            self.filled += 1;
            if self.until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
        }
        self.finish(Errno::EAGAIN)
    }

    /// What the call returns when it waits no longer: the messages it has, or the error.
    pub(crate) fn finish(&mut self, errno: Errno) -> Result<Outcome, Errno> {
        if self.filled == 0 {
            return Err(errno);
        }
        let count = i64::try_from(std::mem::take(&mut self.filled)).unwrap_or(i64::MAX);
        Ok((count, std::mem::take(&mut self.writes)))
    }
}

/// The answer of a receive.
pub(crate) fn answer(result: Result<Outcome, Errno>) -> Action {
    match result {
        Ok((value, writes)) => Action::Return(Reply { result: Ok(value), writes }),
        Err(errno) => Action::error(errno),
    }
}

/// The answer to a receive: the value to return and the memory to write.
pub(crate) type Outcome = (i64, Vec<(GuestAddr, Vec<u8>)>);

impl Request {
    /// The data alone.
    pub(crate) fn plain(buffers: Vec<(GuestAddr, usize)>, flags: i32) -> Self {
        Self {
            buffers,
            flags,
            name: (GuestAddr::NULL, 0),
            name_length: GuestAddr::NULL,
            control: (GuestAddr::NULL, 0),
            header: GuestAddr::NULL,
            message_length: GuestAddr::NULL,
        }
    }

    pub(crate) fn dont_wait(&self) -> bool {
        self.flags & (libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) != 0
    }

    /// Whether it does not wait, or asks for what is out of band.
    pub(crate) fn is_at_once(&self) -> bool {
        self.flags & (libc::MSG_DONTWAIT | libc::MSG_OOB) != 0
    }

    pub(crate) fn wants_errors(&self) -> bool {
        self.flags & libc::MSG_ERRQUEUE != 0
    }

    fn room(&self) -> usize {
        let total = self.buffers.iter().fold(0_usize, |sum, (_, len)| sum.saturating_add(*len));
        total.min(RECEIVE_LIMIT)
    }

    /// Receives from the guest's own socket, without waiting. `origin` is where datagrams of a
    /// connected socket come from. Errors: `EAGAIN`, and what the kernel says.
    pub(crate) fn receive(
        &self,
        hub: &Hub,
        guest: &OwnedFd,
        wanted: &Wanted,
        origin: impl FnOnce(&Received<'_>) -> Option<Origin>,
        local: Option<SockAddr>,
    ) -> Result<Outcome, Errno> {
        let mut data = vec![0; self.room()];
        let mut space = nix::cmsg_space!([i64; 16]);
        let peeks = MsgFlags::from_bits_truncate(self.flags & libc::MSG_PEEK);
        let flags = peeks | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        let mut buffers = [IoSliceMut::new(&mut data)];
        let got = recvmsg::<UnixAddr>(guest.as_raw_fd(), &mut buffers, Some(&mut space), flags)
            .map_err(unix::errno)?;
        let named = got.address.as_ref().and_then(|name| hub.names.origin_of(name));
        let mut messages = Messages::default();
        for message in got.cmsgs().map_err(unix::errno)? {
            timestamp(&message, &mut messages);
        }
        let (whole, truncated) = (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC));
        data.truncate(whole);
        let received = Received { data: &data, length: whole, stays: !peeks.is_empty() };
        let origin = named.map(|meta| (meta, None)).or_else(|| origin(&received));
        if let Some((meta, note)) = &origin {
            wanted.messages(meta, &mut messages);
            if let Some(note) = note {
                wanted.packet_messages(note, whole, &mut messages);
            }
        }
        let meta = origin.map(|(meta, _)| meta);
        let length = if self.flags & libc::MSG_TRUNC == 0 { data.len() } else { whole };
        let source = meta.map(|meta| meta.source);
        let source = source.map(|addr| match local {
            Some(local) => addr.mapped_to(local.family()),
            None => addr,
        });
        let flags = if truncated { libc::MSG_TRUNC } else { 0 };
        Ok(self.deliver(length, data, source, messages, flags))
    }

    /// The message of one entry of the error queue.
    pub(crate) fn error_message(&self, error: &QueuedError, wanted: &Wanted) -> Outcome {
        let mut messages = Messages::default();
        wanted.error_messages(error, &mut messages);
        let mut data = error.data.clone();
        let mut flags = libc::MSG_ERRQUEUE;
        if data.len() > self.room() {
            data.truncate(self.room());
            flags |= libc::MSG_TRUNC;
        }
        self.deliver(data.len(), data, Some(error.destination), messages, flags)
    }

    /// Where the data of a stream goes; it has no source, and `MSG_TRUNC` throws it away (tcp(7)).
    pub(crate) fn stream_data(&self, data: Vec<u8>, messages: Messages) -> Outcome {
        let length = data.len();
        let data = if self.flags & libc::MSG_TRUNC == 0 { data } else { Vec::new() };
        self.deliver(length, data, None, messages, 0)
    }

    /// The answer of a socket whose reading is shut: nothing, from nobody.
    pub(crate) fn nothing(&self) -> Outcome {
        self.deliver(0, Vec::new(), None, Messages::default(), 0)
    }

    fn deliver(
        &self,
        length: usize,
        data: Vec<u8>,
        source: Option<SockAddr>,
        messages: Messages,
        mut flags: i32,
    ) -> Outcome {
        let mut writes = self.scatter(data);
        let name = source.map(|addr| addr.encode()).unwrap_or_default();
        let name_size = i32::try_from(name.len()).unwrap_or(0);
        let (name_at, name_room) = self.name;
        if !name_at.is_null() {
            writes.push((name_at, name[..name.len().min(name_room)].to_vec()));
        }
        if !self.name_length.is_null() {
            writes.push((self.name_length, name_size.to_ne_bytes().to_vec()));
        }
        if !self.header.is_null() {
            let (control_at, control_room) = self.control;
            let (bytes, cut) = messages.fit(control_room);
            if cut {
                flags |= libc::MSG_CTRUNC;
            }
            let size = bytes.len() as u64;
            if !bytes.is_empty() {
                writes.push((control_at, bytes));
            }
            writes.push((self.header.offset(40), size.to_ne_bytes().to_vec()));
            writes.push((self.header.offset(48), flags.to_ne_bytes().to_vec()));
            if !name_at.is_null() {
                writes.push((self.header.offset(8), name_size.to_ne_bytes().to_vec()));
            }
        }
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        if self.message_length.is_null() {
            (length, writes)
        } else {
            let count = u32::try_from(length).unwrap_or(u32::MAX);
            writes.push((self.message_length, count.to_ne_bytes().to_vec()));
            (1, writes)
        }
    }

    /// Splits the data over the guest's buffers.
    fn scatter(&self, mut data: Vec<u8>) -> Vec<(GuestAddr, Vec<u8>)> {
        let mut writes = Vec::with_capacity(self.buffers.len() + 4);
        for (at, room) in &self.buffers {
            if data.is_empty() {
                break;
            }
            let rest = data.split_off(data.len().min(*room));
            writes.push((*at, std::mem::replace(&mut data, rest)));
        }
        writes
    }
}

/// Tells a time as SO_TIMESTAMP does, or as SO_TIMESTAMPNS.
pub(crate) fn stamp(time: SystemTime, nanos: bool, out: &mut Messages) {
    let name = if nanos { TIMESTAMP_NS } else { TIMESTAMP };
    out.push(libc::SOL_SOCKET, name, &time_bytes(time, nanos));
}

/// A `struct timeval`, or a `struct timespec`.
pub(crate) fn time_bytes(time: SystemTime, nanos: bool) -> Vec<u8> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let part = if nanos { since.subsec_nanos() } else { since.subsec_micros() };
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    [seconds.to_ne_bytes(), i64::from(part).to_ne_bytes()].concat()
}

/// Passes on the time stamp that the kernel put on the datagram.
fn timestamp(message: &ControlMessageOwned, out: &mut Messages) {
    match message {
        ControlMessageOwned::ScmTimestamp(time) => {
            let mut bytes = time.tv_sec().to_ne_bytes().to_vec();
            bytes.extend_from_slice(&time.tv_usec().to_ne_bytes());
            out.push(libc::SOL_SOCKET, TIMESTAMP, &bytes);
        }
        ControlMessageOwned::ScmTimestampns(time) => {
            let mut bytes = time.tv_sec().to_ne_bytes().to_vec();
            bytes.extend_from_slice(&time.tv_nsec().to_ne_bytes());
            out.push(libc::SOL_SOCKET, TIMESTAMP_NS, &bytes);
        }
        _ => {}
    }
}
