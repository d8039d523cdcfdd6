//! Queueing disciplines: what frames pass between a link and its network (`tc(8)`).
//!
//! A link that was given none has no [`Scheduler`], and its frames leave as they come. Otherwise
//! each frame is pushed into the outermost [`Node`], and whatever may leave by then is popped; the
//! rest waits for its time ([`Scheduler::due`]). `netem.rs`, `tbf.rs` and `fifo.rs` are the
//! disciplines: they are told the time, in nanoseconds, and draw their numbers from a seed.

mod fifo;
mod netem;
mod tbf;
#[cfg(test)]
mod tests;

use netlink_emu::values::{Discipline, Handle, Qdisc, QdiscStats};
use smoltcp::time::Instant;
use vdeplug::impair::Random;

use self::{fifo::Fifo, netem::NetemQueue, tbf::TbfQueue};
use super::{dgram::DgramId, pool, wire::Frame};

/// A time, in nanoseconds of the stack's clock.
type Nanos = i64;

/// A frame that waits.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    /// The frame, whole: nothing is owed to it.
    pub(crate) bytes: Vec<u8>,
    /// The packet socket that has sent it.
    pub(crate) sender: Option<DgramId>,
    /// Whether it is the second of a duplicate.
    pub(crate) copy: bool,
}

impl Queued {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The seeds of disciplines that were given none.
#[derive(Debug)]
pub(crate) struct Seeds {
    /// The seed of the stack: the same one gives the same losses.
    fixed: Option<u64>,
    random: Random,
}

impl Seeds {
    /// Begins at a seed of the stack's, or at chance.
    pub(crate) fn new(fixed: Option<u64>, chance: u64) -> Self {
        Self { fixed, random: Random::new(chance) }
    }

    /// The seed of a discipline.
    pub(crate) fn of(&mut self, qdisc: &Qdisc) -> u64 {
        let Some(fixed) = self.fixed else { return self.random.bits() };
        let depth = u64::from(qdisc.parent != Handle::ROOT);
        let place = (u64::from(qdisc.interface.0) << 1) | depth;
        Random::new(fixed ^ place.rotate_left(48)).bits()
    }
}

/// The disciplines of a link.
#[derive(Debug)]
pub(crate) struct Scheduler {
    root: Node,
}

impl Scheduler {
    /// Makes the disciplines of a link what the configuration says; what stays keeps its packets.
    /// `seed` gives seeds for those that have none.
    pub(crate) fn follow(
        old: Option<Self>,
        wanted: &[Qdisc],
        seed: &mut dyn FnMut(&Qdisc) -> u64,
    ) -> Option<Self> {
        let root = wanted.iter().find(|qdisc| qdisc.parent == Handle::ROOT)?;
        let root = Node::follow(old.map(|old| old.root), root, wanted, seed);
        Some(Self { root })
    }

    /// Takes a frame in.
    pub(crate) fn push(&mut self, frame: Queued, now: Instant) {
        let now = nanos(now);
        let mut copies = Vec::new();
        self.root.push(frame, now, &mut copies);
        for copy in copies {
            self.root.push(copy, now, &mut Vec::new());
        }
    }

    /// Lets the next frame out whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Queued> {
        self.root.pop(nanos(now))
    }

    /// When [`Self::pop`] has to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        // Rounded up, or it would be too early.
        self.root.due().map(|due| Instant::from_micros((due.max(0) + 999) / 1000))
    }

    /// Whether connections should wait before they send more.
    pub(crate) fn congested(&self) -> bool {
        self.root.congested()
    }

    /// Forgets what waits: the link went down.
    pub(crate) fn reset(&mut self) {
        self.root.reset();
    }

    /// What a discipline has done.
    pub(crate) fn stats(&self, qdisc: &Qdisc) -> Option<QdiscStats> {
        let mut node = Some(&self.root);
        while let Some(held) = node {
            if (held.handle, held.parent) == (qdisc.handle, qdisc.parent) {
                return Some(held.stats());
            }
            node = held.inner();
        }
        None
    }
}

fn nanos(now: Instant) -> Nanos {
    now.total_micros().saturating_mul(1000)
}

/// What a discipline did with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It waits, or was lost on purpose, which is not for the sender to know.
    Taken,
    /// There is no room.
    Dropped,
}

/// One discipline.
#[derive(Debug)]
struct Node {
    handle: Handle,
    parent: Handle,
    work: Work,
    /// What has passed; what waits is counted by those who hold it.
    stats: QdiscStats,
}

#[derive(Debug)]
enum Work {
    Fifo(Fifo),
    Netem(Box<NetemQueue>),
    Tbf(Box<TbfQueue>),
}

impl Node {
    fn follow(
        old: Option<Self>,
        wanted: &Qdisc,
        all: &[Qdisc],
        seed: &mut dyn FnMut(&Qdisc) -> u64,
    ) -> Self {
        let same = old.filter(|old| {
            (old.handle, old.parent) == (wanted.handle, wanted.parent)
                && old.work.is(&wanted.discipline)
        });
        let mut node = same.unwrap_or_else(|| Self {
            handle: wanted.handle,
            parent: wanted.parent,
            work: Work::new(wanted, seed),
            stats: QdiscStats::default(),
        });
        node.work.configure(&wanted.discipline);
        let inside =
            |qdisc: &&Qdisc| qdisc.parent != Handle::ROOT && qdisc.parent.major() == wanted.handle;
        let inside = all.iter().find(inside).filter(|_| wanted.handle != Handle::NONE);
        if let Some(slot) = node.work.slot() {
            let old = slot.take().map(|old| *old);
            *slot = inside.map(|qdisc| Box::new(Self::follow(old, qdisc, all, seed)));
        }
        node
    }

    fn push(&mut self, frame: Queued, now: Nanos, copies: &mut Vec<Queued>) -> Verdict {
        let stats = &mut self.stats;
        match &mut self.work {
            Work::Fifo(fifo) => fifo.push(frame, stats),
            Work::Netem(netem) => netem.push(frame, now, copies, stats),
            Work::Tbf(tbf) => tbf.push(frame, now, copies, stats),
        }
    }

    fn pop(&mut self, now: Nanos) -> Option<Queued> {
        let stats = &mut self.stats;
        let frame = match &mut self.work {
            Work::Fifo(fifo) => fifo.pop(),
            Work::Netem(netem) => netem.pop(now, stats),
            Work::Tbf(tbf) => tbf.pop(now, stats),
        }?;
        stats.packets += 1;
        stats.bytes += frame.length();
        Some(frame)
    }

    fn due(&self) -> Option<Nanos> {
        match &self.work {
            Work::Fifo(_) => None,
            Work::Netem(netem) => netem.due(),
            Work::Tbf(tbf) => tbf.due(),
        }
    }

    fn congested(&self) -> bool {
        match &self.work {
            Work::Fifo(fifo) => fifo.is_half_full(),
            // What a bad network holds is under way: that is no reason to wait.
            Work::Netem(netem) => netem.inner.as_ref().is_some_and(|inner| inner.congested()),
            Work::Tbf(tbf) => tbf.inner.as_ref().is_some_and(|inner| inner.congested()),
        }
    }

    fn reset(&mut self) {
        match &mut self.work {
            Work::Fifo(fifo) => fifo.reset(),
            Work::Netem(netem) => netem.reset(),
            Work::Tbf(tbf) => tbf.reset(),
        }
        if let Some(inner) = self.work.slot().and_then(Option::as_mut) {
            inner.reset();
        }
    }

    fn inner(&self) -> Option<&Self> {
        match &self.work {
            Work::Fifo(_) => None,
            Work::Netem(netem) => netem.inner.as_deref(),
            Work::Tbf(tbf) => tbf.inner.as_deref(),
        }
    }

    /// How many packets and bytes wait, also inside.
    fn waiting(&self) -> (u64, u64) {
        let (packets, bytes) = match &self.work {
            Work::Fifo(fifo) => fifo.waiting(),
            Work::Netem(netem) => netem.waiting(),
            Work::Tbf(tbf) => tbf.waiting(),
        };
        let inner = self.inner().map_or((0, 0), Self::waiting);
        (packets + inner.0, bytes + inner.1)
    }

    fn stats(&self) -> QdiscStats {
        let (packets, bytes) = self.waiting();
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        QdiscStats { queued: short(packets), backlog: short(bytes), ..self.stats }
    }
}

impl Work {
    fn new(wanted: &Qdisc, seed: &mut dyn FnMut(&Qdisc) -> u64) -> Self {
        match &wanted.discipline {
            Discipline::Netem(netem) => {
                let seed = netem.seed.unwrap_or_else(|| seed(wanted));
                Self::Netem(Box::new(NetemQueue::new(netem, Random::new(seed))))
            }
            Discipline::Tbf(tbf) => Self::Tbf(Box::new(TbfQueue::new(*tbf))),
            other => Self::Fifo(Fifo::new(other)),
        }
    }

    /// Whether it is of the kind that is wanted.
    fn is(&self, wanted: &Discipline) -> bool {
        match (self, wanted) {
            (Self::Netem(_), Discipline::Netem(_)) | (Self::Tbf(_), Discipline::Tbf(_)) => true,
            (Self::Fifo(fifo), other) => fifo.kind() == other.kind(),
            _ => false,
        }
    }

    fn configure(&mut self, wanted: &Discipline) {
        match (self, wanted) {
            (Self::Netem(queue), Discipline::Netem(netem)) => queue.configure(netem),
            (Self::Tbf(queue), Discipline::Tbf(tbf)) => queue.configure(*tbf),
            (Self::Fifo(fifo), other) => fifo.configure(other),
            _ => {}
        }
    }

    /// The place of what may be inside.
    fn slot(&mut self) -> Option<&mut Option<Box<Node>>> {
        match self {
            Self::Fifo(_) => None,
            Self::Netem(netem) => Some(&mut netem.inner),
            Self::Tbf(tbf) => Some(&mut tbf.inner),
        }
    }
}

/// Drops a frame and counts it.
fn lose(frame: Queued, stats: &mut QdiscStats) {
    stats.drops = stats.drops.saturating_add(1);
    pool::give(frame.bytes);
}

/// A frame that is about to wait.
pub(crate) fn queued(frame: Frame, sender: Option<DgramId>) -> Vec<Queued> {
    let mut pieces = Vec::with_capacity(1);
    frame.complete(&mut |bytes| pieces.push(Queued { bytes, sender, copy: false }));
    pieces
}
