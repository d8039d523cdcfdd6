//! The blocks of structures, in front of the image: what libext2fs reads and writes.
//!
//! What is written stays here until [`Cache::batch`] takes all of it for the journal, so that the image
//! goes from one whole state to the next. The data of files does not pass here; it is told of by
//! [`Cache::gives_way`], so that a block which was one and becomes the other never has two contents.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use umvu_abi::{Errno, files::Backing};

use super::superblock::Geometry;

/// How many bytes of clean blocks are kept.
const KEPT: usize = 64 << 20;

/// A block that waits to be written, with its number.
pub(super) type Written = (u64, Arc<[u8]>);

/// What libext2fs may do to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is written.
    Sealed,
    /// Blocks are written.
    Open,
}

/// What happens to zeros that are written in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Zeroing {
    /// They are written.
    #[default]
    Done,
    /// They are left out: data follows at once.
    LeftOut,
}

#[derive(Debug)]
struct Page {
    data: Arc<[u8]>,
    used: bool,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<u64, Page>,
    dirty: BTreeSet<u64>,
    /// Under way to the image.
    leaving: HashSet<u64>,
    /// Given up since the last batch, and those whose giving up is under way: until that is lasting, data
    /// must not go where structures or files were.
    freed: HashSet<u64>,
    freeing: HashSet<u64>,
    /// The blocks in `freed`, in their order.
    trail: Vec<u64>,
    zeroing: Zeroing,
}

/// The blocks.
#[derive(Debug)]
pub(super) struct Cache {
    image: RwLock<Option<Arc<dyn Backing>>>,
    size: u64,
    block: usize,
    /// How many blocks are given and taken at once.
    cluster: u64,
    mode: Mode,
    state: Mutex<State>,
}

impl Cache {
    /// For an image with this geometry.
    pub(super) fn new(image: Arc<dyn Backing>, shape: &Geometry, mode: Mode) -> Self {
        let Geometry { size, block, cluster, .. } = *shape;
        Self {
            image: RwLock::new(Some(image)),
            size,
            block,
            cluster,
            mode,
            state: Mutex::default(),
        }
    }

    pub(super) fn block(&self) -> usize {
        self.block
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Errors: `EIO` once it was let go.
    pub(super) fn image(&self) -> Result<Arc<dyn Backing>, Errno> {
        self.image.read().clone().ok_or(Errno::EIO)
    }

    /// Lets the image go.
    pub(super) fn close(&self) {
        self.image.write().take();
        *self.state.lock() = State::default();
    }

    /// A place inside of the image. Errors: `EIO`.
    fn inside(&self, at: u64, length: usize) -> Result<(), Errno> {
        let end = at.checked_add(length as u64).ok_or(Errno::EIO)?;
        if end > self.size { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Reads bytes of structures. Errors: `EIO`.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.inside(at, buffer.len())?;
        let mut state = self.state.lock();
        for piece in pieces(at, buffer.len(), self.block) {
            let page = self.page(&mut state, piece.number)?;
            let to = &mut buffer[piece.done..piece.done + piece.length];
            to.copy_from_slice(&page[piece.within..piece.within + piece.length]);
        }
        Ok(())
    }

    /// Writes bytes of structures. Errors: `EROFS`, `EIO`.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        if self.mode == Mode::Sealed {
            return Err(Errno::EROFS);
        }
        self.overlay(at, data)
    }

    /// Has bytes here, whatever the image has. Errors: `EIO`.
    pub(super) fn overlay(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        self.inside(at, data.len())?;
        let mut state = self.state.lock();
        for piece in pieces(at, data.len(), self.block) {
            let new = &data[piece.done..piece.done + piece.length];
            let page = if piece.length == self.block {
                state.pages.get(&piece.number).map(|page| Arc::clone(&page.data))
            } else {
                Some(self.page(&mut state, piece.number)?)
            };
            let range = piece.within..piece.within + piece.length;
            if page.as_ref().is_some_and(|page| &page[range.clone()] == new) {
                continue;
            }
            let fresh = match page {
                _ if piece.length == self.block => Arc::from(new),
                Some(page) => {
                    let mut fresh = page.to_vec();
                    fresh[range].copy_from_slice(new);
                    Arc::from(fresh)
                }
                None => return Err(Errno::EIO),
            };
            state.pages.insert(piece.number, Page { data: fresh, used: true });
            state.dirty.insert(piece.number);
        }
        Ok(())
    }

    /// Fills blocks with zeros, unless that is left out. Errors: as [`Cache::write`].
    pub(super) fn zero(&self, number: u64, count: u64) -> Result<(), Errno> {
        if self.state.lock().zeroing == Zeroing::LeftOut {
            return Ok(());
        }
        let zeros = vec![0; self.block];
        (number..number.saturating_add(count))
            .try_for_each(|number| self.write(number.saturating_mul(self.block as u64), &zeros))
    }

    pub(super) fn set_zeroing(&self, zeroing: Zeroing) {
        self.state.lock().zeroing = zeroing;
    }

    fn page(&self, state: &mut State, number: u64) -> Result<Arc<[u8]>, Errno> {
        if let Some(page) = state.pages.get_mut(&number) {
            page.used = true;
            return Ok(Arc::clone(&page.data));
        }
        let mut data = vec![0; self.block];
        let at = number * self.block as u64;
        // The last block may be cut off.
        let length = usize::try_from(self.size - at).unwrap_or(self.block).min(self.block);
        if self.image()?.read_at(at, &mut data[..length])? < length {
            return Err(Errno::EIO);
        }
        if state.pages.len() * self.block
            >= KEPT + (state.dirty.len() + state.leaving.len()) * self.block
        {
            state.sweep();
        }
        let data: Arc<[u8]> = Arc::from(data);
        state.pages.insert(number, Page { data: Arc::clone(&data), used: true });
        Ok(data)
    }

    /// A block that is here and not yet in the image.
    pub(super) fn pending(&self, number: u64) -> Option<Arc<[u8]>> {
        let state = self.state.lock();
        if state.dirty.contains(&number) || state.leaving.contains(&number) {
            return state.pages.get(&number).map(|page| Arc::clone(&page.data));
        }
        None
    }

    /// The image may have changed where nothing waits.
    pub(super) fn forget_clean(&self) {
        let mut state = self.state.lock();
        let State { pages, dirty, .. } = &mut *state;
        pages.retain(|number, _| dirty.contains(number));
    }

    /// Whether any of some blocks is here and not yet in the image.
    pub(super) fn holds(&self, number: u64, count: u64) -> bool {
        let state = self.state.lock();
        let waits = |number| state.dirty.contains(&number) || state.leaving.contains(&number);
        (!state.dirty.is_empty() || !state.leaving.is_empty())
            && (number..number.saturating_add(count)).any(waits)
    }

    /// Whether any block is here and not yet in the image.
    pub(super) fn has_pending(&self) -> bool {
        let state = self.state.lock();
        !state.dirty.is_empty() || !state.leaving.is_empty()
    }

    /// Blocks are given up by whom they belonged to.
    pub(super) fn freed(&self, number: u64, count: u64) {
        let mut state = self.state.lock();
        let end = number.saturating_add(count.min(self.size / self.block as u64));
        let start = number / self.cluster * self.cluster;
        for number in start..end.div_ceil(self.cluster).saturating_mul(self.cluster) {
            if state.freed.insert(number) {
                state.trail.push(number);
            }
            if state.dirty.remove(&number) && !state.leaving.contains(&number) {
                state.pages.remove(&number);
            }
        }
    }

    /// How far giving up has come.
    pub(super) fn freed_so_far(&self) -> usize {
        self.state.lock().trail.len()
    }

    /// What was given up since then had been taken since then, and belonged to nobody before: it may be
    /// taken again at once.
    pub(super) fn freed_for_nothing(&self, since: usize) {
        let mut state = self.state.lock();
        let State { trail, freed, .. } = &mut *state;
        for number in trail.drain(since.min(trail.len())..) {
            freed.remove(&number);
        }
    }

    /// Whether data may go to blocks now; what was here of them is dropped then. Otherwise a batch has to
    /// be lasting first.
    pub(super) fn gives_way(&self, number: u64, count: u64) -> bool {
        let mut state = self.state.lock();
        let mut range = number..number.saturating_add(count);
        if range.clone().any(|it| {
            state.freed.contains(&it) || state.freeing.contains(&it) || state.leaving.contains(&it)
        }) {
            return false;
        }
        range.all(|it| {
            state.dirty.remove(&it);
            state.pages.remove(&it);
            true
        })
    }

    /// How many blocks wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().dirty.len()
    }

    /// Takes all that waits, to be written.
    pub(super) fn batch(&self) -> Vec<Written> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.freeing = std::mem::take(&mut state.freed);
        state.trail.clear();
        state.leaving = std::mem::take(&mut state.dirty).into_iter().collect();
        let mut numbers: Vec<u64> = state.leaving.iter().copied().collect();
        numbers.sort_unstable();
        let page = |number| Some((number, Arc::clone(&state.pages.get(&number)?.data)));
        numbers.into_iter().filter_map(page).collect()
    }

    /// The batch has reached the image.
    pub(super) fn settled(&self) {
        let mut state = self.state.lock();
        state.leaving.clear();
        state.freeing.clear();
    }

    /// The batch has not: it is tried again with the next.
    pub(super) fn failed(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.dirty.extend(state.leaving.drain());
        state.trail.extend(state.freeing.difference(&state.freed).copied());
        state.freed.extend(state.freeing.drain());
    }
}

impl State {
    /// Drops what was not used since the last time.
    fn sweep(&mut self) {
        let (dirty, leaving) = (&self.dirty, &self.leaving);
        self.pages.retain(|number, page| {
            std::mem::take(&mut page.used) || dirty.contains(number) || leaving.contains(number)
        });
    }
}

/// A part of a range of bytes that is in one block.
struct Piece {
    number: u64,
    within: usize,
    done: usize,
    length: usize,
}

fn pieces(at: u64, length: usize, block: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let place = at + done as u64;
        let within = usize::try_from(place % block as u64).unwrap_or(0);
        let piece = Piece {
            number: place / block as u64,
            within,
            done,
            length: (block - within).min(length - done),
        };
        done += piece.length;
        Some(piece)
    })
}
