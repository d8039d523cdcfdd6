//! Errors about sent datagrams: the pending error and the error queue (ip(7), IP_RECVERR).

use std::net::{IpAddr, SocketAddr};

use umvu_abi::{Errno, SockAddr, net::QueuedError};

use super::{
    super::{icmp::Report, inner::Inner, sockopt::Class},
    Dgram, DgramId,
};

/// `SO_EE_ORIGIN_LOCAL`, `SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`.
const LOCAL: u8 = 1;
const ICMP: u8 = 2;
const ICMP6: u8 = 3;
/// Entries kept per socket.
const MOST: usize = 64;

impl Dgram {
    /// Whether the guest has asked for the error queue, for what it sends to such a place.
    fn queues_errors(&self, remote: IpAddr) -> bool {
        if remote.is_ipv6() {
            self.options.flag(libc::SOL_IPV6, libc::IPV6_RECVERR)
        } else {
            self.options.flag(libc::SOL_IP, libc::IP_RECVERR)
        }
    }

    fn queue_error(&mut self, error: QueuedError) {
        if self.errors.len() < MOST {
            self.errors.push_back(error);
        }
    }
}

impl Inner {
    /// Tells a socket that it sent more than `mtu` bytes to a place, which must not be cut up.
    pub(crate) fn dgram_too_big(&mut self, id: DgramId, remote: SocketAddr, mtu: usize) {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        if !sock.queues_errors(remote.ip()) {
            return;
        }
        let port = if remote.is_ipv6() { remote.port() } else { sock.peer.map_or(0, |p| p.port()) };
        let destination = SockAddr::from(SocketAddr::new(remote.ip(), port));
        sock.queue_error(QueuedError {
            data: Vec::new(),
            errno: Errno::EMSGSIZE,
            origin: LOCAL,
            icmp_type: 0,
            icmp_code: 0,
            info: u32::try_from(mtu).unwrap_or(u32::MAX),
            offender: SockAddr::Unspec,
            destination: destination.mapped_to(sock.family),
            ttl: 0,
        });
        sock.events.changed();
    }

    /// Tells a UDP socket what became of a datagram of its.
    pub(crate) fn udp_error(
        &mut self,
        class: Class,
        report: &Report,
        [local, remote]: [SocketAddr; 2],
        payload: &[u8],
    ) {
        let found = self.dgrams.udp(class).socks.get(&local.port()).and_then(|list| {
            list.iter().copied().find(|id| {
                self.dgrams.socks.get(*id).is_some_and(|sock| {
                    sock.bound.is_some_and(|(host, _)| host.covers(local.ip()))
                        && sock.peer.is_none_or(|peer| peer == remote)
                })
            })
        });
        if let Some(id) = found {
            self.dgram_error(id, report, remote, payload);
        }
    }

    /// Tells a ping socket.
    pub(crate) fn ping_error(
        &mut self,
        report: &Report,
        ident: u16,
        remote: SocketAddr,
        payload: &[u8],
    ) {
        let key = (remote.is_ipv6(), ident);
        if let Some(id) = self.dgrams.pings.get(&key).copied() {
            self.dgram_error(id, report, remote, payload);
        }
    }

    fn dgram_error(&mut self, id: DgramId, report: &Report, remote: SocketAddr, payload: &[u8]) {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        let v6 = remote.is_ipv6();
        let queues = sock.queues_errors(remote.ip());
        let tells = queues || (report.fatal && sock.peer.is_some());
        if !tells {
            return;
        }
        if queues {
            let offender = report.from.map_or(SockAddr::Unspec, |from| (from, 0).into());
            sock.queue_error(QueuedError {
                data: payload.to_vec(),
                errno: report.errno,
                origin: match (report.from, v6) {
                    (None, _) => LOCAL,
                    (Some(_), false) => ICMP,
                    (Some(_), true) => ICMP6,
                },
                icmp_type: if report.from.is_some() { report.kind } else { 0 },
                icmp_code: if report.from.is_some() { report.code } else { 0 },
                info: report.info,
                offender,
                destination: SockAddr::from(remote).mapped_to(sock.family),
                ttl: report.ttl,
            });
        }
        sock.error = Some(report.errno);
        sock.events.changed();
    }
}
