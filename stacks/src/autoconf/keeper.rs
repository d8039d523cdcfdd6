//! Leases are kept in the background: a timer of the reactor, and a thread while a server is asked.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_reactor::{Handle, Ready, Source};

use super::{
    clients::{Client, Held},
    routers::RouterNews,
};
use crate::net::Halt;

/// How long a new lease is looked for at a time, and how long the search rests in between.
const SEARCH: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(30);
/// The shortest time between two attempts to extend a lease.
const SHORTEST: Duration = Duration::from_secs(1);

/// The clients of a stack, and what they hold.
#[derive(Debug)]
pub(super) struct Keeper {
    this: Weak<Self>,
    halt: Halt,
    slots: Vec<Slot>,
    /// What routers tell of name servers.
    news: Option<Arc<RouterNews>>,
    handle: OnceLock<Handle>,
}

/// One client.
#[derive(Debug)]
struct Slot {
    client: Client,
    held: Mutex<Option<Held>>,
    /// When there is something to do.
    due: Mutex<Option<Instant>>,
    /// A thread is at it.
    busy: AtomicBool,
}

impl Keeper {
    /// Keeps what clients hold.
    pub(super) fn new(
        halt: Halt,
        clients: Vec<(Client, Held)>,
        news: Option<Arc<RouterNews>>,
    ) -> Arc<Self> {
        let slots = clients.into_iter().map(|(client, held)| Slot {
            client,
            due: Mutex::new(held.renew),
            held: Mutex::new(Some(held)),
            busy: AtomicBool::new(false),
        });
        let slots = slots.collect();
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            halt,
            slots,
            news,
            handle: OnceLock::new(),
        })
    }

    /// Has the reactor tell the time.
    pub(super) fn attach(&self, handle: Handle) {
        if let Some(news) = &self.news {
            news.watch(&handle);
        }
        let _ = self.handle.set(handle);
        self.arm();
    }

    /// Gives all leases back, and ends.
    pub(super) fn stop(&self) {
        if !self.halt.is_stopped() {
            for slot in &self.slots {
                if let Some(held) = slot.held.lock().take() {
                    slot.client.release(&held);
                }
            }
        }
        self.halt.stop();
        if let Some(news) = &self.news {
            news.unwatch();
        }
    }

    /// How many sockets are open that the stack may count as users.
    pub(super) fn sockets(&self) -> usize {
        let busy = self.slots.iter().filter(|slot| slot.busy.load(Ordering::Relaxed)).count();
        busy + usize::from(self.news.is_some())
    }

    fn arm(&self) {
        let slots = self.slots.iter().filter(|slot| !slot.busy.load(Ordering::SeqCst));
        let slots = slots.filter_map(|slot| *slot.due.lock());
        let news = self.news.as_ref().and_then(|news| news.due());
        if let (Some(due), Some(handle)) = (slots.chain(news).min(), self.handle.get()) {
            handle.wake_at(Some(due));
        }
    }

    fn begin(&self, at: usize, slot: &Slot) {
        let Some(keeper) = self.this.upgrade() else { return };
        slot.busy.store(true, Ordering::SeqCst);
        let work = move || {
            if let Some(slot) = keeper.slots.get(at) {
                slot.step(&keeper.halt);
                slot.busy.store(false, Ordering::SeqCst);
            }
            keeper.arm();
        };
        if thread::Builder::new().name("umvu-dhcp".to_owned()).spawn(work).is_err() {
            slot.busy.store(false, Ordering::SeqCst);
            *slot.due.lock() = Some(Instant::now() + REST);
        }
    }
}

impl Source for Keeper {
    fn run(&self, _ready: Ready) {
        if self.halt.is_stopped() {
            return;
        }
        if let Some(news) = &self.news {
            news.read();
        }
        let now = Instant::now();
        for (at, slot) in self.slots.iter().enumerate() {
            let is_due = slot.due.lock().is_some_and(|due| due <= now);
            if is_due && !slot.busy.load(Ordering::SeqCst) {
                self.begin(at, slot);
            }
        }
        self.arm();
    }
}

impl Slot {
    /// Does what is due, and says when to come again.
    fn step(&self, halt: &Halt) {
        let held = self.held.lock().clone();
        let (held, due) = match held {
            Some(held) if held.ends.is_none_or(|ends| Instant::now() < ends) => self.extend(held),
            gone => {
                if let Some(held) = gone {
                    self.client.withdraw(&held);
                }
                self.search()
            }
        };
        if halt.is_stopped() {
            return;
        }
        *self.held.lock() = held;
        *self.due.lock() = due;
    }

    fn search(&self) -> (Option<Held>, Option<Instant>) {
        match self.client.acquire(Instant::now() + SEARCH) {
            Ok(held) => {
                let due = held.renew;
                (Some(held), due)
            }
            Err(failure) => {
                tracing::info!(%failure, "no lease");
                (None, Some(Instant::now() + REST))
            }
        }
    }

    fn extend(&self, held: Held) -> (Option<Held>, Option<Instant>) {
        let rebinds = held.rebind.is_some_and(|rebind| rebind <= Instant::now());
        match self.client.extend(&held, rebinds) {
            Ok(more) => {
                let due = more.renew;
                (Some(more), due)
            }
            Err(failure) if failure.errno == umvu_abi::Errno::EADDRNOTAVAIL => {
                self.client.withdraw(&held);
                (None, Some(Instant::now()))
            }
            Err(failure) => {
                tracing::info!(%failure, "a lease could not be extended");
                // Half of what is left of this stage, again and again.
                let now = Instant::now();
                let stage = if rebinds { held.ends } else { held.rebind };
                let left = stage.map(|stage| stage.saturating_duration_since(now) / 2);
                let due = left.map(|left| now + left.max(SHORTEST));
                (Some(held), due)
            }
        }
    }
}
