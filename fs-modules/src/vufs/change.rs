//! Changing files of an overlay: what a file looks like, and making and linking names.

use std::{os::fd::BorrowedFd, sync::Arc};

use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Changes, Data, Entry},
};

use super::{
    copy::Content,
    format::Vstat,
    item::{Item, State},
    layer::{Make, Ref, Seen},
    meta::Sign,
    overlay::{Mode, Overlay},
};

/// The flags that make a file without a name.
const NAMELESS: i32 = libc::O_TMPFILE | libc::O_EXCL;

/// Whether the lower layer may not be changed so, as the copy then may.
pub(super) fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EROFS)
}

impl Overlay {
    /// Changes something in the lower layer, where the mode says so. None: the upper layer is to be
    /// changed. Errors: `EROFS` where neither may be.
    pub(super) fn below_first<T>(
        &self,
        caller: &Caller,
        is_lower: bool,
        work: impl FnOnce(&Caller) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        match self.manner.mode {
            Mode::Merge if is_lower => work(&self.acting(caller)).map(Some),
            Mode::Merge => Err(Errno::EROFS),
            Mode::MinCow if is_lower => match work(&self.acting(caller)) {
                Err(errno) if is_forbidden(errno) => Ok(None),
                done => done.map(Some),
            },
            Mode::Cow | Mode::MinCow => Ok(None),
        }
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2).
    pub(super) fn set(
        &self,
        caller: &Caller,
        item: &Arc<Item>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        let _order = self.ordered()?;
        if let Some(gone) = &mut item.state.lock().gone {
            gone.uid = changes.uid.unwrap_or(gone.uid);
            gone.gid = changes.gid.unwrap_or(gone.gid);
            gone.mode = changes.mode.map_or(gone.mode, |mode| gone.mode & libc::S_IFMT | mode);
            return Ok(*gone);
        }
        item.touched();
        let sides = item.sides();
        let (has_upper, said) = (sides.upper.is_some(), !item.state.lock().vstat.is_empty());
        let below = |caller: &Caller| match &sides.lower {
            Some(lower) => lower.set(caller, changes).map(drop),
            None => Err(Errno::ENOENT),
        };
        if self.below_first(caller, !has_upper && !said, below)?.is_none() {
            self.set_above(item, changes)?;
        }
        item.touched();
        self.looks(item)
    }

    fn set_above(&self, item: &Arc<Item>, changes: &Changes) -> Result<(), Errno> {
        let only_looks =
            changes.size.is_none() && changes.atime.is_none() && changes.mtime.is_none();
        let content = if changes.size == Some(0) { Content::None } else { Content::Whole };
        let copied = match item.sides().upper {
            None if only_looks && !self.manner.copies_looks => false,
            _ => match self.copy_up(item, content) {
                // What cannot be read can be said to be another's all the same.
                Err(Errno::EACCES) if only_looks => false,
                done => done.map(|()| true)?,
            },
        };
        if !copied {
            let mut vstat = item.state.lock().vstat;
            vstat.mode = changes.mode.or(vstat.mode);
            vstat.uid = changes.uid.or(vstat.uid);
            vstat.gid = changes.gid.or(vstat.gid);
            return self.say(item, &vstat);
        }
        let upper = item.sides().upper.ok_or(Errno::ENOENT)?;
        let Changes { mode, uid, gid, size, atime, mtime, .. } = *changes;
        if size.is_some() || atime.is_some() || mtime.is_some() {
            // Size and times are what the host has.
            if size.is_some() {
                let resize = Changes { size, ..Changes::default() };
                self.insisting(&upper, || upper.set(&self.us, &resize))?;
            }
            if atime.is_some() || mtime.is_some() {
                let times = Changes { atime, mtime, ..Changes::default() };
                self.insisting(&upper, || upper.set(&self.us, &times))?;
            }
        }
        if mode.is_some() || uid.is_some() || gid.is_some() {
            item.touched();
            let mut wanted = self.looks(item)?;
            wanted.mode = mode.map_or(wanted.mode, |mode| wanted.mode & libc::S_IFMT | mode);
            wanted.uid = uid.unwrap_or(wanted.uid);
            wanted.gid = gid.unwrap_or(wanted.gid);
            let vstat = self.settle(&upper, &wanted, item.state.lock().vstat)?;
            self.say(item, &vstat)?;
        }
        Ok(())
    }

    /// The directory of the lower layer in which a name may be made.
    fn vacancy(&self, directory: &Arc<Item>, name: &[u8]) -> Result<Option<Ref>, Errno> {
        let sides = directory.sides();
        let hidden = match &sides.meta {
            Some(signs) => matches!(self.meta.sign(signs, name)?, Sign::Hidden),
            None => false,
        };
        Ok(sides.lower.filter(|_| !hidden))
    }

    /// Makes a node, a directory or a link.
    pub(super) fn make(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        name: &[u8],
        what: Make<'_>,
    ) -> Result<Entry, Errno> {
        let _order = self.ordered()?;
        self.may_be_named(directory, name)?;
        let vacancy = self.vacancy(directory, name)?;
        let below = |caller: &Caller| match &vacancy {
            Some(lower) => lower.make(caller, name, what).map(drop),
            None => Err(Errno::EROFS),
        };
        if self.below_first(caller, vacancy.is_some(), below)?.is_none() {
            self.make_above(caller, directory, name, what)?;
        }
        self.entry(directory, name)
    }

    fn make_above(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        name: &[u8],
        what: Make<'_>,
    ) -> Result<(), Errno> {
        let upper = self.upper_directory(directory)?;
        let us = &self.us;
        let (mode, rdev, made) = match what {
            Make::Node { mode, rdev } => {
                let made = self.insisting(&upper, || upper.make(us, name, what));
                let is_device = matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
                let plain = Make::Node { mode: libc::S_IFREG | mode & 0o7777, rdev: 0 };
                let made = match made {
                    Err(errno) if is_device && is_forbidden(errno) => {
                        self.insisting(&upper, || upper.make(us, name, plain))
                    }
                    made => made,
                };
                (mode, rdev, made?)
            }
            Make::Directory { mode } => {
                let made = self.insisting(&upper, || upper.make(us, name, what))?;
                (libc::S_IFDIR | mode, 0, made)
            }
            Make::Link { .. } => {
                let made = self.insisting(&upper, || upper.make(us, name, what))?;
                (libc::S_IFLNK | 0o777, 0, made)
            }
        };
        let wanted = Attributes { mode, rdev, ..made.looks };
        self.has_been_made(caller, directory, name, (&made, wanted))
    }

    /// Gives a new file its owner, and lets it show.
    fn has_been_made(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        name: &[u8],
        (made, mut wanted): (&Seen, Attributes),
    ) -> Result<(), Errno> {
        directory.touched();
        self.owned_by(caller, directory, &mut wanted)?;
        let meta = directory.sides().meta;
        let vstat = if differs(&wanted, &made.looks) {
            self.settle(&made.at, &wanted, Vstat::default())?
        } else {
            Vstat::default()
        };
        if !vstat.is_empty() || meta.is_some() {
            let signs = self.signs(directory)?;
            self.meta.say(&signs, name, &vstat)?;
        }
        let Some(signs) = meta else { return Ok(()) };
        match self.meta.sign(&signs, name)? {
            Sign::Hidden if made.looks.is_directory() => {
                let found = self.find(directory, name)?.ok_or(Errno::EIO)?;
                let entry = self.enter(directory, name, found);
                let item = self.item(entry.node)?;
                let sealed = self.seal(&item, directory, name, None);
                self.forget(entry.node, 1);
                sealed
            }
            Sign::Hidden => self.meta.show(&signs, name),
            _ => Ok(()),
        }
    }

    /// Who a new file belongs to (mkdir(2)).
    fn owned_by(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        wanted: &mut Attributes,
    ) -> Result<(), Errno> {
        (wanted.uid, wanted.gid) = (caller.uid, caller.gid);
        let above = self.looks(directory)?;
        if above.mode & libc::S_ISGID != 0 {
            wanted.gid = above.gid;
            if wanted.is_directory() {
                wanted.mode |= libc::S_ISGID;
            }
        }
        Ok(())
    }

    /// Makes and opens a regular file.
    pub(super) fn create(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        name: &[u8],
        (mode, flags): (u32, i32),
    ) -> Result<(Entry, Data), Errno> {
        let _order = self.ordered()?;
        self.may_be_named(directory, name)?;
        let vacancy = self.vacancy(directory, name)?;
        let below = |caller: &Caller| match &vacancy {
            Some(lower) => lower.create(caller, name, mode, flags).map(|(_, data)| data),
            None => Err(Errno::EROFS),
        };
        let data = match self.below_first(caller, vacancy.is_some(), below)? {
            Some(data) => data,
            None => {
                let upper = self.upper_directory(directory)?;
                let create = || upper.create(&self.us, name, mode & 0o7777, flags);
                let (made, data) = self.insisting(&upper, create)?;
                let wanted = Attributes { mode: libc::S_IFREG | mode & 0o7777, ..made.looks };
                self.has_been_made(caller, directory, name, (&made, wanted))?;
                data
            }
        };
        let entry = self.entry(directory, name)?;
        let said = !self.item(entry.node)?.state.lock().vstat.is_empty();
        Ok((entry, as_served(data, said)))
    }

    /// Makes and opens a file without a name.
    pub(super) fn nameless(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        (mode, flags): (u32, i32),
    ) -> Result<(Entry, Data), Errno> {
        let _order = self.ordered()?;
        if self.manner.mode == Mode::Merge {
            return self.nameless_below(caller, directory, (mode, flags));
        }
        let entry = self.nameless_above(caller, directory, mode)?;
        let data = self.open_side(&self.item(entry.node)?, caller, flags & !NAMELESS);
        let data = data.inspect_err(|_| self.forget(entry.node, 1))?;
        Ok((entry, data))
    }

    /// Makes it in the lower layer.
    fn nameless_below(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        (mode, flags): (u32, i32),
    ) -> Result<(Entry, Data), Errno> {
        let lower = directory.sides().lower.ok_or(Errno::EROFS)?;
        let (made, data) = lower.create_nameless(&self.acting(caller), mode, flags)?;
        let mut state = State::new(Vstat::default());
        state.sides.lower = Some(made.at);
        // The host knows it by descriptors only.
        state.gone = matches!(data, Data::Host(_)).then_some(made.looks);
        let item = self.table.lock().add(state, libc::S_IFREG);
        let entry = Entry { node: item.node, attributes: made.looks, valid: super::item::VALID };
        Ok((entry, as_served(data, false)))
    }

    /// Makes it in the work directory, where it has a name that does not show.
    fn nameless_above(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        mode: u32,
    ) -> Result<Entry, Errno> {
        let (work, aside) = (self.meta.work()?, self.meta.fresh_name());
        let node = Make::Node { mode: libc::S_IFREG | mode & 0o7777, rdev: 0 };
        let made = work.make(&self.us, &aside, node)?;
        let mut wanted = made.looks;
        self.owned_by(caller, directory, &mut wanted)?;
        let vstat = self.settle(&made.at, &wanted, Vstat::default())?;
        let mut state = State::new(vstat);
        state.sides.upper = Some(made.at);
        state.nameless = Some(aside);
        let item = self.table.lock().add(state, libc::S_IFREG);
        let mut attributes = self.looks(&item)?;
        attributes.nlink = 0;
        Ok(Entry { node: item.node, attributes, valid: super::item::VALID })
    }

    /// link(2); a guest may name the file by a descriptor.
    pub(super) fn link(
        &self,
        caller: &Caller,
        (item, opened): (&Arc<Item>, Option<BorrowedFd<'_>>),
        directory: &Arc<Item>,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        let _order = self.ordered()?;
        self.may_be_named(directory, name)?;
        let vacancy = self.vacancy(directory, name)?;
        let lower = item.sides().lower.filter(|_| item.sides().upper.is_none());
        let below = |caller: &Caller| match (&vacancy, &lower) {
            (Some(vacancy), Some(lower)) => vacancy.link(caller, (lower, opened), name).map(drop),
            _ => Err(Errno::EROFS),
        };
        let is_lower = vacancy.is_some() && lower.is_some();
        match self.below_first(caller, is_lower, below)? {
            Some(()) if item.place().is_err() => self.has_a_name(item, directory, name)?,
            Some(()) => {}
            None => self.link_above(item, directory, name)?,
        }
        directory.touched();
        self.entry(directory, name)
    }

    /// A file that was made without a name in the lower layer has got one, and looks as it was told.
    fn has_a_name(
        &self,
        item: &Arc<Item>,
        directory: &Arc<Item>,
        name: &[u8],
    ) -> Result<(), Errno> {
        let gone = item.state.lock().gone.take();
        self.table.lock().name(item, directory, name);
        let Some(wanted) = gone else { return Ok(()) };
        let found = self.find(directory, name)?.ok_or(Errno::EIO)?;
        let lower = found.sides.lower.ok_or(Errno::EIO)?;
        let mut has = found.looks;
        if (wanted.uid, wanted.gid) != (has.uid, has.gid) {
            let owner = (Some(wanted.uid), Some(wanted.gid));
            let owner = Changes { uid: owner.0, gid: owner.1, ..Changes::default() };
            has = lower.set(&self.us, &owner)?;
        }
        if wanted.mode != has.mode {
            let mode = Changes { mode: Some(wanted.mode & 0o7777), ..Changes::default() };
            lower.set(&self.us, &mode)?;
        }
        Ok(())
    }

    fn link_above(
        &self,
        item: &Arc<Item>,
        directory: &Arc<Item>,
        name: &[u8],
    ) -> Result<(), Errno> {
        self.copy_up(item, Content::Whole)?;
        let target = self.upper_directory(directory)?;
        let upper = item.sides().upper.ok_or(Errno::ENOENT)?;
        self.insisting(&target, || target.link(&self.us, (&upper, None), name))?;
        let (place, vstat, nameless) = {
            let mut state = item.state.lock();
            (state.place.clone(), state.vstat, state.nameless.take())
        };
        if let Some(aside) = nameless {
            // It has a name now, and the one in the work directory goes.
            self.meta.work()?.unlink(&self.us, &aside)?;
            let named = target.child(&self.us, name)?.ok_or(Errno::EIO)?;
            item.state.lock().sides.upper = Some(named.at);
            self.table.lock().name(item, directory, name);
        }
        if !vstat.is_empty() {
            let signs = self.signs(directory)?;
            match place {
                Some((above, old)) => {
                    self.meta.share((&self.signs(&above)?, &old), (&signs, name))?;
                }
                None => self.meta.say(&signs, name, &vstat)?,
            }
        }
        match directory.sides().meta {
            Some(signs) => self.meta.show(&signs, name),
            None => Ok(()),
        }
    }

    /// Errors: `EPERM` for the name of the metadata.
    fn may_be_named(&self, directory: &Item, name: &[u8]) -> Result<(), Errno> {
        if self.is_own(directory, name) { Err(Errno::EPERM) } else { Ok(()) }
    }
}

/// Whether a file is to have another owner or mode than it has.
fn differs(wanted: &Attributes, has: &Attributes) -> bool {
    let mode = |looks: &Attributes| if looks.is_link() { 0 } else { looks.mode };
    (wanted.uid, wanted.gid, mode(wanted)) != (has.uid, has.gid, mode(has))
}

/// How a guest gets the data of a file of the host.
pub(super) fn as_served(data: Data, dressed: bool) -> Data {
    match data {
        Data::Host(file) if dressed => Data::HostDressed(file),
        data @ (Data::Host(_) | Data::HostDressed(_) | Data::HostPath(_)) => data,
        // A layer that is virtual itself: what a guest does to the descriptor is ours to judge.
        _ => Data::Cached { keep: false },
    }
}
