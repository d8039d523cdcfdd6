//! Which of the guests' sockets some descriptor still refers to.
//!
//! A fresh, bound or datagram socket gives no event when its last descriptor is closed; the
//! kernel's list of AF_UNIX sockets (proc(5), `/proc/net/unix`) tells which inodes are left.

use std::collections::HashSet;

/// The inodes of `asked` that are still open somewhere; all of them when the list cannot be read.
pub(crate) fn living(asked: &[u64]) -> HashSet<u64> {
    let asked: HashSet<u64> = asked.iter().copied().collect();
    match std::fs::read_to_string("/proc/self/net/unix") {
        Ok(list) => list.lines().filter_map(inode_of).filter(|it| asked.contains(it)).collect(),
        Err(_) => asked,
    }
}

/// The inode of a line: `Num RefCount Protocol Flags Type St Inode [Path]`.
fn inode_of(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_socket_lives_and_a_closed_one_does_not() {
        let (one, other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let inode = |socket: &std::os::unix::net::UnixStream| {
            nix::sys::stat::fstat(socket).expect("an open descriptor").st_ino
        };
        let (kept, closed) = (inode(&one), inode(&other));
        drop(other);
        assert_eq!(living(&[kept, closed]), HashSet::from([kept]));
    }
}
