//! Socket options: which there are, what they may be set to, what they are by default (socket(7),
//! ip(7), ipv6(7), tcp(7), udp(7), raw(7), packet(7)).
//!
//! A table says all of it; the few options that the stack acts upon have accessors.

mod values;

use smoltcp::time::Duration;
use umvu_abi::Errno;

use self::values::{STAMPING_END, adjust, check, congestion, integer, padded};
use super::{
    opttable::{IPV6_HDRINCL, IPV6_UNICAST_IF, SOL_UDPLITE, Shape, find},
    ports::Sharing,
    tcp::{
        flow::{BUFFER, Tuning},
        sender::control::Algorithm,
    },
};

/// What kind of socket options belong to; the bits of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// TCP.
    Stream = 1,
    /// UDP.
    Udp = 2,
    /// UDP-Lite.
    UdpLite = 32,
    /// ICMP by SOCK_DGRAM.
    Ping = 4,
    /// SOCK_RAW of an internet family.
    Raw = 8,
    /// AF_PACKET.
    Packet = 16,
}

impl Class {
    /// Whether it is UDP or UDP-Lite.
    pub(crate) fn has_ports(self) -> bool {
        matches!(self, Self::Udp | Self::UdpLite)
    }
}

/// The options of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    class: Class,
    domain: i32,
    kind: i32,
    protocol: i32,
    set: Vec<((i32, i32), Vec<u8>)>,
}

/// As `net.core.rmem_max` and `wmem_max`.
const BUFFER_MAX: i32 = 212_992;

impl Options {
    /// The defaults of a new socket.
    pub(crate) fn new(class: Class, domain: i32, kind: i32, protocol: i32) -> Self {
        Self { class, domain, kind, protocol, set: Vec::new() }
    }

    /// Whether the socket is of an IPv6 family.
    pub(crate) fn is_v6(&self) -> bool {
        self.domain == libc::AF_INET6
    }

    /// The protocol number.
    pub(crate) fn protocol(&self) -> i32 {
        self.protocol
    }

    /// The options a connection takes over from its listener.
    pub(crate) fn inherit(&self) -> Self {
        let own = [(libc::SOL_SOCKET, libc::SO_PRIORITY), (libc::SOL_TCP, libc::TCP_QUICKACK)];
        let mut options = self.clone();
        options.set.retain(|(key, _)| !own.contains(key));
        options
    }

    /// Sets an option. Errors: `ENOPROTOOPT`, `EINVAL`, `EDOM`, `EOPNOTSUPP`, `EPERM`.
    pub(crate) fn set(&mut self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let asked = level;
        let (level, name) = self.shared(level, name);
        if asked != level && value.len() < 4 {
            return Err(Errno::EINVAL);
        }
        let short = value.len() < 4 && matches!(level, libc::SOL_SOCKET | libc::SOL_TCP);
        let shape = match self.shape(level, name) {
            // Linux looks for a number first.
            Ok(Shape::Any | Shape::Congestion) | Err(_) if !short => self.shape(level, name)?,
            Ok(shape @ (Shape::Any | Shape::Congestion)) => shape,
            _ if short => return Err(Errno::EINVAL),
            shape => shape?,
        };
        let stored = match shape {
            Shape::Int(_) => {
                let number = integer(level, name, value)?;
                check(level, name, number)?;
                // RFC 3542, 3.1; by the level of raw sockets Linux lets it be set.
                if (level, name) == (libc::SOL_IPV6, libc::IPV6_CHECKSUM)
                    && self.protocol == libc::IPPROTO_ICMPV6
                {
                    return Err(Errno::EINVAL);
                }
                adjust(level, name, number).to_ne_bytes().to_vec()
            }
            Shape::Bool(_) => match integer(level, name, value)? {
                number @ 0..=1 => number.to_ne_bytes().to_vec(),
                _ => return Err(Errno::EINVAL),
            },
            Shape::Deaf(_) => return check(level, name, integer(level, name, value)?),
            Shape::Readable(..) if level == libc::SOL_IPV6 && value.len() < 4 => {
                return Err(Errno::EINVAL);
            }
            Shape::Never(errno) | Shape::Readable(_, errno) | Shape::Refused(errno) => {
                return Err(errno);
            }
            Shape::Hidden(least) if value.is_empty() || value.len() >= least => value.to_vec(),
            // The first header, and how many times eight bytes follow.
            Shape::Headers
                if value.get(1).is_some_and(|more| 8 + 8 * usize::from(*more) <= value.len()) =>
            {
                return Err(Errno::EPERM);
            }
            Shape::Headers if value.is_empty() => return Ok(()),
            Shape::Hidden(_) | Shape::Headers => return Err(Errno::EINVAL),
            Shape::WriteOnly(0) => return integer(level, name, value).map(|_| ()),
            Shape::WriteOnly(other) => return self.set(level, other, value),
            Shape::Wide(_) => {
                let eight = value.first_chunk().map(|bytes| i64::from_ne_bytes(*bytes));
                eight.unwrap_or(integer(level, name, value)?.into()).to_ne_bytes().to_vec()
            }
            Shape::Stamping => {
                let flags = integer(level, name, value)?;
                if !(0..STAMPING_END).contains(&flags) {
                    return Err(Errno::EINVAL);
                }
                i64::from(flags).to_le_bytes().to_vec()
            }
            Shape::NoCredentials | Shape::Absent(_) => return Err(Errno::ENOPROTOOPT),
            Shape::Flag(_) => i32::from(integer(level, name, value)? != 0).to_ne_bytes().to_vec(),
            Shape::Buffer(_) => {
                // As an unsigned number: a negative one is more than the most.
                let asked = integer(level, name, value)?;
                let asked = if asked < 0 { BUFFER_MAX } else { asked.min(BUFFER_MAX) };
                let least = if name == libc::SO_SNDBUF { 4608 } else { 2304 };
                (asked * 2).max(least).to_ne_bytes().to_vec()
            }
            Shape::Time => {
                let micros = value.get(8..16).ok_or(Errno::EINVAL)?;
                let micros = i64::from_ne_bytes(micros.try_into().map_err(|_| Errno::EINVAL)?);
                if !(0..1_000_000).contains(&micros) {
                    return Err(Errno::EDOM);
                }
                value[..16].to_vec()
            }
            Shape::Linger => {
                let seconds = value.get(4..8).ok_or(Errno::EINVAL)?;
                [&i32::from(integer(level, name, value)? != 0).to_ne_bytes()[..], seconds].concat()
            }
            Shape::Congestion => congestion(value)?,
            // ICMP_FILTER: what is not given stays.
            Shape::Any if (level, name) == (libc::SOL_RAW, 1) => {
                if self.protocol != libc::IPPROTO_ICMP {
                    return Err(Errno::EOPNOTSUPP);
                }
                let mut filter = self.get(level, name)?;
                filter.resize(4, 0);
                let given = value.len().min(4);
                filter[..given].copy_from_slice(&value[..given]);
                filter
            }
            Shape::Any => value.to_vec(),
            Shape::Fixed(_) => return Err(Errno::ENOPROTOOPT),
        };
        // One sort of time stamps takes the place of the other.
        if let (libc::SOL_SOCKET, libc::SO_TIMESTAMP | libc::SO_TIMESTAMPNS) = (level, name) {
            self.set.retain(|(key, _)| {
                ![libc::SO_TIMESTAMP, libc::SO_TIMESTAMPNS].map(|name| (level, name)).contains(key)
            });
        }
        self.store((level, name), stored);
        Ok(())
    }

    /// The option of IPv4 that an option of IPv6 is another name of.
    fn shared(&self, level: i32, name: i32) -> (i32, i32) {
        match (level, name) {
            (libc::SOL_IPV6, libc::IPV6_FREEBIND) if self.is_v6() => {
                (libc::SOL_IP, libc::IP_FREEBIND)
            }
            (libc::SOL_IPV6, libc::IPV6_TRANSPARENT) if self.is_v6() => {
                (libc::SOL_IP, libc::IP_TRANSPARENT)
            }
            other => other,
        }
    }

    fn store(&mut self, key: (i32, i32), value: Vec<u8>) {
        match self.set.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.set.push((key, value)),
        }
    }

    /// Tells an option. Errors: `ENOPROTOOPT`.
    pub(crate) fn get(&self, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        let (level, name) = self.shared(level, name);
        // `do_ip_getsockopt`, where all levels end that nobody knows.
        let known = [libc::SOL_SOCKET, libc::SOL_IP, self.own_level()];
        if self.class != Class::Packet && !self.is_v6() && !known.contains(&level) {
            return Err(Errno::EOPNOTSUPP);
        }
        let shape = self.shape(level, name)?;
        let sums = [(libc::SOL_IPV6, libc::IPV6_CHECKSUM), (libc::SOL_RAW, libc::IPV6_CHECKSUM)];
        match (level, name) {
            (libc::SOL_RAW, 1) if self.protocol != libc::IPPROTO_ICMP => {
                return Err(Errno::EOPNOTSUPP);
            }
            of if sums.contains(&of) && self.protocol == libc::IPPROTO_ICMPV6 => {
                let place = self.set.iter().find(|(key, _)| *key == sums[1]);
                let place = place.map(|(_, place)| place.clone());
                return Ok(place.unwrap_or_else(|| 2_i32.to_ne_bytes().to_vec()));
            }
            _ => {}
        }
        match shape {
            Shape::Never(errno) | Shape::Absent(errno) => return Err(errno),
            Shape::Hidden(_) => return Err(Errno::ENOPROTOOPT),
            _ => {}
        }
        if (level, name) == (libc::SOL_IP, libc::IP_MULTICAST_ALL)
            && self.is_v6()
            && !self.set.iter().any(|(key, _)| *key == (level, name))
        {
            return Ok(vec![0; 4]);
        }
        if let Some((_, value)) = self.set.iter().find(|(key, _)| *key == (level, name)) {
            return Ok(value.clone());
        }
        let headed = [(libc::SOL_IP, libc::IP_HDRINCL), (libc::SOL_IPV6, IPV6_HDRINCL)];
        if self.class == Class::Raw
            && self.protocol == libc::IPPROTO_RAW
            && headed.contains(&(level, name))
        {
            return Ok(1_i32.to_ne_bytes().to_vec());
        }
        if level == libc::SOL_SOCKET {
            let own = match name {
                libc::SO_TYPE => Some(self.kind),
                libc::SO_DOMAIN => Some(self.domain),
                libc::SO_PROTOCOL => Some(self.protocol),
                libc::SO_SNDBUF if self.class == Class::Stream => Some(16_384),
                libc::SO_RCVBUF if self.class == Class::Stream => Some(131_072),
                _ => None,
            };
            if let Some(own) = own {
                return Ok(own.to_ne_bytes().to_vec());
            }
        }
        Ok(match shape {
            Shape::Int(default)
            | Shape::Flag(default)
            | Shape::Bool(default)
            | Shape::Deaf(default)
            | Shape::Buffer(default)
            | Shape::Readable(default, _)
            | Shape::Fixed(default) => default.to_ne_bytes().to_vec(),
            Shape::Wide(default) => default.to_ne_bytes().to_vec(),
            Shape::Stamping => vec![0; 8],
            // Process 0, and nobody's user and group.
            Shape::NoCredentials => [vec![0; 4], vec![0xff; 8]].concat(),
            Shape::WriteOnly(_)
            | Shape::Never(_)
            | Shape::Absent(_)
            | Shape::Refused(_)
            | Shape::Hidden(_) => return Err(Errno::ENOPROTOOPT),
            Shape::Headers => Vec::new(),
            Shape::Time => vec![0; 16],
            Shape::Linger => vec![0; 8],
            Shape::Congestion => padded(Algorithm::default()),
            Shape::Any => Vec::new(),
        })
    }

    /// The level of the options of the protocol itself.
    fn own_level(&self) -> i32 {
        match self.class {
            Class::Stream => libc::SOL_TCP,
            Class::Udp => libc::SOL_UDP,
            Class::UdpLite => SOL_UDPLITE,
            Class::Ping => libc::SOL_IP,
            Class::Raw => libc::SOL_RAW,
            Class::Packet => libc::SOL_PACKET,
        }
    }

    /// An option that is a number; 0 when the socket has none such.
    pub(crate) fn int(&self, level: i32, name: i32) -> i32 {
        self.get(level, name)
            .ok()
            .and_then(|value| Some(i32::from_ne_bytes(*value.first_chunk()?)))
            .unwrap_or(0)
    }

    /// A number that was set; 0 when it was not.
    fn given_int(&self, level: i32, name: i32) -> usize {
        let found = self.set.iter().find(|(key, _)| *key == (level, name));
        let value = found.and_then(|(_, value)| Some(i32::from_ne_bytes(*value.first_chunk()?)));
        value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0)
    }

    /// A flag.
    pub(crate) fn flag(&self, level: i32, name: i32) -> bool {
        self.int(level, name) != 0
    }

    fn shape(&self, level: i32, name: i32) -> Result<Shape, Errno> {
        let raw6 = self.class == Class::Raw && self.is_v6();
        if (level == libc::SOL_IPV6 && !self.is_v6()) || (level == libc::SOL_IP && raw6) {
            return Err(Errno::ENOPROTOOPT);
        }
        find(level, name, self.class as u8).ok_or(Errno::ENOPROTOOPT)
    }

    /// TTL or hop limit of what the socket sends to a single receiver.
    pub(crate) fn ttl(&self, v6: bool, default: u8) -> u8 {
        let given = if v6 {
            self.int(libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS)
        } else {
            self.int(libc::SOL_IP, libc::IP_TTL)
        };
        u8::try_from(given).ok().filter(|ttl| *ttl > 0).unwrap_or(default)
    }

    /// TTL or hop limit of what it sends to a group.
    pub(crate) fn multicast_ttl(&self, v6: bool) -> u8 {
        let given = if v6 {
            self.int(libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS)
        } else {
            self.int(libc::SOL_IP, libc::IP_MULTICAST_TTL)
        };
        u8::try_from(given).unwrap_or(1)
    }

    /// TOS or traffic class.
    pub(crate) fn tos(&self, v6: bool) -> u8 {
        let given = if v6 {
            self.int(libc::SOL_IPV6, libc::IPV6_TCLASS)
        } else {
            self.int(libc::SOL_IP, libc::IP_TOS)
        };
        u8::try_from(given).unwrap_or(0)
    }

    /// The seconds of SO_LINGER, when it is on.
    pub(crate) fn linger(&self) -> Option<u32> {
        let value = self.get(libc::SOL_SOCKET, libc::SO_LINGER).ok()?;
        let on = i32::from_ne_bytes(*value.first_chunk()?);
        let seconds = i32::from_ne_bytes(*value.get(4..)?.first_chunk()?);
        (on != 0).then_some(u32::try_from(seconds).unwrap_or(0))
    }

    /// What the guest has made of SO_SNDBUF or SO_RCVBUF, if it has.
    pub(crate) fn asked_buffer(&self, name: i32) -> Option<i32> {
        let (_, value) = self.set.iter().find(|(key, _)| *key == (libc::SOL_SOCKET, name))?;
        value.first_chunk().map(|value| i32::from_ne_bytes(*value))
    }

    /// The bytes of SO_RCVBUF.
    pub(crate) fn receive_buffer(&self) -> usize {
        usize::try_from(self.int(libc::SOL_SOCKET, libc::SO_RCVBUF)).unwrap_or(0)
    }

    /// Whether bind(2) to port 0 leaves the port to connect(2) (`IP_BIND_ADDRESS_NO_PORT`).
    pub(crate) fn binds_no_port(&self) -> bool {
        self.flag(libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
    }

    /// Whether bind(2) takes an address that is nobody's (`IP_FREEBIND`, `IP_TRANSPARENT`, and those
    /// of IPv6).
    pub(crate) fn binds_freely(&self) -> bool {
        self.flag(libc::SOL_IP, libc::IP_FREEBIND) || self.flag(libc::SOL_IP, libc::IP_TRANSPARENT)
    }

    /// The mark of what it sends (`SO_MARK`).
    pub(crate) fn mark(&self) -> u32 {
        self.int(libc::SOL_SOCKET, libc::SO_MARK).cast_unsigned()
    }

    /// The interface for packets to a single receiver (`IP_UNICAST_IF`, `IPV6_UNICAST_IF`), 0 for
    /// any.
    pub(crate) fn unicast_device(&self, v6: bool) -> u32 {
        let given = if v6 {
            self.int(libc::SOL_IPV6, IPV6_UNICAST_IF)
        } else {
            self.int(libc::SOL_IP, libc::IP_UNICAST_IF)
        };
        u32::from_be(given.cast_unsigned())
    }

    /// Whether IPV6_V6ONLY is on.
    pub(crate) fn v6_only(&self) -> bool {
        self.is_v6() && self.flag(libc::SOL_IPV6, libc::IPV6_V6ONLY)
    }

    /// SO_REUSEADDR and SO_REUSEPORT.
    pub(crate) fn sharing(&self, listening: bool) -> Sharing {
        Sharing {
            address: self.flag(libc::SOL_SOCKET, libc::SO_REUSEADDR),
            port: self.flag(libc::SOL_SOCKET, libc::SO_REUSEPORT),
            listening,
        }
    }

    /// The interface of SO_BINDTOIFINDEX, 0 for any.
    pub(crate) fn device(&self) -> u32 {
        u32::try_from(self.int(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)).unwrap_or(0)
    }

    /// Binds to an interface, as SO_BINDTODEVICE does once its name is resolved.
    pub(crate) fn set_device(&mut self, index: u32) {
        let value = i32::try_from(index).unwrap_or(0).to_ne_bytes().to_vec();
        self.store((libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX), value);
    }

    /// What the options mean for a connection.
    pub(crate) fn tuning(&self) -> Tuning {
        let given = |name| {
            let key = (libc::SOL_SOCKET, name);
            self.set.iter().any(|(other, _)| *other == key)
        };
        let size = |name| {
            if given(name) {
                usize::try_from(self.int(libc::SOL_SOCKET, name)).unwrap_or(BUFFER).max(4096)
            } else {
                BUFFER
            }
        };
        let tcp = |name| u64::try_from(self.int(libc::SOL_TCP, name)).unwrap_or(0);
        let keepalive = self.flag(libc::SOL_SOCKET, libc::SO_KEEPALIVE).then(|| {
            (
                Duration::from_secs(tcp(libc::TCP_KEEPIDLE)),
                Duration::from_secs(tcp(libc::TCP_KEEPINTVL)),
                u32::try_from(tcp(libc::TCP_KEEPCNT)).unwrap_or(9),
            )
        });
        let congestion = self
            .get(libc::SOL_TCP, libc::TCP_CONGESTION)
            .ok()
            .and_then(|name| Algorithm::named(&name))
            .unwrap_or_default();
        let user_timeout = match tcp(libc::TCP_USER_TIMEOUT) {
            // `tcp_retries2` = 15 gives up after 924.6 s.
            0 => Duration::from_millis(924_600),
            millis => Duration::from_millis(millis),
        };
        Tuning {
            receive: size(libc::SO_RCVBUF),
            send: size(libc::SO_SNDBUF),
            grows: !given(libc::SO_SNDBUF),
            widens: !given(libc::SO_RCVBUF),
            nodelay: self.flag(libc::SOL_TCP, libc::TCP_NODELAY),
            corked: self.flag(libc::SOL_TCP, libc::TCP_CORK),
            ttl: self.ttl(self.is_v6(), 64),
            tos: self.tos(self.is_v6()),
            keepalive,
            defer: match self.given_int(libc::SOL_TCP, libc::TCP_DEFER_ACCEPT) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds as u64)),
            },
            max_segment: self.given_int(libc::SOL_TCP, libc::TCP_MAXSEG),
            congestion,
            user_timeout,
            reuse: self.flag(libc::SOL_SOCKET, libc::SO_REUSEADDR)
                || self.flag(libc::SOL_SOCKET, libc::SO_REUSEPORT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Options {
        Options::new(Class::Stream, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP)
    }

    #[test]
    fn defaults_are_those_of_linux() {
        let options = stream();
        assert_eq!(options.int(libc::SOL_SOCKET, libc::SO_TYPE), libc::SOCK_STREAM);
        assert_eq!(options.int(libc::SOL_SOCKET, libc::SO_DOMAIN), libc::AF_INET);
        assert_eq!(options.int(libc::SOL_TCP, libc::TCP_KEEPIDLE), 7200);
        assert_eq!(options.int(libc::SOL_IP, libc::IP_TTL), 64);
        let missing = options.get(libc::SOL_IPV6, libc::IPV6_V6ONLY);
        assert_eq!(missing, Err(Errno::EOPNOTSUPP));
        assert_eq!(options.get(libc::SOL_SOCKET, 9999), Err(Errno::ENOPROTOOPT));
    }

    #[test]
    fn buffers_double_and_ranges_are_checked() {
        let mut options = stream();
        options.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &10_000i32.to_ne_bytes()).expect("known");
        assert_eq!(options.receive_buffer(), 20_000);
        assert_eq!(options.tuning().receive, 20_000);
        let bad = options.set(libc::SOL_IP, libc::IP_TTL, &300i32.to_ne_bytes());
        assert_eq!(bad, Err(Errno::EINVAL));
        assert_eq!(options.set(libc::SOL_SOCKET, libc::SO_TYPE, &[0; 4]), Err(Errno::ENOPROTOOPT));
        assert_eq!(options.set(libc::SOL_TCP, libc::TCP_CONGESTION, b"vegas"), Err(Errno::ENOENT));
        options.set(libc::SOL_TCP, libc::TCP_CONGESTION, b"reno").expect("available");
        assert_eq!(options.tuning().congestion, Algorithm::Reno);
    }
}
