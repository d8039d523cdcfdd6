//! Socket options of netlink(7), and those of socket(7) that every socket has.

use umvu_abi::Errno;

use super::message::AckStyle;

/// The options of a socket.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) ack: AckStyle,
    pub(super) strict: bool,
    /// `NETLINK_NO_ENOBUFS`: losses are not told.
    pub(super) no_enobufs: bool,
    flags: u32,
    /// The options of socket(7) that were set, and do nothing but keep their values.
    kept: Vec<(i32, i32)>,
    send_buffer: i32,
    receive_buffer: i32,
}

/// What setting an option asks of the socket itself.
pub(super) enum Effect {
    None,
    Join(u32),
    Leave(u32),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack: AckStyle::default(),
            strict: false,
            no_enobufs: false,
            flags: 0,
            kept: Vec::new(),
            send_buffer: 212_992,
            receive_buffer: 212_992,
        }
    }
}

/// As `net.core.rmem_max` and `wmem_max`.
const LARGEST_BUFFER: i32 = 212_992;
/// With `SO_SNDBUFFORCE` and `SO_RCVBUFFORCE`.
const LARGEST_FORCED: i32 = 1 << 22;
/// `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`.
const LEAST_SENT: i32 = 4608;
const LEAST_RECEIVED: i32 = 2304;

impl Options {
    /// How many bytes may wait for the reader.
    pub(super) fn limit(&self) -> usize {
        usize::try_from(self.receive_buffer).unwrap_or_default()
    }

    pub(super) fn set(&mut self, level: i32, name: i32, value: &[u8]) -> Result<Effect, Errno> {
        match level {
            libc::SOL_NETLINK => self.set_netlink(name, value),
            libc::SOL_SOCKET => self.set_socket(name, value),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_netlink(&mut self, name: i32, value: &[u8]) -> Result<Effect, Errno> {
        let number = int(value)?;
        let on = number != 0;
        match name {
            libc::NETLINK_ADD_MEMBERSHIP => return Ok(Effect::Join(number.unsigned_abs())),
            libc::NETLINK_DROP_MEMBERSHIP => return Ok(Effect::Leave(number.unsigned_abs())),
            libc::NETLINK_EXT_ACK => self.ack.extended = on,
            libc::NETLINK_CAP_ACK => self.ack.capped = on,
            libc::NETLINK_GET_STRICT_CHK => self.strict = on,
            libc::NETLINK_NO_ENOBUFS => self.no_enobufs = on,
            libc::NETLINK_PKTINFO
            | libc::NETLINK_BROADCAST_ERROR
            | libc::NETLINK_LISTEN_ALL_NSID => {
                let bit = 1 << name;
                self.flags = if on { self.flags | bit } else { self.flags & !bit };
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::None)
    }

    fn set_socket(&mut self, name: i32, value: &[u8]) -> Result<Effect, Errno> {
        match name {
            libc::SO_SNDBUF => {
                self.send_buffer = buffer_size(int(value)?, LARGEST_BUFFER, LEAST_SENT)
            }
            libc::SO_SNDBUFFORCE => {
                self.send_buffer = buffer_size(int(value)?, LARGEST_FORCED, LEAST_SENT);
            }
            libc::SO_RCVBUF => {
                self.receive_buffer = buffer_size(int(value)?, LARGEST_BUFFER, LEAST_RECEIVED)
            }
            libc::SO_RCVBUFFORCE => {
                self.receive_buffer = buffer_size(int(value)?, LARGEST_FORCED, LEAST_RECEIVED);
            }
            libc::SO_PASSCRED
            | libc::SO_REUSEADDR
            | libc::SO_BROADCAST
            | libc::SO_DONTROUTE
            | libc::SO_KEEPALIVE
            | libc::SO_NO_CHECK
            | libc::SO_OOBINLINE
            | libc::SO_TIMESTAMP
            | libc::SO_TIMESTAMPNS => self.keep(name, i32::from(int(value)? != 0)),
            libc::SO_PRIORITY | libc::SO_MARK => self.keep(name, int(value)?),
            libc::SO_RCVLOWAT => self.keep(name, int(value)?.max(1)),
            libc::SO_ATTACH_FILTER
            | libc::SO_DETACH_FILTER
            | libc::SO_LOCK_FILTER
            | libc::SO_RCVTIMEO
            | libc::SO_SNDTIMEO
            | libc::SO_LINGER => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::None)
    }

    fn keep(&mut self, name: i32, value: i32) {
        self.kept.retain(|(kept, _)| *kept != name);
        self.kept.push((name, value));
    }

    pub(super) fn get(&self, level: i32, name: i32, protocol: i32) -> Result<Vec<u8>, Errno> {
        let flag = |on: bool| Ok(i32::from(on).to_ne_bytes().to_vec());
        let number = |value: i32| Ok(value.to_ne_bytes().to_vec());
        match (level, name) {
            (libc::SOL_NETLINK, libc::NETLINK_EXT_ACK) => flag(self.ack.extended),
            (libc::SOL_NETLINK, libc::NETLINK_CAP_ACK) => flag(self.ack.capped),
            (libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK) => flag(self.strict),
            (libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS) => flag(self.no_enobufs),
            (
                libc::SOL_NETLINK,
                libc::NETLINK_PKTINFO
                | libc::NETLINK_BROADCAST_ERROR
                | libc::NETLINK_LISTEN_ALL_NSID,
            ) => flag(self.flags & (1 << name) != 0),
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => number(self.send_buffer),
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => number(self.receive_buffer),
            (libc::SOL_SOCKET, libc::SO_DOMAIN) => number(libc::AF_NETLINK),
            (libc::SOL_SOCKET, libc::SO_PROTOCOL) => number(protocol),
            (libc::SOL_SOCKET, libc::SO_TYPE) => number(libc::SOCK_RAW),
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => number(0),
            (
                libc::SOL_SOCKET,
                libc::SO_PASSCRED
                | libc::SO_REUSEADDR
                | libc::SO_PRIORITY
                | libc::SO_BROADCAST
                | libc::SO_DONTROUTE
                | libc::SO_KEEPALIVE
                | libc::SO_NO_CHECK
                | libc::SO_OOBINLINE
                | libc::SO_TIMESTAMP
                | libc::SO_TIMESTAMPNS
                | libc::SO_RCVLOWAT
                | libc::SO_MARK,
            ) => {
                let kept = self.kept.iter().find(|(kept, _)| *kept == name);
                let usual = i32::from(name == libc::SO_RCVLOWAT);
                number(kept.map_or(usual, |(_, value)| *value))
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

/// The kernel doubles what is asked for, within bounds.
fn buffer_size(asked: i32, largest: i32, least: i32) -> i32 {
    // As an unsigned number: a negative one is more than the most.
    let asked = if asked < 0 { largest } else { asked.min(largest) };
    (asked * 2).max(least)
}

fn int(value: &[u8]) -> Result<i32, Errno> {
    let bytes = value.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(bytes))
}
