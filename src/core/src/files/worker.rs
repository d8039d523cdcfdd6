//! The thread that learns of closed files by inotify(7), and writes back.
//!
//! One watch on the private directory tells the name of each object that a guest has closed; nothing
//! is trapped for it. Files that stay open are looked at every few seconds. Where guests watch files
//! themselves, it tells of all that is done with the objects ([`super::shadows`]).

use std::{
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
    },
};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Caller, Changes},
    patience,
};

use super::{Inode, Objects, content::Content};
use crate::paths::locate::os_path;

/// How often open files are written back, and closed ones are looked for of which nothing was told:
/// the kernel tells of a close before it is complete.
const PERIOD: Duration = Duration::from_secs(5);

/// What the kernel tells about the objects.
#[derive(Debug)]
pub(super) struct Signs {
    inotify: Inotify,
    /// The watch on the directory of the objects.
    objects: WatchDescriptor,
    /// Wakes the thread when somebody else has read the signs.
    wake: EventFd,
    /// Held by who reads: one after the other.
    unread: Mutex<Unread>,
}

/// What was read and not done yet.
#[derive(Debug, Default)]
struct Unread {
    closed: Vec<u64>,
    overflown: bool,
}

impl Signs {
    fn new(root: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let objects = inotify.add_watch(root, AddWatchFlags::IN_CLOSE)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { inotify, objects, wake, unread: Mutex::default() })
    }
}

impl Objects {
    /// Starts the thread. Errors: those of inotify_init(2) and of starting a thread.
    pub(super) fn watch(self: &Arc<Self>) -> io::Result<()> {
        let signs = Arc::new(Signs::new(self.root())?);
        let _ = self.signs.set(Arc::clone(&signs));
        let objects = Arc::downgrade(self);
        thread::Builder::new()
            .name("umvu-files".to_owned())
            .spawn(move || run(&signs, &objects))?;
        Ok(())
    }

    /// From now on the kernel tells of all that guests do with their descriptors. Errors: those of
    /// inotify_add_watch(2).
    pub(super) fn see_all(&self) -> io::Result<()> {
        let Some(signs) = self.signs.get() else { return Ok(()) };
        let all = AddWatchFlags::IN_CLOSE | AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY;
        Ok(signs.inotify.add_watch(self.root(), all).map(drop)?)
    }

    /// The kernel tells of a path of the host, too.
    pub(super) fn see(&self, path: &[u8], flags: AddWatchFlags) -> Option<WatchDescriptor> {
        self.signs.get()?.inotify.add_watch(os_path(path), flags).ok()
    }

    /// That is not needed any more.
    pub(super) fn see_no_more(&self, watch: WatchDescriptor) {
        if let Some(signs) = self.signs.get() {
            let _ = signs.inotify.rm_watch(watch);
        }
    }

    /// Passes on what the kernel has told so far to who watches files of mounts.
    pub(super) fn hear(&self) {
        let Some(signs) = self.signs.get() else { return };
        self.await_handed();
        if read(signs, self) {
            let _ = signs.wake.write(1);
        }
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

/// Reads what the kernel has told; whether a guest has closed something.
fn read(signs: &Signs, objects: &Objects) -> bool {
    let mut unread = signs.unread.lock();
    while let Ok(events) = signs.inotify.read_events() {
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                unread.overflown = true;
            } else if event.wd != signs.objects {
                let name = event.name.as_ref().map(|name| name.as_bytes());
                objects.pass_on_from_layer(event.wd, name, event.mask);
            } else if let Some(number) =
                event.name.as_ref().and_then(|name| name.to_str()?.parse().ok())
            {
                objects.told_of(number, event.mask);
                if event.mask.intersects(AddWatchFlags::IN_CLOSE) {
                    unread.closed.push(number);
                }
            }
        }
    }
    unread.overflown || !unread.closed.is_empty()
}

fn run(signs: &Signs, objects: &Weak<Objects>) {
    let mut tended = Instant::now();
    loop {
        let left = PERIOD.saturating_sub(tended.elapsed());
        let fds = [signs.inotify.as_fd(), signs.wake.as_fd()];
        let mut ready = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let count = poll(&mut ready, timeout);
        let Some(objects) = objects.upgrade() else { return };
        let _ = signs.wake.read();
        if count != Ok(0) {
            read(signs, &objects);
        }
        let unread = std::mem::take(&mut *signs.unread.lock());
        if unread.overflown || tended.elapsed() >= PERIOD {
            tend(&objects);
            tended = Instant::now();
        }
        for number in unread.closed {
            closed(&objects, number);
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
        return_to_file_system(inode, &mut content)
    });
}

/// Errors: [`patience::LATER`]; all others are told.
fn return_to_file_system(inode: &Inode, content: &mut Content) -> Result<(), Errno> {
    let noted = content.note_reads(inode);
    if !content.is_written() {
        return noted.or_else(|errno| if errno == patience::LATER { Err(errno) } else { Ok(()) });
    }
    match content.write_back(inode) {
        Err(patience::LATER) => Err(patience::LATER),
        // It was taken away meanwhile, and nobody wants it.
        Err(Errno::ENOENT | Errno::ESTALE) if inode.is_removed() => Ok(()),
        Err(errno) => {
            complain(inode, errno);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
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
        return_to_file_system(inode, &mut content)?;
        if idle {
            content.rest(inode);
            objects.unused(number);
        }
        Ok(())
    });
}

impl Inode {
    /// Before its name is taken away: what guests have closed is closed in the file system, too, where it matters, and
    /// other names keep what was written. Errors: those of the file system.
    pub(super) fn settle(self: &Arc<Self>) -> Result<(), Errno> {
        if !self.files.traits.parts_names || self.kind() != Ok(libc::S_IFREG) {
            return Ok(());
        }
        let mut content = self.content.lock();
        if !content.is_kept() || !content.is_idle() {
            return Ok(());
        }
        content.write_back(self)?;
        content.release_all(&self.files, self.node);
        Ok(())
    }

    /// Its name was taken away: unless a guest has it open it is needed no more at once, and not when its
    /// last closing is told. Where room is scarce its data goes now, whoever else looks at it just then.
    pub(super) fn leave_unless_open(self: &Arc<Self>) {
        let Some(number) = self.object.get() else { return };
        if !self.is_removed() || self.kind() != Ok(libc::S_IFREG) {
            return;
        }
        let mut content = self.content.lock();
        if content.is_kept() && content.is_idle() {
            let fs = &self.files.fs;
            let root = Caller::root();
            let links = || fs.getattr(&root, self.node, None).map_or(0, |looks| looks.nlink);
            if content.is_written() && !self.files.traits.parts_names && links() > 0 {
                // It has other names.
                return;
            }
            content.rest(self);
            if self.files.room.is_scarce() && self.files.ask().is_ok() && links() == 0 {
                let nothing = Changes { size: Some(0), ..Changes::default() };
                let _ = fs.setattr(&root, self.node, None, &nothing);
            }
            drop(content);
            self.files.objects.unused(*number);
        }
    }
}

/// Does something with an inode, on a thread of its own when it may wait, or as soon as it says that it must
/// ([`patience::LATER`]).
fn with_patience(
    inode: &Arc<Inode>,
    work: impl Fn(&Arc<Inode>) -> Result<(), Errno> + Send + 'static,
) {
    let inode = Arc::clone(inode);
    let must_hurry = patience::may_wait().is_err();
    let patient = inode.files.traits.may_wait && must_hurry;
    // What a file system does wrong must not end this thread, which serves all of them.
    let work = move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&inode)));
        done.unwrap_or_else(|_| {
            complain(&inode, Errno::EIO);
            Ok(())
        })
    };
    if !patient && (work() != Err(patience::LATER) || !must_hurry) {
        return;
    }
    let work = move || patience::patiently(work);
    // Without a thread what was written stays in the cache until the next attempt.
    let _ = thread::Builder::new().name("umvu-flush".to_owned()).spawn(work);
}

fn complain(inode: &Inode, errno: Errno) {
    let path = inode.path();
    tracing::warn!("{}: what was written is lost: {errno}", String::from_utf8_lossy(&path));
}
