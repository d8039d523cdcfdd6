//! Errors about sent datagrams: the pending error and the error queue (ip(7), IP_RECVERR).

use std::net::SocketAddr;

use umvu_abi::{SockAddr, net::QueuedError};

use super::{
    super::{icmp::Report, inner::Inner},
    DgramId,
};

/// `SO_EE_ORIGIN_LOCAL`, `SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`.
const LOCAL: u8 = 1;
const ICMP: u8 = 2;
const ICMP6: u8 = 3;
/// Entries kept per socket.
const MOST: usize = 64;

impl Inner {
    /// Tells a UDP socket what became of a datagram of its.
    pub(crate) fn udp_error(
        &mut self,
        report: &Report,
        local: SocketAddr,
        remote: SocketAddr,
        payload: &[u8],
    ) {
        let found = self.dgrams.udp.get(&local.port()).and_then(|list| {
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
        let queues = if sock.options.is_v6() {
            sock.options.flag(libc::SOL_IPV6, libc::IPV6_RECVERR)
        } else {
            sock.options.flag(libc::SOL_IP, libc::IP_RECVERR)
        };
        let tells = queues || (report.fatal && sock.peer.is_some());
        if !tells {
            return;
        }
        if queues && sock.errors.len() < MOST {
            let offender = report.from.map_or(SockAddr::Unspec, |from| (from, 0).into());
            sock.errors.push_back(QueuedError {
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
            });
        }
        sock.error = Some(report.errno);
        sock.events.changed();
    }
}
