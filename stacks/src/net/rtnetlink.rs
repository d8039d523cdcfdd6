//! A conversation with the rtnetlink(7) of any stack.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use umvu_abi::{Errno, SockAddr};

use super::{socket::Socket, stack::Stack};

/// The kernel's side of a netlink socket.
const KERNEL: SockAddr = SockAddr::Netlink { pid: 0, groups: 0 };
/// No part of an answer is longer.
const LONGEST: usize = 64 * 1024;

/// A netlink socket and the number of its next request.
#[derive(Debug)]
pub(super) struct Rtnetlink {
    socket: Socket,
    sequence: u32,
}

impl Rtnetlink {
    /// Opens it. Errors: `EAFNOSUPPORT` when the stack has no netlink.
    pub(super) fn open(stack: &Stack) -> io::Result<Self> {
        let socket = Socket::open(stack, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        socket.bind(&KERNEL)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a table; gives its rows.
    pub(super) fn dump(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(request, NLM_F_DUMP)
    }

    /// Asks for a change, and waits until it is made. Errors: those of the change.
    pub(super) fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(request, NLM_F_ACK | flags).map(|_| ())
    }

    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &KERNEL)?;
        let mut rows = Vec::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            if self.read(&buffer[..length], &mut rows)? {
                return Ok(rows);
            }
        }
    }

    /// Reads one datagram of an answer; true when it is the last.
    fn read(&self, mut bytes: &[u8], rows: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        while !bytes.is_empty() {
            let length = bytes.first_chunk().map_or(0, |field| u32::from_ne_bytes(*field));
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let one = bytes.get(..length).filter(|one| one.len() >= 16).ok_or(Errno::EIO)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            let sequence = one[8..].first_chunk().map_or(0, |field| u32::from_ne_bytes(*field));
            if sequence != self.sequence {
                continue;
            }
            // A row of a kind that is not known is nothing we ask about.
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else {
                continue;
            };
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(row) => rows.push(row),
                _ => {}
            }
        }
        Ok(false)
    }
}
