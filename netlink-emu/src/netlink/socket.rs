//! The netlink socket as the bridge drives it.
//!
//! Lock order: the hub's lock before a socket's. The socket's lock is never held while the host is
//! asked or events are told.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno, SockAddr,
    net::{Datagram, DatagramMeta, DatagramSocket, SendControl, Shutdown, Socket, SocketEvents},
};

use super::{
    Answer, Filtered, Service, cause,
    hub::NetlinkHub,
    message::{self, DUMP_FILTERED, Dump, Header, Request},
    options::{Effect, Options},
    queue::{Queue, Queued},
    slow::{Backlog, Seat},
};
use crate::{
    host::{Failure, HostNet},
    text,
};

/// The kernel's address.
const KERNEL: SockAddr = SockAddr::Netlink { pid: 0, groups: 0 };
/// The longest datagram that may be sent.
const LONGEST: usize = 1 << 20;
/// The highest multicast group that can be joined.
const LAST_GROUP: u32 = 63;

/// A netlink socket of a stack.
pub struct NetlinkSocket {
    /// Itself, for the thread that carries out what takes a while.
    this: Weak<Self>,
    protocol: i32,
    service: Box<dyn Service>,
    host: Arc<dyn HostNet>,
    hub: Arc<NetlinkHub>,
    events: Arc<dyn SocketEvents>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The port id, 0 while unbound.
    port: u32,
    /// The process that has made it, 0 for none.
    process: u32,
    /// One bit per group; group 1 is bit 1.
    groups: u64,
    /// It has been in a group.
    grouped: bool,
    /// The default destination.
    peer: Option<(u32, u32)>,
    options: Options,
    queue: Queue,
    /// Requests that wait while a thread carries out one that takes a while.
    backlog: Option<Backlog>,
    closed: bool,
}

impl fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetlinkSocket").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl NetlinkSocket {
    pub(super) fn new(
        protocol: i32,
        service: Box<dyn Service>,
        host: Arc<dyn HostNet>,
        hub: Arc<NetlinkHub>,
        events: Arc<dyn SocketEvents>,
    ) -> Arc<Self> {
        let queue = Queue::new(hub.queued());
        let state = Mutex::new(State { queue, ..State::default() });
        let socket = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            protocol,
            service,
            host,
            hub,
            events,
            state,
        });
        socket.hub.join(&socket);
        socket
    }

    pub(super) fn protocol(&self) -> i32 {
        self.protocol
    }

    /// The port id and groups 1 to 32.
    pub(super) fn identity(&self) -> (u32, u32) {
        let state = self.state.lock();
        (state.port, state.mask())
    }

    pub(super) fn listens(&self) -> bool {
        self.state.lock().groups != 0
    }

    /// Queues a message of a multicast group, if the socket is a member.
    pub(super) fn deliver(&self, group: u32, data: &[u8]) {
        {
            let mut state = self.state.lock();
            if state.closed || state.groups & (1 << group) == 0 {
                return;
            }
            let limit = state.options.limit();
            state.queue.push(Queued { data: data.to_vec(), group }, limit);
        }
        self.events.changed();
    }

    fn bind_port(&self, wanted: u32) -> Result<(), Errno> {
        let (held, process) = {
            let state = self.state.lock();
            (state.port, state.process)
        };
        if held != 0 {
            return if wanted == 0 || wanted == held { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let own = || self.hub.reserve(self.protocol, process);
        let port = match wanted {
            0 => own().or_else(|_| self.hub.reserve(self.protocol, 0))?,
            _ => self.hub.reserve(self.protocol, wanted)?,
        };
        self.state.lock().port = port;
        Ok(())
    }

    /// Answers the messages of a datagram; a thread takes over at the first that takes a while.
    fn answer_all(&self, data: &[u8]) {
        let mut rest = data;
        while let Some((header, raw)) = message::split(rest).next() {
            if self.is_slow(header, raw) {
                match self.hub.seat() {
                    Some(seat) => return self.hand_over(rest, seat),
                    None => self.refuse(header, raw, &text::LINK_TOO_MANY),
                }
            } else {
                self.answer(header, raw);
            }
            rest = rest.get(message::align(raw.len())..).unwrap_or_default();
        }
    }

    fn is_slow(&self, header: Header, raw: &[u8]) -> bool {
        let payload = raw.get(message::HEADER..).unwrap_or_default();
        let request = Request { header, payload, raw, strict: false };
        request.has(libc::NLM_F_REQUEST) && self.service.is_slow(self.host.as_ref(), &request)
    }

    /// Has a thread answer these messages, and what comes meanwhile, in their order.
    fn hand_over(&self, data: &[u8], seat: Seat) {
        let Some(socket) = self.this.upgrade() else { return };
        {
            let mut state = self.state.lock();
            if let Some(backlog) = &mut state.backlog {
                backlog.push(data.to_vec());
                return;
            }
            state.backlog = Some(Backlog::new(data.to_vec()));
        }
        let work = move || {
            let _seat = seat;
            while let Some(data) = socket.next_of_backlog() {
                for (header, raw) in message::split(&data) {
                    socket.answer(header, raw);
                }
                socket.events.changed();
            }
        };
        if std::thread::Builder::new().name("umvu-netlink".to_owned()).spawn(work).is_err() {
            self.state.lock().backlog = None;
            for (header, raw) in message::split(data) {
                self.refuse(header, raw, &text::LINK_TOO_MANY);
            }
        }
    }

    fn next_of_backlog(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let next = state.backlog.as_mut()?.pop();
        if next.is_none() {
            state.backlog = None;
        }
        next
    }

    fn refuse(&self, header: Header, raw: &[u8], failure: &Failure) {
        let (style, port) = {
            let state = self.state.lock();
            (state.options.ack, state.port)
        };
        let payload = raw.get(message::HEADER..).unwrap_or_default();
        let request = Request { header, payload, raw, strict: false };
        self.push(message::acknowledge(&request, port, Some(failure), style));
    }

    /// Answers one message.
    fn answer(&self, header: Header, raw: &[u8]) {
        let (strict, style, port) = {
            let state = self.state.lock();
            (state.options.strict, state.options.ack, state.port)
        };
        let payload = raw.get(message::HEADER..).unwrap_or_default();
        let request = Request { header, payload, raw, strict };
        let wants_ack = request.has(libc::NLM_F_ACK);
        let is_request = request.has(libc::NLM_F_REQUEST) && header.kind >= 0x10;
        if !is_request {
            if wants_ack {
                self.push(message::acknowledge(&request, port, None, style));
            }
            return;
        }
        let reply = Header { kind: 0, flags: 0, sequence: header.sequence, port };
        let handle = || self.service.handle(self.host.as_ref(), &request);
        let (result, echoed) = cause::during(&request, port, handle);
        echoed.into_iter().for_each(|message| self.push(message));
        let failure = match result {
            Ok(Answer::Dump { bodies, filtered }) => {
                let flags = if filtered == Filtered::No { 0 } else { DUMP_FILTERED };
                let header = Header { flags: multi() | flags, ..reply };
                let end = if filtered == Filtered::All { header.flags } else { multi() };
                let parted = !self.service.ends_with_data(&request);
                let dump = Dump { bodies, header, end, held: None, parted };
                if self.state.lock().queue.start(dump) {
                    return;
                }
                Some(Errno::EBUSY.into())
            }
            Ok(Answer::Messages(bodies)) => {
                let mut data = Vec::new();
                for body in bodies {
                    message::write(&mut data, Header { kind: body.kind, ..reply }, &body.payload);
                }
                self.push(data);
                None
            }
            Ok(Answer::Done) => None,
            Err(failure) => Some(failure),
        };
        if let Some(failure) =
            failure.as_ref().filter(|f| request.is_dump() && !message::is_early(f.errno))
        {
            // What a filter names is not there.
            let filtered = matches!(failure.errno, Errno::ENODEV | Errno::ENOENT);
            let filtered = if filtered { DUMP_FILTERED } else { 0 };
            let header = Header { flags: multi() | filtered, ..reply };
            self.push(message::failed_dump(header, failure, style));
        } else if failure.is_some() || wants_ack {
            self.push(message::acknowledge(&request, port, failure.as_ref(), style));
        }
    }

    fn push(&self, data: Vec<u8>) {
        let mut state = self.state.lock();
        let limit = state.options.limit();
        state.queue.push(Queued { data, group: 0 }, limit);
    }

    fn set_groups(&self, change: impl FnOnce(u64) -> u64) {
        let mut state = self.state.lock();
        state.groups = change(state.groups);
        state.grouped |= state.groups != 0;
    }
}

fn multi() -> u16 {
    u16::try_from(libc::NLM_F_MULTI).unwrap_or_default()
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Groups 1 to 32 as `nl_groups` has them.
    fn mask(&self) -> u32 {
        u32::try_from((self.groups >> 1) & u64::from(u32::MAX)).unwrap_or_default()
    }
}

impl Socket for NetlinkSocket {
    fn bind(&self, addr: &SockAddr) -> Result<(), Errno> {
        let SockAddr::Netlink { pid, groups } = addr else { return Err(Errno::EINVAL) };
        let held = self.state.lock().port;
        if held != 0 && *pid != held {
            return Err(Errno::EINVAL);
        }
        self.bind_port(*pid)?;
        let low = u64::from(u32::MAX) << 1;
        self.set_groups(|held| (held & !low) | (u64::from(*groups) << 1));
        Ok(())
    }

    fn local(&self) -> Result<SockAddr, Errno> {
        let (pid, groups) = self.identity();
        Ok(SockAddr::Netlink { pid, groups })
    }

    fn peer(&self) -> Result<SockAddr, Errno> {
        // A netlink socket that has not connected talks to the kernel.
        let (pid, groups) = self.state.lock().peer.unwrap_or((0, 0));
        Ok(SockAddr::Netlink { pid, groups })
    }

    fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let effect = self.state.lock().options.set(level, name, value)?;
        match effect {
            Effect::None => {}
            Effect::Join(group) | Effect::Leave(group) if group == 0 || group > LAST_GROUP => {
                return Err(Errno::EINVAL);
            }
            Effect::Join(group) => self.set_groups(|held| held | (1 << group)),
            Effect::Leave(group) => self.set_groups(|held| held & !(1 << group)),
        }
        Ok(())
    }

    fn option(&self, level: i32, name: i32, given: &[u8]) -> Result<Vec<u8>, Errno> {
        if (level, name) == (libc::SOL_NETLINK, libc::NETLINK_LIST_MEMBERSHIPS) {
            let state = self.state.lock();
            let (groups, any) = (state.groups >> 1, state.grouped);
            return Ok(groups.to_ne_bytes().into_iter().filter(|_| any).collect());
        }
        let value = self.state.lock().options.get(level, name, self.protocol)?;
        if level == libc::SOL_NETLINK && given.len() < size_of::<i32>() {
            return Err(Errno::EINVAL);
        }
        Ok(value)
    }

    fn take_error(&self) -> Option<Errno> {
        let mut state = self.state.lock();
        let lost = state.queue.take_overrun();
        (lost && !state.options.no_enobufs).then_some(Errno::ENOBUFS)
    }

    fn close(&self) {
        let port = {
            let mut state = self.state.lock();
            state.closed = true;
            state.queue.clear();
            state.groups = 0;
            std::mem::take(&mut state.port)
        };
        if port != 0 {
            self.hub.release(self.protocol, port);
        }
    }
}

impl DatagramSocket for NetlinkSocket {
    fn connect(&self, peer: Option<&SockAddr>) -> Result<(), Errno> {
        let peer = match peer {
            None | Some(SockAddr::Unspec) => None,
            Some(SockAddr::Netlink { pid, groups }) => Some((*pid, *groups)),
            Some(_) => return Err(Errno::EINVAL),
        };
        self.bind_port(0)?;
        self.state.lock().peer = peer;
        Ok(())
    }

    fn owned_by(&self, process: u32) -> bool {
        self.state.lock().process = process;
        self.hub.is_taken(self.protocol, process)
    }

    fn always_paired(&self) -> bool {
        true
    }

    fn send(
        &self,
        data: &[u8],
        to: Option<&SockAddr>,
        _control: &SendControl,
    ) -> Result<usize, Errno> {
        let (pid, _groups) = match to {
            None | Some(SockAddr::Unspec) => self.state.lock().peer.unwrap_or((0, 0)),
            Some(SockAddr::Netlink { pid, groups }) => (*pid, *groups),
            Some(_) => return Err(Errno::EINVAL),
        };
        if pid != 0 {
            // Only the kernel's side is emulated; no other socket listens on a port id.
            return Err(Errno::ECONNREFUSED);
        }
        if data.len() > LONGEST {
            return Err(Errno::EMSGSIZE);
        }
        self.bind_port(0)?;
        if let Some(backlog) = &mut self.state.lock().backlog {
            if backlog.size() + data.len() > LONGEST {
                return Err(Errno::ENOBUFS);
            }
            backlog.push(data.to_vec());
            return Ok(data.len());
        }
        self.answer_all(data);
        self.events.changed();
        Ok(data.len())
    }

    fn receive(&self) -> Option<Datagram> {
        let queued = self.state.lock().queue.pop()?;
        let groups = match queued.group {
            0 => 0,
            group => 1u32.checked_shl(group - 1).unwrap_or(0),
        };
        let source = SockAddr::Netlink { pid: 0, groups };
        let meta = DatagramMeta { source, destination: KERNEL, ifindex: 0, ttl: 0, tos: 0 };
        Some(Datagram { data: queued.data, meta, packet: None })
    }

    fn shutdown(&self, _how: Shutdown) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

impl From<Failure> for Errno {
    fn from(failure: Failure) -> Self {
        failure.errno
    }
}
