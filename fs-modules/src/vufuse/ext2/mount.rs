//! How an image is mounted.

use std::{
    sync::{Arc, Weak},
    thread,
};

use parking_lot::{Condvar, Mutex};
use umvu_abi::{
    Errno,
    files::{Backing, FileSystem, Outside},
    module::{MountError, MountRequest},
};

use super::{
    Ext, MOST_WAITING,
    cache::{Cache, Mode},
    filsys::Filsys,
    journal::{self, Journal, write_home},
    keep_up,
    library::{Library, library},
    superblock::{Geometry, Superblock, feature, field},
    volume::Volume,
};
use crate::{
    options::Options,
    vufuse::image::{self, Access},
};

/// Mounts an image. Errors: those of open(2), `EBUSY` for one that is mounted, `EINVAL` for what is no
/// file system of the kind, `EOPNOTSUPP` for features that are not known, `EUCLEAN` for one that has to be
/// checked, `ENOSYS` without the library.
pub fn mount(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
) -> Result<Arc<dyn FileSystem>, MountError> {
    let mut options = Options::of(request);
    let access = image::access(request, &mut options, outside);
    options.finish()?;
    let library = library()?;
    let image = image::open(request, outside, access)?;
    let mode = if access == Access::Write { Mode::Open } else { Mode::Sealed };
    let ext = open(library, image, mode)
        .map_err(|error| MountError::new(error.errno, format!("{}: {error}", request.source)))?;
    let ext = Arc::new(Ext { owner: outside.caller().uid, ..ext });
    if ext.writes() {
        let weak: Weak<Ext> = Arc::downgrade(&ext);
        let thread = thread::Builder::new().name("vufuseext2".to_owned());
        thread.spawn(move || keep_up(&weak)).map_err(Errno::from)?;
    }
    Ok(ext)
}

fn wrong(errno: Errno, reason: &str) -> MountError {
    MountError::new(errno, reason)
}

fn damaged(errno: Errno) -> MountError {
    match errno {
        Errno::EUCLEAN => wrong(errno, "the file system is damaged; run e2fsck"),
        Errno::EOPNOTSUPP => wrong(errno, "has features that are not known here"),
        errno => errno.into(),
    }
}

/// Opens an image: what its journal has is brought home, or shown as if it were when nothing may be
/// written.
pub(super) fn open(
    library: &'static Library,
    image: Arc<dyn Backing>,
    mode: Mode,
) -> Result<Ext, MountError> {
    let superblock = Superblock::read(image.as_ref()).map_err(|errno| match errno {
        Errno::EINVAL => wrong(errno, "is no ext2, ext3 or ext4 file system"),
        errno => errno.into(),
    })?;
    let shape = superblock.geometry(image.as_ref()).map_err(|errno| match errno {
        Errno::EUCLEAN => wrong(errno, "the file system is damaged or cut off; run e2fsck"),
        errno => errno.into(),
    })?;
    if mode == Mode::Open
        && let Some(what) = shape.hinders_writing()
    {
        let reason = format!("not written to because of {what}; mount with -o ro");
        return Err(wrong(Errno::EROFS, &reason));
    }
    let may_wait = image.may_wait();
    let place = if shape.has_journal() { journal_place(library, &image, shape)? } else { None };
    let cache = Arc::new(Cache::new(Arc::clone(&image), &shape, mode));
    let journal = match place {
        Some(place) => bring_home(&image, &superblock, place, &cache).map_err(damaged)?,
        None => None,
    };
    // What was brought home may have changed the superblock.
    cache.forget_clean();
    let capacity = journal.as_ref().map_or(usize::MAX, Journal::capacity);
    let most = (MOST_WAITING / shape.block).min(capacity / 2);
    let mut volume = Volume::new(Filsys::open(library, &cache, shape).map_err(damaged)?);
    if mode == Mode::Open {
        volume.begin();
        mark(image.as_ref(), &cache, &mut volume)?;
        volume.reap_orphans().map_err(damaged)?;
    }
    Ok(Ext {
        cache,
        volume: Mutex::new(Some(volume)),
        turn: Mutex::new(journal),
        most,
        may_wait,
        owner: 0,
        ended: Mutex::new(false),
        end: Condvar::new(),
    })
}

/// The largest journal that mke2fs(8) makes, in blocks.
const MOST_JOURNAL: u64 = 10_240_000;

/// Where the journal is. None for one on another device that has nothing to be brought home, as long as
/// nothing is written.
fn journal_place(
    library: &'static Library,
    image: &Arc<dyn Backing>,
    shape: Geometry,
) -> Result<Option<journal::Place>, MountError> {
    if shape.journal_inode == 0 {
        let reason = "has its journal on another device; run e2fsck -p, and mount with -o ro";
        return Err(wrong(Errno::EOPNOTSUPP, reason));
    }
    let cache = Arc::new(Cache::new(Arc::clone(image), &shape, Mode::Sealed));
    let fs = Filsys::open(library, &cache, shape).map_err(damaged)?;
    let runs = fs.inode(shape.journal_inode).and_then(|raw| fs.runs(shape.journal_inode, &raw));
    let mut blocks = Vec::new();
    for run in runs.map_err(damaged)? {
        let most = shape.blocks.min(MOST_JOURNAL);
        if run.is_blank || run.logical != blocks.len() as u64 || run.logical + run.length > most {
            return Err(damaged(Errno::EUCLEAN));
        }
        blocks.extend(run.physical..run.physical + run.length);
    }
    Ok(Some(journal::Place { blocks, block: shape.block, end: shape.blocks }))
}

/// Brings what is in the journal home: into the image, or into the cache alone when the image is not to
/// be written to. Returns the journal that is ready for more. Errors: `EUCLEAN`, `EOPNOTSUPP`, `EIO`.
fn bring_home(
    image: &Arc<dyn Backing>,
    superblock: &Superblock,
    place: journal::Place,
    cache: &Cache,
) -> Result<Option<Journal>, Errno> {
    let block = place.block as u64;
    let needs = superblock.u32(field::INCOMPAT) & feature::RECOVER != 0;
    if cache.mode() == Mode::Sealed {
        if needs {
            journal::replay(image.as_ref(), &place, |number, data| {
                cache.overlay(number * block, &data)
            })?;
        }
        return Ok(None);
    }
    if needs {
        let home = |number: u64, data: Vec<u8>| image.write_at(number * block, &data);
        let emptied = journal::replay(image.as_ref(), &place, home)?;
        if let Some(emptied) = emptied {
            image.flush()?;
            emptied.settle(image.as_ref(), &place)?;
            image.flush()?;
        }
    }
    Ok(Some(Journal::open(image.as_ref(), place)?))
}

/// Says in the image that it is in use, or that it is no longer: not through the journal, which is looked
/// at or not by what stands there. Errors: `EIO`.
pub(super) fn mark(image: &dyn Backing, cache: &Cache, volume: &mut Volume) -> Result<(), Errno> {
    volume.fs.flush()?;
    let written = write_home(image, &cache.batch(), cache.block()).and_then(|()| image.flush());
    match written {
        Ok(()) => cache.settled(),
        Err(_) => cache.failed(),
    }
    written
}
