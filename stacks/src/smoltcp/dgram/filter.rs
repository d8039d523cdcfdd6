//! Filters of sockets (socket(7), `SO_ATTACH_FILTER`).

use umvu_abi::{Errno, SockAddr};

use super::{
    super::{
        inner::Inner,
        sockopt::{Class, Options},
        tcp::input::Arrival,
    },
    Dgram, DgramId,
};
use crate::bpf::{Packet, Program};

/// UDP's header, which no filter cuts off.
const UDP_HEADER: usize = 8;

impl Inner {
    /// setsockopt(2) of the options about filters; None for others. The program is an array of
    /// `struct sock_filter`. Errors: `EPERM` once the filter is locked, `EINVAL`, `ENOENT`.
    pub(crate) fn filter_option(
        &mut self,
        id: DgramId,
        name: i32,
        value: &[u8],
    ) -> Option<Result<(), Errno>> {
        let sock = match self.dgrams.socks.get_mut(id) {
            Some(sock) => sock,
            None => return Some(Err(Errno::EBADF)),
        };
        let done = set_filter(&sock.options, &mut sock.filter, name, value)?;
        if name == libc::SO_ATTACH_FILTER
            && done.is_ok()
            && sock.class == Class::Packet
            && let Some(program) = sock.filter.clone()
        {
            self.filter_queue(id, &program);
        }
        Some(done)
    }

    /// Programs that attach a filter to a packet socket then empty its queue. What has not reached
    /// the guest's end of it counts as what came after.
    fn filter_queue(&mut self, id: DgramId, program: &Program) {
        let mut queue = Vec::new();
        while let Some(datagram) = self.dgram_receive(id) {
            queue.push(datagram);
        }
        for datagram in queue {
            let (SockAddr::Packet(name), Some(note)) = (datagram.meta.source, datagram.packet)
            else {
                continue;
            };
            let packet = Packet {
                bytes: &datagram.data,
                start: 0,
                network: usize::from(note.network),
                has_link: note.network > 0,
                protocol: name.protocol,
                pkttype: name.pkttype,
                ifindex: name.ifindex,
                hatype: name.hatype,
                vlan: note.vlan,
                random: 0,
            };
            if program.run(&packet) > 0 {
                self.enqueue_noted(id, &datagram.data, datagram.meta, datagram.packet);
            }
        }
    }
}

/// setsockopt(2) of the options about the filter of a socket; None for others. Errors: `EPERM` once
/// it is locked, `EINVAL`, `ENOENT`.
pub(crate) fn set_filter(
    options: &Options,
    filter: &mut Option<Program>,
    name: i32,
    value: &[u8],
) -> Option<Result<(), Errno>> {
    let locked = options.flag(libc::SOL_SOCKET, libc::SO_LOCK_FILTER);
    match name {
        libc::SO_LOCK_FILTER => {
            let on = value.first_chunk().is_some_and(|on| i32::from_ne_bytes(*on) != 0);
            (locked && !on).then_some(Err(Errno::EPERM))
        }
        libc::SO_ATTACH_FILTER | libc::SO_DETACH_FILTER if locked => Some(Err(Errno::EPERM)),
        libc::SO_ATTACH_FILTER => {
            Some(Program::parse(value).map(|program| *filter = Some(program)))
        }
        libc::SO_DETACH_FILTER => Some(filter.take().map(|_| ()).ok_or(Errno::ENOENT)),
        _ => None,
    }
}

/// How much a filter lets through of a packet, from `start` on; None lets nothing.
fn run(filter: &Program, arrival: &Arrival<'_>, start: usize, ifindex: u32) -> Option<usize> {
    let packet = Packet {
        bytes: &arrival.ip[..arrival.header.total],
        start,
        network: 0,
        has_link: false,
        protocol: if arrival.header.source.is_ipv6() { 0x86dd } else { 0x0800 },
        pkttype: 0,
        ifindex,
        hatype: 1,
        vlan: None,
        random: 0,
    };
    match filter.run(&packet) {
        0 => None,
        kept => Some(usize::try_from(kept).unwrap_or(usize::MAX)),
    }
}

/// Whether the filter of a TCP socket lets a segment through.
pub(crate) fn passes(filter: &Program, arrival: &Arrival<'_>, ifindex: u32) -> bool {
    run(filter, arrival, arrival.header.payload, ifindex).is_some()
}

impl Dgram {
    /// How much a filter lets through of a packet's payload, the header of its protocol included;
    /// None lets nothing.
    pub(crate) fn filtered(&self, arrival: &Arrival<'_>, ifindex: u32) -> Option<usize> {
        let Some(filter) = &self.filter else { return Some(usize::MAX) };
        // An IPv4 raw socket has the header too.
        let raw4 = self.class == Class::Raw && self.family == umvu_abi::sockaddr::AF_INET;
        run(filter, arrival, if raw4 { 0 } else { arrival.header.payload }, ifindex)
    }

    /// The same of a UDP datagram's data.
    pub(crate) fn filtered_udp(&self, arrival: &Arrival<'_>, ifindex: u32) -> Option<usize> {
        self.filtered(arrival, ifindex).map(|kept| kept.saturating_sub(UDP_HEADER))
    }
}
