//! The table of socket options: level, number, which sockets have it, shape and default.

/// The form of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A number.
    Int(i32),
    /// A number that becomes 0 or 1.
    Flag(i32),
    /// A number that must be 0 or 1.
    Bool(i32),
    /// What is set is taken and forgotten: it reads as this number.
    Deaf(i32),
    /// What only other sockets can be given: the error of setting it is this one; it reads as this
    /// number.
    Readable(i32, Errno),
    /// What cannot be given to these sockets, and is not told: the error of setting it.
    Refused(Errno),
    /// What can be given, but is not told: the error of reading is `ENOPROTOOPT`. So many bytes at
    /// least, or none.
    Hidden(usize),
    /// Headers that go with each packet, none of which are taken: the error is `EPERM`, or `EINVAL`
    /// for what is none.
    Headers,
    /// What no socket of these families has: the error of both calls is this one.
    Never(Errno),
    /// A number that only privileged users set, and nobody reads.
    WriteOnly(i32),
    /// The credentials of a peer that has none (`struct ucred`).
    NoCredentials,
    /// A number of 8 bytes, or of 4 where there is not more room.
    Wide(i64),
    /// A `struct so_timestamping`.
    Stamping,
    /// Nothing is there: the error of reading is this one, and it cannot be set.
    Absent(Errno),
    /// A buffer size: doubled when it is set.
    Buffer(i32),
    /// A number that cannot be set.
    Fixed(i32),
    /// A `struct timeval`.
    Time,
    /// A `struct linger`.
    Linger,
    /// The name of a congestion control.
    Congestion,
    /// Kept as it is.
    Any,
}

use Shape::{
    Absent, Any, Bool, Buffer, Congestion, Deaf, Fixed, Flag, Headers, Hidden, Int, Linger, Never,
    NoCredentials, Readable, Refused, Stamping, Time, Wide, WriteOnly,
};
use umvu_abi::Errno;

/// Masks of [`super::sockopt::Class`].
const S: u8 = 1;
const U: u8 = 2;
const R: u8 = 8;
const P: u8 = 16;
const L: u8 = 32;
const IP: u8 = 15 | L;
const DGRAM: u8 = 14 | L;
const ALL: u8 = 31 | L;

const SOCKET: i32 = libc::SOL_SOCKET;
const V4: i32 = libc::SOL_IP;
const V6: i32 = libc::SOL_IPV6;
const TCP: i32 = libc::SOL_TCP;

// Options that libc does not name: of IP, of sockets, of TCP.
const IP_RECVFRAGSIZE: i32 = 25;
const IP_RECVERR_RFC4884: i32 = 26;
const IP_LOCAL_PORT_RANGE: i32 = 51;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_ROUTER_ALERT_ISOLATE: i32 = 30;
const IPV6_FLOWLABEL_MGR: i32 = 32;
pub(crate) const IPV6_HDRINCL: i32 = 36;
pub(crate) const IPV6_UNICAST_IF: i32 = 76;
pub(crate) const IPV6_ADDR_PREFERENCES: i32 = 72;
const PASSPIDFD: i32 = 76;
const RCVPRIORITY: i32 = 82;
const PASSRIGHTS: i32 = 83;
const IPV6_2292HOPOPTS: i32 = 3;
const IPV6_2292DSTOPTS: i32 = 4;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_RECVERR_RFC4884: i32 = 31;
const TXTIME: i32 = 61;
pub(crate) const TXREHASH: i32 = 74;
const RCVMARK: i32 = 75;
const PEERPIDFD: i32 = 77;
const TIMESTAMP_NEW: i32 = 63;
const TIMESTAMPNS_NEW: i32 = 64;
const TIMESTAMPING_NEW: i32 = 65;
const RCVTIMEO_NEW: i32 = 66;
const SNDTIMEO_NEW: i32 = 67;
// Of UDP-Lite (RFC 3828).
pub(crate) const SOL_UDPLITE: i32 = libc::IPPROTO_UDPLITE;
pub(crate) const UDPLITE_SEND_CSCOV: i32 = 10;
pub(crate) const UDPLITE_RECV_CSCOV: i32 = 11;
pub(crate) const TX_DELAY: i32 = 37;
pub(crate) const RTO_MAX_MS: i32 = 44;
pub(crate) const RTO_MIN_US: i32 = 45;

#[rustfmt::skip]
const TABLE: &[(i32, i32, u8, Shape)] = &[
    (SOCKET, libc::SO_DEBUG, ALL, Flag(0)),
    (SOCKET, libc::SO_REUSEADDR, ALL, Flag(0)),
    (SOCKET, libc::SO_TYPE, ALL, Fixed(0)),
    (SOCKET, libc::SO_ERROR, ALL, Fixed(0)),
    (SOCKET, libc::SO_DONTROUTE, ALL, Flag(0)),
    (SOCKET, libc::SO_BROADCAST, ALL, Flag(0)),
    (SOCKET, libc::SO_SNDBUF, ALL, Buffer(212_992)),
    (SOCKET, libc::SO_RCVBUF, ALL, Buffer(212_992)),
    (SOCKET, libc::SO_SNDBUFFORCE, ALL, WriteOnly(libc::SO_SNDBUF)),
    (SOCKET, libc::SO_RCVBUFFORCE, ALL, WriteOnly(libc::SO_RCVBUF)),
    (SOCKET, libc::SO_KEEPALIVE, ALL, Flag(0)),
    (SOCKET, libc::SO_OOBINLINE, ALL, Flag(0)),
    (SOCKET, libc::SO_NO_CHECK, ALL, Flag(0)),
    (SOCKET, libc::SO_PRIORITY, ALL, Int(0)),
    (SOCKET, libc::SO_LINGER, ALL, Linger),
    (SOCKET, libc::SO_REUSEPORT, ALL, Flag(0)),
    (SOCKET, libc::SO_PASSCRED, IP, Never(Errno::EOPNOTSUPP)),
    (SOCKET, libc::SO_PASSSEC, IP, Never(Errno::EOPNOTSUPP)),
    (SOCKET, libc::SO_PASSCRED, P, Flag(0)),
    (SOCKET, libc::SO_BSDCOMPAT, ALL, Deaf(0)),
    (SOCKET, libc::SO_PEERCRED, ALL, NoCredentials),
    (SOCKET, libc::SO_PEERGROUPS, ALL, Absent(Errno::ENODATA)),
    (SOCKET, libc::SO_WIFI_STATUS, ALL, Flag(0)),
    (SOCKET, libc::SO_NOFCS, ALL, Flag(0)),
    (SOCKET, libc::SO_CNX_ADVICE, ALL, WriteOnly(0)),
    (SOCKET, libc::SO_PREFER_BUSY_POLL, ALL, Flag(0)),
    (SOCKET, libc::SO_BUF_LOCK, ALL, Int(0)),
    (SOCKET, TXTIME, ALL, Wide(0)),
    (SOCKET, TXREHASH, S, Int(1)),
    (SOCKET, TXREHASH, ALL, Never(Errno::EOPNOTSUPP)),
    (SOCKET, libc::SO_PEERNAME, DGRAM | P, Absent(Errno::ENOTCONN)),
    (SOCKET, libc::SO_INCOMING_NAPI_ID, ALL, Fixed(0)),
    (SOCKET, PASSPIDFD, IP, Never(Errno::EOPNOTSUPP)),
    (SOCKET, PASSRIGHTS, IP, Never(Errno::EOPNOTSUPP)),
    (SOCKET, RCVPRIORITY, ALL, Flag(0)),
    (SOCKET, RCVMARK, ALL, Flag(0)),
    (SOCKET, PEERPIDFD, ALL, Absent(Errno::ENODATA)),
    (SOCKET, TIMESTAMP_NEW, ALL, Flag(0)),
    (SOCKET, TIMESTAMPNS_NEW, ALL, Flag(0)),
    (SOCKET, RCVTIMEO_NEW, ALL, Time),
    (SOCKET, SNDTIMEO_NEW, ALL, Time),
    (SOCKET, TIMESTAMPING_NEW, ALL, Stamping),
    (SOCKET, libc::SO_RCVLOWAT, ALL, Int(1)),
    (SOCKET, libc::SO_SNDLOWAT, ALL, Fixed(1)),
    (SOCKET, libc::SO_RCVTIMEO, ALL, Time),
    (SOCKET, libc::SO_SNDTIMEO, ALL, Time),
    (SOCKET, libc::SO_BINDTODEVICE, ALL, Any),
    (SOCKET, libc::SO_TIMESTAMP, ALL, Flag(0)),
    (SOCKET, libc::SO_ACCEPTCONN, ALL, Fixed(0)),
    (SOCKET, libc::SO_TIMESTAMPNS, ALL, Flag(0)),
    (SOCKET, libc::SO_MARK, ALL, Int(0)),
    (SOCKET, libc::SO_TIMESTAMPING, ALL, Stamping),
    (SOCKET, libc::SO_PROTOCOL, ALL, Fixed(0)),
    (SOCKET, libc::SO_DOMAIN, ALL, Fixed(0)),
    (SOCKET, libc::SO_RXQ_OVFL, ALL, Flag(0)),
    (SOCKET, libc::SO_PEEK_OFF, ALL, Int(-1)),
    (SOCKET, libc::SO_LOCK_FILTER, ALL, Flag(0)),
    // SO_BPF_EXTENSIONS: SKF_AD_MAX.
    (SOCKET, libc::SO_BPF_EXTENSIONS, ALL, Fixed(64)),
    (SOCKET, libc::SO_SELECT_ERR_QUEUE, ALL, Flag(0)),
    (SOCKET, libc::SO_BUSY_POLL, ALL, Int(0)),
    (SOCKET, libc::SO_MAX_PACING_RATE, ALL, Wide(-1)),
    (SOCKET, libc::SO_INCOMING_CPU, ALL, Int(-1)),
    (SOCKET, libc::SO_ZEROCOPY, ALL, Bool(0)),
    (SOCKET, libc::SO_BINDTOIFINDEX, ALL, Int(0)),
    (V4, libc::IP_TOS, IP, Int(0)),
    (V4, libc::IP_TTL, IP, Int(64)),
    (V4, libc::IP_HDRINCL, R, Flag(0)),
    (V4, libc::IP_OPTIONS, IP, Any),
    (V4, libc::IP_RECVOPTS, IP, Flag(0)),
    (V4, libc::IP_RETOPTS, IP, Flag(0)),
    (V4, libc::IP_PKTINFO, IP, Flag(0)),
    (V4, libc::IP_MTU_DISCOVER, IP, Int(1)),
    (V4, libc::IP_RECVERR, IP, Flag(0)),
    (V4, libc::IP_RECVTTL, IP, Flag(0)),
    (V4, libc::IP_RECVTOS, IP, Flag(0)),
    (V4, libc::IP_FREEBIND, IP, Flag(0)),
    (V4, libc::IP_RECVORIGDSTADDR, IP, Flag(0)),
    (V4, libc::IP_MINTTL, IP, Int(0)),
    (V4, libc::IP_BIND_ADDRESS_NO_PORT, IP, Flag(0)),
    (V4, libc::IP_MULTICAST_IF, S, Never(Errno::EINVAL)),
    (V4, libc::IP_MULTICAST_IF, DGRAM, Any),
    (V4, libc::IP_MULTICAST_TTL, IP, Int(1)),
    (V4, libc::IP_MULTICAST_LOOP, IP, Flag(1)),
    (V4, libc::IP_MULTICAST_ALL, IP, Bool(1)),
    (V4, libc::IP_UNICAST_IF, IP, Int(0)),
    (V4, libc::IP_TRANSPARENT, IP, Flag(0)),
    (V4, libc::IP_HDRINCL, DGRAM, Readable(0, Errno::ENOPROTOOPT)),
    (V4, libc::IP_ROUTER_ALERT, R, Flag(0)),
    (V4, libc::IP_ROUTER_ALERT, IP, Readable(0, Errno::EINVAL)),
    (V4, libc::IP_ADD_MEMBERSHIP, S, Refused(Errno::EPROTO)),
    (V4, libc::IP_DROP_MEMBERSHIP, S, Refused(Errno::EPROTO)),
    // ICMP_FILTER of raw(7) is SOL_RAW, 1.
    (libc::SOL_RAW, 1, R, Any),
    (V6, libc::IPV6_UNICAST_HOPS, IP, Int(64)),
    (V6, libc::IPV6_MULTICAST_IF, S, Fixed(0)),
    (V6, libc::IPV6_MULTICAST_IF, DGRAM, Int(0)),
    (V6, libc::IPV6_MULTICAST_HOPS, IP, Int(1)),
    (V6, libc::IPV6_MULTICAST_LOOP, IP, Bool(1)),
    (V6, libc::IPV6_MTU_DISCOVER, IP, Int(1)),
    (V6, libc::IPV6_RECVERR, IP, Flag(0)),
    (V6, libc::IPV6_V6ONLY, IP, Flag(0)),
    (V6, libc::IPV6_RECVPKTINFO, IP, Flag(0)),
    // struct in6_pktinfo
    (V6, libc::IPV6_PKTINFO, IP, Hidden(20)),
    (V6, libc::IPV6_ADD_MEMBERSHIP, S, Refused(Errno::EPROTO)),
    (V6, libc::IPV6_DROP_MEMBERSHIP, S, Refused(Errno::EPROTO)),
    (V6, libc::IPV6_MTU, DGRAM, Int(0)),
    (V6, libc::IPV6_ROUTER_ALERT, DGRAM, Readable(0, Errno::ENOPROTOOPT)),
    (V6, IPV6_ROUTER_ALERT_ISOLATE, IP, Flag(0)),
    (V6, libc::IPV6_JOIN_ANYCAST, IP, Refused(Errno::EINVAL)),
    (V6, libc::IPV6_LEAVE_ANYCAST, IP, Refused(Errno::EINVAL)),
    (V6, IPV6_FLOWLABEL_MGR, IP, Never(Errno::EINVAL)),
    (V6, IPV6_2292PKTOPTIONS, IP, WriteOnly(0)),
    (V6, libc::IPV6_HOPOPTS, IP, Headers),
    (V6, libc::IPV6_RTHDRDSTOPTS, IP, Headers),
    (V6, libc::IPV6_RTHDR, IP, Headers),
    (V6, libc::IPV6_DSTOPTS, IP, Headers),
    (V6, libc::IPV6_TRANSPARENT, IP, Flag(0)),
    (V6, IPV6_UNICAST_IF, IP, Int(0)),
    // IPV6_PREFER_SRC_PUBTMP_DEFAULT | IPV6_PREFER_SRC_HOME
    (V6, IPV6_ADDR_PREFERENCES, IP, Int(0x500)),
    (V6, libc::IPV6_RECVHOPLIMIT, IP, Flag(0)),
    // The options of RFC 2292: IPV6_2292PKTINFO, IPV6_2292HOPLIMIT.
    (V6, 2, IP, Flag(0)),
    (V6, 8, IP, Flag(0)),
    (V6, libc::IPV6_RECVTCLASS, IP, Flag(0)),
    (V6, libc::IPV6_TCLASS, IP, Int(0)),
    (V6, libc::IPV6_DONTFRAG, IP, Flag(0)),
    (V6, IPV6_HDRINCL, R, Flag(0)),
    (V6, libc::IPV6_CHECKSUM, R, Int(-1)),
    // The same, as some programs name it.
    (libc::SOL_RAW, libc::IPV6_CHECKSUM, R, Int(-1)),
    (V6, libc::IPV6_RECVORIGDSTADDR, IP, Flag(0)),
    // IPV6_MULTICAST_ALL, IPV6_AUTOFLOWLABEL, IPV6_FLOWINFO_SEND.
    (V6, 29, IP, Flag(1)),
    (V6, 70, IP, Flag(1)),
    (V6, 33, IP, Flag(0)),
    // ICMPV6_FILTER is SOL_ICMPV6 (58), 1.
    (58, 1, R | 4, Any),
    (TCP, libc::TCP_NODELAY, S, Flag(0)),
    (TCP, libc::TCP_MAXSEG, S, Int(536)),
    (TCP, libc::TCP_CORK, S, Flag(0)),
    (TCP, libc::TCP_KEEPIDLE, S, Int(7200)),
    (TCP, libc::TCP_KEEPINTVL, S, Int(75)),
    (TCP, libc::TCP_KEEPCNT, S, Int(9)),
    (TCP, libc::TCP_SYNCNT, S, Int(6)),
    (TCP, libc::TCP_LINGER2, S, Int(60)),
    (TCP, libc::TCP_DEFER_ACCEPT, S, Int(0)),
    (TCP, libc::TCP_WINDOW_CLAMP, S, Int(0)),
    (TCP, libc::TCP_INFO, S, Fixed(0)),
    (TCP, libc::TCP_QUICKACK, S, Flag(1)),
    (TCP, libc::TCP_CONGESTION, S, Congestion),
    (TCP, libc::TCP_USER_TIMEOUT, S, Int(0)),
    (TCP, libc::TCP_FASTOPEN, S, Int(0)),
    (TCP, libc::TCP_FASTOPEN_CONNECT, S, Bool(0)),
    (TCP, libc::TCP_TIMESTAMP, S, Fixed(0)),
    (TCP, libc::TCP_NOTSENT_LOWAT, S, Int(0)),
    (TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, S, Bool(0)),
    (TCP, libc::TCP_THIN_DUPACK, S, Deaf(0)),
    (TCP, libc::TCP_SAVE_SYN, S, Int(0)),
    (TCP, libc::TCP_FASTOPEN_NO_COOKIE, S, Bool(0)),
    (TCP, libc::TCP_INQ, S, Bool(0)),
    (TCP, TX_DELAY, S, Int(0)),
    (TCP, libc::TCP_REPAIR, S, WriteOnly(0)),
    (TCP, RTO_MAX_MS, S, Int(120_000)),
    (TCP, RTO_MIN_US, S, Int(200_000)),
    (SOL_UDPLITE, UDPLITE_SEND_CSCOV, L, Int(0)),
    (SOL_UDPLITE, UDPLITE_RECV_CSCOV, L, Int(0)),
    (libc::SOL_UDP, libc::UDP_CORK, U | L, Flag(0)),
    // UDP_ENCAP.
    (libc::SOL_UDP, 100, U | L, Fixed(0)),
    (libc::SOL_UDP, libc::UDP_SEGMENT, U | L, Int(0)),
    (libc::SOL_UDP, libc::UDP_GRO, U | L, Flag(0)),
    // UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX.
    (libc::SOL_UDP, 101, U | L, Flag(0)),
    (libc::SOL_UDP, 102, U | L, Flag(0)),
    (libc::SOL_PACKET, libc::PACKET_AUXDATA, P, Flag(0)),
    (libc::SOL_PACKET, libc::PACKET_COPY_THRESH, P, Int(0)),
    (libc::SOL_PACKET, libc::PACKET_ORIGDEV, P, Flag(0)),
    (libc::SOL_PACKET, libc::PACKET_LOSS, P, Flag(0)),
    (libc::SOL_PACKET, libc::PACKET_TIMESTAMP, P, Int(0)),
    // PACKET_TX_HAS_OFF, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING.
    (libc::SOL_PACKET, 19, P, Flag(0)),
    (libc::SOL_PACKET, 20, P, Flag(0)),
    (libc::SOL_PACKET, 23, P, Flag(0)),
    // IP_BLOCK_SOURCE and the other source filters are accepted by none but the group calls.
    (V4, libc::IP_NODEFRAG, R, Flag(0)),
    (V4, libc::IP_NODEFRAG, DGRAM, Fixed(0)),
    (V4, libc::IP_PASSSEC, IP, Flag(0)),
    (V4, libc::IP_CHECKSUM, DGRAM, Flag(0)),
    (V4, IP_RECVFRAGSIZE, DGRAM, Flag(0)),
    (V4, IP_RECVERR_RFC4884, IP, Bool(0)),
    (V4, IP_LOCAL_PORT_RANGE, IP, Int(0)),
    (V6, IPV6_2292HOPOPTS, IP, Flag(0)),
    (V6, IPV6_2292DSTOPTS, IP, Flag(0)),
    (V6, IPV6_2292RTHDR, IP, Flag(0)),
    (V6, libc::IPV6_FLOWINFO, IP, Flag(0)),
    (V6, IPV6_RECVERR_RFC4884, IP, Bool(0)),
    (V6, libc::IPV6_RECVHOPOPTS, IP, Flag(0)),
    (V6, libc::IPV6_RECVRTHDR, IP, Flag(0)),
    (V6, libc::IPV6_RECVDSTOPTS, IP, Flag(0)),
    (V6, libc::IPV6_RECVPATHMTU, IP, Flag(0)),
    (V6, libc::IPV6_MINHOPCOUNT, IP, Int(0)),
    (V6, libc::IPV6_RECVFRAGSIZE, DGRAM, Flag(0)),
];

/// Finds an option of a class of sockets.
pub(crate) fn find(level: i32, name: i32, class: u8) -> Option<Shape> {
    TABLE
        .iter()
        .find(|(table_level, table_name, mask, _)| {
            (*table_level, *table_name) == (level, name) && mask & class != 0
        })
        .map(|(.., shape)| *shape)
}
