//! `slirp://`: the network of this host for guests, through the sockets of this user: a router that
//! has no wire behind it, only system calls.
//!
//! Theory of operation. Guests see a network with one router (10.0.2.2), a name server (10.0.2.3)
//! and a DHCP server. All that they send beyond arrives in [`nat::Nat`], which makes a socket of
//! this host for each connection, flow or ping, and speaks with the guest in the name of the far
//! end: `tcp.rs` by smoltcp (one socket for each [`flow`]), `udp.rs`, `echo.rs`; [`tftp`] serves files. [`place`] is the
//! policy, [`forward`] the way in, [`lan`] and [`ndp`] the Ethernet.
//!
//! There is no thread: what guests send is worked on as it is sent, and all else when the owner
//! receives, which it is told to do by an epoll instance with all the sockets and a timer in it.
//! Everything is pulled: a connection sends only what the owner takes, and reads from its socket
//! only what fits, so that whoever is slow slows down the other end and fills no queue.
//!
//! Lock: the [`Nat`](nat::Nat), never held when the waker is called.

mod dhcp;
mod echo;
mod errors;
mod flow;
mod forward;
mod lan;
mod nat;
mod ndp;
mod options;
mod pace;
mod place;
mod resolver;
mod stream;
mod tcp;
mod tftp;
mod udp;
mod verbose;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use parking_lot::Mutex;

use self::{nat::Nat, options::Config, tftp::Tftp};
use crate::{
    error::OpenError,
    frame::Frame,
    timer::Timer,
    transport::{Drops, Transport, Waker, WakerSlot},
    vnl::Vnl,
};

/// Opens `slirp://[/option]...`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let config = Config::of(vnl)?;
    let place = vnl.to_string();
    let made = || -> nix::Result<(Arc<Epoll>, Timer)> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let timer = Timer::new()?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, nat::TIMER))?;
        Ok((epoll, timer))
    };
    let (epoll, timer) = made().map_err(OpenError::system(&place, "making a timer"))?;
    let mut nat = Nat::new(config, Arc::clone(&epoll), RandomState::new().hash_one(0_u8));
    if let Some(folder) = &nat.config.tftp {
        let doing = format!("opening {}", folder.display());
        nat.tftp = Some(Tftp::new(folder).map_err(OpenError::system(&place, &doing))?);
    }
    nat.forwards.open(&nat.config, &epoll, &place)?;
    // smoltcp takes 0 for "at once": begin later than that.
    let now = Instant::now();
    let started = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
    let state = Mutex::new(State { nat, timer });
    Ok(Arc::new(Slirp {
        epoll,
        state,
        started,
        waker: WakerSlot::default(),
        drops: Drops::default(),
    }))
}

/// A plug in a network whose router is this host.
#[derive(Debug)]
struct Slirp {
    epoll: Arc<Epoll>,
    state: Mutex<State>,
    started: Instant,
    waker: WakerSlot,
    drops: Drops,
}

#[derive(Debug)]
struct State {
    nat: Nat,
    timer: Timer,
}

impl Slirp {
    /// Tells the network what time it is.
    fn set_clock(&self, nat: &mut Nat) -> Duration {
        let now = self.started.elapsed();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        nat.now = smoltcp::time::Instant::from_micros(micros);
        now
    }
}

impl Transport for Slirp {
    fn send(&self, frames: &mut Vec<Frame>) {
        let mut state = self.state.lock();
        let nat = &mut state.nat;
        self.set_clock(nat);
        let was_busy = nat.is_busy();
        for frame in frames.drain(..) {
            nat.input(&frame);
            crate::ip::pool::give(frame.bytes);
        }
        self.drops.add(std::mem::take(&mut nat.lan.drops));
        let is_busy = nat.is_busy();
        drop(state);
        if is_busy && !was_busy {
            self.waker.wake();
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut state = self.state.lock();
        let State { nat, timer } = &mut *state;
        let now = self.set_clock(nat);
        nat.collect();
        nat.expire();
        let count = nat.output(into, budget);
        timer.set(Some(nat.due()), now);
        self.drops.add(std::mem::take(&mut nat.lan.drops));
        Ok(count)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    fn accepts_offload(&self) -> bool {
        true
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}
