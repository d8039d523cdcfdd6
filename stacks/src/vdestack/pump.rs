//! Frames between the tap of a namespace and its virtual Ethernet, on the reactor's thread.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use umvu_reactor::{Handle, Interest, Ready, Registration, Source};

use super::vnet;
use crate::{
    ffi::interface,
    smoltcp::wire::{Frame, Transport},
};

/// Frames taken from each side in one turn.
const BURST: usize = 64;
/// The longest frame of a tap.
const LONGEST: usize = vdeplug::MAX_OFFLOADED;

/// The two sides.
#[derive(Debug)]
pub(crate) struct Pump {
    tap: OwnedFd,
    handle: OnceLock<Handle>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None: stopped.
    transport: Option<Arc<dyn Transport>>,
    watches: Vec<Registration>,
    to_tap: VecDeque<Frame>,
    to_net: Vec<Frame>,
    buffer: Vec<u8>,
    /// Whether the tap is no interface any more.
    gone: bool,
    /// Whether the tap has been told that it has no carrier.
    silent: bool,
}

impl Pump {
    /// Joins a tap, which does not block, to a transport.
    pub(crate) fn new(transport: Arc<dyn Transport>, tap: OwnedFd) -> Self {
        let buffer = vec![0; LONGEST];
        let state = State { buffer, transport: Some(transport), ..State::default() };
        Self { tap, handle: OnceLock::new(), state: Mutex::new(state) }
    }

    /// Has the reactor drive it. Errors: those of epoll_ctl(2).
    pub(crate) fn attach(self: &Arc<Self>, handle: Handle) -> io::Result<()> {
        let mut watches = vec![handle.watch(self.tap.as_fd(), Interest::ReadWrite)?];
        let Some(transport) = self.state.lock().transport.clone() else { return Ok(()) };
        if let Some(fd) = transport.poll_fd() {
            watches.push(handle.watch(fd, Interest::Read)?);
        }
        self.state.lock().watches = watches;
        let _ = self.handle.set(handle.clone());
        let pump: Weak<Self> = Arc::downgrade(self);
        transport.set_waker(Arc::new(move || {
            if let Some(handle) = pump.upgrade().and_then(|pump| pump.handle.get().cloned()) {
                handle.wake();
            }
        }));
        handle.wake();
        Ok(())
    }

    /// Stops pumping and leaves the network, once what was sent has gone.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.watches.clear();
        let transport = state.transport.take();
        if let Some(transport) = &transport {
            // What was sent before the end is to arrive: the farewell of a DHCP client.
            self.take_from_tap(&mut state);
            transport.send(&mut state.to_net);
        }
        drop(state);
        drop(transport);
    }

    /// Whether its interface was removed; then it has left the network.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.lock().gone
    }

    fn take_from_tap(&self, state: &mut State) -> bool {
        for _ in 0..BURST {
            let mut head = [0; vnet::LENGTH];
            let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut state.buffer)];
            match nix::sys::uio::readv(&self.tap, &mut parts) {
                Ok(count) if count >= vnet::LENGTH + 14 => {
                    let bytes = state.buffer[..count - vnet::LENGTH].to_vec();
                    state.to_net.extend(vnet::read(head, bytes));
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EBADFD) => {
                    // The interface was removed.
                    state.gone = true;
                    return false;
                }
                // The interface is down, or there is nothing.
                Err(_) => return false,
            }
        }
        true
    }

    fn give_to_tap(&self, transport: &dyn Transport, state: &mut State) -> bool {
        let more = match transport.receive(&mut state.to_tap, BURST) {
            Ok(count) => count >= BURST,
            Err(error) => {
                tracing::debug!(%error, "the network of a namespace is gone");
                false
            }
        };
        for mut frame in state.to_tap.drain(..) {
            // A tap that is down or full loses frames, as a cable does.
            let write = |head: &[u8], bytes: &[u8]| {
                let _ =
                    nix::sys::uio::writev(&self.tap, &[IoSlice::new(head), IoSlice::new(bytes)]);
            };
            match vnet::write(&mut frame) {
                Some(head) => write(&head, &frame.bytes),
                None => frame.complete(&mut |bytes| write(&[0; vnet::LENGTH], &bytes)),
            }
        }
        more
    }
}

impl Pump {
    /// Tells the kernel whether somebody is at the far end.
    fn pass_the_carrier_on(&self, carrier: bool, state: &mut State) {
        if state.silent == carrier && interface::set_carrier(self.tap.as_fd(), carrier).is_ok() {
            state.silent = !carrier;
        }
    }
}

impl Source for Pump {
    fn run(&self, _ready: Ready) {
        let mut state = self.state.lock();
        let Some(transport) = state.transport.clone() else { return };
        if state.gone {
            state.transport = None;
            state.watches.clear();
            return;
        }
        let more = self.take_from_tap(&mut state) | self.give_to_tap(&*transport, &mut state);
        if !state.to_net.is_empty() {
            transport.send(&mut state.to_net);
        }
        // May lose or find the far end.
        let due = transport.tick(std::time::Instant::now());
        self.pass_the_carrier_on(transport.carrier(), &mut state);
        let more = more || state.gone;
        // Before the lock is given up: who stops the pump has the last one, and leaves by that.
        drop(transport);
        drop(state);
        let Some(handle) = self.handle.get() else { return };
        if let Some(at) = due {
            handle.wake_at(Some(at));
        }
        if more {
            handle.wake();
        }
    }
}
