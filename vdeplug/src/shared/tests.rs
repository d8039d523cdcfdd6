use std::os::unix::net::UnixDatagram;

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::EpollCreateFlags,
};

use super::*;

struct Side {
    line: Line,
    epoll: Arc<Epoll>,
    drops: Drops,
}

impl Side {
    fn new(socket: UnixDatagram, memory: &Arc<Memory>, end: End) -> Self {
        socket.set_nonblocking(true).expect("a socket");
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor"));
        let watch = (Arc::clone(&epoll), 0);
        let line = Line::new(socket.into(), watch, Arc::clone(memory), end).expect("a line");
        Self { line, epoll, drops: Drops::default() }
    }

    fn send(&self, count: usize, length: usize) {
        let frames = (0..count).map(|n| {
            let mut bytes = vec![0; length];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Frame::from(bytes)
        });
        self.line.send(frames, &self.drops);
    }

    fn receive(&self, budget: usize) -> Result<Vec<usize>, Broken> {
        let mut got = Vec::new();
        let count = self.line.receive(budget, &mut |frame| {
            let number = frame.bytes[..8].try_into().expect("eight bytes");
            got.push(usize::from_le_bytes(number));
        })?;
        assert_eq!(count, got.len());
        Ok(got)
    }

    fn is_awake(&self) -> bool {
        let mut fds = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }
}

fn sides() -> (Side, Side, Arc<Memory>) {
    let (near, far) = UnixDatagram::pair().expect("sockets");
    let memory = Arc::new(Memory::create(WORDS).expect("memory").0);
    let switch = Side::new(near, &memory, End::Switch);
    (switch, Side::new(far, &memory, End::Client), memory)
}

#[test]
fn one_wake_up_is_enough_until_the_other_end_has_looked() {
    let (switch, client, _) = sides();
    assert!(!client.is_awake());
    switch.send(3, 60);
    assert!(client.is_awake());
    switch.send(2, 60);
    assert_eq!(client.receive(4), Ok(vec![0, 1, 2, 0]));
    assert_eq!(client.receive(4), Ok(vec![1]));
    assert!(!client.is_awake(), "it looked at everything");
    assert_eq!(client.receive(4), Ok(vec![]));
    client.send(1, 60);
    assert_eq!(switch.receive(4), Ok(vec![0]));
}

#[test]
fn what_does_not_fit_waits_and_is_sent_in_order_when_there_is_room() {
    let (switch, client, _) = sides();
    switch.send(1000, 1514);
    assert!(switch.line.backlog() > 500 && switch.drops.get() == 0);
    assert!(!switch.is_awake());
    let mut got = Vec::new();
    while got.len() < 1000 {
        if client.is_awake() {
            got.extend(client.receive(usize::MAX).expect("honest"));
        }
        if switch.is_awake() {
            switch.receive(1).expect("honest");
        }
    }
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert_eq!(switch.line.backlog(), 0);
}

#[test]
fn no_wake_up_is_lost_between_two_that_sleep_whenever_they_can() {
    const FRAMES: usize = 100_000;
    let (switch, client, _) = sides();
    let sleep = |side: &Side| {
        let mut fds = [PollFd::new(side.epoll.0.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "nobody wakes it");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while sent < FRAMES {
                // Now few, now more than fit.
                let count = (1 + sent % 97 * 7).min(FRAMES - sent);
                client.send(count, 60 + sent % 9 * 1000);
                sent += count;
                while client.line.backlog() > 0 {
                    sleep(&client);
                    client.receive(1).expect("honest");
                }
            }
        });
        let mut received = 0;
        while received < FRAMES {
            match switch.receive(256).expect("honest").len() {
                256 => received += 256,
                count => {
                    received += count;
                    if received < FRAMES {
                        sleep(&switch);
                    }
                }
            }
        }
    });
    assert_eq!(client.drops.get(), 0);
}

#[test]
fn who_never_looks_loses_frames_and_they_are_counted() {
    let (switch, _client, _) = sides();
    switch.send(2000, 1514);
    let fit = switch.line.backlog();
    assert_eq!(fit, LONGEST_BACKLOG);
    assert!(switch.drops.get() > 700);
    switch.send(1, 13);
    switch.send(300, 1514);
    assert_eq!(switch.line.backlog(), LONGEST_BACKLOG);
}

#[test]
fn what_an_end_that_is_gone_left_is_still_read() {
    let (switch, client, _) = sides();
    client.send(2, 60);
    drop(client);
    assert!(switch.is_awake());
    assert_eq!(switch.receive(64), Ok(vec![0, 1]));
    switch.send(2, 60);
    assert!(!switch.is_awake(), "the stream tells that it is gone");
}

#[test]
fn frames_that_would_cost_others_much_are_cut_before_they_are_sent() {
    let (switch, client, memory) = sides();
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 3, 4)
        .write(&mut bytes, &[7; 30_000])
        .expect("a packet");
    let segment_size = std::num::NonZeroU16::new(100);
    let offload = crate::Offload { checksum_pending: true, segment_size };
    client.line.send(std::iter::once(Frame { bytes, offload }), &client.drops);
    let mut lengths = Vec::new();
    let count = switch.line.receive(1000, &mut |frame| lengths.push(frame.bytes.len()));
    assert_eq!((count, lengths), (Ok(300), vec![154; 300]));

    // Segments of a byte, from a client that is not of this library.
    client.send(1, 3000);
    let at = RING + 512 + 300 * (1 + 154_usize.div_ceil(8));
    assert_eq!(memory.words()[at].fetch_or(1 << 32, Ordering::Relaxed), 3000);
    assert_eq!(switch.receive(64), Err(Broken));
}

#[test]
fn an_end_that_lies_is_noticed() {
    for (at, value) in [(0, 1 << 40), (0, u64::MAX), (512, 77), (512, u64::MAX), (512, 13)] {
        let (switch, client, memory) = sides();
        client.send(1, 60);
        // The second ring is that of the client: its tail, or the first word of a record.
        memory.words()[RING + at].store(value, Ordering::Relaxed);
        assert_eq!(switch.receive(64), Err(Broken), "{at} {value}");
    }
    let (switch, client, memory) = sides();
    switch.send(170, 1514);
    assert_eq!(switch.line.backlog(), 0);
    memory.words()[16].store(1 << 30, Ordering::Relaxed);
    switch.send(17, 1514);
    assert_eq!(switch.receive(64), Err(Broken), "a head beyond what was put");
    assert_eq!(client.receive(1), Ok(vec![0]));
}

#[test]
fn wake_ups_without_end_stall_nobody() {
    let (near, far) = UnixDatagram::pair().expect("sockets");
    far.set_nonblocking(true).expect("a socket");
    let memory = Arc::new(Memory::create(WORDS).expect("memory").0);
    let switch = Side::new(near, &memory, End::Switch);
    while far.send(&[7; 9000]).is_ok() {}
    assert_eq!(switch.receive(64), Ok(vec![]));
    switch.send(5, 60);
}
