//! [`LocalPlug`]: a plug in a switch of the same process.

use std::{any::Any, collections::VecDeque, fmt, io, os::fd::BorrowedFd, sync::Arc, time::Instant};

use parking_lot::Mutex;

use crate::{
    frame::Frame,
    reconnect::{Link, Lost},
    switch::{
        fabric::{Fabric, Run, Slot},
        port::{Inbox, Port},
    },
    transport::{Drops, Transport, Waker},
};

/// A plug in a switch of this process.
pub(crate) struct LocalPlug {
    fabric: Arc<Fabric>,
    port: Arc<Port>,
    slot: Slot,
    runs: Mutex<Vec<Run>>,
    /// Dropped after the plug has left.
    _switch: Box<dyn Any + Send + Sync>,
}

impl LocalPlug {
    /// Takes over a port of `fabric`; `switch` lives as long as the plug.
    pub(crate) fn new(
        fabric: Arc<Fabric>,
        port: Arc<Port>,
        slot: Slot,
        switch: impl Any + Send + Sync,
    ) -> Self {
        Self { fabric, port, slot, runs: Mutex::default(), _switch: Box::new(switch) }
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.port.inbox()
    }
}

impl fmt::Debug for LocalPlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPlug").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Drop for LocalPlug {
    fn drop(&mut self) {
        self.fabric.detach(self.slot);
    }
}

impl Transport for LocalPlug {
    fn send(&self, frames: &mut Vec<Frame>) {
        self.fabric.forward(self.slot, frames, &mut self.runs.lock(), &self.port.drops);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        Ok(self.inbox().map_or(0, |inbox| inbox.take(into, budget)))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn set_waker(&self, waker: Waker) {
        if let Some(inbox) = self.inbox() {
            inbox.set_waker(waker);
        }
    }

    fn accepts_offload(&self) -> bool {
        true
    }

    fn drops(&self) -> u64 {
        self.port.drops.get()
    }
}

/// What a plug that had its switch in another process is connected to when it makes the switch.
impl Link for LocalPlug {
    fn send(&self, frames: &mut Vec<Frame>, _drops: &Drops) {
        Transport::send(self, frames);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        _drops: &Drops,
    ) -> Result<usize, Lost> {
        Ok(self.inbox().map_or(0, |inbox| inbox.take(into, budget)))
    }

    fn accepts_offload(&self) -> bool {
        true
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        Ok(())
    }
}
