//! `vufuseext2`: file systems of the kinds ext2, ext3 and ext4 on an image.
//!
//! `vumount -t vufuseext2 [-o ro|rw+] image /mnt`. The structures are libext2fs's ([`library`], loaded at
//! run time), under everything that makes a mount of it: blocks of structures gather in a [`cache`] and go
//! to the image through the [`journal`], so that it is whole whenever the session ends; the [`data`] of
//! files goes to its blocks at once, before the structures name them; files that lose their last name while
//! they are open are orphans (`volume`) as Linux has them.
//!
//! Lock order: `turn`, then `volume`, then the cache's own.

mod cache;
mod channel;
mod control;
mod data;
mod errors;
mod filsys;

#[cfg(any(test, fuzzing))]
pub mod hostile;
mod inode;
mod journal;
mod library;
mod mount;
mod names;
mod superblock;
mod system;
#[cfg(test)]
mod tests;
mod volume;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use umvu_abi::Errno;

pub use self::mount::mount;
use self::{
    cache::{Cache, Mode},
    data::Refusal,
    journal::{Journal, write_home},
    volume::Volume,
};

/// How long what was changed may wait for the image: as Linux's `commit=`.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many bytes of structures may wait.
const MOST_WAITING: usize = 16 << 20;
/// How often a change is tried again behind a commit.
const TRIES: u32 = 16;

/// A mounted file system.
#[derive(Debug)]
struct Ext {
    cache: Arc<Cache>,
    /// None once it is taken away.
    volume: Mutex<Option<Volume>>,
    /// Who has this writes to the image; the journal, if there is one.
    turn: Mutex<Option<Journal>>,
    /// How many blocks may wait.
    most: usize,
    may_wait: bool,
    /// Who has mounted it.
    owner: u32,
    ended: Mutex<bool>,
    end: Condvar,
}

impl Ext {
    fn writes(&self) -> bool {
        self.cache.mode() == Mode::Open
    }

    /// Does something with the file system. Errors: `EIO` once it is taken away.
    fn with<T>(&self, act: impl FnOnce(&mut Volume) -> Result<T, Errno>) -> Result<T, Errno> {
        act(self.volume.lock().as_mut().ok_or(Errno::EIO)?)
    }

    /// Changes the file system, and has what was changed written when it is much.
    fn change<T>(
        &self,
        mut act: impl FnMut(&mut Volume) -> Result<T, Refusal>,
    ) -> Result<T, Errno> {
        for _ in 0..TRIES {
            let done = act(self.volume.lock().as_mut().ok_or(Errno::EIO)?);
            match done {
                Ok(done) => {
                    if self.cache.waiting() > self.most {
                        self.commit()?;
                    }
                    return Ok(done);
                }
                Err(Refusal::Commit) => self.commit()?,
                Err(Refusal::Failed(errno)) => return Err(errno),
            }
        }
        Err(Errno::EIO)
    }

    /// Brings all that was changed into the image. Errors: `EIO`, `ENOSPC` of the image.
    fn commit(&self) -> Result<(), Errno> {
        if !self.writes() {
            return Ok(());
        }
        let mut journal = self.turn.lock();
        let image = self.cache.image()?;
        let batch = {
            let mut volume = self.volume.lock();
            let fs = &mut volume.as_mut().ok_or(Errno::EIO)?.fs;
            if fs.is_changed() || self.cache.waiting() > 0 {
                fs.flush()?;
            }
            self.cache.batch()
        };
        let written = match journal.as_mut() {
            _ if batch.is_empty() => Ok(()),
            Some(journal) => journal.commit(image.as_ref(), &batch),
            None => write_home(image.as_ref(), &batch, self.cache.block()),
        };
        match written {
            Ok(()) => self.cache.settled(),
            Err(errno) => {
                self.cache.failed();
                tracing::error!("vufuseext2: what was changed is not in the image: {errno}");
            }
        }
        written
    }

    /// As [`Ext::commit`], and what the image is in keeps it. Errors: as there.
    fn sync(&self) -> Result<(), Errno> {
        if !self.writes() {
            return Ok(());
        }
        self.commit()?;
        let _turn = self.turn.lock();
        self.cache.image()?.flush()
    }

    fn mark_whole(&self) -> Result<(), Errno> {
        let _turn = self.turn.lock();
        let image = self.cache.image()?;
        self.with(|volume| {
            volume.end();
            mount::mark(image.as_ref(), &self.cache, volume)
        })
    }

    /// The file system is whole and in use by nobody; the image is let go.
    fn finish(&self) {
        if self.writes() {
            let done = self.with(|volume| {
                for ino in volume.nameless() {
                    volume.leave_orphans(ino)?;
                    volume.delete(ino)?;
                }
                Ok(())
            });
            if let Err(errno) = done.and_then(|()| self.sync()).and_then(|()| self.mark_whole()) {
                tracing::error!(
                    "vufuseext2: not unmounted as it should be: {errno}; run e2fsck -p"
                );
            }
        }
        *self.ended.lock() = true;
        self.end.notify_all();
        let _turn = self.turn.lock();
        self.volume.lock().take();
        self.cache.close();
    }
}

/// Commits from time to time, until the file system is gone.
fn keep_up(ext: &Weak<Ext>) {
    loop {
        let Some(ext) = ext.upgrade() else { return };
        let mut ended = ext.ended.lock();
        ext.end.wait_for(&mut ended, PATIENCE);
        if *ended {
            return;
        }
        drop(ended);
        // The next who waits for it is told of an error.
        let _ = ext.commit();
    }
}
