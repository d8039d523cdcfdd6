//! Datagrams that several sends make (`UDP_CORK`, `MSG_MORE`), and sends that make several datagrams
//! (`UDP_SEGMENT`); udp(7).

use umvu_abi::{Errno, SockAddr, net::SendControl, sockaddr::AF_INET};

use super::{super::inner::Inner, Dgram, DgramId};

/// The most datagrams of one send (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 128;

/// A datagram that is not complete yet.
#[derive(Debug)]
pub(crate) struct Cork {
    data: Vec<u8>,
    /// Where the first piece was to go, and how.
    to: Option<SockAddr>,
    control: SendControl,
}

impl Inner {
    /// Sends a datagram, or keeps it until it is complete. Errors: `EMSGSIZE`, with which what was
    /// kept is lost, and those of sending.
    pub(super) fn udp_gather(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get_mut(id).ok_or(Errno::EBADF)?;
        // Before all else, if not by IPv6.
        if data.len() > usize::from(u16::MAX) && is_v4(sock, to) {
            return Err(Errno::EMSGSIZE);
        }
        let more = control.more || sock.options.flag(libc::SOL_UDP, libc::UDP_CORK);
        let cork = match sock.cork.take() {
            None if !more => return self.udp_segments(id, data, to, control),
            None => {
                self.dgram_autobind(id)?;
                let plan = self.plan(id, to, control)?;
                if plan.remote.port() == 0 {
                    return Err(Errno::EINVAL);
                }
                Cork { data: data.to_vec(), to: to.copied(), control: *control }
            }
            Some(mut cork) => {
                cork.data.extend_from_slice(data);
                cork
            }
        };
        let plan = self.plan(id, cork.to.as_ref(), &cork.control)?;
        self.check_size(id, &plan, super::udp::HEADER + cork.data.len())?;
        if !more {
            return self.udp_send(id, &cork.data, cork.to.as_ref(), &cork.control);
        }
        if let Some(sock) = self.dgrams.socks.get_mut(id) {
            sock.cork = Some(cork);
        }
        Ok(())
    }

    /// The cork is taken off: what was kept goes out.
    pub(super) fn udp_uncork(&mut self, id: DgramId) {
        let Some(sock) = self.dgrams.socks.get_mut(id) else { return };
        if let Some(cork) = sock.cork.take() {
            // Nobody waits for the outcome.
            let _ = self.udp_send(id, &cork.data, cork.to.as_ref(), &cork.control);
        }
    }

    fn udp_segments(
        &mut self,
        id: DgramId,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &SendControl,
    ) -> Result<(), Errno> {
        let sock = self.dgrams.socks.get(id).ok_or(Errno::EBADF)?;
        let size = match control.segment {
            0 => usize::try_from(sock.options.int(libc::SOL_UDP, libc::UDP_SEGMENT)).unwrap_or(0),
            size => usize::from(size),
        };
        if size == 0 || data.len() <= size {
            return self.udp_send(id, data, to, control);
        }
        let plan = self.plan(id, to, control)?;
        let header = if plan.remote.is_ipv6() { 40 } else { 20 } + super::udp::HEADER;
        let mtu = self.links.get(plan.hop.link).map_or(1500, |link| link.mtu);
        if size + header > mtu || data.len() > size * SEGMENTS {
            return Err(Errno::EINVAL);
        }
        self.check_size(id, &super::send::Plan { whole: false, ..plan }, data.len())?;
        data.chunks(size).try_for_each(|piece| self.udp_send(id, piece, to, control))
    }
}

/// Whether a datagram goes by IPv4: that of a socket of IPv4, and to a mapped address.
fn is_v4(sock: &Dgram, to: Option<&SockAddr>) -> bool {
    let named = to.and_then(SockAddr::ip).map(|to| to.ip());
    let to = named.or(sock.peer.map(|peer| peer.ip()));
    sock.family == AF_INET || to.is_some_and(|to| to.to_canonical().is_ipv4())
}
