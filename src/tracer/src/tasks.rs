//! The threads of the tree, as the tracer knows them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::Tid;

use crate::{api::Watch, guest::TaskGuest, notify::Listener};

/// How many descriptors of a process are watched.
const WATCHED_MOST: usize = 32;

/// One thread.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its thread group.
    pub(crate) group: i32,
    /// Who answers its trapped calls; none while the view is not armed.
    pub(crate) listener: Option<Arc<Listener>>,
    /// The cached access to its memory and descriptors.
    pub(crate) guest: Arc<TaskGuest>,
    /// Which filter of watched processes it has.
    pub(crate) watched: Option<Watch>,
    /// Which of its descriptors are watched, by a filter each.
    pub(crate) watched_descriptors: Arc<Vec<i32>>,
    /// Whether it has the filter of those whose waits are watched.
    pub(crate) waits_are_watched: bool,
    /// How many of the optional calls are trapped in it.
    pub(crate) also: usize,
    /// How many filters have been added to it for that.
    pub(crate) additions: u32,
}

impl Task {
    pub(crate) fn new(tid: Tid, group: i32, listener: Option<Arc<Listener>>) -> Self {
        let guest = Arc::new(TaskGuest::new(tid, group));
        Self {
            group,
            listener,
            guest,
            watched: None,
            watched_descriptors: Arc::default(),
            waits_are_watched: false,
            also: 0,
            additions: 0,
        }
    }

    /// A task with the filters of another one.
    pub(crate) fn like(self, other: &Self) -> Self {
        let Self { watched, waits_are_watched, also, additions, .. } = *other;
        let watched_descriptors = Arc::clone(&other.watched_descriptors);
        Self { watched, watched_descriptors, waits_are_watched, also, additions, ..self }
    }
}

/// All threads; shared with the notification threads.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_tid: Mutex<HashMap<Tid, Task>>,
}

impl Tasks {
    pub(crate) fn insert(&self, tid: Tid, task: Task) {
        self.by_tid.lock().insert(tid, task);
    }

    pub(crate) fn remove(&self, tid: Tid) -> Option<Task> {
        self.by_tid.lock().remove(&tid)
    }

    pub(crate) fn get(&self, tid: Tid) -> Option<Task> {
        self.by_tid.lock().get(&tid).cloned()
    }

    pub(crate) fn guest(&self, tid: Tid) -> Option<Arc<TaskGuest>> {
        self.by_tid.lock().get(&tid).map(|task| Arc::clone(&task.guest))
    }

    pub(crate) fn ids(&self) -> Vec<Tid> {
        self.by_tid.lock().keys().copied().collect()
    }

    /// Sets the listener of a whole group, whose filter traps so many of the optional calls.
    pub(crate) fn armed(&self, group: i32, listener: &Arc<Listener>, also: usize) {
        for task in self.by_tid.lock().values_mut().filter(|task| task.group == group) {
            task.listener = Some(Arc::clone(listener));
            task.also = also;
        }
    }

    /// So many of the optional calls are trapped in a thread, or in its whole group, by one filter more.
    pub(crate) fn added(&self, tid: Tid, whole: bool, also: usize) {
        let mut tasks = self.by_tid.lock();
        let Some(group) = tasks.get(&tid).map(|task| task.group) else { return };
        for (other, task) in tasks.iter_mut() {
            if *other == tid || whole && task.group == group {
                task.also = also;
                task.additions += 1;
            }
        }
    }

    /// Marks a thread, or its whole group, as watched.
    pub(crate) fn watch(&self, tid: Tid, whole: bool, watch: Watch) {
        let mut tasks = self.by_tid.lock();
        let Some(group) = tasks.get(&tid).map(|task| task.group) else { return };
        for (other, task) in tasks.iter_mut() {
            if *other == tid || whole && task.group == group {
                task.watched = task.watched.max(Some(watch));
            }
        }
    }

    /// Notes that a descriptor of a thread, or of its whole group, is watched.
    pub(crate) fn watch_descriptor(&self, tid: Tid, whole: bool, descriptor: i32) {
        let mut tasks = self.by_tid.lock();
        let Some(group) = tasks.get(&tid).map(|task| task.group) else { return };
        for (other, task) in tasks.iter_mut() {
            if (*other == tid || whole && task.group == group)
                && !task.watched_descriptors.contains(&descriptor)
            {
                Arc::make_mut(&mut task.watched_descriptors).push(descriptor);
            }
        }
    }

    /// Whether the calls of a thread on a descriptor pass unseen, and can be watched: there is a bound
    /// to how many filters a process has, and without a listener every call stops anyway.
    pub(crate) fn is_to_watch(&self, tid: Tid, descriptor: i32) -> bool {
        self.by_tid.lock().get(&tid).is_some_and(|task| {
            let watched = &task.watched_descriptors;
            task.listener.is_some()
                && task.watched < Some(Watch::Data)
                && watched.len() < WATCHED_MOST
                && !watched.contains(&descriptor)
        })
    }

    /// Marks a thread, or its whole group: its waits are watched.
    pub(crate) fn watch_waits(&self, tid: Tid, whole: bool) {
        let mut tasks = self.by_tid.lock();
        let Some(group) = tasks.get(&tid).map(|task| task.group) else { return };
        for (other, task) in tasks.iter_mut() {
            task.waits_are_watched |= *other == tid || whole && task.group == group;
        }
    }

    /// How a thread is watched.
    pub(crate) fn watch_of(&self, tid: Tid) -> Option<Watch> {
        self.by_tid.lock().get(&tid).and_then(|task| task.watched)
    }

    /// Whether some other task belongs to the group.
    pub(crate) fn has_group(&self, group: i32) -> bool {
        self.by_tid.lock().values().any(|task| task.group == group)
    }

    /// Whether some task uses the listener.
    pub(crate) fn uses(&self, listener: &Arc<Listener>) -> bool {
        let tasks = self.by_tid.lock();
        tasks.values().any(|t| t.listener.as_ref().is_some_and(|l| Arc::ptr_eq(l, listener)))
    }
}
