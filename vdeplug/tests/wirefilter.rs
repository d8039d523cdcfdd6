//! `wirefilter://`: bad links, by our own engine.

mod common;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{beside, directory, frame, open, path_text, send, wait_for};
use vdeplug::{Frame, Transport};

/// Sends numbered frames, then one that comes through in its own way; returns the numbers that
/// arrived in the order in which they did.
fn through(from: &Arc<dyn Transport>, to: &Arc<dyn Transport>, count: u16) -> Vec<u16> {
    let numbered = |n: u16| frame(2, 1, &n.to_be_bytes());
    from.send(&mut (0..count).map(|n| Frame::from(numbered(n))).collect());
    let mut frames = VecDeque::new();
    let mut silent_since = Instant::now();
    // What is delayed is at most so late.
    loop {
        from.receive(&mut VecDeque::new(), 64).expect("a live plug");
        if to.receive(&mut frames, 64).expect("a live plug") > 0 {
            silent_since = Instant::now();
        } else if silent_since.elapsed() > Duration::from_millis(300) {
            break;
        }
        std::thread::yield_now();
    }
    frames.iter().map(|f| u16::from_be_bytes([f.bytes[14], f.bytes[15]])).collect()
}

#[test]
fn the_same_seed_loses_the_same_frames_in_each_direction() {
    let lost = |seed: u32| {
        let directory = directory();
        let place = format!("switch://{}", path_text(&beside(&directory, "sw")));
        let bad = open(&format!("wirefilter://[loss=LR20/loss=RL40/seed={seed}]{{{place}}}"));
        let good = open(&place);
        assert!(!bad.accepts_offload() && bad.carrier());
        (through(&bad, &good, 1000), through(&good, &bad, 1000))
    };
    let (sent, received) = lost(7);
    assert!(sent.is_sorted() && received.is_sorted());
    assert!((750..850).contains(&sent.len()), "{}", sent.len());
    assert!((550..650).contains(&received.len()), "{}", received.len());
    assert_eq!(lost(7), (sent.clone(), received));
    assert_ne!(lost(8).0, sent);
}

#[test]
fn frames_come_out_when_it_is_time_although_nobody_ticks() {
    let directory = directory();
    let place = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let bad = open(&format!("wirefilter://[delay=40]{{{place}}}"));
    let good = open(&place);
    let began = Instant::now();
    send(&bad, &frame(255, 1, b"there"));
    let mut frames = VecDeque::new();
    let answer = wait_for(&bad, "the way there and back", || {
        // The descriptor tells when the plug has something to do.
        bad.receive(&mut frames, 64).expect("a live plug");
        let mut there = VecDeque::new();
        good.receive(&mut there, 64).expect("a live plug");
        there.iter().for_each(|_| send(&good, &frame(1, 2, b"back")));
        frames.pop_front()
    });
    assert_eq!(answer.bytes, frame(1, 2, b"back"));
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn order_is_lost_only_when_asked_for() {
    let directory = directory();
    let place = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let good = open(&place);
    for (options, ordered) in [("delay=20+20", true), ("delay=20+20/nofifo", false)] {
        let bad = open(&format!("wirefilter://[{options}/seed=1]{{{place}}}"));
        let arrived = through(&bad, &good, 200);
        assert_eq!((arrived.len(), arrived.is_sorted()), (200, ordered), "{options}");
    }
}

#[test]
fn a_bottleneck_takes_its_time() {
    let directory = directory();
    let place = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let bad = open(&format!("wirefilter://[bandwidth=100K]{{{place}}}"));
    let good = open(&place);
    let began = Instant::now();
    bad.send(&mut vec![Frame::from(frame(255, 1, &[7; 1010])); 20]);
    send(&bad, &frame(255, 1, b"last"));
    let mut frames = VecDeque::new();
    wait_for(&bad, "the last frame", || {
        bad.receive(&mut VecDeque::new(), 64).expect("a live plug");
        good.receive(&mut frames, 64).expect("a live plug");
        frames.iter().any(|got| got.bytes == frame(255, 1, b"last")).then_some(())
    });
    // 20 KiB at 100 KiB a second.
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!((frames.len(), bad.drops()), (21, 0));
}

#[test]
fn bad_links_are_nested_and_follow_the_carrier() {
    let directory = directory();
    let path = beside(&directory, "cable");
    let place = format!("ptp://{}", path_text(&path));
    let plug = open(&format!("wirefilter://[delay=1]{{wirefilter://[dup=50/seed=3]{{{place}}}}}"));
    assert!(!plug.carrier());
    let other = std::thread::spawn(move || open(&place));
    let mut frames = VecDeque::new();
    wait_for(&plug, "the other end", || {
        plug.receive(&mut frames, 64).expect("a live plug");
        plug.carrier().then_some(())
    });
    let other = other.join().expect("the other end");
    send(&plug, &frame(255, 1, b"hello"));
    wait_for(&plug, "the frame", || {
        plug.receive(&mut frames, 64).expect("a live plug");
        (other.receive(&mut frames, 64).expect("a live plug") > 0).then_some(())
    });
    drop(other);
    wait_for(&plug, "the loss of the carrier", || {
        plug.receive(&mut frames, 64).expect("a live plug");
        (!plug.carrier()).then_some(())
    });
    let error = vdeplug::open("wirefilter://[loss=5]", "test").expect_err("no network");
    assert!(error.to_string().contains("needs a network in braces, for example"), "{error}");
}

#[test]
fn the_other_end_may_be_bad_too() {
    let directory = directory();
    let place = format!("switch://{}", path_text(&beside(&directory, "sw")));
    let plugs = [(); 2].map(|()| open(&format!("wirefilter://[delay=5]{{{place}}}")));
    send(&plugs[0], &frame(255, 1, b"hello"));
    wait_for(&plugs[0], "the first delay", || {
        plugs[0].receive(&mut VecDeque::new(), 64).expect("a live plug");
        let mut frames = VecDeque::new();
        plugs[1].receive(&mut frames, 64).expect("a live plug");
        frames.pop_front()
    });
    send(&plugs[1], &frame(255, 1, b"hello"));
    receive_both(&plugs);
}

fn receive_both(plugs: &[Arc<dyn Transport>; 2]) {
    wait_for(&plugs[1], "the second delay", || {
        plugs[1].receive(&mut VecDeque::new(), 64).expect("a live plug");
        let mut frames = VecDeque::new();
        plugs[0].receive(&mut frames, 64).expect("a live plug");
        frames.pop_front()
    });
}
