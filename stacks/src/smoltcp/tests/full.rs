//! Connections that are full in both directions.

use std::sync::{Arc, atomic::Ordering};

use proptest::prelude::*;
use umvu_abi::net::{Socket, StreamSocket};

use super::{Ignore, Lab, TcpSocket, addr};
use crate::smoltcp::inner::Inner;

/// Twenties of milliseconds (of the clock that the test moves) in which something must move.
const LONG: usize = 500;

/// One end: what it has still to send, and what it has received.
struct End {
    socket: Arc<dyn StreamSocket>,
    sent: usize,
    got: usize,
    finished: bool,
}

/// The byte at a place of a stream.
fn pattern(at: usize) -> u8 {
    (at / 7 + at / 251).to_le_bytes()[0]
}

impl End {
    fn write(&mut self, most: usize, total: usize) {
        let mut left = most.min(total - self.sent);
        let sent = &mut self.sent;
        self.socket
            .transmit(&mut |room| {
                let count = room.len().min(left);
                for byte in &mut room[..count] {
                    *byte = pattern(*sent);
                    *sent += 1;
                }
                left -= count;
                Ok(count)
            })
            .ok();
        if self.sent == total && !self.finished {
            self.finished = true;
            self.socket.finish().expect("connected");
        }
    }

    fn read(&mut self, most: usize) {
        let mut left = most;
        let got = &mut self.got;
        self.socket
            .receive(&mut |bytes| {
                let count = bytes.len().min(left);
                for byte in &bytes[..count] {
                    assert_eq!(*byte, pattern(*got), "at {got}");
                    *got += 1;
                }
                left -= count;
                Ok(count)
            })
            .ok();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Turn(usize),
    Write(usize, usize),
    Read(usize, usize),
    Pass(i64),
}

fn pair(lab: &Lab, buffers: [i32; 4], nodelay: bool) -> [End; 2] {
    let set = |socket: &TcpSocket, name, value: i32| {
        socket.set_option(libc::SOL_SOCKET, name, &value.to_ne_bytes()).expect("known");
    };
    let server = lab.socket(1, libc::AF_INET);
    let client = lab.socket(0, libc::AF_INET);
    for (socket, at) in [(&server, 0), (&client, 2)] {
        set(socket, libc::SO_RCVBUF, buffers[at]);
        set(socket, libc::SO_SNDBUF, buffers[at + 1]);
        let value = i32::from(nodelay).to_ne_bytes();
        socket.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, &value).expect("known");
    }
    server.bind(&addr("0.0.0.0:80")).expect("free");
    server.listen(5).expect("bound");
    client.connect(&addr("10.0.0.2:80")).expect("routed");
    lab.run();
    let accepted = server.accept(&mut || Arc::new(Ignore)).expect("waiting");
    let end = |socket| End { socket, sent: 0, got: 0, finished: false };
    [end(Arc::new(client)), end(accepted.socket)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Turn),
        3 => (0..2usize, 1..100_000usize).prop_map(|(side, most)| Step::Write(side, most)),
        2 => (0..2usize, prop_oneof![1..100usize, 1..20_000usize, Just(1 << 20)])
            .prop_map(|(side, most)| Step::Read(side, most)),
        1 => prop_oneof![0..20i64, 0..3000i64].prop_map(Step::Pass),
    ]
}

fn buffer() -> impl Strategy<Value = i32> {
    prop_oneof![Just(1000), 2000..10_000i32, 30_000..60_000i32, 60_000..70_000i32]
}

/// Lets time pass and both sides write and read all they can; false when nothing moves for long.
fn finishes(lab: &Lab, ends: &mut [End; 2], totals: [usize; 2]) -> bool {
    let mut rest = 0;
    while ends[0].got < totals[1] || ends[1].got < totals[0] {
        let before = ends[0].got + ends[1].got;
        for side in [0, 1] {
            ends[side].write(usize::MAX, totals[side]);
            ends[side].read(usize::MAX);
        }
        lab.time.fetch_add(20_000, Ordering::SeqCst);
        for stack in [0, 1, 0, 1] {
            lab.stacks[stack].with(Inner::turn);
        }
        rest = if ends[0].got + ends[1].got == before { rest + 1 } else { 0 };
        if rest > LONG {
            return false;
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_connection_full_in_both_directions_goes_on(
        steps in prop::collection::vec(step(), 10..120),
        buffers in [buffer(), buffer(), buffer(), buffer()],
        (offload, nodelay) in any::<(bool, bool)>(),
        totals in [1..150_000usize, 1..150_000usize],
    ) {
        let lab = Lab::new(offload);
        let mut ends = pair(&lab, buffers, nodelay);
        for step in steps {
            match step {
                Step::Turn(side) => lab.stacks[side].with(Inner::turn),
                Step::Write(side, most) => ends[side].write(most, totals[side]),
                Step::Read(side, most) => ends[side].read(most),
                Step::Pass(millis) => {
                    lab.time.fetch_add(millis * 1000, Ordering::SeqCst);
                }
            }
        }
        prop_assert!(finishes(&lab, &mut ends, totals), "it stands still");
    }
}
