//! The thread that learns of closed files by inotify(7), and writes back.
//!
//! One watch on the private directory tells the name of each object that a guest has closed; nothing
//! is trapped for it. Files that stay open are looked at every few seconds.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use umvu_abi::{Errno, patience};

use super::{Inode, Objects};

/// How often open files are written back, and closed ones are looked for of which nothing was told:
/// the kernel tells of a close before it is complete.
const PERIOD: Duration = Duration::from_secs(5);

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

    /// Before one more file is opened: when so many contents are kept that descriptors get scarce,
    /// those that nobody has open go now, and not when the thread comes to them.
    pub(crate) fn make_room(self: &Arc<Self>) {
        let descriptors = self.descriptors();
        let limit = super::content::descriptors_limit();
        if descriptors <= limit || descriptors < self.crowded.load(Ordering::Relaxed) {
            return;
        }
        tend(self);
        // What is open stays: not to look again before there is much more.
        self.crowded.store(self.descriptors() + limit / 8, Ordering::Relaxed);
    }
}

fn run(inotify: &Inotify, objects: &Weak<Objects>) {
    let mut tended = Instant::now();
    loop {
        let left = PERIOD.saturating_sub(tended.elapsed());
        let mut ready = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let count = poll(&mut ready, timeout);
        let Some(objects) = objects.upgrade() else { return };
        if tended.elapsed() >= PERIOD {
            tend(&objects);
            tended = Instant::now();
        }
        if count == Ok(0) {
            continue;
        }
        for event in inotify.read_events().unwrap_or_default() {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                tend(&objects);
            }
            let name = event.name.as_ref().and_then(|name| name.to_str()?.parse().ok());
            if let Some(number) = name {
                closed(&objects, number);
            }
        }
    }
}

/// Writes back what guests have changed, and lets go of what nobody has open.
fn tend(objects: &Arc<Objects>) {
    for (number, inode) in objects.files() {
        // One that is in use now is not waited for.
        let due = inode.content.try_lock().is_some_and(|content| {
            content.is_kept() && (content.is_written() || content.is_idle())
        });
        if due {
            closed(objects, number);
        }
    }
    for number in objects.directs() {
        objects.direct_closed(number);
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
