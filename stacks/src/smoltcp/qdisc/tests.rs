use netlink_emu::values::qdisc::{Chance, LossModel, Netem, RateSpec, Tbf};
use umvu_abi::IfIndex;

use super::*;

const MILLI: i64 = 1_000_000;
const ONE: Handle = Handle(0x1_0000);

fn qdisc(handle: Handle, parent: Handle, discipline: Discipline) -> Qdisc {
    Qdisc { interface: IfIndex(2), handle, parent, discipline }
}

fn netem(netem: Netem) -> Qdisc {
    qdisc(ONE, Handle::ROOT, Discipline::Netem(Box::new(netem)))
}

fn tbf(parent: Handle) -> Qdisc {
    // 1 MB/s, a bucket of 2000 bytes, at most 5000 waiting.
    let rate = RateSpec { rate: 1_000_000, ..RateSpec::default() };
    let tbf = Tbf { rate, buffer: 2 * 1_000_000, max_size: 2000, limit: 5000, ..Tbf::default() };
    qdisc(Handle(0x2_0000), parent, Discipline::Tbf(tbf))
}

/// What a shaper has inside by itself.
fn waiting_room() -> Qdisc {
    qdisc(Handle::NONE, Handle(0x2_0001), Discipline::Bfifo(5000))
}

fn scheduler(wanted: &[Qdisc], seed: u64) -> Scheduler {
    Scheduler::follow(None, wanted, &mut |_| seed).expect("a root")
}

fn chance(per_cent: u32) -> Chance {
    Chance { probability: u32::MAX / 100 * per_cent, correlation: 0 }
}

fn frame(number: u16, length: usize) -> Queued {
    let mut bytes = vec![0; length];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    Queued { bytes, sender: None, copy: false }
}

fn number(frame: &Queued) -> u16 {
    u16::from_be_bytes([frame.bytes[0], frame.bytes[1]])
}

fn at(nanos: i64) -> Instant {
    Instant::from_micros(nanos / 1000)
}

/// Pushes frames, one each millisecond, and takes what comes: number and time.
fn run(scheduler: &mut Scheduler, count: u16, length: usize) -> Vec<(u16, i64)> {
    let mut out = Vec::new();
    let mut now = 0;
    for number in 0..count {
        now = i64::from(number) * MILLI;
        scheduler.push(frame(number, length), at(now));
        drain(scheduler, now, &mut out);
    }
    while let Some(due) = scheduler.due() {
        now = now.max(due.total_micros() * 1000);
        drain(scheduler, now, &mut out);
    }
    out
}

fn drain(scheduler: &mut Scheduler, now: i64, out: &mut Vec<(u16, i64)>) {
    while let Some(frame) = scheduler.pop(at(now)) {
        out.push((number(&frame), now));
    }
}

#[test]
fn a_delay_holds_each_frame_for_its_time_and_keeps_their_order() {
    let mut queue = scheduler(&[netem(Netem { latency: 50 * MILLI, ..Netem::default() })], 1);
    let out = run(&mut queue, 100, 60);
    let wanted: Vec<_> = (0..100).map(|n| (n, (i64::from(n) + 50) * MILLI)).collect();
    assert_eq!(out, wanted);
}

#[test]
fn jitter_stays_within_its_bounds_and_changes_the_order() {
    let spread = Netem { latency: 50 * MILLI, jitter: 20 * MILLI, ..Netem::default() };
    let out = run(&mut scheduler(&[netem(spread)], 1), 500, 60);
    let waits: Vec<i64> = out.iter().map(|(n, time)| time - i64::from(*n) * MILLI).collect();
    assert!(waits.iter().all(|wait| (30 * MILLI..=71 * MILLI).contains(wait)));
    assert!(waits.iter().any(|w| *w < 35 * MILLI) && waits.iter().any(|w| *w > 65 * MILLI));
    assert!(!out.is_sorted());
}

#[test]
fn losses_are_as_many_as_asked_for_and_the_same_for_the_same_seed() {
    let lossy = || netem(Netem { loss: chance(10), ..Netem::default() });
    let seen = |seed| run(&mut scheduler(&[lossy()], seed), 5000, 60);
    let first = seen(7);
    assert_eq!(first, seen(7));
    assert_ne!(first, seen(8));
    assert!((4400..4600).contains(&first.len()), "{}", first.len());
    let mut queue = scheduler(&[lossy()], 7);
    run(&mut queue, 5000, 60);
    let stats = queue.stats(&lossy()).expect("the root");
    assert_eq!(u64::from(stats.drops) + stats.packets, 5000);
}

#[test]
fn duplicates_damage_and_models_of_loss_do_what_they_say() {
    let twice = Netem { duplicate: chance(50), ..Netem::default() };
    let count = run(&mut scheduler(&[netem(twice)], 3), 1000, 60).len();
    assert!((1400..1600).contains(&count), "{count}");
    let damaged = Netem { corrupt: chance(100), ..Netem::default() };
    let mut queue = scheduler(&[netem(damaged)], 3);
    queue.push(frame(0, 60), at(0));
    let bytes = queue.pop(at(0)).expect("one frame").bytes;
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    let share = |per_cent: u32| u32::MAX / 100 * per_cent;
    // Bad a fifth of the time, and then everything is lost.
    let model = LossModel::Gilbert([share(5), share(20), 0, 0]);
    let bursty = Netem { loss_model: model, ..Netem::default() };
    let count = run(&mut scheduler(&[netem(bursty)], 3), 10_000, 60).len();
    assert!((7400..8600).contains(&count), "{count}");
}

#[test]
fn some_overtake() {
    let config = Netem { latency: 10 * MILLI, gap: 5, reorder: chance(100), ..Netem::default() };
    let out = run(&mut scheduler(&[netem(config)], 1), 50, 60);
    let early: Vec<u16> =
        out.iter().filter(|(n, time)| *time == i64::from(*n) * MILLI).map(|(n, _)| *n).collect();
    assert_eq!(early, (0..50).filter(|n| n % 5 == 4).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_drops_and_counts() {
    let config = Netem { latency: 1000 * MILLI, limit: 10, ..Netem::default() };
    let mut queue = scheduler(&[netem(config.clone())], 1);
    assert_eq!(run(&mut queue, 25, 60).len(), 10);
    assert_eq!(queue.stats(&netem(config)).expect("the root").drops, 15);
}

#[test]
fn a_bucket_lets_a_burst_out_and_then_its_rate() {
    let shaper = tbf(Handle::ROOT);
    let mut queue = scheduler(&[shaper.clone(), waiting_room()], 1);
    let mut out = Vec::new();
    (0..8).for_each(|number| queue.push(frame(number, 1000), at(0)));
    drain(&mut queue, 0, &mut out);
    assert_eq!(out.len(), 2, "the bucket");
    while let Some(due) = queue.due() {
        drain(&mut queue, due.total_micros() * 1000, &mut out);
    }
    // A thousand bytes take a millisecond; there was room for five thousand.
    let times: Vec<i64> = out.iter().map(|(_, time)| *time / MILLI).collect();
    assert_eq!(times, [0, 0, 1, 2, 3]);
    let stats = queue.stats(&shaper).expect("the root");
    assert_eq!((stats.packets, stats.drops), (5, 3));
    queue.push(frame(9, 3000), at(20 * MILLI));
    assert!(queue.pop(at(20 * MILLI)).is_none(), "longer than the bucket");
}

#[test]
fn a_shaper_works_inside_a_bad_network_and_changes_keep_what_waits() {
    let outer = |latency| netem(Netem { latency, ..Netem::default() });
    let inner = tbf(Handle(0x1_0001));
    let mut queue = scheduler(&[outer(10 * MILLI), inner.clone(), waiting_room()], 1);
    (0..4).for_each(|number| queue.push(frame(number, 1000), at(0)));
    let changed = [outer(50 * MILLI), inner, waiting_room()];
    let mut queue = Scheduler::follow(Some(queue), &changed, &mut |_| 1).expect("a root");
    let mut out = Vec::new();
    while let Some(due) = queue.due() {
        drain(&mut queue, due.total_micros() * 1000, &mut out);
    }
    let times: Vec<i64> = out.iter().map(|(_, time)| *time / MILLI).collect();
    assert_eq!(times, [10, 10, 11, 12]);
}
