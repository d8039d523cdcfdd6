//! Work that may block, on a thread of its own.

use std::{sync::Arc, thread};

use parking_lot::Mutex;

/// Starts the work on a new thread. When there can be none it is done here: slower, but right.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) {
    let slot = Arc::new(Mutex::new(Some(work)));
    let there = Arc::clone(&slot);
    let run = move || {
        let work = there.lock().take();
        if let Some(work) = work {
            work();
        }
    };
    if let Err(error) = thread::Builder::new().name("umvu-slow".into()).spawn(run) {
        tracing::warn!("no thread for a slow call: {error}");
        let work = slot.lock().take();
        if let Some(work) = work {
            work();
        }
    }
}
