//! Two stacks on a wire of memory, with a clock that the test or fuzz target moves.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use netlink_emu::values::{Address, Interface, LinkChange, Route, RouteMode};
use parking_lot::Mutex;
use umvu_abi::{
    IfIndex, SockAddr,
    net::{Socket, SocketEvents, SocketSpec, StreamSocket, StreamState},
};

use super::{
    clock::Clock,
    dgram::socket::DgramSocket,
    icmp::fill_icmp_checksum,
    link::write_ethernet,
    packet::{Build, ICMP},
    shared::Shared,
    sockopt::{Class, Options},
    stack::{classify, open_datagram},
    tcp::{sock::Sock, socket::TcpSocket},
    wire::{Frame, Transport},
};
use crate::names::Names;

pub(crate) type Queue = Arc<Mutex<VecDeque<Frame>>>;

/// One end of a wire.
#[derive(Debug)]
struct Wire {
    out: Queue,
    inward: Queue,
    offload: bool,
    longest: Option<Arc<AtomicI64>>,
}

impl Transport for Wire {
    fn send(&self, frames: &mut Vec<Frame>) {
        if let Some(longest) = &self.longest {
            for frame in frames.iter() {
                let length = i64::try_from(frame.bytes.len()).expect("short");
                longest.fetch_max(length, Ordering::SeqCst);
            }
        }
        self.out.lock().extend(frames.drain(..));
    }

    fn receive(&self, frames: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut inward = self.inward.lock();
        let count = budget.min(inward.len());
        frames.extend(inward.drain(..count));
        Ok(count)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_waker(&self, _waker: Arc<dyn Fn() + Send + Sync>) {}

    fn accepts_offload(&self) -> bool {
        self.offload
    }

    fn carrier(&self) -> bool {
        true
    }

    fn tick(&self, _now: std::time::Instant) -> Option<std::time::Instant> {
        None
    }
}

/// Hears of nothing.
pub(crate) struct Ignore;
impl SocketEvents for Ignore {
    fn changed(&self) {}
}

/// Two stacks, 10.0.0.1 and 10.0.0.2, fc00::1 and fc00::2.
pub(crate) struct Lab {
    pub(crate) time: Arc<AtomicI64>,
    pub(crate) stacks: [Arc<Shared>; 2],
    pub(crate) queues: [Queue; 2],
    longest: Arc<AtomicI64>,
}

impl Lab {
    pub(crate) fn new(offload: bool) -> Self {
        let time = Arc::new(AtomicI64::new(1_000_000));
        let queues: [Queue; 2] = Default::default();
        let longest = Arc::new(AtomicI64::new(0));
        let stacks = [0u8, 1].map(|side| {
            let shared =
                Shared::new(Clock::Manual(Arc::clone(&time)), u64::from(side), Names::default());
            let wire = Wire {
                out: Arc::clone(&queues[usize::from(side)]),
                inward: Arc::clone(&queues[usize::from(1 - side)]),
                offload,
                longest: (side == 0).then(|| Arc::clone(&longest)),
            };
            shared.with(|inner| {
                let mac = [2, 0, 0, 0, 0, side + 1];
                inner.add_link(2, super::link::Kind::Ethernet, mac, 1500, Some(Arc::new(wire)));
                let config = &mut inner.net.config;
                let link = Interface::ethernet(IfIndex(2), "vde0", "vde", mac);
                config.insert_link(link).expect("a new link");
                for index in [1, 2] {
                    let up = LinkChange::admin(true);
                    config.set_link(IfIndex(index), &up).expect("it exists");
                }
                let v4 = IpAddr::from([10, 0, 0, side + 1]);
                let v6 = IpAddr::from([0xfc00, 0, 0, 0, 0, 0, 0, u16::from(side) + 1]);
                for (ip, prefix) in [(v4, 24), (v6, 64)] {
                    let mut address = Address::new(IfIndex(2), ip, prefix);
                    if ip.is_ipv4() {
                        address.broadcast = Some([10, 0, 0, 255].into());
                    }
                    config.add_address(&address, RouteMode::ADD).expect("a new address");
                }
            });
            shared
        });
        Self { time, stacks, queues, longest }
    }

    /// Lets both stacks work until nothing moves.
    pub(crate) fn run(&self) {
        for _ in 0..50 {
            for stack in &self.stacks {
                stack.with(super::inner::Inner::turn);
            }
        }
    }

    /// Loses the next frames of the first stack.
    pub(crate) fn lose(&self, count: usize) {
        self.queues[0].lock().drain(..count);
    }

    /// Makes the second stack the router of the first.
    pub(crate) fn gateway(&self) {
        self.stacks[1].with(|inner| {
            inner.net.config.set_sysctl("ipv4.ip_forward", "1").expect("a number");
        });
        self.stacks[0].with(|inner| {
            let route = Route::default_by([10, 0, 0, 2].into());
            inner.net.config.add_route(&route, RouteMode::ADD).expect("on the link");
        });
    }

    /// Drops what the first stack has sent that is longer than `mtu`, says so, and from then on
    /// notes the longest frame.
    pub(crate) fn narrow(&self, mtu: u16) {
        let mut queue = self.queues[0].lock();
        let long: VecDeque<Frame> = {
            let (long, short) =
                queue.drain(..).partition(|f: &Frame| f.bytes.len() > usize::from(mtu) + 14);
            *queue = short;
            long
        };
        drop(queue);
        for frame in long {
            let build = Build {
                source: [10, 0, 0, 2].into(),
                destination: [10, 0, 0, 1].into(),
                protocol: ICMP,
                ttl: 64,
                tos: 0,
                id: 1,
            };
            let (mut bytes, at) = build.packet(8 + 28);
            bytes[at..at + 8].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0, 0]);
            bytes[at + 6..at + 8].copy_from_slice(&mtu.to_be_bytes());
            bytes[at + 8..].copy_from_slice(&frame.bytes[14..42]);
            fill_icmp_checksum(&mut bytes[at..]);
            write_ethernet(&mut bytes, [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], 0x0800);
            self.stacks[0].with(|inner| inner.frame_input(1, Frame::from(bytes)));
        }
        self.longest.store(0, Ordering::SeqCst);
    }

    /// The longest frame that the first stack has sent since.
    pub(crate) fn longest(&self) -> i64 {
        self.longest.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, millis: i64) {
        self.time.fetch_add(millis * 1000, Ordering::SeqCst);
        self.run();
    }

    pub(crate) fn datagram(
        &self,
        side: usize,
        family: i32,
        kind: i32,
        protocol: i32,
    ) -> DgramSocket {
        let spec = SocketSpec { domain: family, kind, protocol };
        let class = classify(&spec).expect("supported");
        let shared = Arc::clone(&self.stacks[side]);
        let id = open_datagram(&shared, &spec, class, Arc::new(Ignore));
        DgramSocket::new(shared, id, class)
    }

    pub(crate) fn socket(&self, side: usize, family: i32) -> TcpSocket {
        let options = Options::new(Class::Stream, family, libc::SOCK_STREAM, libc::IPPROTO_TCP);
        let family = u16::try_from(family).expect("small");
        let sock = Sock::new(family, Arc::new(Ignore), options);
        let id = self.stacks[side].with(|inner| inner.tcp.socks.insert(sock));
        TcpSocket::new(Arc::clone(&self.stacks[side]), id)
    }
}

/// An address from its text.
pub(crate) fn addr(text: &str) -> SockAddr {
    text.parse::<std::net::SocketAddr>().expect("literal").into()
}

/// A connection from the first stack to the second.
pub(crate) fn connected(
    lab: &Lab,
    family: i32,
    target: &str,
) -> (TcpSocket, Arc<dyn StreamSocket>) {
    let server = lab.socket(1, family);
    let any = if family == libc::AF_INET { "0.0.0.0:80" } else { "[::]:80" };
    server.bind(&addr(any)).expect("free");
    server.listen(5).expect("bound");
    let client = lab.socket(0, family);
    client.connect(&addr(target)).expect("routed");
    assert_eq!(client.state(), StreamState::Connecting);
    lab.run();
    assert_eq!(client.state(), StreamState::Established { peer_closed: false });
    let accepted = server.accept(&mut || Arc::new(Ignore)).expect("waiting");
    assert_eq!(accepted.peer, client.local().expect("bound"));
    (client, accepted.socket)
}
