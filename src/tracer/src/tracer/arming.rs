//! Guests get the filters of an armed view, and what else is to be trapped later.

use std::{sync::Arc, time::Instant};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use umvu_abi::Tid;

use super::Tracer;
use crate::{
    arm::{self, Reach},
    filter,
    notify::Listener,
    tasks::Task,
};

impl Tracer {
    pub(super) fn arm_if_wanted(&mut self) {
        let extended = self.control.is_armed() && *self.control.extended.0.lock();
        if !extended && (self.interrupted || !self.control.is_armed()) {
            return;
        }
        self.interrupted = true;
        self.armed_at = Some(Instant::now());
        if self.stops.is_none() {
            for tid in self.backend.tasks.ids() {
                let _ = ptrace::interrupt(Pid::from_raw(tid.0));
            }
        }
        if extended {
            let (pending, reached) = &*self.control.extended;
            *pending.lock() = false;
            reached.notify_all();
        }
    }

    pub(super) fn arm(&mut self, tid: Pid, task: &Task) {
        let also = self.backend.also.lock().clone();
        let filter = filter::armed(&self.subscriptions, &also);
        let reach = match arm::inject(&task.guest, tid, task.group, &filter) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::warn!("task {tid}: cannot be armed: {error}");
                self.unreachable.insert(Tid(tid.as_raw()));
                return;
            }
        };
        let (fd, whole) = match reach {
            Reach::Group(fd) => (fd, true),
            Reach::Thread(fd) => (fd, false),
        };
        let listener = match Listener::start(fd, &self.backend) {
            Ok(listener) => listener,
            Err(error) => {
                // Every trapped call of it would fail from now on (ENOSYS).
                tracing::error!("task {tid} ends: no thread to answer its calls: {error}");
                let _ = kill(Pid::from_raw(task.group), Signal::SIGKILL);
                return;
            }
        };
        self.listeners.insert(key(&listener), Arc::clone(&listener));
        if whole {
            self.backend.tasks.armed(task.group, &listener, also.len());
        } else {
            let armed = Task { listener: Some(listener), also: also.len(), ..task.clone() };
            self.backend.tasks.insert(Tid(tid.as_raw()), armed);
        }
    }

    /// Traps the optional calls in an armed guest that have been asked for since.
    pub(super) fn extend(&self, tid: Pid, task: &Task) {
        let also = self.backend.also.lock().clone();
        if self.stops.is_some() || task.listener.is_none() || task.also >= also.len() {
            return;
        }
        let filter = filter::watching(&also[task.also..], &self.subscriptions);
        let added = arm::add(&task.guest, tid, task.group, &filter);
        if let Err(error) = &added {
            tracing::warn!("task {tid}: what it sees of itself is the kernel's: {error}");
        }
        // Even so: it must not be tried for ever.
        self.backend.tasks.added(Tid(tid.as_raw()), added.unwrap_or(false), also.len());
    }
}

pub(super) fn key(listener: &Arc<Listener>) -> usize {
    Arc::as_ptr(listener) as usize
}
