//! The numbers that options take: how they are read, which are refused, what becomes of them.

use umvu_abi::Errno;

use super::super::{
    opttable::{
        IPV6_ADDR_PREFERENCES, RTO_MAX_MS, RTO_MIN_US, SOL_UDPLITE, TX_DELAY, TXREHASH,
        UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV,
    },
    tcp::sender::control::Algorithm,
};

/// Reads a number; the IP level also takes a single byte, and for most options nothing (ip(7)).
pub(super) fn integer(level: i32, name: i32, value: &[u8]) -> Result<i32, Errno> {
    let needs_some = matches!(
        name,
        libc::IP_FREEBIND
            | libc::IP_MINTTL
            | libc::IP_MULTICAST_TTL
            | libc::IP_MULTICAST_LOOP
            | libc::IP_MULTICAST_ALL
            | libc::IP_UNICAST_IF
            | libc::IP_TRANSPARENT
    );
    if (level, name) == (libc::SOL_IP, libc::IP_UNICAST_IF) && value.len() != 4 {
        return Err(Errno::EINVAL);
    }
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
pub(super) fn adjust(level: i32, name: i32, number: i32) -> i32 {
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
pub(super) const STAMPING_END: i32 = 1 << 19;

/// The ranges that Linux checks.
pub(super) fn check(level: i32, name: i32, number: i32) -> Result<(), Errno> {
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
        (libc::SOL_IPV6 | libc::SOL_RAW, libc::IPV6_CHECKSUM) => {
            // In whole words.
            let odd = number > 0 && number & 1 != 0;
            return if odd { Err(Errno::EINVAL) } else { Ok(()) };
        }
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

pub(super) fn congestion(value: &[u8]) -> Result<Vec<u8>, Errno> {
    if value.is_empty() {
        return Err(Errno::EINVAL);
    }
    Ok(padded(Algorithm::named(value).ok_or(Errno::ENOENT)?))
}

pub(super) fn padded(algorithm: Algorithm) -> Vec<u8> {
    let mut name = algorithm.name().as_bytes().to_vec();
    name.resize(16, 0);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_counted_in_retransmissions() {
        for (asked, told) in [(1, 1), (2, 3), (100, 127), (128, 247), (32_767, 29_887)] {
            assert_eq!(patience(asked), told);
        }
    }
}
