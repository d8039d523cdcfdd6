//! Two stacks on a wire of memory, with a clock that the test moves.

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

use parking_lot::Mutex;
use umvu_abi::{
    SockAddr,
    net::{Socket, SocketEvents, StreamSocket, StreamState},
};

use super::{
    clock::Clock,
    link::Link,
    net::Address,
    shared::Shared,
    sockopt::{Class, Options},
    tcp::{sock::Sock, socket::TcpSocket},
    wire::{Frame, Transport},
};

type Queue = Arc<Mutex<VecDeque<Frame>>>;

/// One end of a wire.
#[derive(Debug)]
struct Wire {
    out: Queue,
    inward: Queue,
    offload: bool,
}

impl Transport for Wire {
    fn send(&self, frames: &mut Vec<Frame>) {
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

struct Ignore;
impl SocketEvents for Ignore {
    fn changed(&self) {}
}

/// Two stacks, 10.0.0.1 and 10.0.0.2, fc00::1 and fc00::2.
struct Lab {
    time: Arc<AtomicI64>,
    stacks: [Arc<Shared>; 2],
}

impl Lab {
    fn new(offload: bool) -> Self {
        let time = Arc::new(AtomicI64::new(1_000_000));
        let queues: [Queue; 2] = Default::default();
        let stacks = [0u8, 1].map(|side| {
            let shared = Arc::new(Shared::new(Clock::Manual(Arc::clone(&time)), u64::from(side)));
            let wire = Wire {
                out: Arc::clone(&queues[usize::from(side)]),
                inward: Arc::clone(&queues[usize::from(1 - side)]),
                offload,
            };
            shared.with(|inner| {
                inner.links[0].up = true;
                let mac = [2, 0, 0, 0, 0, side + 1];
                let mut link = Link::ethernet(2, mac, 1500, Arc::new(wire), 7, inner.now);
                link.up = true;
                inner.links.push(link);
                for (ip, prefix) in [
                    (IpAddr::from([10, 0, 0, side + 1]), 24),
                    (IpAddr::from([0xfc00, 0, 0, 0, 0, 0, 0, u16::from(side) + 1]), 64),
                ] {
                    inner.net.addresses.push(Address { ip, prefix, link: 1 });
                }
            });
            shared
        });
        Self { time, stacks }
    }

    /// Lets both stacks work until nothing moves.
    fn run(&self) {
        for _ in 0..50 {
            for stack in &self.stacks {
                stack.with(super::inner::Inner::turn);
            }
        }
    }

    fn pass(&self, millis: i64) {
        self.time.fetch_add(millis * 1000, Ordering::SeqCst);
        self.run();
    }

    fn socket(&self, side: usize, family: i32) -> TcpSocket {
        let options = Options::new(Class::Stream, family, libc::SOCK_STREAM, libc::IPPROTO_TCP);
        let family = u16::try_from(family).expect("small");
        let sock = Sock::new(family, Arc::new(Ignore), options);
        let id = self.stacks[side].with(|inner| inner.tcp.socks.insert(sock));
        TcpSocket::new(Arc::clone(&self.stacks[side]), id)
    }
}

fn addr(text: &str) -> SockAddr {
    text.parse::<std::net::SocketAddr>().expect("literal").into()
}

fn connected(lab: &Lab, family: i32, target: &str) -> (TcpSocket, Arc<dyn StreamSocket>) {
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

fn send_all(lab: &Lab, from: &dyn StreamSocket, to: &dyn StreamSocket, data: &[u8]) -> Vec<u8> {
    let mut left = data;
    let mut got = Vec::new();
    for _ in 0..2000 {
        from.transmit(&mut |room| {
            let count = room.len().min(left.len());
            room[..count].copy_from_slice(&left[..count]);
            left = &left[count..];
            Ok(count)
        })
        .expect("open");
        lab.pass(1);
        to.receive(&mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(bytes.len())
        })
        .expect("open");
        if left.is_empty() && got.len() == data.len() {
            break;
        }
    }
    got
}

#[test]
fn data_flows_both_ways_over_both_families_with_and_without_offload() {
    for offload in [false, true] {
        for (family, target) in [
            (libc::AF_INET, "10.0.0.2:80"),
            (libc::AF_INET6, "[fc00::2]:80"),
            (libc::AF_INET6, "[::ffff:10.0.0.2]:80"),
        ] {
            let lab = Lab::new(offload);
            let (client, server) = connected(&lab, family, target);
            let data: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
            assert!(send_all(&lab, &client, &*server, &data) == data);
            assert!(send_all(&lab, &*server, &client, &data[..100_000]) == data[..100_000]);
        }
    }
}

#[test]
fn both_sides_close_in_order_and_the_first_rests_in_time_wait() {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.finish().expect("connected");
    lab.run();
    assert_eq!(server.state(), StreamState::Established { peer_closed: true });
    assert_eq!(send_all(&lab, &*server, &client, b"late"), b"late");
    server.close();
    lab.pass(20);
    assert_eq!(client.state(), StreamState::Closed);
    let counts = |side: usize| {
        lab.stacks[side].with(|inner| (inner.tcp.demux.len(), inner.tcp.waits.iter().count()))
    };
    assert_eq!((counts(0), counts(1)), ((0, 1), (0, 0)));
    drop(client);
    lab.pass(61_000);
    assert_eq!(counts(0), (0, 0));
    assert_eq!(lab.stacks[0].with(|inner| (inner.tcp.flows.len(), inner.tcp.usage.len())), (0, 0));
}

#[test]
fn a_closed_port_refuses_and_a_silent_host_is_unreachable() {
    let lab = Lab::new(true);
    let client = lab.socket(0, libc::AF_INET);
    client.connect(&addr("10.0.0.2:81")).expect("routed");
    lab.run();
    assert_eq!(client.state(), StreamState::Refused(umvu_abi::Errno::ECONNREFUSED));
    assert_eq!(client.take_error(), Some(umvu_abi::Errno::ECONNREFUSED));
    assert_eq!(client.state(), StreamState::Fresh);
    client.connect(&addr("10.0.0.9:81")).expect("routed");
    for _ in 0..4 {
        lab.pass(1000);
    }
    assert_eq!(client.state(), StreamState::Refused(umvu_abi::Errno::EHOSTUNREACH));
    client.take_error();
    assert_eq!(client.connect(&addr("192.168.7.7:1")), Err(umvu_abi::Errno::ENETUNREACH));
}

#[test]
#[ignore = "a measurement: run with --release"]
#[expect(clippy::print_stdout, reason = "it is a report")]
fn bulk_speed() {
    for offload in [false, true] {
        let lab = Lab::new(offload);
        let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        let begun = std::time::Instant::now();
        let total = 8_000_000_000usize;
        let (mut sent, mut got) = (0, 0);
        while got < total {
            sent += client.transmit(&mut |room| Ok(room.len().min(total))).expect("open");
            lab.time.fetch_add(20, Ordering::SeqCst);
            for stack in [1, 0] {
                lab.stacks[stack].with(super::inner::Inner::turn);
            }
            got += server.receive(&mut |bytes| Ok(bytes.len())).expect("open");
        }
        let spent = begun.elapsed();
        println!(
            "offload {offload}: {:.1} Gbit/s, sent {sent}",
            got as f64 * 8.0 / spent.as_nanos() as f64
        );
    }
}
