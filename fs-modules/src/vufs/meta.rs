//! The metadata of an overlay: the directory `.-` at the top of its source.
//!
//! It has the shape of the tree. A regular file at a place says that nothing of the lower layer shows
//! there or below (a whiteout); one with the byte 127 behind its name says what the file of that name
//! looks like ([`Vstat`]). What is being made is put together in `.-/.-`, where it means nothing, and
//! renamed when it is whole.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Changes, Data},
};

use super::{
    format::{TEXT_LIMIT, Vstat},
    layer::{Make, Ref, Seen, perhaps},
};

/// The name of the directory.
pub(super) const NAME: &[u8] = b".-";
/// What is behind the name of a file in the name of its looks.
const MARK: u8 = 127;
/// How deep directories that are taken away may lie.
const DEPTH: usize = 2048;

/// What stands at a place in the metadata.
#[derive(Debug, Clone)]
pub(super) enum Sign {
    /// Nothing.
    Nothing,
    /// The lower layer does not show.
    Hidden,
    /// There may be signs below.
    Directory(Ref),
}

/// The metadata of one overlay.
#[derive(Debug)]
pub(super) struct Meta {
    /// `.-`; None when there is none, and none may be made.
    pub(super) root: Option<Ref>,
    /// `.-/.-`.
    work: Option<Ref>,
    us: Caller,
    serial: AtomicU64,
}

/// The name of the file with the looks of another.
fn looks_of(name: &[u8]) -> Vec<u8> {
    [name, &[MARK]].concat()
}

/// Whether a name may be that of a file with looks.
pub(super) fn is_looks(name: &[u8]) -> Option<&[u8]> {
    name.strip_suffix(&[MARK])
}

impl Meta {
    /// Finds the metadata of a source. Errors: `ENOTDIR` when something else has their name.
    pub(super) fn find(source: &Ref, us: &Caller) -> Result<Self, Errno> {
        let root = match source.child(us, NAME)? {
            Some(found) if found.looks.is_directory() => Some(found.at),
            Some(_) => return Err(Errno::ENOTDIR),
            None => None,
        };
        Ok(Self { root, work: None, us: us.clone(), serial: AtomicU64::new(0) })
    }

    /// Finds the metadata of a source, or makes them. Errors: as [`Meta::find`], those of mkdir(2).
    pub(super) fn prepare(source: &Ref, us: &Caller) -> Result<Self, Errno> {
        let mut meta = Self::find(source, us)?;
        let directory = |parent: &Ref| -> Result<Ref, Errno> {
            match parent.make(us, NAME, Make::Directory { mode: 0o755 }) {
                Ok(made) => Ok(made.at),
                Err(Errno::EEXIST) => match parent.child(us, NAME)? {
                    Some(found) if found.looks.is_directory() => Ok(found.at),
                    _ => Err(Errno::ENOTDIR),
                },
                Err(errno) => Err(errno),
            }
        };
        let root = directory(source)?;
        let work = directory(&root)?;
        (meta.root, meta.work) = (Some(root), Some(work));
        meta.sweep();
        Ok(meta)
    }

    /// Takes away what hypervisors that have died were putting together.
    fn sweep(&self) {
        let Ok(work) = self.work() else { return };
        for entry in work.list(&self.us).unwrap_or_default() {
            let name = String::from_utf8_lossy(&entry.name);
            let owner = name.split_once('-').and_then(|(pid, _)| pid.parse::<i32>().ok());
            let alive = owner.and_then(rustix::process::Pid::from_raw).is_some_and(|pid| {
                pid != rustix::process::getpid()
                    && rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
            });
            if owner.is_some() && !alive {
                let _ = self.remove_tree(work, &entry.name);
            }
        }
    }

    /// Takes away what nobody needs when the overlay goes.
    pub(super) fn tidy(&self) {
        if let (Some(root), Ok(_)) = (&self.root, self.work()) {
            // Another hypervisor may have something in it.
            let _ = root.rmdir(&self.us, NAME);
        }
    }

    /// Where things are put together. Errors: `EROFS` where nothing may be made.
    pub(super) fn work(&self) -> Result<&Ref, Errno> {
        self.work.as_ref().ok_or(Errno::EROFS)
    }

    /// A name that nothing has there.
    pub(super) fn fresh_name(&self) -> Vec<u8> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        format!("{}-{serial}", std::process::id()).into_bytes()
    }

    /// What stands at a name in a directory of the metadata.
    pub(super) fn sign(&self, directory: &Ref, name: &[u8]) -> Result<Sign, Errno> {
        Ok(match directory.child(&self.us, name)? {
            Some(found) if found.looks.is_directory() => Sign::Directory(found.at),
            // A file that says something is not the whiteout of a name that ends alike.
            Some(found) if hides(name, &found.looks) => Sign::Hidden,
            _ => Sign::Nothing,
        })
    }

    /// What the file of a name looks like.
    pub(super) fn vstat(&self, directory: &Ref, name: &[u8]) -> Result<Vstat, Errno> {
        let Some(found) = directory.child(&self.us, &looks_of(name))? else {
            return Ok(Vstat::default());
        };
        // What is no file says nothing, and opening a FIFO would wait.
        if !found.looks.is_regular() {
            return Ok(Vstat::default());
        }
        let mut text = vec![0; TEXT_LIMIT];
        let length = match found.at.open(&self.us, libc::O_RDONLY)? {
            Data::Host(file) | Data::HostDressed(file) => File::from(file).read_at(&mut text, 0)?,
            _ => found.at.read(0, &mut text)?,
        };
        text.truncate(length);
        Ok(Vstat::parse(&text))
    }

    /// Says what the file of a name looks like; an empty one takes away what was said.
    pub(super) fn say(&self, directory: &Ref, name: &[u8], vstat: &Vstat) -> Result<(), Errno> {
        let name = looks_of(name);
        let us = &self.us;
        if vstat.is_empty() {
            return self.unsay(directory, &name);
        }
        let text = vstat.text();
        // Several names of a file share it: it must stay the same file.
        if let Some(found) = directory.child(us, &name)?
            && found.looks.nlink > 1
        {
            found.at.set(us, &Changes { size: Some(0), ..Changes::default() })?;
            return put(us, &found.at, text.as_bytes());
        }
        let work = self.work()?;
        let aside = self.fresh_name();
        let (made, data) = work.create(us, &aside, 0o644, libc::O_WRONLY)?;
        match data {
            Data::Host(file) | Data::HostDressed(file) => {
                File::from(file).write_all_at(text.as_bytes(), 0)?;
            }
            _ => put(us, &made.at, text.as_bytes())?,
        }
        let renamed = work.rename(us, &aside, (directory, &name), 0);
        if renamed.is_err() {
            let _ = work.unlink(us, &aside);
        }
        renamed
    }

    /// Takes away a file with looks; what else has its name belongs to another file.
    fn unsay(&self, directory: &Ref, looks: &[u8]) -> Result<(), Errno> {
        match self.said(directory, looks)? {
            Some(_) => perhaps(directory.unlink(&self.us, looks)).map(drop),
            None => Ok(()),
        }
    }

    /// A file with looks.
    fn said(&self, directory: &Ref, looks: &[u8]) -> Result<Option<Seen>, Errno> {
        let found = directory.child(&self.us, looks)?;
        Ok(found.filter(|found| found.looks.is_regular() && found.looks.size > 0))
    }

    /// Has a second name look like the first.
    pub(super) fn share(&self, from: (&Ref, &[u8]), to: (&Ref, &[u8])) -> Result<(), Errno> {
        let (old, new) = (looks_of(from.1), looks_of(to.1));
        self.unsay(to.0, &new)?;
        if let Some(found) = self.said(from.0, &old)? {
            to.0.link(&self.us, (&found.at, None), &new)?;
        }
        Ok(())
    }

    /// Moves what is said about one name to another; there may be nothing.
    pub(super) fn move_looks(
        &self,
        from: (Option<&Ref>, &[u8]),
        to: (Option<&Ref>, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let (old, new) = (looks_of(from.1), looks_of(to.1));
        let exists = |place: Option<&Ref>, name: &[u8]| -> Result<bool, Errno> {
            match place {
                Some(place) => Ok(self.said(place, name)?.is_some()),
                None => Ok(false),
            }
        };
        match (from.0, to.0) {
            (Some(source), Some(target)) if exists(from.0, &old)? => {
                let both = flags & libc::RENAME_EXCHANGE != 0 && exists(to.0, &new)?;
                let how = if both { libc::RENAME_EXCHANGE } else { 0 };
                source.rename(&self.us, &old, (target, &new), how)
            }
            (Some(source), Some(target)) if flags & libc::RENAME_EXCHANGE != 0 => {
                perhaps(target.rename(&self.us, &new, (source, &old), 0)).map(drop)
            }
            (_, Some(target)) => self.unsay(target, &new),
            _ => Ok(()),
        }
    }

    /// Hides a name of the lower layer. Errors: `EPERM` where the looks of another file stand.
    pub(super) fn hide(&self, directory: &Ref, name: &[u8]) -> Result<(), Errno> {
        let us = &self.us;
        let whiteout = Make::Node { mode: libc::S_IFREG | 0o644, rdev: 0 };
        match directory.make(us, name, whiteout) {
            Ok(_) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        match directory.child(us, name)? {
            Some(found) if hides(name, &found.looks) => Ok(()),
            Some(found) if found.looks.is_regular() => Err(Errno::EPERM),
            _ => {
                let (work, aside) = (self.work()?, self.fresh_name());
                work.make(us, &aside, whiteout)?;
                work.rename(us, &aside, (directory, name), libc::RENAME_EXCHANGE)?;
                self.remove_tree(work, &aside)
            }
        }
    }

    /// Shows a name of the lower layer again, when it is hidden.
    pub(super) fn show(&self, directory: &Ref, name: &[u8]) -> Result<(), Errno> {
        match self.sign(directory, name)? {
            Sign::Hidden => perhaps(directory.unlink(&self.us, name)).map(drop),
            _ => Ok(()),
        }
    }

    /// Puts a directory that is whole, with a name in the work directory, at a place.
    pub(super) fn place(&self, aside: &[u8], directory: &Ref, name: &[u8]) -> Result<(), Errno> {
        let work = self.work()?;
        if directory.child(&self.us, name)?.is_none() {
            return work.rename(&self.us, aside, (directory, name), 0);
        }
        work.rename(&self.us, aside, (directory, name), libc::RENAME_EXCHANGE)?;
        self.remove_tree(work, aside)
    }

    /// Takes something away, with all that is in it.
    pub(super) fn remove_tree(&self, directory: &Ref, name: &[u8]) -> Result<(), Errno> {
        let mut way: Vec<(Ref, Vec<u8>)> = vec![(directory.clone(), name.to_vec())];
        while let Some((above, name)) = way.last().cloned() {
            let found = above.child(&self.us, &name)?;
            let Some(found) = found.filter(|found| found.looks.is_directory()) else {
                perhaps(above.unlink(&self.us, &name))?;
                way.pop();
                continue;
            };
            let inside = found.at.list(&self.us)?;
            match inside.into_iter().next() {
                Some(entry) if way.len() < DEPTH => way.push((found.at, entry.name)),
                Some(_) => return Err(Errno::ELOOP),
                None => {
                    perhaps(above.rmdir(&self.us, &name))?;
                    way.pop();
                }
            }
        }
        Ok(())
    }

    /// A directory of the metadata below another, made when it is not there. Errors: `EPERM` when the
    /// place is hidden.
    pub(super) fn below(&self, directory: &Ref, name: &[u8]) -> Result<Ref, Errno> {
        match directory.make(&self.us, name, Make::Directory { mode: 0o755 }) {
            Ok(made) => Ok(made.at),
            Err(Errno::EEXIST) => match self.sign(directory, name)? {
                Sign::Directory(found) => Ok(found),
                _ => Err(Errno::EPERM),
            },
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a file of the metadata hides the name it has.
fn hides(name: &[u8], looks: &Attributes) -> bool {
    looks.is_regular() && (is_looks(name).is_none() || looks.size == 0)
}

/// Writes a short text into a file of a virtual layer.
fn put(us: &Caller, file: &Ref, text: &[u8]) -> Result<(), Errno> {
    if let Some(host) = file.open_host(us, libc::O_WRONLY)? {
        return Ok(File::from(host).write_all_at(text, 0)?);
    }
    let mut at = 0;
    while at < text.len() {
        match file.write(at as u64, &text[at..])? {
            0 => return Err(Errno::ENOSPC),
            wrote => at += wrote,
        }
    }
    Ok(())
}

/// A name found in both layers.
pub(super) fn both_directories(upper: Option<&Seen>, lower: Option<&Seen>) -> bool {
    [upper, lower].iter().all(|side| side.is_some_and(|seen| seen.looks.is_directory()))
}
