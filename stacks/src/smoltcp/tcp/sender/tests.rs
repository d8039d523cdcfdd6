//! The sending half alone, with acknowledgements that are written down (RFC 2018, 6675, 8985).

use smoltcp::time::{Duration, Instant};

use super::{
    super::{
        options::{Offer, Options},
        segment::{ACK, Segment},
        times::millis,
    },
    Emit, Sender, Shape,
    control::Algorithm,
    recovery::Mode,
};

const MSS: u64 = 1000;
const SHAPE: Shape = Shape { mss: MSS, most: MSS, far: true, nodelay: true, corked: false };
/// What the first byte's number is: numbers wrap in the first window.
const FIRST: u32 = 0u32.wrapping_sub(2500);

/// A sender whose clock and peer are the test's.
struct Script {
    sender: Sender,
    now: Instant,
    /// The peer's sequence number.
    sequence: u32,
}

impl Script {
    /// An open connection with a round-trip time of 100 ms, and `segments` written.
    fn new(sack: bool, segments: u64) -> Self {
        let mut sender = Sender::new(Algorithm::Cubic);
        sender.syn_sent(FIRST.wrapping_sub(1));
        sender.syn_received(Offer { mss: Some(1000), scale: Some(7), sack });
        sender.start(MSS);
        let now = Instant::from_secs(10);
        sender.rtt.sample(Duration::from_millis(100), now);
        let mut script = Self { sender, now, sequence: 7 };
        script.acknowledge(0, &[]);
        script.write(segments * MSS);
        script
    }

    fn write(&mut self, bytes: u64) {
        let mut left = usize::try_from(bytes).expect("small");
        while left > 0 {
            let (written, _) = self.sender.write(left, &mut |room| Ok(room.len()));
            left -= written.expect("no error");
        }
    }

    /// What is sent now, in segments: the first one's index, with a tick when it was sent before.
    fn sent(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(emit) = self.sender.emit(&SHAPE, self.now) {
            all.push(match emit {
                Emit::Probe => "probe".to_owned(),
                Emit::Data { from, length, fin, again, .. } => {
                    assert!(length <= 1000);
                    let (end, again) = (if fin { "F" } else { "" }, if again { "'" } else { "" });
                    format!("{}{end}{again}", from / MSS)
                }
            });
        }
        all
    }

    /// The peer acknowledges segments up to one, and has these ranges of others.
    fn acknowledge(&mut self, to: u64, blocks: &[(u64, u64)]) {
        self.acknowledge_with(to, blocks, 1 << 16);
    }

    fn acknowledge_with(&mut self, to: u64, blocks: &[(u64, u64)], window: u64) {
        self.acknowledge_at(None, to, blocks, window);
    }

    /// The same with the echo of a moment.
    fn acknowledge_at(
        &mut self,
        echo: Option<Instant>,
        to: u64,
        blocks: &[(u64, u64)],
        window: u64,
    ) {
        let number = |segment: u64| self.sender.sequence(segment * MSS);
        let mut option = vec![0; 20];
        let words = u8::try_from(1 + 2 * blocks.len()).expect("few");
        option[12] = (5 + words) << 4;
        option.extend([1, 1, 5, words * 4 - 2]);
        for (start, end) in blocks {
            option.extend(number(*start).to_be_bytes());
            option.extend(number(*end).to_be_bytes());
        }
        let segment = Segment {
            source: 1,
            destination: 2,
            sequence: self.sequence,
            acknowledges: number(to),
            flags: ACK,
            window: u16::try_from(window >> 7).expect("small"),
            length: 0,
        };
        self.sequence += 1;
        self.sender.acknowledged(
            &segment,
            &Options::parse(&option).blocks,
            echo.map(millis),
            self.now,
        );
    }

    /// Lets the time pass until there is something to do; returns how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.sender.due().expect("a timer");
        let passed = due - self.now;
        self.now = due;
        self.sender.expire(due);
        passed
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.sender.expire(self.now);
    }
}

#[test]
fn all_holes_are_repaired_in_one_round_trip() {
    let mut script = Script::new(true, 10);
    assert_eq!(script.sent().len(), 10);
    script.pass(100);
    // 1, 4 and 5 are lost.
    script.acknowledge(1, &[]);
    script.acknowledge(1, &[(2, 3)]);
    script.acknowledge(1, &[(2, 4)]);
    assert!(script.sent().is_empty(), "they may only be late");
    script.acknowledge(1, &[(6, 7), (2, 4)]);
    let mut again = script.sent();
    for more in [8, 9, 10] {
        script.acknowledge(1, &[(6, more), (2, 4)]);
        again.extend(script.sent());
    }
    assert_eq!(again, ["1'", "4'", "5'"]);
    assert!(matches!(script.sender.mode, Mode::Recovery(_)));
    let state = script.sender.state();
    assert_eq!((state.lost, state.sacked, state.repeated, state.mode), (0, 6, 3, 3));
    script.pass(100);
    script.acknowledge(10, &[]);
    assert_eq!((script.sender.mode, script.sender.state().window), (Mode::Open, 7));
    assert_eq!(script.sender.due(), None);
}

#[test]
fn a_retransmission_that_is_lost_too_is_found_by_what_is_sent_after_it() {
    let mut script = Script::new(true, 40);
    script.sent();
    script.pass(100);
    script.acknowledge(0, &[(1, 9)]);
    assert_eq!(script.sent().first().map(String::as_str), Some("0'"));
    // New segments follow it; they arrive, it does not.
    script.acknowledge(0, &[(1, 10)]);
    script.pass(10);
    script.acknowledge(0, &[(1, 10)]);
    let next = script.sender.next / MSS;
    assert!(next > 10, "{next}");
    script.pass(90);
    script.acknowledge(0, &[(1, next)]);
    script.pass(30);
    assert!(script.sent().contains(&"0'".to_owned()));
    assert_eq!(script.sender.counts.backoff, 0, "without a timeout");
}

#[test]
fn what_is_only_late_is_not_sent_again_once_reordering_was_seen() {
    let mut script = Script::new(true, 20);
    script.sent();
    script.pass(100);
    script.acknowledge(0, &[(1, 2)]);
    script.acknowledge(2, &[]);
    assert!(script.sender.rack.reordering);
    script.sent();
    script.acknowledge(2, &[(3, 8)]);
    assert!(!script.sent().contains(&"2'".to_owned()), "a quarter of the round-trip time is left");
    script.pass(26);
    assert!(script.sent().contains(&"2'".to_owned()));
}

#[test]
fn a_needless_retransmission_is_undone() {
    for acknowledged in [9, 10] {
        undo(acknowledged);
    }
}

/// The peer tells so when it has acknowledged so much: in the recovery or after it.
fn undo(acknowledged: u64) {
    let mut script = Script::new(true, 10);
    script.sent();
    script.pass(100);
    let before = script.sender.window();
    script.acknowledge(0, &[(1, 5)]);
    assert_eq!(script.sent(), ["0'"]);
    script.acknowledge(acknowledged, &[]);
    // The peer tells that it got segment 0 twice.
    script.acknowledge(acknowledged, &[(0, 1)]);
    assert_eq!(script.sender.mode, Mode::Open);
    assert!(script.sender.window() >= before);
    assert_eq!(script.sender.counts.needless, 1);
}

#[test]
fn what_was_only_late_is_known_by_the_echo_of_its_timestamp() {
    for (late, restored) in [(true, true), (false, false)] {
        let mut script = Script::new(true, 20);
        script.sent();
        let begun = script.now;
        script.pass(100);
        let before = script.sender.window();
        script.acknowledge(0, &[(4, 8)]);
        assert_eq!(script.sent(), ["0'", "1'", "2'", "3'"]);
        script.pass(5);
        // The first one arrives, or what was sent again does.
        let echo = if late { begun } else { script.now };
        script.acknowledge_at(Some(echo), 1, &[(4, 8)], 1 << 16);
        assert_eq!(script.sender.window() >= before, restored);
        assert_eq!(script.sender.rack.degree, if late { 7000 } else { 0 });
        assert_eq!(script.sender.mode == Mode::Open, late);
    }
}

#[test]
fn a_timeout_that_came_too_soon_is_undone_by_the_echo() {
    let mut script = Script::new(true, 10);
    script.sent();
    let begun = script.now;
    let window = script.sender.window();
    script.pass(210);
    script.sent();
    script.pass(300);
    assert_eq!((script.sent(), script.sender.state().window), (vec!["0'".to_owned()], 1));
    // All were on their way for half a second.
    script.acknowledge_at(Some(begun), 1, &[], 1 << 16);
    assert_eq!((script.sender.mode, script.sender.counts.backoff), (Mode::Open, 0));
    assert!(script.sender.window() >= window && script.sent().is_empty());
}

#[test]
fn copies_that_the_path_made_do_not_widen_the_reordering_window() {
    let mut script = Script::new(true, 30);
    script.sent();
    script.acknowledge(0, &[(2, 3)]);
    script.acknowledge(3, &[]);
    assert!(script.sender.rack.reordering);
    for index in 0..3 {
        script.acknowledge(3, &[(index, index + 1)]);
    }
    script.sent();
    script.pass(100);
    script.acknowledge(3, &[(4, 8)]);
    script.pass(26);
    assert!(script.sent().contains(&"3'".to_owned()), "after a quarter of the least round trip");
}

#[test]
fn a_lost_tail_is_probed_for_before_the_timeout() {
    let mut script = Script::new(true, 3);
    assert_eq!(script.sent(), ["0", "1", "2"]);
    script.pass(100);
    script.acknowledge(1, &[]);
    // Two round-trip times and a little later.
    script.pass(190);
    assert!(script.sent().is_empty());
    script.pass(20);
    assert_eq!(script.sent(), ["2'"]);
    script.pass(100);
    // The probe was the missing last segment: what is before it is lost.
    script.acknowledge(1, &[(2, 3)]);
    script.pass(26);
    assert_eq!(script.sent(), ["1'"]);
    assert_eq!(script.sender.counts.backoff, 0);
}

#[test]
fn the_timeout_sends_all_again_and_backs_off() {
    let mut script = Script::new(true, 10);
    script.sent();
    script.pass(210);
    assert_eq!(script.sent(), ["9'"]);
    script.pass(300);
    assert_eq!(script.sent(), ["0'"]);
    assert_eq!((script.sender.state().window, script.sender.state().mode), (1, 4));
    let due = script.sender.due().expect("a timeout") - script.now;
    assert_eq!(due, Duration::from_millis(600));
    script.pass(600);
    assert_eq!(script.sent(), ["0'"]);
    script.pass(100);
    script.acknowledge(2, &[]);
    assert_eq!(script.sent(), ["2'", "3'", "4'"]);
    script.acknowledge(10, &[]);
    assert!(!script.sender.is_busy() && script.sender.due().is_none());
}

#[test]
fn a_peer_that_drops_what_it_had_is_sent_it_again() {
    let mut script = Script::new(true, 4);
    script.sent();
    script.acknowledge(0, &[(0, 4)]);
    script.pass(2000);
    assert_eq!(script.sent(), ["0'"]);
    script.acknowledge(1, &[]);
    assert_eq!(script.sent(), ["1'", "2'"]);
}

#[test]
fn three_duplicates_repair_a_loss_without_sack() {
    let mut script = Script::new(false, 10);
    script.sent();
    script.pass(100);
    for _ in 0..2 {
        script.acknowledge(0, &[(1, 2)]);
        assert!(script.sent().is_empty());
    }
    script.acknowledge(0, &[]);
    assert_eq!(script.sent(), ["0'"]);
    script.pass(100);
    // A partial acknowledgement: the next hole.
    script.acknowledge(3, &[]);
    assert_eq!(script.sent(), ["3'"]);
    script.acknowledge(10, &[]);
    assert_eq!(script.sender.mode, Mode::Open);
}

#[test]
fn a_closed_window_is_probed_and_small_segments_wait_for_nagle() {
    let mut script = Script::new(true, 2);
    script.acknowledge_with(0, &[], 1024);
    assert_eq!(script.sent(), ["0"]);
    script.acknowledge_with(1, &[], 0);
    assert!(script.sent().is_empty());
    let first = script.wait();
    assert_eq!(script.sent(), ["probe"]);
    script.acknowledge_with(1, &[], 0);
    assert_eq!((script.wait(), script.sent()), (first * 2, vec!["probe".to_owned()]));
    script.acknowledge_with(1, &[], 1 << 16);
    assert_eq!(script.sent(), ["1"]);
    let lazy = Shape { nodelay: false, ..SHAPE };
    script.write(10);
    assert!(script.sender.emit(&lazy, script.now).is_some(), "no small one is under way");
    script.write(10);
    assert_eq!(script.sender.emit(&lazy, script.now), None);
    script.sender.finish();
    assert!(matches!(
        script.sender.emit(&lazy, script.now),
        Some(Emit::Data { length: 10, fin: true, push: true, again: false, .. })
    ));
}

#[test]
fn a_cork_holds_small_segments_back_for_a_while() {
    let corked = Shape { corked: true, ..SHAPE };
    let emit = |script: &mut Script, shape: &Shape| match script.sender.emit(shape, script.now) {
        Some(Emit::Data { length, .. }) => length,
        _ => 0,
    };
    let mut script = Script::new(true, 0);
    script.write(10);
    assert_eq!(emit(&mut script, &corked), 0);
    script.write(MSS - 10);
    assert_eq!(emit(&mut script, &corked), 1000, "a whole segment goes");
    script.write(20);
    let begun = script.now;
    assert_eq!(emit(&mut script, &corked), 0);
    script.acknowledge(1, &[]);
    assert_eq!(emit(&mut script, &corked), 0);
    script.wait();
    assert_eq!((emit(&mut script, &corked), script.now - begun), (20, Duration::from_millis(200)));
    script.write(30);
    assert_eq!(emit(&mut script, &corked), 0);
    assert_eq!(emit(&mut script, &SHAPE), 30, "without the cork it goes");
}

#[test]
fn acknowledgements_of_what_was_never_sent_change_nothing() {
    let mut script = Script::new(true, 5);
    script.sent();
    script.acknowledge(7, &[]);
    assert_eq!(script.sender.una, 0);
    script.acknowledge(0, &[(3, 9), (4, 2), (u64::from(u32::MAX) / MSS, 3)]);
    assert_eq!(script.sender.state().sacked, 0);
    script.acknowledge(5, &[]);
    assert!(!script.sender.is_busy());
}

#[test]
fn copies_that_the_path_made_undo_nothing() {
    let mut script = Script::new(true, 10);
    script.sent();
    script.pass(100);
    script.acknowledge(2, &[(3, 7)]);
    assert_eq!(script.sent().first().map(String::as_str), Some("2'"));
    // Segment 1 came twice, and 5 did: neither was sent again.
    script.acknowledge(2, &[(1, 2), (3, 7)]);
    script.acknowledge(2, &[(5, 6), (3, 7)]);
    script.acknowledge(7, &[(1, 2)]);
    assert!(matches!(script.sender.mode, Mode::Recovery(_)));
    script.acknowledge(7, &[(2, 3)]);
    assert_eq!(script.sender.mode, Mode::Open, "what was sent again did");
}
