use proptest::{collection::vec, prelude::*};

use super::*;
use crate::impair::{Shape, Varying};

const SECOND: Duration = Duration::from_secs(1);

fn channel(impairment: Impairment) -> Channel {
    Channel::new(impairment, 7)
}

/// Offers numbered frames of 1000 bytes, one each millisecond.
fn offer(channel: &mut Channel, count: u32) {
    for n in 0..count {
        let mut frame = vec![0; 1000];
        frame[..4].copy_from_slice(&n.to_be_bytes());
        channel.offer(frame, Duration::from_millis(n.into()));
    }
}

/// Takes all frames; returns their numbers and when they were due.
fn taken(channel: &mut Channel) -> Vec<(u32, Duration)> {
    let mut all = Vec::new();
    while let Some(due) = channel.due() {
        let frame = channel.take(due).expect("it is due");
        let number = frame[..4].try_into().expect("four bytes");
        all.push((u32::from_be_bytes(number), due));
    }
    all
}

fn numbers(channel: &mut Channel) -> Vec<u32> {
    taken(channel).into_iter().map(|(number, _)| number).collect()
}

/// The lengths of the runs of lost frames.
fn bursts(channel: &mut Channel, count: u32) -> Vec<u32> {
    let arrived = numbers(channel).into_iter().chain([count]);
    let mut expected = 0;
    arrived
        .filter_map(|number| {
            let missing = number - expected;
            expected = number + 1;
            (missing > 0).then_some(missing)
        })
        .collect()
}

#[test]
fn a_good_link_changes_nothing() {
    let mut good = channel(Impairment::default());
    offer(&mut good, 100);
    let expected: Vec<_> = (0..100).map(|n| (n, Duration::from_millis(n.into()))).collect();
    assert_eq!(taken(&mut good), expected);
    assert_eq!((good.drops(), good.is_empty(), good.bytes), (0, true, 0));
}

#[test]
fn the_same_seed_loses_the_same_frames_whatever_else_happens() {
    let loss = Impairment { loss: Varying::fixed(0.2), ..Impairment::default() };
    let shape = Shape::Normal;
    let delay = Varying { base: 0.1, spread: 0.05, shape };
    let more = Impairment { delay, corruption: Varying::fixed(0.5), ..loss.clone() };
    let lost = |impairment: &Impairment, seed| {
        let mut channel = Channel::new(impairment.clone(), seed);
        offer(&mut channel, 1000);
        (channel.drops(), taken(&mut channel).len())
    };
    assert_eq!(lost(&loss, 1), lost(&more, 1));
    assert_ne!(lost(&loss, 1), lost(&loss, 2));
    let (mut one, mut other) = (Channel::new(loss.clone(), 1), Channel::new(loss, 1));
    offer(&mut one, 1000);
    offer(&mut other, 1000);
    assert_eq!(numbers(&mut one), numbers(&mut other));
}

#[test]
fn losses_are_as_many_as_asked_for_alone_or_in_bursts() {
    let loss = Varying::fixed(0.1);
    for (burst, lengths) in [(0.0, 1.0..1.3), (5.0, 4.5..5.5)] {
        let burst = Varying::fixed(burst);
        let mut channel = channel(Impairment { loss, burst, ..Impairment::default() });
        offer(&mut channel, 50_000);
        let runs = bursts(&mut channel, 50_000);
        let lost: u32 = runs.iter().sum();
        assert!((4_500..5_500).contains(&lost), "{lost}");
        assert_eq!(u64::from(lost), channel.drops());
        let mean = f64::from(lost) / number(runs.len());
        assert!(lengths.contains(&mean), "{mean}");
    }
    let mut all = channel(Impairment { loss: Varying::fixed(1.0), ..Impairment::default() });
    offer(&mut all, 100);
    assert!(all.is_empty());
}

#[test]
fn delays_vary_as_asked_for_and_the_order_stays() {
    for (shape, most) in [(Shape::Uniform, 0.051), (Shape::Normal, 0.1)] {
        let delay = Varying { base: 0.2, spread: 0.05, shape };
        let mut free = channel(Impairment { delay, fifo: false, ..Impairment::default() });
        offer(&mut free, 10_000);
        let late: Vec<f64> = taken(&mut free)
            .into_iter()
            .map(|(n, due)| (due - Duration::from_millis(n.into())).as_secs_f64())
            .collect();
        let mean = late.iter().sum::<f64>() / number(late.len());
        assert!((mean - 0.2).abs() < 0.002, "{mean}");
        assert!(late.iter().all(|late| (late - 0.2).abs() < most));
        let inside = late.iter().filter(|late| (**late - 0.2).abs() <= 0.05).count();
        assert!(inside > 9_900, "{inside}");
        let mut fifo = channel(Impairment { delay, ..Impairment::default() });
        offer(&mut fifo, 10_000);
        assert!(numbers(&mut fifo).is_sorted());
    }
}

#[test]
fn some_overtake() {
    let (delay, reordering) = (Varying::fixed(0.01), Varying::fixed(0.25));
    let mut channel = channel(Impairment { delay, reordering, ..Impairment::default() });
    offer(&mut channel, 10_000);
    let early = taken(&mut channel)
        .into_iter()
        .filter(|(n, due)| *due == Duration::from_millis((*n).into()))
        .count();
    assert!((2_300..2_700).contains(&early), "{early}");
}

#[test]
fn some_come_twice() {
    let duplicates = Varying::fixed(0.1);
    let mut channel = channel(Impairment { duplicates, ..Impairment::default() });
    offer(&mut channel, 10_000);
    // Copies of copies too: 0.1 + 0.01 + ...
    let count = channel.len();
    assert!((11_000..11_250).contains(&count), "{count}");
}

#[test]
fn a_bottleneck_passes_what_it_may_and_holds_the_rest() {
    let bandwidth = Varying::fixed(100_000.0);
    let mut held = channel(Impairment { bandwidth, ..Impairment::default() });
    offer(&mut held, 1000);
    let all = taken(&mut held);
    // 1000 bytes take 10 ms.
    assert!(all.iter().all(|(n, due)| *due == Duration::from_millis(10 * u64::from(n + 1))));
    let capacity = 20_000;
    let mut short = channel(Impairment { bandwidth, capacity, ..Impairment::default() });
    offer(&mut short, 1000);
    assert_eq!((short.len(), short.drops()), (20, 980));
    short.take(SECOND * 100);
    short.offer(vec![0; 1000], SECOND * 100);
    assert_eq!(short.len(), 20);
}

#[test]
fn an_interface_is_busy_while_it_sends() {
    let speed = Varying::fixed(10_000.0);
    let mut channel = channel(Impairment { speed, ..Impairment::default() });
    offer(&mut channel, 10);
    assert_eq!(channel.busy(Duration::from_millis(500)), Duration::from_millis(500));
    assert_eq!(taken(&mut channel).last().map(|(_, due)| *due), Some(SECOND));
    assert_eq!(channel.busy(SECOND * 2), Duration::ZERO);
}

#[test]
fn long_frames_do_not_pass() {
    let mut channel = channel(Impairment { mtu: 999, ..Impairment::default() });
    offer(&mut channel, 3);
    channel.offer(vec![0; 999], SECOND);
    assert_eq!((channel.len(), channel.drops()), (1, 3));
}

#[test]
fn bits_are_flipped() {
    let flipped = |impairment: Impairment| {
        let mut channel = channel(impairment);
        for _ in 0..1024 {
            channel.offer(vec![0; 1024], Duration::ZERO);
        }
        let mut bits = Vec::new();
        while let Some(frame) = channel.take(Duration::ZERO) {
            bits.push(frame.iter().map(|byte| byte.count_ones()).sum::<u32>());
        }
        bits
    };
    // A megabyte with 200 flipped bits.
    let noise = Varying::fixed(200.0);
    let noisy: u32 = flipped(Impairment { noise, ..Impairment::default() }).iter().sum();
    assert!((150..250).contains(&noisy), "{noisy}");
    let corruption = Varying::fixed(0.5);
    let corrupt = flipped(Impairment { corruption, ..Impairment::default() });
    let damaged = corrupt.iter().filter(|bits| **bits == 1).count();
    assert!((450..575).contains(&damaged) && corrupt.iter().all(|bits| *bits <= 1), "{damaged}");
}

#[test]
fn memory_is_bounded() {
    let mut channel = channel(Impairment { delay: Varying::fixed(1e9), ..Impairment::default() });
    for _ in 0..10_000 {
        channel.offer(vec![0; 9000], Duration::ZERO);
    }
    assert!(channel.bytes <= MOST_BYTES && channel.drops() > 2_000);
    assert_eq!(channel.due(), Some(Duration::from_secs(3600)));
}

fn varying() -> impl Strategy<Value = Varying> {
    let value = prop_oneof![Just(0.0), 0.0..2.0f64, any::<f64>()];
    let shape = prop_oneof![Just(Shape::Uniform), Just(Shape::Normal)];
    (value.clone(), value, shape).prop_map(|(base, spread, shape)| Varying { base, spread, shape })
}

proptest! {
    #[test]
    fn any_impairment_of_any_frames_makes_none_up(
        values in vec(varying(), 9),
        capacity: u32,
        mtu in 0usize..2000,
        fifo: bool,
        frames in vec((0usize..1500, 0u64..1_000_000_000), 0..50),
    ) {
        let [delay, loss, burst, duplicates, bandwidth, speed, noise, corruption, reordering] =
            values.try_into().expect("nine values");
        let capacity = u64::from(capacity);
        let mut channel = channel(Impairment {
            delay, loss, burst, duplicates, bandwidth, speed, capacity, noise, corruption, mtu,
            reordering, fifo,
        });
        let mut now = Duration::ZERO;
        let count = frames.len();
        for (length, pause) in frames {
            now += Duration::from_nanos(pause);
            channel.offer(vec![0; length], now);
            channel.take(now);
        }
        prop_assert!(channel.len() <= count * (MOST_COPIES + 1));
        while let Some(due) = channel.due() {
            prop_assert!(channel.take(due).is_some());
        }
        prop_assert_eq!(channel.bytes, 0);
    }
}
