//! The thread that learns of closed files by inotify(7), and writes back.
//!
//! One watch on the private directory tells the name of each object that a guest has closed; nothing
//! is trapped for it. Files that stay open are looked at every few seconds.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use umvu_abi::{Errno, patience};

use super::{Inode, Objects};

/// How often open files are written back.
const PERIOD: u16 = 5000;

impl Objects {
    /// Starts the thread. Errors: those of inotify_init(2) and of starting a thread.
    pub(super) fn watch(self: &Arc<Self>) -> io::Result<()> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(
            self.root(),
            AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_CLOSE_NOWRITE,
        )?;
        let objects = Arc::downgrade(self);
        thread::Builder::new()
            .name("umvu-files".to_owned())
            .spawn(move || run(&inotify, &objects))?;
        Ok(())
    }
}

fn run(inotify: &Inotify, objects: &Weak<Objects>) {
    loop {
        let mut ready = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let count = poll(&mut ready, PollTimeout::from(PERIOD));
        let Some(objects) = objects.upgrade() else { return };
        if count == Ok(0) {
            for (_, inode) in objects.files() {
                write_back(&inode);
            }
            continue;
        }
        for event in inotify.read_events().unwrap_or_default() {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                objects.files().into_iter().for_each(|(number, _)| closed(&objects, number));
            }
            let name = event.name.as_ref().and_then(|name| name.to_str()?.parse().ok());
            if let Some(number) = name {
                closed(&objects, number);
            }
        }
    }
}

/// Writes back what guests have changed in a file; waits for it unless the file system may wait and
/// this thread may not.
pub(super) fn write_back(inode: &Arc<Inode>) {
    with_patience(inode, |inode| {
        let mut content = inode.content.lock();
        if content.is_written()
            && let Err(errno) = content.write_back(inode)
        {
            complain(inode, errno);
        }
    });
}

/// A guest has closed an object.
fn closed(objects: &Arc<Objects>, number: u64) {
    if objects.direct_closed(number) {
        return;
    }
    let Some(inode) = objects.by_number(number) else { return };
    let objects = Arc::clone(objects);
    with_patience(&inode, move |inode| {
        let mut content = inode.content.lock();
        // Before writing back: what an idle file holds then is the last.
        // Whether somebody stands in a directory or has a FIFO open is not known.
        let idle = inode.kind() == Ok(libc::S_IFREG) && content.is_idle();
        if content.is_written()
            && let Err(errno) = content.write_back(inode)
        {
            complain(inode, errno);
        }
        if idle {
            content.rest(inode);
            objects.unused(number);
        }
    });
}

/// Does something with an inode, on a thread of its own when it may wait.
fn with_patience(inode: &Arc<Inode>, work: impl FnOnce(&Arc<Inode>) + Send + 'static) {
    let inode = Arc::clone(inode);
    let patient = inode.files.traits.may_wait && patience::may_wait().is_err();
    // What a file system does wrong must not end this thread, which serves all of them.
    let work = move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&inode)));
        if done.is_err() {
            complain(&inode, Errno::EIO);
        }
    };
    if !patient {
        return work();
    }
    let work = move || patience::patiently(work);
    // Without a thread what was written stays in the cache until the next attempt.
    let _ = thread::Builder::new().name("umvu-flush".to_owned()).spawn(work);
}

fn complain(inode: &Inode, errno: Errno) {
    let path = inode.path();
    tracing::warn!("{}: what was written is lost: {errno}", String::from_utf8_lossy(&path));
}
