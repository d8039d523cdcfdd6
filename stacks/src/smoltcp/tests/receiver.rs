//! The receiving half of a connection as a peer sees it, segment by segment: the peer is written
//! down (RFC 9293, 2018, 2883, 5961, 7323).

use std::sync::Arc;

use umvu_abi::net::{Accepted, Socket, StreamSocket, StreamState};

use super::{Ignore, Lab, TcpSocket, addr, connected};
use crate::smoltcp::{
    link::write_ethernet,
    packet::{Build, HEADROOM, IpHeader, TCP, fill_payload_checksum},
    tcp::{
        options::{Offer, Options, Tail},
        segment::{ACK, FIN, PSH, RST, SYN, Segment},
        times::Stamps,
    },
    wire::Frame,
};

/// Bytes of a segment.
const MSS: u32 = 1000;
/// The peer's first number: its data wraps.
const FIRST: u32 = 0u32.wrapping_sub(2500);
/// What the peer offers.
const OFFER: Offer = Offer { mss: Some(1460), scale: Some(7), sack: true };

/// A peer at 10.0.0.1 that is not the first stack, and the second stack's end.
struct Script {
    lab: Lab,
    listener: TcpSocket,
    accepted: Option<Accepted>,
    /// The stack's first number.
    theirs: u32,
    /// The peer's clock, when it has timestamps.
    clock: Option<u32>,
    /// The echo of its segments.
    echo: u32,
}

/// An answer of the stack: numbers are in segments of the peer's data.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    flags: u8,
    acknowledges: u32,
    blocks: Vec<(u32, u32)>,
    echo: Option<u32>,
}

fn answer(acknowledges: u32, blocks: &[(u32, u32)], echo: Option<u32>) -> Answer {
    Answer { flags: ACK, acknowledges, blocks: blocks.to_vec(), echo }
}

impl Script {
    /// An open connection.
    fn new(offer: &Offer, clock: Option<u32>) -> Self {
        let mut script = Self::listening(clock);
        let syn = script.open(offer);
        assert_eq!(syn.flags, SYN | ACK);
        script.send(ACK, 0, 0);
        script.accepted = script.listener.accept(&mut || Arc::new(Ignore));
        assert!(script.accepted.is_some() && script.answers().is_empty());
        script
    }

    fn listening(clock: Option<u32>) -> Self {
        let lab = Lab::new(false);
        // So that the stack knows the address of the peer's interface.
        let (first, second) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        first.reset();
        second.reset();
        lab.run();
        let listener = lab.socket(1, libc::AF_INET);
        listener.bind(&addr("10.0.0.2:81")).expect("free");
        listener.listen(5).expect("bound");
        lab.queues[1].lock().clear();
        Self { lab, listener, accepted: None, theirs: 0, clock, echo: 0 }
    }

    /// Sends the peer's SYN; returns the answer to it.
    fn open(&mut self, offer: &Offer) -> Segment {
        let stamps = self.clock.map(|value| Stamps { value, echo: 0 });
        let tail = Tail::offer(offer, stamps);
        self.transmit(SYN, FIRST.wrapping_sub(1), &tail, &[]);
        let (segment, options) = self.collect().remove(0);
        self.theirs = segment.sequence.wrapping_add(1);
        self.echo = options.stamps.map_or(0, |stamps| stamps.value);
        segment
    }

    /// Sends segments of data: the first one's index, and how many as one.
    fn send(&mut self, flags: u8, index: u32, count: u32) {
        self.send_at(flags, index * MSS, count * MSS);
    }

    fn send_at(&mut self, flags: u8, from: u32, length: u32) {
        let stamps = self.clock.map(|value| Stamps { value, echo: self.echo });
        let data: Vec<u8> = (from..from + length).map(|at| (at % 251).to_le_bytes()[0]).collect();
        self.transmit(flags, FIRST.wrapping_add(from), &Tail::with(stamps), &data);
    }

    fn transmit(&self, flags: u8, sequence: u32, tail: &Tail, data: &[u8]) {
        let build = Build {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            protocol: TCP,
            ttl: 64,
            tos: 0,
            id: 1,
        };
        let tail = tail.as_slice();
        let (mut bytes, at) = build.packet(20 + tail.len() + data.len());
        let acknowledges = if flags & ACK == 0 { 0 } else { self.theirs };
        let (source, destination, window, length) = (9, 81, 500, data.len());
        let head = Segment { source, destination, sequence, acknowledges, flags, window, length };
        head.write(&mut bytes[at..at + 20]);
        bytes[at + 12] += u8::try_from(tail.len() / 4).expect("short") << 4;
        bytes[at + 20..at + 20 + tail.len()].copy_from_slice(tail);
        bytes[at + 20 + tail.len()..].copy_from_slice(data);
        let header = IpHeader::parse(&bytes[HEADROOM..]).expect("it was just made");
        fill_payload_checksum(&header, &mut bytes[at..]);
        write_ethernet(&mut bytes, [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], 0x0800);
        self.lab.stacks[1].with(|inner| inner.frame_input(1, Frame::from(bytes)));
    }

    /// What the stack has sent since.
    fn collect(&self) -> Vec<(Segment, Options)> {
        self.lab.stacks[1].with(crate::smoltcp::inner::Inner::turn);
        let frames = self.lab.queues[1].lock().drain(..).collect::<Vec<_>>();
        let parse = |frame: Frame| {
            let ip = &frame.bytes[HEADROOM..];
            let header = IpHeader::parse(ip).expect("well formed");
            let tcp = &ip[header.payload..header.total];
            (Segment::parse(tcp).expect("well formed"), Options::parse(tcp))
        };
        frames.into_iter().map(parse).collect()
    }

    fn answers(&self) -> Vec<Answer> {
        let index = |number: u32| number.wrapping_sub(FIRST) / MSS;
        let one = |(segment, options): (Segment, Options)| Answer {
            flags: segment.flags,
            acknowledges: index(segment.acknowledges),
            blocks: (options.blocks.as_slice().iter())
                .map(|(start, end)| (index(*start), index(*end)))
                .collect(),
            echo: options.stamps.map(|stamps| stamps.echo),
        };
        self.collect().into_iter().map(one).collect()
    }

    fn pass(&self, millis: i64) {
        self.lab.time.fetch_add(millis * 1000, std::sync::atomic::Ordering::SeqCst);
    }

    fn socket(&self) -> &Arc<dyn StreamSocket> {
        &self.accepted.as_ref().expect("accepted").socket
    }

    /// Reads what there is; returns how many bytes.
    fn read(&self, mut from: u32) -> u32 {
        let begun = from;
        self.socket()
            .receive(&mut |bytes| {
                for byte in bytes {
                    assert_eq!(u32::from(*byte), from % 251, "at {from}");
                    from += 1;
                }
                Ok(bytes.len())
            })
            .expect("open");
        from - begun
    }
}

#[test]
fn an_answer_offers_what_was_offered_and_no_more() {
    let offers = [OFFER, Offer { sack: false, ..OFFER }, Offer { scale: None, ..OFFER }];
    for (offer, clock) in offers.iter().flat_map(|offer| [(offer, Some(7)), (offer, None)]) {
        let mut script = Script::listening(clock);
        let stamps = clock.map(|value| Stamps { value, echo: 0 });
        script.transmit(SYN, FIRST.wrapping_sub(1), &Tail::offer(offer, stamps), &[]);
        let (segment, options) = script.collect().remove(0);
        // Whole segments, as the kernel offers them: 45 of 1448 bytes, or 44 of 1460.
        let window = if clock.is_some() { 65_160 } else { 64_240 };
        assert_eq!((segment.flags, segment.window), (SYN | ACK, window));
        assert_eq!(options.offer, Some(*offer));
        assert_eq!(options.stamps.map(|stamps| stamps.echo), clock);
        script.theirs = segment.sequence.wrapping_add(1);
    }
    let mut script = Script::listening(Some(7));
    script.lab.stacks[1].with(|inner| {
        for name in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
            inner.net.config.set_sysctl(&format!("ipv4.{name}"), "0").expect("a number");
        }
    });
    let tail = Tail::offer(&OFFER, Some(Stamps { value: 7, echo: 0 }));
    script.transmit(SYN, FIRST.wrapping_sub(1), &tail, &[]);
    let (segment, options) = script.collect().remove(0);
    script.theirs = segment.sequence.wrapping_add(1);
    let mss = Some(1460);
    assert_eq!(options.offer, Some(Offer { mss, scale: None, sack: false }));
    assert_eq!(options.stamps, None);
}

#[test]
fn every_hole_is_told_of_at_once_the_newest_first() {
    for clock in [None, Some(100)] {
        let mut script = Script::new(&OFFER, clock);
        script.send(ACK, 0, 1);
        assert_eq!(script.answers(), [answer(1, &[], clock)]);
        let mut blocks = Vec::new();
        for index in [2, 4, 6, 8, 10] {
            script.send(ACK, index, 1);
            blocks.insert(0, (index, index + 1));
            blocks.truncate(if clock.is_some() { 3 } else { 4 });
            assert_eq!(script.answers(), [answer(1, &blocks, clock)]);
        }
        script.send(ACK, 5, 1);
        let first = &script.answers()[0];
        assert_eq!(first.blocks[..3], [(4, 7), (10, 11), (8, 9)]);
        assert_eq!(script.read(0), MSS);
        script.send(ACK, 1, 1);
        assert_eq!(script.answers()[0].acknowledges, 3);
        script.send(ACK, 3, 1);
        assert_eq!(script.answers(), [answer(7, &[(10, 11), (8, 9)], clock)]);
        assert_eq!(script.read(MSS), 6 * MSS);
    }
    // Without SACK there are duplicates only.
    let mut script = Script::new(&Offer { sack: false, ..OFFER }, None);
    for index in [1, 3, 4] {
        script.send(ACK, index, 1);
        assert_eq!(script.answers(), [answer(0, &[], None)]);
    }
}

#[test]
fn what_comes_twice_is_reported_once() {
    let mut script = Script::new(&OFFER, None);
    script.send(ACK, 0, 3);
    script.answers();
    for (index, count) in [(1, 1), (0, 3)] {
        script.send(ACK, index, count);
        assert_eq!(script.answers(), [answer(3, &[(index, index + count)], None)]);
    }
    // The first part of a segment.
    script.send(ACK, 2, 3);
    assert_eq!(script.answers(), [answer(5, &[(2, 3)], None)]);
    // Beyond a hole.
    script.send(ACK, 6, 2);
    script.answers();
    script.send(ACK, 7, 2);
    assert_eq!(script.answers(), [answer(5, &[(7, 8), (6, 9)], None)]);
    script.send(ACK, 5, 1);
    assert_eq!(script.answers(), [answer(9, &[], None)]);
    assert_eq!(script.read(0), 9 * MSS);
}

#[test]
fn an_old_segment_is_known_by_its_timestamp() {
    let mut script = Script::new(&OFFER, Some(1000));
    script.send(ACK, 0, 1);
    assert_eq!(script.answers(), [answer(1, &[], Some(1000))]);
    script.clock = Some(999);
    script.send(ACK, 1, 1);
    assert_eq!(script.answers(), [answer(1, &[], Some(1000))], "it is answered, not taken");
    assert_eq!(script.read(0), MSS);
    // A reset needs no timestamp.
    script.send(RST, 1, 0);
    assert!(matches!(script.socket().state(), StreamState::Broken(_)));
}

#[test]
fn the_echo_is_that_of_the_segment_which_moved_the_window() {
    // The cases of RFC 7323, section 4.3.
    let mut script = Script::new(&OFFER, Some(1));
    let send = |script: &mut Script, index, clock| {
        script.clock = Some(clock);
        script.send(ACK, index, 1);
    };
    // (A) Delayed: the first of those that were not acknowledged.
    for clock in 1..=20 {
        send(&mut script, clock - 1, clock);
        script.answers();
    }
    send(&mut script, 20, 21);
    assert_eq!(script.answers(), [], "it waits");
    send(&mut script, 21, 22);
    assert_eq!(script.answers(), [answer(22, &[], Some(21))]);
    // (B) A hole: what came before it; (C) then what filled it.
    send(&mut script, 23, 30);
    assert_eq!(script.answers(), [answer(22, &[(23, 24)], Some(21))]);
    send(&mut script, 24, 31);
    assert_eq!(script.answers(), [answer(22, &[(23, 25)], Some(21))]);
    send(&mut script, 22, 40);
    assert_eq!(script.answers(), [answer(25, &[], Some(40))]);
}

#[test]
fn a_lone_segment_is_acknowledged_a_little_later_but_not_at_the_start() {
    let mut script = Script::new(&OFFER, None);
    for index in 0..16 {
        script.send(ACK, index, 1);
        assert_eq!(script.answers(), [answer(index + 1, &[], None)]);
    }
    script.send(ACK, 16, 1);
    assert_eq!(script.answers(), []);
    script.pass(10);
    assert_eq!(script.answers(), [answer(17, &[], None)]);
    script.send(ACK, 17, 1);
    script.send(ACK, 18, 1);
    assert_eq!(script.answers(), [answer(19, &[], None)]);
    // One that says nothing follows, while there is nothing to send with it.
    script.send(ACK | PSH, 19, 1);
    assert_eq!(script.answers(), [answer(20, &[], None)]);
}

#[test]
fn only_an_exact_reset_ends_and_a_syn_is_challenged() {
    let mut script = Script::new(&OFFER, None);
    script.send(ACK, 0, 1);
    script.answers();
    script.send(RST, 3, 0);
    assert_eq!(script.answers(), [answer(1, &[], None)]);
    for flags in [RST, SYN] {
        script.send(flags, 2, 0);
        assert_eq!(script.answers(), [], "not so often");
    }
    script.pass(500);
    script.send(SYN, 2, 0);
    assert_eq!(script.answers(), [answer(1, &[], None)]);
    script.send(RST, 70_000, 0);
    assert_eq!(script.answers(), []);
    assert_eq!(script.socket().state(), StreamState::Established { peer_closed: false });
    script.send(RST, 1, 0);
    assert_eq!(script.answers(), []);
    assert!(matches!(script.socket().state(), StreamState::Broken(_)));
}

#[test]
fn a_window_closes_is_probed_and_opens_and_never_shrinks() {
    let mut script = Script::listening(None);
    let small = 20_000i32.to_ne_bytes();
    script.listener.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, &small).expect("known");
    script.open(&OFFER);
    script.send(ACK, 0, 0);
    script.accepted = script.listener.accept(&mut || Arc::new(Ignore));
    let mut edge = 0;
    for index in 0..60 {
        script.send(ACK | PSH, index, 1);
        let (segment, _) = script.collect().remove(0);
        let shift = script.lab.stacks[1].with(|inner| {
            inner.tcp.flows.iter().map(|(_, flow)| flow.receiver.shift()).max().expect("one")
        });
        let window = u32::from(segment.window) << shift;
        let now = segment.acknowledges.wrapping_sub(FIRST) + window;
        assert!(now >= edge, "{now} after {edge}");
        edge = now;
    }
    let (last, _) = {
        script.send_at(ACK, edge, 1);
        script.collect().remove(0)
    };
    assert_eq!((last.acknowledges.wrapping_sub(FIRST), last.window), (edge, 0));
    assert_eq!(script.read(0), edge);
    let update = script.collect().remove(0).0;
    assert!(update.window > 0 && update.acknowledges == last.acknowledges);
}

#[test]
fn a_fin_waits_for_what_is_missing_before_it() {
    let mut script = Script::new(&OFFER, None);
    script.send(ACK | FIN, 1, 1);
    assert_eq!(script.answers(), [answer(0, &[(1, 2)], None)]);
    assert_eq!(script.socket().state(), StreamState::Established { peer_closed: false });
    script.send(ACK, 0, 1);
    let (segment, _) = script.collect().remove(0);
    assert_eq!(segment.acknowledges, FIRST.wrapping_add(2 * MSS + 1));
    assert_eq!(script.read(0), 2 * MSS);
    assert_eq!(script.socket().state(), StreamState::Established { peer_closed: true });
    // It comes again, with more than there ever was.
    script.send(ACK | FIN, 1, 1);
    script.send(ACK, 2, 4);
    assert!(script.collect().iter().all(|(s, _)| s.acknowledges == segment.acknowledges));
    assert_eq!(script.read(0), 0);
}
