//! Taking names away from an overlay, and moving them.

use std::{collections::HashSet, sync::Arc};

use umvu_abi::{Errno, files::Caller};

use super::{
    copy::Content,
    item::{Item, Sides},
    layer::{Ref, perhaps},
    meta::Sign,
    overlay::{Found, Mode, Overlay, identity},
};

/// How deep directories that are sealed may lie.
const DEPTH: usize = 1024;

/// One end of a rename.
struct End<'a> {
    directory: &'a Arc<Item>,
    name: &'a [u8],
    found: Option<Found>,
    /// Whether the lower layer has something of that name.
    is_below: bool,
}

impl Overlay {
    /// Whether the lower layer shows something of a name, or would.
    fn is_below(&self, directory: &Arc<Item>, name: &[u8]) -> Result<bool, Errno> {
        let sides = directory.sides();
        let Some(lower) = sides.lower else { return Ok(false) };
        match lower.child(&self.us, name) {
            // What cannot be looked at may be there.
            Err(Errno::EACCES) => Ok(true),
            found => Ok(found?.is_some()),
        }
    }

    /// unlink(2) and rmdir(2).
    pub(super) fn remove(
        &self,
        caller: &Caller,
        directory: &Arc<Item>,
        name: &[u8],
    ) -> Result<(), Errno> {
        let _order = self.ordered()?;
        let found = self.find(directory, name)?.ok_or(Errno::ENOENT)?;
        let is_directory = found.looks.is_directory();
        if is_directory {
            self.is_vacant(directory, name)?;
        }
        let Sides { upper, .. } = &found.sides;
        let lower = directory.sides().lower.filter(|_| upper.is_none());
        let below = |caller: &Caller| match &lower {
            Some(lower) if is_directory => lower.rmdir(caller, name),
            Some(lower) => lower.unlink(caller, name),
            None => Err(Errno::EROFS),
        };
        if self.below_first(caller, lower.is_some(), below)?.is_none() {
            self.remove_above(directory, name, &found)?;
        } else if self.manner.mode == Mode::MinCow
            && let Some(signs) = directory.sides().meta
        {
            self.meta.say(&signs, name, &super::format::Vstat::default())?;
        }
        directory.touched();
        self.is_gone(directory, name, &found);
        Ok(())
    }

    /// Errors: `ENOTEMPTY`.
    fn is_vacant(&self, directory: &Arc<Item>, name: &[u8]) -> Result<(), Errno> {
        let child = self.borrow(directory, name)?;
        match self.list(&child.item) {
            // Nobody knows what is in it, and all of it may be taken away.
            Err(Errno::EACCES) if self.manner.mode != Mode::Merge => Ok(()),
            listed => listed?.is_empty().then_some(()).ok_or(Errno::ENOTEMPTY),
        }
    }

    fn remove_above(&self, directory: &Arc<Item>, name: &[u8], found: &Found) -> Result<(), Errno> {
        // The whiteout first: while the upper one is there it shows.
        if self.is_below(directory, name)? {
            self.meta.hide(&self.signs(directory)?, name)?;
        }
        if found.sides.upper.is_some() {
            let above = self.upper_directory(directory)?;
            let us = &self.us;
            let remove = || match found.looks.is_directory() {
                true => above.rmdir(us, name),
                false => above.unlink(us, name),
            };
            self.insisting(&above, remove)?;
        }
        if let Some(signs) = directory.sides().meta {
            self.meta.say(&signs, name, &super::format::Vstat::default())?;
            if let Sign::Directory(_) = self.meta.sign(&signs, name)? {
                self.meta.remove_tree(&signs, name)?;
            }
        }
        Ok(())
    }

    /// Remembers what a file looked like that somebody may have open.
    fn is_gone(&self, directory: &Arc<Item>, name: &[u8], found: &Found) {
        let Some(item) = self.table.lock().unname(directory, name) else { return };
        let mut looks = found.looks;
        looks.nlink = if looks.is_directory() { 0 } else { looks.nlink.saturating_sub(1) };
        let left = looks.nlink;
        let mut state = item.state.lock();
        state.gone = Some(looks);
        drop(state);
        if left == 0
            && let Some(upper) = &found.sides.upper
            && let Ok(own) = upper.looks(&self.us)
        {
            self.origins.lock().remove(&identity(&own));
        }
    }

    /// renameat2(2).
    pub(super) fn rename(
        &self,
        caller: &Caller,
        from: (&Arc<Item>, &[u8]),
        to: (&Arc<Item>, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        const KNOWN: u32 = libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE;
        if flags & !KNOWN != 0 {
            return Err(Errno::EINVAL);
        }
        let _order = self.ordered()?;
        if self.is_own(to.0, to.1) || self.is_own(from.0, from.1) {
            return Err(Errno::EPERM);
        }
        let end = |(directory, name): (&'_ Arc<Item>, &'_ [u8])| -> Result<_, Errno> {
            Ok((self.find(directory, name)?, self.is_below(directory, name)?))
        };
        let (source, source_below) = end(from)?;
        let (target, target_below) = end(to)?;
        let source_found = source.ok_or(Errno::ENOENT)?;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        if let Some(target) = &target
            && !exchange
            && target.looks.is_directory()
        {
            self.is_vacant(to.0, to.1)?;
        }
        let is_lower = source_found.sides.upper.is_none()
            && target.as_ref().is_none_or(|target| target.sides.upper.is_none())
            && (target.is_some() || self.sign_of(to)?.is_none());
        let sides = (from.0.sides().lower, to.0.sides().lower);
        let below = |caller: &Caller| match &sides {
            (Some(source), Some(target)) => source.rename(caller, from.1, (target, to.1), flags),
            _ => Err(Errno::EROFS),
        };
        let is_lower = is_lower && sides.0.is_some() && sides.1.is_some();
        let source = End {
            directory: from.0,
            name: from.1,
            found: Some(source_found),
            is_below: source_below,
        };
        let target = End { directory: to.0, name: to.1, found: target, is_below: target_below };
        if self.below_first(caller, is_lower, below)?.is_none() {
            self.rename_above(&source, &target, flags)?;
        }
        from.0.touched();
        to.0.touched();
        self.has_moved(&source, &target, exchange)
    }

    /// Whether a name of the lower layer is hidden.
    fn sign_of(&self, (directory, name): (&Arc<Item>, &[u8])) -> Result<Option<()>, Errno> {
        match directory.sides().meta {
            Some(signs) => Ok(matches!(self.meta.sign(&signs, name)?, Sign::Hidden).then_some(())),
            None => Ok(None),
        }
    }

    fn rename_above(&self, from: &End<'_>, to: &End<'_>, flags: u32) -> Result<(), Errno> {
        let us = &self.us;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let moved = self.borrow(from.directory, from.name)?;
        self.copy_tree(&moved.item)?;
        let other = match &to.found {
            Some(_) if exchange => Some(self.borrow(to.directory, to.name)?),
            _ => None,
        };
        if let Some(other) = &other {
            self.copy_tree(&other.item)?;
        }
        let source = self.upper_directory(from.directory)?;
        let target = self.upper_directory(to.directory)?;
        // What is said below a directory goes with it.
        let below = |end: &End<'_>, item: Option<&Arc<Item>>| match item {
            Some(item) if item.is_directory() => self.take_signs(end),
            _ => Ok(None),
        };
        let moved_signs = below(from, Some(&moved.item))?;
        let other_signs = below(to, other.as_ref().map(|other| &other.item))?;
        if from.is_below {
            self.meta.hide(&self.signs(from.directory)?, from.name)?;
        }
        let rename = || {
            let to = (&*target, to.name);
            let first = source.rename(us, from.name, to, flags & libc::RENAME_EXCHANGE);
            if matches!(first, Err(Errno::EACCES)) {
                return self.insisting(&target, || {
                    source.rename(us, from.name, to, flags & libc::RENAME_EXCHANGE)
                });
            }
            first
        };
        self.insisting(&source, rename)?;
        let signs = self.signs_for(from, to, &moved.item)?;
        self.meta.move_looks((signs.0.as_ref(), from.name), (signs.1.as_ref(), to.name), flags)?;
        self.arrive(to, moved_signs, moved.item.is_directory())?;
        if let Some(other) = &other {
            self.arrive(from, other_signs, other.item.is_directory())?;
        }
        Ok(())
    }

    /// The metadata of both directories, as far as they are needed.
    fn signs_for(
        &self,
        from: &End<'_>,
        to: &End<'_>,
        moved: &Arc<Item>,
    ) -> Result<(Option<Ref>, Option<Ref>), Errno> {
        let said = !moved.state.lock().vstat.is_empty()
            || to.found.as_ref().is_some_and(|found| !found.vstat.is_empty());
        if said {
            return Ok((Some(self.signs(from.directory)?), Some(self.signs(to.directory)?)));
        }
        Ok((from.directory.sides().meta, to.directory.sides().meta))
    }

    /// Takes what is said below a directory aside; returns the name it has in the work directory.
    fn take_signs(&self, end: &End<'_>) -> Result<Option<Vec<u8>>, Errno> {
        let Some(signs) = end.directory.sides().meta else { return Ok(None) };
        let Sign::Directory(_) = self.meta.sign(&signs, end.name)? else { return Ok(None) };
        let aside = self.meta.fresh_name();
        signs.rename(&self.us, end.name, (self.meta.work()?, &aside), 0)?;
        Ok(Some(aside))
    }

    /// Something whole has come to a place of the upper layer: nothing of the lower one shows there.
    fn arrive(
        &self,
        to: &End<'_>,
        signs: Option<Vec<u8>>,
        is_directory: bool,
    ) -> Result<(), Errno> {
        if is_directory && (to.is_below || signs.is_some()) {
            let found = self.find(to.directory, to.name)?.ok_or(Errno::EIO)?;
            let entry = self.enter(to.directory, to.name, found);
            let item = self.item(entry.node)?;
            let sealed = self.seal(&item, to.directory, to.name, signs);
            self.forget(entry.node, 1);
            return sealed;
        }
        match to.directory.sides().meta {
            // A file shows whatever is below it.
            Some(meta) if !is_directory => match self.meta.sign(&meta, to.name)? {
                Sign::Directory(_) => self.meta.remove_tree(&meta, to.name),
                _ => self.meta.show(&meta, to.name),
            },
            Some(meta) => self.meta.remove_tree(&meta, to.name),
            None => Ok(()),
        }
    }

    /// Says name by name what an upper directory hides of the lower one at its place, so that nothing of
    /// it shows but what is said here. `signs` are in the work directory already.
    pub(super) fn seal(
        &self,
        item: &Arc<Item>,
        directory: &Arc<Item>,
        name: &[u8],
        signs: Option<Vec<u8>>,
    ) -> Result<(), Errno> {
        let upper = item.sides().upper.ok_or(Errno::EIO)?;
        let below = match directory.sides().lower {
            Some(lower) => match lower.child(&self.us, name) {
                Err(Errno::EACCES) => None,
                found => found?.filter(|found| found.looks.is_directory()),
            },
            None => None,
        };
        let work = self.meta.work()?;
        let aside = match signs {
            Some(aside) => aside,
            None => {
                let aside = self.meta.fresh_name();
                self.meta.below(work, &aside)?;
                aside
            }
        };
        let place = work.child(&self.us, &aside)?.ok_or(Errno::EIO)?.at;
        if let Some(below) = below {
            self.hide_all(&place, &upper, &below.at, 0)?;
        }
        let above = self.signs(directory)?;
        self.meta.place(&aside, &above, name)?;
        let mut state = item.state.lock();
        state.sides.meta = above.child(&self.us, name)?.map(|found| found.at);
        state.seen = None;
        Ok(())
    }

    fn hide_all(&self, signs: &Ref, upper: &Ref, lower: &Ref, depth: usize) -> Result<(), Errno> {
        if depth > DEPTH {
            return Err(Errno::ELOOP);
        }
        let us = &self.us;
        let there: HashSet<Vec<u8>> = upper.list(us)?.into_iter().map(|entry| entry.name).collect();
        let hidden = match lower.list(us) {
            // Nothing of it shows anyhow.
            Err(Errno::EACCES) => Vec::new(),
            listed => listed?,
        };
        for entry in hidden {
            if !there.contains(&entry.name) {
                self.meta.hide(signs, &entry.name)?;
                continue;
            }
            let both = (upper.child(us, &entry.name)?, lower.child(us, &entry.name)?);
            if let (Some(above), Some(below)) = both
                && above.looks.is_directory()
                && below.looks.is_directory()
            {
                self.meta.show(signs, &entry.name)?;
                let inner = self.meta.below(signs, &entry.name)?;
                self.hide_all(&inner, &above.at, &below.at, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Files in use are where they are now.
    fn has_moved(&self, from: &End<'_>, to: &End<'_>, exchange: bool) -> Result<(), Errno> {
        let (moved, replaced) = {
            let mut table = self.table.lock();
            let moved = table.unname(from.directory, from.name);
            (moved, table.unname(to.directory, to.name))
        };
        if let Some(replaced) = &replaced {
            if exchange {
                self.table.lock().name(replaced, from.directory, from.name);
                self.refresh(replaced)?;
            } else if let Some(found) = &to.found {
                let mut looks = found.looks;
                looks.nlink = looks.nlink.saturating_sub(1);
                replaced.state.lock().gone = Some(looks);
            }
        }
        if let Some(moved) = &moved {
            self.table.lock().name(moved, to.directory, to.name);
            self.refresh(moved)?;
        }
        Ok(())
    }

    /// Finds again where a file and all that is below it are.
    fn refresh(&self, item: &Arc<Item>) -> Result<(), Errno> {
        let below = if item.is_directory() { self.table.lock().below(item) } else { Vec::new() };
        for item in [Arc::clone(item)].into_iter().chain(below) {
            let Ok((directory, name)) = item.place() else { continue };
            if item.state.lock().gone.is_some() {
                continue;
            }
            if let Some(found) = perhaps(self.find(&directory, &name))?.flatten() {
                let mut state = item.state.lock();
                (state.sides, state.vstat, state.seen) = (found.sides, found.vstat, None);
            }
        }
        Ok(())
    }

    /// Copies a file up for changes that are made by other calls.
    pub(super) fn prepare(&self, item: &Arc<Item>) -> Result<Ref, Errno> {
        self.copy_up(item, Content::Whole)?;
        item.sides().upper.ok_or(Errno::ENOENT)
    }
}
