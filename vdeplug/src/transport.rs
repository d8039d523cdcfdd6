//! [`Transport`], the one contract between an Ethernet and whoever plugs into it.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use crate::frame::Frame;

/// Tells the owner of a plug that it should look at it again. Cheap, and callable by any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A plug in a virtual Ethernet. All methods are non-blocking and may be called by any thread.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends all frames, draining the vector. Overload drops frames (counted), as Ethernet does.
    fn send(&self, frames: &mut Vec<Frame>);

    /// Moves up to `budget` received frames into `into`; returns how many.
    ///
    /// A result equal to `budget` means that more may wait: neither the descriptor's edge nor the
    /// waker will tell again.
    ///
    /// # Errors
    /// The plug is dead: the far end is gone and will not come back.
    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize>;

    /// The descriptor that polls readable when frames wait; None: the waker tells. A plug may use
    /// both, if its network moves into this process.
    ///
    /// It stays the same for the life of the plug, also when the plug reconnects.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Installs the waker. It is called (from any thread) when the receive queue goes from empty
    /// to non-empty, where no descriptor tells, and when the carrier changes.
    fn set_waker(&self, waker: Waker);

    /// The plug that this one stands before, and whose state is told where this one adds nothing.
    fn inner(&self) -> Option<&dyn Transport> {
        None
    }

    /// Whether the far end accepts [`Offload`](crate::Offload)ed frames as they are: a switch of
    /// this library on this machine. Other transports complete such frames themselves, as does a
    /// plug that comes back at another kind of switch.
    fn accepts_offload(&self) -> bool {
        false
    }

    /// Makes the loss of the connection final: from then on there is no carrier, and receiving
    /// fails. Otherwise a plug whose connection is lost tries to connect again, less and less
    /// often.
    fn set_strict(&self) {
        if let Some(inner) = self.inner() {
            inner.set_strict();
        }
    }

    /// The link state (`IFF_LOWER_UP`).
    fn carrier(&self) -> bool {
        self.inner().is_none_or(|inner| inner.carrier())
    }

    /// Does the housekeeping (ageing, reconnection) due at `now`; returns when to call again.
    fn tick(&self, now: Instant) -> Option<Instant> {
        self.inner()?.tick(now)
    }

    /// How many frames wait in this plug for a far end that is slow: the longer the queue, the
    /// sooner frames are dropped. Each call of [`Self::send`] and [`Self::receive`] tries again.
    fn backlog(&self) -> usize {
        self.inner().map_or(0, |inner| inner.backlog())
    }

    /// How many frames this plug has dropped, in both directions.
    fn drops(&self) -> u64 {
        self.inner().map_or(0, |inner| inner.drops())
    }
}

/// A counter of dropped frames.
#[derive(Debug, Default)]
pub(crate) struct Drops(AtomicU64);

impl Drops {
    pub(crate) fn add(&self, frames: usize) {
        if frames > 0 {
            self.0.fetch_add(u64::try_from(frames).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The place of a plug's waker.
#[derive(Default)]
pub(crate) struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    pub(crate) fn set(&self, waker: Waker) {
        *self.0.lock() = Some(waker);
    }

    pub(crate) fn get(&self) -> Option<Waker> {
        self.0.lock().clone()
    }

    /// Calls the waker, if there is one, with no lock held.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.get() {
            waker();
        }
    }
}

impl fmt::Debug for WakerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.lock().is_some() { "WakerSlot(set)" } else { "WakerSlot(empty)" })
    }
}
