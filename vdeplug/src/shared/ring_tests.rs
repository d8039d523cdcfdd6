use std::{num::NonZeroU16, thread};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::shared::WORDS;

fn ends() -> (Producer, Consumer) {
    let memory = Arc::new(Memory::create(WORDS).expect("memory").0);
    (Producer::new(Arc::clone(&memory), 1), Consumer::new(memory, 1))
}

fn frame(length: usize, seed: u8) -> Frame {
    Frame::from((0..length).map(|n| seed.wrapping_add(n.to_le_bytes()[0])).collect::<Vec<u8>>())
}

#[test]
fn a_full_ring_takes_no_more_until_half_of_it_is_empty() {
    let (mut producer, mut consumer) = ends();
    let frame = frame(1514, 1);
    let mut count = 0;
    while producer.put(&frame) == Ok(true) {
        count += 1;
    }
    assert_eq!(count, DATA / (1 + 1514_usize.div_ceil(WORD)));
    assert_eq!(consumer.take(Vec::with_capacity), Ok(None), "nothing is published");
    assert!(producer.publish(), "the consumer has not looked yet");
    assert!(!producer.publish(), "it is told once");
    producer.want_room();
    assert_eq!(producer.put(&frame), Ok(false));
    let mut woken = 0;
    for taken in 1..=count {
        assert_eq!(consumer.take(Vec::with_capacity), Ok(Some(frame.clone())));
        if consumer.release() {
            woken += 1;
            assert!(taken >= count / 2 && taken <= count / 2 + 1, "{taken} of {count}");
        }
    }
    assert_eq!(woken, 1);
    assert!(consumer.is_awake() && !consumer.sleep() && !consumer.is_awake());
    assert_eq!(producer.put(&frame), Ok(true));
    assert!(producer.publish());
    assert!(consumer.is_awake() && consumer.sleep());
}

#[test]
fn a_head_before_the_ring_or_beyond_its_tail_is_broken() {
    for head in [1, u64::MAX, 1 << 40] {
        let (mut producer, consumer) = ends();
        consumer.poke(HEAD, head);
        let full = loop {
            match producer.put(&frame(9000, 1)) {
                Ok(true) => {}
                other => break other,
            }
        };
        // A position that lies within the ring is believed; what follows is its owner's loss.
        assert_eq!(full, if head == 1 { Ok(false) } else { Err(Broken) }, "{head}");
    }
}

#[test]
fn frames_pass_from_one_thread_to_another_as_they_are() {
    let (mut producer, mut consumer) = ends();
    let length = |n: usize| 14 + n * 37 % 3000;
    let last = 20_000;
    let sender = thread::spawn(move || {
        for n in 0..last {
            let frame = frame(length(n), n.to_le_bytes()[0]);
            while producer.put(&frame) == Ok(false) {
                producer.publish();
                thread::yield_now();
            }
            if n % 3 == 0 {
                producer.publish();
            }
        }
        producer.publish();
    });
    for n in 0..last {
        let got = loop {
            match consumer.take(crate::intake::spare).expect("an honest producer") {
                Some(got) => break got,
                None => {
                    consumer.release();
                    thread::yield_now();
                }
            }
        };
        assert_eq!(got, frame(length(n), n.to_le_bytes()[0]), "{n}");
        crate::intake::give(got.bytes);
    }
    sender.join().expect("no panic");
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let length =
        prop_oneof![8 => 14usize..200, 4 => 1400usize..9235, 1 => 9235usize..=crate::MAX_OFFLOADED];
    (length, any::<u8>(), any::<bool>(), 512u16..).prop_map(
        |(length, seed, checksum_pending, size)| {
            let mut frame = frame(length, seed);
            let is_long = length > crate::MAX_FRAME || size % 2 == 0;
            let segment_size = NonZeroU16::new(size).filter(|_| is_long);
            frame.offload = Offload { checksum_pending, segment_size };
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_is_put_is_taken_wherever_the_ring_begins(
        frames in vec((any_frame(), 1usize..5), 1..200),
    ) {
        let (mut producer, mut consumer) = ends();
        let mut expected = std::collections::VecDeque::new();
        for (frame, takes) in frames {
            if producer.put(&frame) == Ok(true) {
                expected.push_back(frame);
            }
            producer.publish();
            if takes > 2 {
                for _ in 0..takes {
                    let taken = consumer.take(Vec::with_capacity);
                    prop_assert_eq!(taken, Ok(expected.pop_front()));
                }
                consumer.release();
            }
        }
        while let Some(frame) = expected.pop_front() {
            prop_assert_eq!(consumer.take(Vec::with_capacity), Ok(Some(frame)));
        }
        prop_assert_eq!(consumer.take(Vec::with_capacity), Ok(None));
    }
}
