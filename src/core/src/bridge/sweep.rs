//! Sockets that no guest has any more are found and closed.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use super::{Hub, Kind, Virtual, alive};
use crate::view::Mount;

impl Hub {
    /// Takes a socket out of the registry: nothing refers to it any more.
    pub(super) fn forget(&self, one: &Virtual) {
        let mut registry = self.registry.write();
        let removed = registry.by_id.remove(&one.id);
        registry.leave(one.inode(), one);
        drop(registry);
        drop(removed);
    }

    /// Enters the inode of a socket that a guest has accepted by itself and still has.
    pub(super) fn make_known(&self, one: &Virtual, inode: u64) {
        let mut registry = self.registry.write();
        let Some(known) = registry.by_id.get(&one.id).cloned() else { return };
        known.observer.inode.store(inode, Ordering::Relaxed);
        registry.foreign.remove(&inode);
        registry.by_inode.insert(inode, known);
    }

    /// A stream is over. Its record stays until the guest has closed it, if it is known by inode.
    pub(super) fn retire(&self, one: &Virtual) {
        if one.inode() == 0 {
            self.forget(one);
        } else {
            self.sweep_soon();
        }
    }

    /// Sweeps on the reactor: at once, unless it has just been done.
    pub(super) fn sweep_soon(&self) {
        if let Some(sweep) = self.sweep.get() {
            sweep.wake_at(Some(*self.next_sweep.lock()));
        }
    }

    /// Ends a socket whose guest is gone, or whose stack goes.
    pub(super) fn discard(&self, one: &Virtual) {
        self.forget(one);
        match &one.kind {
            Kind::Stream(stream) => stream.discard(self),
            Kind::Datagram(datagram) => datagram.discard(self),
        }
        one.socket().close();
    }

    /// Ends a socket that its guest has closed; what it had sent before is still passed on.
    pub(super) fn discard_closed(&self, one: &Virtual) {
        match &one.kind {
            // Its end of the pipe tells of the close after the data.
            Kind::Stream(stream) if stream.is_joined() => return,
            Kind::Stream(_) => {}
            Kind::Datagram(datagram) => datagram.send_rest(),
        }
        self.discard(one);
    }

    /// Ends the datagram sockets of a stack that are in a group and whose guests have closed them:
    /// nobody else is to hear the group for them.
    pub(crate) fn sweep_groups(&self, mount: &Arc<Mount>) {
        let closed: Vec<Arc<Virtual>> = {
            let registry = self.registry.read();
            let mine = registry.by_id.values().filter(|one| Arc::ptr_eq(&one.mount, mount));
            let is_closed = |one: &&Arc<Virtual>| match &one.kind {
                Kind::Datagram(datagram) => datagram.is_closed_in_group(),
                Kind::Stream(_) => false,
            };
            mine.filter(is_closed).cloned().collect()
        };
        for one in closed {
            self.discard_closed(&one);
        }
    }

    pub(super) fn survey(&self) {
        self.sweep();
        let mut registry = self.registry.write();
        let unseen = |one: &&Arc<Virtual>| one.inode() == 0;
        let unseen: Vec<_> = registry.by_id.values().filter(unseen).cloned().collect();
        for one in unseen {
            let Kind::Stream(stream) = &one.kind else { continue };
            if let Some(inode) = stream.end_inode().and_then(alive::peer_of) {
                one.observer.inode.store(inode, Ordering::Relaxed);
                registry.by_inode.insert(inode, one);
            }
        }
    }

    pub(super) fn sweep(&self) {
        // Who waits here finds closed what another sweep has just been closing.
        let _one_at_a_time = self.sweeping.lock();
        let known: Vec<(u64, Arc<Virtual>)> = {
            let registry = self.registry.read();
            registry.by_inode.iter().map(|(inode, one)| (*inode, Arc::clone(one))).collect()
        };
        if known.is_empty() {
            return;
        }
        for (_, one) in &known {
            match &one.kind {
                Kind::Stream(stream) => stream.drop_cancelled(),
                Kind::Datagram(datagram) => datagram.drop_cancelled(),
            }
        }
        let inodes: Vec<u64> = known.iter().map(|(inode, _)| *inode).collect();
        let living = alive::living(&inodes);
        let held: HashSet<u64> = known
            .iter()
            .filter(|(inode, _)| living.contains(inode))
            .map(|(_, one)| one.id)
            .collect();
        for (inode, one) in known {
            if living.contains(&inode) {
                continue;
            }
            if inode != one.inode() {
                self.registry.write().leave(inode, &one);
            } else if !held.contains(&one.id) {
                self.discard_closed(&one);
            }
        }
    }
}
