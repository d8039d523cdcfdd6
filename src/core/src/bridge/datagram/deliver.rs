//! From the stack to the guest: datagrams, and the receives that wait for them.

use std::{
    cell::OnceCell,
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Instant, SystemTime},
};

use nix::sys::socket::{SockType, UnixAddr};
use umvu_abi::{Errno, net::Datagram};
use umvu_reactor::Interest;

use super::{
    super::{Hub, Virtual, receive::answer, unix},
    BACKLOG_BYTES, BATCH, Datagrams, State,
};

impl Datagrams {
    /// Stack to guest. Returns how many.
    pub(super) fn give_to_guest(&self, one: &Virtual, hub: &Arc<Hub>) -> usize {
        let mut state = self.state.lock();
        state.overflow = None;
        let tells_times = OnceCell::new();
        for count in 0..BATCH {
            let (datagram, cost) = match state.backlog.pop_front() {
                Some(held) => {
                    state.backlog_bytes -= held.0.data.len();
                    held
                }
                None => match self.socket.receive_charged() {
                    Some(charged) => charged,
                    None => return count,
                },
            };
            match self.deliver(hub, &mut state, &datagram) {
                Ok(sender) => {
                    if cost > 0 {
                        one.observer.unread.note(&sender, datagram.data.len(), cost);
                    }
                    if !*tells_times.get_or_init(|| self.tells_times()) {
                        state.stamp = Some(SystemTime::now());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.hold(one, &mut state, (datagram, cost));
                    return count;
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        // The guest has closed its socket.
                        drop(state);
                        self.socket.refuse(&datagram);
                        hub.discard(one);
                        return count;
                    }
                }
            }
        }
        BATCH
    }

    /// Sends a datagram to the guest; returns by which socket.
    fn deliver(
        &self,
        hub: &Hub,
        state: &mut State,
        datagram: &Datagram,
    ) -> io::Result<Arc<OwnedFd>> {
        if let Some(pair) = &state.paired {
            if datagram.packet.is_none() {
                state.origin = Some(datagram.meta);
                unix::send(&pair.end, &datagram.data)?;
                return Ok(Arc::clone(&pair.end));
            }
            let origins = &mut state.frames.get_or_insert_default().origins;
            origins.note(datagram);
            let sent = unix::send(&pair.end, &datagram.data);
            if sent.is_err() {
                origins.take_back();
            }
            return sent.map(|_| Arc::clone(&pair.end));
        }
        let path = self.path.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let sender = hub.senders.get(&hub.names, &datagram.meta)?;
        unix::send_to(&sender, &datagram.data, &UnixAddr::new(path.as_path())?)?;
        Ok(sender)
    }

    /// Keeps a datagram until the guest's queue has room, and everything after it in the stack.
    fn hold(&self, one: &Virtual, state: &mut State, held: (Datagram, usize)) {
        let length = held.0.data.len();
        if state.backlog_bytes + length <= BACKLOG_BYTES {
            state.backlog_bytes += length;
            state.backlog.push_front(held);
        }
        let watched = match (&state.paired, &self.path) {
            (Some(pair), _) => pair.end.try_clone().map_err(Errno::from),
            (None, Some(path)) => unix::create(SockType::Datagram, true)
                .and_then(|probe| unix::connect_path(&probe, path).map(|()| probe)),
            (None, None) => return,
        };
        let watch = |probe: OwnedFd| -> Result<_, Errno> {
            let registration = one.handle()?.watch(probe.as_fd(), Interest::ReadWrite)?;
            Ok((probe, registration))
        };
        state.overflow = watched.and_then(watch).ok();
    }

    pub(super) fn serve_waiters(&self, one: &Virtual, hub: &Hub) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (waiters, deaf) = (std::mem::take(&mut state.waiters), state.deaf);
        drop(state);
        let mut left = VecDeque::new();
        for mut waiter in waiters {
            if waiter.completer.cancelled() {
                waiter.give_up();
                continue;
            }
            match waiter.batch.fill(|request| self.attempt(hub, &waiter.guest, request)) {
                Err(Errno::EAGAIN) if deaf => {
                    let nothing = waiter.batch.fill(|request| Ok(request.nothing()));
                    waiter.completer.complete(answer(nothing));
                }
                Err(Errno::EAGAIN) if waiter.deadline.is_none_or(|deadline| deadline > now) => {
                    left.push_back(waiter);
                }
                Err(errno) => waiter.completer.complete(answer(waiter.batch.finish(errno))),
                result => waiter.completer.complete(answer(result)),
            }
        }
        let mut state = self.state.lock();
        left.append(&mut state.waiters);
        state.waiters = left;
        let next = state.waiters.iter().filter_map(|waiter| waiter.deadline).min();
        drop(state);
        if let (Some(deadline), Ok(handle)) = (next, one.handle()) {
            handle.wake_at(Some(deadline));
        }
    }
}
