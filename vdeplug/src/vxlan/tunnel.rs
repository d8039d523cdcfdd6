//! [`Tunnel`]: one network of VXLAN datagrams, and who owns which address in it.
//!
//! Frames for addresses that were not heard of go to the group (or the one peer), frames for
//! known ones to their owner. Time is an argument of [`Peers`], in seconds.
//!
//! Locks: the peers, held while looking up, never during a system call that sends.

use std::{
    io::IoSlice,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsFd,
    time::Instant,
};

use nix::sys::socket::SockaddrStorage;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    batch,
    frame::Frame,
    mac_table::{Key, MacTable, address_at, is_group},
    transport::Drops,
    vxlan::{
        options::Options,
        wire::{self, HEADER},
    },
};

/// The sending half of a network, and its memory.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Where frames for unknown addresses go.
    pub(crate) group: SocketAddr,
    pub(crate) header: [u8; HEADER],
    peers: Mutex<Peers>,
    started: Instant,
}

impl Tunnel {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            group: options.group,
            header: wire::header(options.vni),
            peers: Mutex::new(Peers(MacTable::new(options.table_size, options.expiry, None))),
            started: Instant::now(),
        }
    }

    /// Returns the seconds since the network was opened, the time of [`Self::peers`].
    pub(crate) fn now(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    pub(crate) fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock()
    }

    /// Sends all frames, draining the vector; what the socket does not take is dropped.
    pub(crate) fn send(&self, socket: &UdpSocket, frames: &mut Vec<Frame>, drops: &Drops) {
        let packets = batch::wire_ready(frames, drops);
        let now = self.now();
        let mut peers = self.peers();
        let addresses: Vec<_> = packets
            .iter()
            .map(|packet| Some(SockaddrStorage::from(peers.of(packet, now).unwrap_or(self.group))))
            .collect();
        drop(peers);
        let slices: Vec<_> = packets
            .iter()
            .map(|packet| [IoSlice::new(&self.header), IoSlice::new(packet)])
            .collect();
        let sent = batch::send(socket.as_fd(), &slices, &addresses, drops);
        drops.add(packets.len() - sent.done);
    }
}

/// Who owns which address; always Some in an entry.
#[derive(Debug)]
pub(crate) struct Peers(MacTable<Option<SocketAddr>>);

impl Peers {
    /// Makes a small table whose places are the same in every run.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn small() -> Self {
        Self(MacTable::new(64, 120, Some(7)))
    }

    /// Notes that the source of a frame is behind `peer`.
    pub(crate) fn learn(&mut self, frame: &[u8], peer: SocketAddr, now: u32) {
        if let Some(key) = key_at(frame, 6) {
            self.0.learn(key, Some(peer), now);
        }
    }

    /// Returns who owns the destination of a frame; None if it is for many or not known.
    pub(crate) fn of(&mut self, frame: &[u8], now: u32) -> Option<SocketAddr> {
        self.0.lookup(key_at(frame, 0)?, now).flatten()
    }

    /// Forgets everything behind `peer`.
    pub(crate) fn forget(&mut self, peer: SocketAddr) {
        self.0.forget(Some(peer));
    }
}

/// The key of the address at an offset; None if many stations share it. VLANs are not told apart.
fn key_at(frame: &[u8], offset: usize) -> Option<Key> {
    let address = address_at(frame, offset);
    if is_group(address) { None } else { Key::new(address, 0) }
}

/// Reads the sender of a datagram.
pub(crate) fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::V4(SocketAddrV4::from(*a)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|a| SocketAddr::V6(SocketAddrV6::from(*a))))
}
