//! TCP between two stacks over a wire that loses, delays, overtakes and doubles.

use std::{collections::BinaryHeap, sync::atomic::Ordering};

use umvu_abi::net::{Socket, StreamSocket, StreamState};

use super::{super::inner::Inner, Lab, connected};
use crate::smoltcp::{rng::Rng, wire::Frame};

/// What a wire does; chances are in a thousand, times in microseconds.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: u64,
    twice: u64,
    late: u64,
    /// These have no delay at all.
    early: u64,
    delay: i64,
    jitter: i64,
}

/// A frame under way: the latest first, as the heap wants it.
struct Flying {
    due: std::cmp::Reverse<(i64, u64)>,
    to: usize,
    frame: Frame,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Flying {}
impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// The wire between the stacks of a lab.
struct Sky<'a> {
    lab: &'a Lab,
    weather: Weather,
    rng: Rng,
    flying: BinaryHeap<Flying>,
    count: u64,
}

impl Sky<'_> {
    fn chance(&mut self, per_thousand: u64) -> bool {
        self.rng.next() % 1000 < per_thousand
    }

    fn collect(&mut self, from: usize, now: i64) {
        let frames: Vec<Frame> = self.lab.queues[from].lock().drain(..).collect();
        for frame in frames {
            if self.chance(self.weather.loss) {
                continue;
            }
            let copies = 1 + u64::from(self.chance(self.weather.twice));
            for _ in 0..copies {
                let mut due = now + self.weather.delay;
                if self.chance(self.weather.early) {
                    due = now;
                } else if self.chance(self.weather.late) {
                    due += i64::try_from(self.rng.next() % 1000).expect("small")
                        * self.weather.jitter
                        / 1000;
                }
                self.count += 1;
                let due = std::cmp::Reverse((due, self.count));
                let frame = Frame { bytes: frame.bytes.clone(), offload: frame.offload };
                self.flying.push(Flying { due, to: 1 - from, frame });
            }
        }
    }

    /// Lets a millisecond pass.
    fn pass(&mut self) {
        let now = self.lab.time.fetch_add(1000, Ordering::SeqCst) + 1000;
        while self.flying.peek().is_some_and(|flying| flying.due.0.0 <= now) {
            let flying = self.flying.pop().expect("it was there");
            let to = &self.lab.stacks[flying.to];
            to.with(|inner| inner.frame_input(1, flying.frame));
            self.collect(flying.to, now);
        }
        for side in [0, 1] {
            self.lab.stacks[side].with(Inner::turn);
            self.collect(side, now);
        }
    }
}

/// One direction of a connection.
struct Stream<'a> {
    from: &'a dyn StreamSocket,
    to: &'a dyn StreamSocket,
    length: usize,
    sent: usize,
    got: usize,
    ended: bool,
}

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]
}

impl Stream<'_> {
    fn step(&mut self) {
        let Self { from, to, length, sent, got, .. } = self;
        if *sent < *length {
            let write = |room: &mut [u8]| {
                let count = room.len().min(*length - *sent);
                for (index, place) in room[..count].iter_mut().enumerate() {
                    *place = byte(*sent + index);
                }
                *sent += count;
                Ok(count)
            };
            from.transmit(&mut { write }).expect("open");
        }
        if *sent == *length && !std::mem::replace(&mut self.ended, true) {
            from.finish().expect("open");
        }
        let read = |bytes: &[u8]| {
            for (index, found) in bytes.iter().enumerate() {
                assert_eq!(*found, byte(*got + index), "at {}", *got + index);
            }
            *got += bytes.len();
            Ok(bytes.len())
        };
        to.receive(&mut { read }).expect("open");
    }

    fn is_over(&self) -> bool {
        let ended = match self.to.state() {
            StreamState::Established { peer_closed } => peer_closed,
            StreamState::Closed => true,
            other => panic!("{other:?}"),
        };
        self.got == self.length && ended
    }
}

/// Sends both ways at once and closes; returns how many milliseconds it took.
fn exchange(seed: u64, weather: Weather, lengths: [usize; 2], offload: bool, control: &str) -> u32 {
    let lab = Lab::new(offload);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.set_option(libc::SOL_TCP, libc::TCP_CONGESTION, control.as_bytes()).expect("known");
    let rng = Rng::new(seed);
    let mut sky = Sky { lab: &lab, weather, rng, flying: BinaryHeap::new(), count: 0 };
    let stream = |from, to, length| Stream { from, to, length, sent: 0, got: 0, ended: false };
    let mut up = stream(&client as &dyn StreamSocket, &*server, lengths[0]);
    let mut down = stream(&*server, &client, lengths[1]);
    let mut spent = 0;
    while !(up.is_over() && down.is_over()) {
        for stream in [&mut up, &mut down] {
            stream.step();
        }
        for side in [0, 1] {
            sky.collect(side, lab.time.load(Ordering::SeqCst));
        }
        sky.pass();
        spent += 1;
        assert!(spent < 900_000, "stalled: {seed} {weather:?} {} {}", up.got, down.got);
    }
    client.close();
    server.close();
    // All is acknowledged, the FINs too: nothing is kept but TIME-WAIT.
    let flows = || lab.stacks.iter().map(|stack| stack.with(|inner| inner.tcp.flows.len())).sum();
    for _ in 0..200_000 {
        let left: usize = flows();
        if left == 0 {
            return spent;
        }
        sky.pass();
    }
    panic!("connections are left: {seed} {weather:?}");
}

#[test]
fn bad_weather_changes_no_byte_and_stalls_nothing() {
    for seed in 0..24u64 {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let mut below = |most: u64| rng.next() % most;
        let weather = Weather {
            loss: [0, 10, 50, 150, 300][usize::try_from(seed % 5).expect("small")],
            twice: below(100),
            late: below(300),
            early: below(2) * below(100),
            delay: i64::try_from(below(60_000)).expect("small"),
            jitter: i64::try_from(below(80_000)).expect("small"),
        };
        let control = ["cubic", "reno", "bbr"][usize::try_from(seed % 3).expect("small")];
        let size = |most| usize::try_from(most).expect("small");
        let lengths = [size(below(300_000)), size(below(100_000))];
        exchange(seed, weather, lengths, seed % 2 == 0, control);
    }
}

#[test]
fn what_is_lost_is_sent_again_within_a_round_trip_or_two() {
    let weather = Weather { loss: 10, twice: 0, late: 0, early: 0, delay: 25_000, jitter: 0 };
    // With a timeout of a second per loss this would take minutes.
    let spent = exchange(7, weather, [4_000_000, 0], false, "cubic");
    assert!(spent < 20_000, "{spent} ms of virtual time");
    let spent = exchange(7, weather, [8_000_000, 0], false, "bbr");
    assert!(spent < 4_000, "{spent} ms of virtual time");
}

#[test]
fn what_overtakes_costs_little() {
    let weather = |early| Weather { loss: 0, twice: 0, late: 0, early, delay: 5_000, jitter: 0 };
    for (control, seed) in [("cubic", 3), ("reno", 3), ("bbr", 3), ("cubic", 4)] {
        let calm = exchange(seed, weather(0), [20_000_000, 0], false, control);
        let wild = exchange(seed, weather(50), [20_000_000, 0], false, control);
        // Half the rate at least; reductions that are not undone would leave a tenth.
        assert!(wild < 2 * calm, "{control}: {wild} ms instead of {calm}");
    }
}
