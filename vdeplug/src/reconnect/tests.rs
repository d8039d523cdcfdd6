use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};

use super::*;

/// A far end that does what the test says.
#[derive(Debug, Default)]
struct World {
    reachable: AtomicBool,
    alive: AtomicBool,
    carrier: AtomicBool,
    tries: AtomicUsize,
    links: AtomicUsize,
}

#[derive(Debug)]
struct Mock(Arc<World>);

#[derive(Debug)]
struct MockLink(Arc<World>);

impl Dial for Mock {
    fn dial(&self, _desk: &Desk) -> Result<Progress, OpenError> {
        self.0.tries.fetch_add(1, Ordering::SeqCst);
        if !self.0.reachable.load(Ordering::SeqCst) {
            return Err(OpenError::system("mock://", "dialling")(Errno::ECONNREFUSED));
        }
        assert_eq!(self.0.links.fetch_add(1, Ordering::SeqCst), 0, "two connections at a time");
        self.0.alive.store(true, Ordering::SeqCst);
        Ok(Progress::Connected(Box::new(MockLink(Arc::clone(&self.0)))))
    }
}

impl Drop for MockLink {
    fn drop(&mut self) {
        self.0.links.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Link for MockLink {
    fn send(&self, frames: &mut Vec<Frame>, _drops: &Drops) {
        frames.clear();
    }

    fn receive(
        &self,
        _into: &mut VecDeque<Frame>,
        _budget: usize,
        _drops: &Drops,
    ) -> Result<usize, Lost> {
        if self.0.alive.load(Ordering::SeqCst) { Ok(0) } else { Err("it ended".into()) }
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        if self.0.alive.load(Ordering::SeqCst) { Ok(()) } else { Err("it ended".into()) }
    }

    fn carrier(&self) -> bool {
        self.0.carrier.load(Ordering::SeqCst)
    }
}

fn plug() -> (Arc<World>, Plug) {
    let world = Arc::new(World::default());
    for flag in [&world.reachable, &world.carrier] {
        flag.store(true, Ordering::SeqCst);
    }
    let plug = Plug::open("mock://", Mock(Arc::clone(&world))).expect("it is reachable");
    (world, plug)
}

fn lose(world: &World) {
    world.reachable.store(false, Ordering::SeqCst);
    world.alive.store(false, Ordering::SeqCst);
}

#[test]
fn a_lost_connection_is_tried_again_less_and_less_often() {
    let (world, plug) = plug();
    let start = Instant::now();
    lose(&world);
    let mut now = start + Duration::from_secs(10);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let due = plug.tick(now).expect("it goes on");
        pauses.push((due - now).as_millis());
        now = due;
    }
    // One that lasted is tried again at once.
    assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000]);
    assert_eq!(world.tries.load(Ordering::SeqCst), 8);
    plug.send(&mut vec![Frame::from(vec![0; 60]); 3]);
    assert_eq!((plug.carrier(), plug.drops()), (false, 3));
    world.reachable.store(true, Ordering::SeqCst);
    plug.tick(now);
    assert!(plug.carrier());
}

#[test]
fn the_owner_is_woken_once_for_each_change() {
    let (world, plug) = plug();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    plug.set_waker(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let now = Instant::now();
    for _ in 0..3 {
        plug.tick(now);
    }
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    // The far end says that nobody is there, without going away.
    world.carrier.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        plug.tick(now);
    }
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    world.carrier.store(true, Ordering::SeqCst);
    lose(&world);
    (0..3).for_each(|_| drop(plug.receive(&mut VecDeque::new(), 9)));
    assert_eq!((woken.load(Ordering::SeqCst), plug.carrier()), (1, false));
}

#[test]
fn in_strict_mode_a_loss_is_final() {
    for by_link in [false, true] {
        let (world, plug) = plug();
        plug.set_strict();
        if by_link {
            world.carrier.store(false, Ordering::SeqCst);
        } else {
            world.alive.store(false, Ordering::SeqCst);
        }
        let now = Instant::now();
        assert_eq!(plug.tick(now), None);
        world.carrier.store(true, Ordering::SeqCst);
        assert_eq!(plug.tick(now + Duration::from_secs(99)), None);
        let error = plug.receive(&mut VecDeque::new(), 9).expect_err("it is over");
        assert!(error.to_string().starts_with("mock://: "), "{error}");
        assert!(!plug.carrier());
        let (tries, links) = (&world.tries, &world.links);
        assert_eq!((tries.load(Ordering::SeqCst), links.load(Ordering::SeqCst)), (1, 0));
    }
}

/// What may happen to a plug.
#[derive(Debug, Clone)]
enum Event {
    Lose,
    Find,
    Carrier(bool),
    Pass(u64),
    Receive,
    Send,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Lose),
        Just(Event::Find),
        any::<bool>().prop_map(Event::Carrier),
        (0u64..5000).prop_map(Event::Pass),
        Just(Event::Receive),
        Just(Event::Send),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_owner_knows_the_carrier(events in vec(event(), 0..60), strict: bool) {
        let (world, plug) = plug();
        if strict {
            plug.set_strict();
        }
        let plug = Arc::new(plug);
        let known = Arc::new(Mutex::new(plug.carrier()));
        let (seen, asked) = (Arc::clone(&known), Arc::downgrade(&plug));
        plug.set_waker(Arc::new(move || {
            if let Some(plug) = asked.upgrade() {
                *seen.lock() = plug.carrier();
            }
        }));
        let mut now = Instant::now();
        let mut ended = false;
        for event in events {
            match event {
                Event::Lose => lose(&world),
                Event::Find => world.reachable.store(true, Ordering::SeqCst),
                Event::Carrier(carrier) => world.carrier.store(carrier, Ordering::SeqCst),
                Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Event::Receive => drop(plug.receive(&mut VecDeque::new(), 9)),
                Event::Send => plug.send(&mut vec![Frame::from(vec![0; 60])]),
            }
            let due = plug.tick(now);
            prop_assert_eq!(*known.lock(), plug.carrier());
            prop_assert!(due.is_none_or(|due| due >= now));
            prop_assert!(!(ended && plug.carrier()), "it came back");
            ended |= due.is_none();
            prop_assert!(strict || !ended);
        }
    }
}
