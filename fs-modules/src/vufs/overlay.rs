//! An overlay: two layers that show as one, and how what is there is found.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::{Mutex, MutexGuard};
use umvu_abi::{
    Errno,
    files::{Attributes, Caller, Data, DirEntry, Entry, Node, Outside},
};

use super::{
    format::Vstat,
    item::{Item, Sides, Table, VALID},
    layer::{Ref, Seen},
    meta::{self, Meta, Sign, both_directories},
};

/// Where changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To the lower layer; the upper one is only shown.
    Merge,
    /// To the upper layer.
    Cow,
    /// To the lower layer where that is permitted, else to the upper one.
    MinCow,
}

/// How an overlay behaves.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) mode: Mode,
    /// Whether a file is copied when only its owner or mode change.
    pub(super) copies_looks: bool,
    pub(super) read_only: bool,
    /// Who has mounted: to whom the overlay belongs.
    pub(super) owner: u32,
}

/// A file of the host by device and number.
pub(super) type Identity = (u64, u64);

/// Two layers that show as one.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) manner: Manner,
    pub(super) meta: Meta,
    pub(super) table: Mutex<Table>,
    pub(super) root: Arc<Item>,
    /// One change at a time.
    order: Mutex<()>,
    pub(super) outside: Arc<dyn Outside>,
    /// What the copies have been copied from: they keep its number.
    pub(super) origins: Mutex<HashMap<Identity, Identity>>,
    /// The hypervisor itself.
    pub(super) us: Caller,
    /// Whether the hypervisor may give files away.
    pub(super) is_root: bool,
}

/// What a name leads to.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) sides: Sides,
    pub(super) vstat: Vstat,
    pub(super) looks: Attributes,
}

impl Overlay {
    /// Lays one layer over another. Errors: those of looking at them.
    pub(super) fn new(
        manner: Manner,
        outside: &Arc<dyn Outside>,
        upper: &Ref,
        lower: &Ref,
    ) -> Result<Self, Errno> {
        let us = Caller::root();
        let looks = upper.looks(&us)?;
        let meta = match manner.mode {
            _ if !looks.is_directory() => {
                return Err(Errno::ENOTDIR);
            }
            Mode::Cow | Mode::MinCow if !manner.read_only => Meta::prepare(upper, &us)?,
            _ => Meta::find(upper, &us)?,
        };
        let sides = Sides {
            upper: Some(Arc::clone(upper)),
            lower: Some(Arc::clone(lower)),
            meta: meta.root.clone(),
        };
        let vstat = match &sides.meta {
            Some(signs) => meta.vstat(signs, b"")?,
            None => Vstat::default(),
        };
        let root = Item::root(sides, looks.kind());
        root.state.lock().vstat = vstat;
        Ok(Self {
            manner,
            meta,
            table: Mutex::new(Table::new()),
            root,
            order: Mutex::default(),
            outside: Arc::clone(outside),
            origins: Mutex::default(),
            us,
            is_root: rustix::process::geteuid().is_root(),
        })
    }

    /// Waits until no other change is under way.
    pub(super) fn ordered(&self) -> Result<MutexGuard<'_, ()>, Errno> {
        match self.order.try_lock() {
            Some(order) => Ok(order),
            None => {
                self.outside.take_time()?;
                Ok(self.order.lock())
            }
        }
    }

    pub(super) fn item(&self, node: Node) -> Result<Arc<Item>, Errno> {
        if node == Node::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        self.table.lock().get(node)
    }

    /// As whom the lower layer is changed for a caller: as that, where the hypervisor can be everybody.
    pub(super) fn acting(&self, caller: &Caller) -> Caller {
        if self.is_root { caller.clone() } else { self.us.clone() }
    }

    /// Whether a name is none of the overlay's.
    pub(super) fn is_own(&self, directory: &Item, name: &[u8]) -> bool {
        directory.is_root() && name == meta::NAME
    }

    /// Finds a name in a directory; None when there is nothing. Errors: `EACCES`.
    pub(super) fn find(&self, directory: &Item, name: &[u8]) -> Result<Option<Found>, Errno> {
        if self.is_own(directory, name) {
            return Ok(None);
        }
        self.find_in(&directory.sides(), name)
    }

    pub(super) fn find_in(&self, above: &Sides, name: &[u8]) -> Result<Option<Found>, Errno> {
        let (sign, vstat) = match &above.meta {
            Some(signs) => (self.meta.sign(signs, name)?, self.meta.vstat(signs, name)?),
            None => (Sign::Nothing, Vstat::default()),
        };
        let upper = match &above.upper {
            Some(upper) => upper.child(&self.us, name)?,
            None => None,
        };
        let covered = upper.as_ref().is_some_and(|seen| !seen.looks.is_directory());
        let lower = match &above.lower {
            Some(lower) if !covered && !matches!(sign, Sign::Hidden) => {
                match lower.child(&self.us, name) {
                    // What cannot be looked at is not shown. The core has let the caller search the
                    // directory, which may be the virtual administrator: the place is free for changes.
                    Err(Errno::EACCES) if upper.is_some() || self.manner.mode != Mode::Merge => {
                        None
                    }
                    found => found?,
                }
            }
            _ => None,
        };
        let lower = lower.filter(|seen| upper.is_none() || seen.looks.is_directory());
        let Some(looks) = self.merged(upper.as_ref(), lower.as_ref(), &vstat) else {
            return Ok(None);
        };
        let meta = match sign {
            Sign::Directory(signs) if looks.is_directory() => Some(signs),
            _ => None,
        };
        let sides =
            Sides { upper: upper.map(|seen| seen.at), lower: lower.map(|seen| seen.at), meta };
        Ok(Some(Found { sides, vstat, looks }))
    }

    /// What two sides look like together; None when there is none.
    fn merged(
        &self,
        upper: Option<&Seen>,
        lower: Option<&Seen>,
        vstat: &Vstat,
    ) -> Option<Attributes> {
        let mut looks = upper.or(lower)?.looks;
        if let (Some(upper), Some(lower)) = (upper, lower)
            && both_directories(Some(upper), Some(lower))
        {
            // Its number stays the same when it is made in the upper layer; 1 says that the links
            // do not tell how many directories there are.
            (looks.dev, looks.ino, looks.nlink) = (lower.looks.dev, lower.looks.ino, 1);
        } else if upper.is_some() {
            self.originate(&mut looks);
        }
        vstat.apply(&mut looks);
        Some(looks)
    }

    /// Gives a copy the number of what it was copied from.
    fn originate(&self, looks: &mut Attributes) {
        if let Some((dev, ino)) = self.origins.lock().get(&identity(looks)) {
            (looks.dev, looks.ino) = (Some(*dev), *ino);
        }
    }

    /// Whether a copy has another number than its own.
    pub(super) fn has_origin(&self, looks: &Attributes) -> bool {
        self.origins.lock().contains_key(&identity(looks))
    }

    /// What a file looks like.
    pub(super) fn looks(&self, item: &Arc<Item>) -> Result<Attributes, Errno> {
        let (sides, mut vstat, place) = {
            let state = item.state.lock();
            if let Some(gone) = state.gone {
                return Ok(gone);
            }
            if let Some((at, looks)) = state.seen
                && at.elapsed() < VALID
            {
                return Ok(looks);
            }
            (state.sides.clone(), state.vstat, state.place.clone())
        };
        let see = |side: &Option<Ref>| -> Result<Option<Seen>, Errno> {
            match side {
                Some(at) => Ok(Some(Seen { at: Arc::clone(at), looks: at.looks(&self.us)? })),
                None => Ok(None),
            }
        };
        let upper = see(&sides.upper)?;
        let lower = if upper.is_none() || item.is_directory() { see(&sides.lower)? } else { None };
        if upper.as_ref().is_some_and(|seen| seen.looks.nlink > 1 && !seen.looks.is_directory())
            && let Some((directory, name)) = place
            && let Some(signs) = directory.sides().meta
        {
            // By another name something else may have been said.
            vstat = self.meta.vstat(&signs, &name)?;
            item.state.lock().vstat = vstat;
        }
        let looks = self.merged(upper.as_ref(), lower.as_ref(), &vstat);
        let mut looks = looks.ok_or(Errno::ENOENT)?;
        if item.state.lock().nameless.is_some() {
            looks.nlink = 0;
        }
        if item.is_directory() {
            item.state.lock().seen = Some((Instant::now(), looks));
        }
        Ok(looks)
    }

    /// Takes in what was found; the entry counts as one reference.
    pub(super) fn enter(&self, directory: &Arc<Item>, name: &[u8], found: Found) -> Entry {
        let Found { sides, vstat, looks } = found;
        let mut table = self.table.lock();
        let item = table.enter((directory, name), looks.kind(), sides, vstat);
        Entry { node: item.node, attributes: looks, valid: VALID }
    }

    /// As [`Overlay::enter`], of what must be there. Errors: `ENOENT`.
    pub(super) fn entry(&self, directory: &Arc<Item>, name: &[u8]) -> Result<Entry, Errno> {
        let found = self.find(directory, name)?.ok_or(Errno::ENOENT)?;
        directory.touched();
        Ok(self.enter(directory, name, found))
    }

    /// A name in a directory as a file in use, until the guard goes.
    pub(super) fn borrow(&self, directory: &Arc<Item>, name: &[u8]) -> Result<Borrowed<'_>, Errno> {
        let found = self.find(directory, name)?.ok_or(Errno::ENOENT)?;
        let entry = self.enter(directory, name, found);
        Ok(Borrowed { item: self.item(entry.node)?, overlay: self })
    }

    pub(super) fn forget(&self, node: Node, count: u64) {
        let gone = self.table.lock().forget(node, count);
        let Some(item) = gone else { return };
        // A file that was made without a name.
        let state = item.state.lock();
        if let (None, Some(_)) = (&state.place, &state.sides.upper)
            && let (Ok(work), Some(aside)) = (self.meta.work(), &state.nameless)
        {
            let _ = work.unlink(&self.us, aside);
        }
    }

    /// What a directory holds.
    pub(super) fn list(&self, item: &Arc<Item>) -> Result<Vec<DirEntry>, Errno> {
        let sides = item.sides();
        let mut signs = HashMap::new();
        if let Some(meta) = &sides.meta {
            for entry in meta.list(&self.us)? {
                signs.insert(entry.name, entry.kind);
            }
        }
        let mut listing: Vec<DirEntry> = Vec::new();
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
        if let Some(upper) = &sides.upper {
            for entry in upper.list(&self.us)? {
                if !self.is_own(item, &entry.name) {
                    seen.insert(entry.name.clone(), listing.len());
                    listing.push(entry);
                }
            }
        }
        let lower = match sides.lower.as_ref().map(|lower| lower.list(&self.us)) {
            Some(Err(Errno::EACCES)) if sides.upper.is_some() => Vec::new(),
            Some(listed) => listed?,
            None => Vec::new(),
        };
        for entry in lower {
            let hidden = signs.get(&entry.name) == Some(&libc::S_IFREG);
            match seen.get(&entry.name) {
                // A directory in both has the number of the lower one.
                Some(at) if !hidden && entry.kind == libc::S_IFDIR => {
                    let other = &mut listing[*at];
                    if other.kind == libc::S_IFDIR {
                        other.ino = entry.ino;
                    }
                }
                Some(_) => {}
                None if hidden && self.hides(&sides, &entry.name)? => {}
                None if self.is_own(item, &entry.name) => {}
                None => listing.push(entry),
            }
        }
        self.correct(&sides, &signs, &mut listing);
        Ok(listing)
    }

    /// Whether a regular file among the signs is a whiteout.
    fn hides(&self, sides: &Sides, name: &[u8]) -> Result<bool, Errno> {
        match &sides.meta {
            Some(signs) if meta::is_looks(name).is_some() => {
                Ok(matches!(self.meta.sign(signs, name)?, Sign::Hidden))
            }
            _ => Ok(true),
        }
    }

    /// Gives copies their numbers, and says nothing about the types of files that have looks.
    fn correct(&self, sides: &Sides, signs: &HashMap<Vec<u8>, u32>, listing: &mut [DirEntry]) {
        let origins = self.origins.lock();
        let dev = match &sides.upper {
            Some(upper) if !origins.is_empty() => {
                upper.looks(&self.us).ok().and_then(|looks| looks.dev).unwrap_or(0)
            }
            _ => 0,
        };
        for entry in listing {
            if entry.kind == libc::S_IFDIR {
                continue;
            }
            if let Some((_, ino)) = origins.get(&(dev, entry.ino)) {
                entry.ino = *ino;
            }
            let has_looks = !signs.is_empty() && {
                let name = [entry.name.as_slice(), &[127]].concat();
                signs.contains_key(&name)
            };
            if has_looks && entry.kind == libc::S_IFREG {
                entry.kind = 0;
            }
        }
    }

    /// Opens what is there already. Errors: those of open(2).
    pub(super) fn open_side(
        &self,
        item: &Arc<Item>,
        caller: &Caller,
        flags: i32,
    ) -> Result<Data, Errno> {
        let looks = self.looks(item)?;
        if matches!(looks.kind(), libc::S_IFCHR | libc::S_IFBLK)
            && item.state.lock().vstat.kind.is_some()
        {
            return crate::specials::host_path(looks.rdev).map(Data::HostPath).ok_or(Errno::ENXIO);
        }
        let Sides { upper, lower, .. } = item.sides();
        let data = match (&upper, &lower) {
            (Some(upper), _) => self.insisting(upper, || upper.open(&self.us, flags))?,
            (None, Some(lower)) => lower.open(&self.acting(caller), flags)?,
            (None, None) => return Err(Errno::ENOENT),
        };
        let is_told = {
            let state = item.state.lock();
            !state.vstat.is_empty() || state.nameless.is_some()
        };
        let dressed = is_told
            || match &upper {
                Some(upper) => self.has_origin(&upper.looks(&self.us)?),
                None => false,
            };
        Ok(super::change::as_served(data, dressed))
    }

    /// Does something to a file or directory of the upper layer that the core has allowed, though the
    /// host may not: the virtual administrator is an ordinary user there.
    pub(super) fn insisting<T>(
        &self,
        at: &Ref,
        work: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let first = work();
        if !matches!(first, Err(Errno::EACCES)) || self.is_root {
            return first;
        }
        let Ok(looks) = at.looks(&self.us) else { return first };
        let mode = looks.mode & 0o7777;
        let rights = if looks.is_directory() { 0o700 } else { 0o600 };
        if looks.is_link() || mode & rights == rights {
            return first;
        }
        let set = |mode: u32| {
            at.set(&self.us, &umvu_abi::files::Changes { mode: Some(mode), ..Default::default() })
        };
        set(mode | rights)?;
        let second = work();
        set(mode)?;
        second
    }
}

/// A file in use for a while.
#[derive(Debug)]
pub(super) struct Borrowed<'a> {
    pub(super) item: Arc<Item>,
    overlay: &'a Overlay,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.overlay.forget(self.item.node, 1);
    }
}

/// The device and number of a file of a layer.
pub(super) fn identity(looks: &Attributes) -> Identity {
    (looks.dev.unwrap_or(0), looks.ino)
}
