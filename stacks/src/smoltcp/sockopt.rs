//! Socket options: which there are, what they may be set to, what they are by default (socket(7),
//! ip(7), ipv6(7), tcp(7), udp(7), raw(7), packet(7)).
//!
//! A table says all of it; the few options that the stack acts upon have accessors.

use smoltcp::time::Duration;
use umvu_abi::Errno;

use super::{
    opttable::{
        IPV6_ADDR_PREFERENCES, IPV6_UNICAST_IF, RTO_MAX_MS, RTO_MIN_US, SOL_UDPLITE, Shape,
        TX_DELAY, TXREHASH, UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV, find,
    },
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
        let shape = self.shape(level, name)?;
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
        if level == libc::SOL_IPV6 && !self.is_v6() {
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
    pub(crate) fn sharing(&self, listening: bool) -> super::ports::Sharing {
        super::ports::Sharing {
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

/// Reads a number; the IP level also takes a single byte, and for most options nothing (ip(7)).
fn integer(level: i32, name: i32, value: &[u8]) -> Result<i32, Errno> {
    let needs_some = matches!(
        name,
        libc::IP_FREEBIND
            | libc::IP_MINTTL
            | libc::IP_MULTICAST_TTL
            | libc::IP_MULTICAST_LOOP
            | libc::IP_MULTICAST_ALL
            | libc::IP_UNICAST_IF
    );
    // IPV6_DONTFRAG, IPV6_AUTOFLOWLABEL: what is too short is no.
    let lenient = level == libc::SOL_IPV6 && matches!(name, libc::IPV6_DONTFRAG | 70);
    match (value.first_chunk(), value.first()) {
        (Some(four), _) => Ok(i32::from_ne_bytes(*four)),
        _ if lenient => Ok(0),
        (None, Some(byte)) if level == libc::SOL_IP => Ok(i32::from(*byte)),
        (None, None) if level == libc::SOL_IP && !needs_some => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// What Linux makes of a number that it takes.
fn adjust(level: i32, name: i32, number: i32) -> i32 {
    match (level, name, number) {
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 0) => 1,
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, ..0) => LOWAT_MOST,
        // The defaults.
        (libc::SOL_SOCKET, TXREHASH, -1) | (libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS, -1) => 1,
        (libc::SOL_IP, libc::IP_TTL, -1) | (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, -1) => 64,
        (libc::SOL_IP, libc::IP_MULTICAST_TTL, -1) => 1,
        (libc::SOL_IP, libc::IP_TOS, tos) => tos & 0xff,
        (libc::SOL_IPV6, libc::IPV6_TCLASS, -1) => 0,
        (libc::SOL_IPV6, IPV6_ADDR_PREFERENCES, asked) => preferences(asked),
        (SOL_UDPLITE, UDPLITE_SEND_CSCOV | UDPLITE_RECV_CSCOV, covered) if covered != 0 => {
            covered.clamp(8, 0xffff)
        }
        (libc::SOL_TCP, libc::TCP_MAXSEG, 0) => 536,
        (libc::SOL_TCP, libc::TCP_LINGER2, 0) => 60,
        (libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, ..=0) => 0,
        (libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, seconds) => patience(seconds),
        (libc::SOL_TCP, libc::TCP_LINGER2, seconds) => seconds.clamp(-1, 120),
        // The default of `net.core.somaxconn`.
        (libc::SOL_TCP, libc::TCP_FASTOPEN, queue) => queue.min(4096),
        (libc::SOL_TCP, libc::TCP_WINDOW_CLAMP, clamp) if clamp != 0 => clamp.max(WINDOW_LEAST),
        _ => number,
    }
}

/// What `IPV6_ADDR_PREFERENCES` tells of what was asked for: `IPV6_PREFER_SRC_TMP`, `..._PUBLIC` or
/// `..._PUBTMP_DEFAULT`; `..._COA` or `..._HOME`.
fn preferences(asked: i32) -> i32 {
    let kind = if asked & 0x3 == 0 { 0x100 } else { asked & 0x3 };
    let place = if asked & 0x4 == 0 { 0x400 } else { 0x4 };
    kind | place
}

/// Seconds, as whole retransmissions of a SYN-ACK after 1, 2, 4, ... up to 120 seconds, 255 at most.
fn patience(seconds: i32) -> i32 {
    let mut period = 1_i32;
    let mut total = 1_i32;
    for _ in 1..255 {
        if total >= seconds {
            break;
        }
        period = (period * 2).min(120);
        total += period;
    }
    total
}

/// Half of what a receive buffer grows to (`tcp_rmem`).
const LOWAT_MOST: i32 = 1 << 24;
/// `SOCK_MIN_RCVBUF / 2`.
const WINDOW_LEAST: i32 = 1152;
/// The first bit that is none of `SOF_TIMESTAMPING_*`.
const STAMPING_END: i32 = 1 << 19;

/// The ranges that Linux checks.
fn check(level: i32, name: i32, number: i32) -> Result<(), Errno> {
    let range = match (level, name) {
        (libc::SOL_IP, libc::IP_TTL) => {
            if number == -1 {
                return Ok(());
            }
            1..=255
        }
        (libc::SOL_IP, libc::IP_MULTICAST_TTL) => -1..=255,
        (libc::SOL_IP, libc::IP_MTU_DISCOVER) | (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER) => 0..=5,
        (libc::SOL_IP, libc::IP_MINTTL) | (libc::SOL_IPV6, libc::IPV6_MINHOPCOUNT) => 0..=255,
        (
            libc::SOL_IPV6,
            libc::IPV6_UNICAST_HOPS | libc::IPV6_MULTICAST_HOPS | libc::IPV6_TCLASS,
        ) => -1..=255,
        (libc::SOL_TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL) => 1..=32_767,
        (libc::SOL_TCP, libc::TCP_KEEPCNT | libc::TCP_SYNCNT) => 1..=127,
        (libc::SOL_TCP, libc::TCP_MAXSEG) => {
            if number == 0 {
                return Ok(());
            }
            88..=32_767
        }
        (libc::SOL_TCP, TX_DELAY) => 0..=(1 << 28) - 1,
        (libc::SOL_TCP, libc::TCP_USER_TIMEOUT | libc::TCP_FASTOPEN)
        | (libc::SOL_SOCKET, libc::SO_BUSY_POLL | libc::SO_BINDTOIFINDEX) => 0..=i32::MAX,
        (libc::SOL_UDP, libc::UDP_SEGMENT) => 0..=0xffff,
        (libc::SOL_IPV6, libc::IPV6_MTU) => {
            if number == 0 {
                return Ok(());
            }
            1280..=i32::MAX
        }
        (libc::SOL_IPV6, IPV6_ADDR_PREFERENCES) => {
            let both = |pair: i32| number & pair == pair;
            // Temporary or public or as usual, at home or not, generated or not.
            let clash = both(0x3) || both(0x101) || both(0x102) || both(0x404) || both(0x808);
            return if clash { Err(Errno::EINVAL) } else { Ok(()) };
        }
        (libc::SOL_TCP, libc::TCP_SAVE_SYN) => 0..=2,
        (libc::SOL_TCP, libc::TCP_THIN_DUPACK) => 0..=1,
        (libc::SOL_SOCKET, libc::SO_BUF_LOCK) => 0..=3,
        (libc::SOL_SOCKET, TXREHASH) => -1..=1,
        (libc::SOL_TCP, RTO_MAX_MS) => 1000..=120_000,
        (libc::SOL_TCP, RTO_MIN_US) => 1000..=120_000_000,
        _ => return Ok(()),
    };
    if range.contains(&number) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn congestion(value: &[u8]) -> Result<Vec<u8>, Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    Ok(padded(Algorithm::named(value).ok_or(Errno::ENOENT)?))
}

fn padded(algorithm: Algorithm) -> Vec<u8> {
    let mut name = algorithm.name().as_bytes().to_vec();
    name.resize(16, 0);
    name
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
        assert_eq!(missing, Err(Errno::ENOPROTOOPT));
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

    #[test]
    fn patience_is_counted_in_retransmissions() {
        for (asked, told) in [(1, 1), (2, 3), (100, 127), (128, 247), (32_767, 29_887)] {
            assert_eq!(patience(asked), told);
        }
    }
}
