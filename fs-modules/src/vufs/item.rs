//! What is known of the files of an overlay that somebody needs, by node and by name.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Attributes, Node},
};

use super::{format::Vstat, layer::Ref};

/// How long what was found is taken for granted: others may change the layers.
pub(super) const VALID: Duration = Duration::from_secs(1);

/// Where a file is.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides {
    /// In the source.
    pub(super) upper: Option<Ref>,
    /// At the mount point, as it was before; None also where it is hidden.
    pub(super) lower: Option<Ref>,
    /// The metadata below a directory.
    pub(super) meta: Option<Ref>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The directory and the name; None for the root and for what has no name.
    pub(super) place: Option<(Arc<Item>, Vec<u8>)>,
    pub(super) sides: Sides,
    pub(super) vstat: Vstat,
    /// What a directory looked like, and when.
    pub(super) seen: Option<(Instant, Attributes)>,
    /// What a file looked like whose last name was taken away.
    pub(super) gone: Option<Attributes>,
    /// The name in the work directory of a file that was made without one.
    pub(super) nameless: Option<Vec<u8>>,
}

impl State {
    /// A file without a name and a place.
    pub(super) fn new(vstat: Vstat) -> Self {
        let sides = Sides::default();
        Self { place: None, sides, vstat, seen: None, gone: None, nameless: None }
    }
}

/// A file in use.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) node: Node,
    /// The type bits.
    pub(super) kind: u32,
    pub(super) state: Mutex<State>,
}

impl Item {
    pub(super) fn root(sides: Sides, kind: u32) -> Arc<Self> {
        let state = State { sides, ..State::new(Vstat::default()) };
        Arc::new(Self { node: Node::ROOT, kind, state: Mutex::new(state) })
    }

    pub(super) fn sides(&self) -> Sides {
        self.state.lock().sides.clone()
    }

    /// The directory and the name. Errors: `ENOENT` for what has none.
    pub(super) fn place(&self) -> Result<(Arc<Self>, Vec<u8>), Errno> {
        self.state.lock().place.clone().ok_or(Errno::ENOENT)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(super) fn is_root(&self) -> bool {
        self.node == Node::ROOT
    }

    /// What it looks like has changed.
    pub(super) fn touched(&self) {
        self.state.lock().seen = None;
    }

    /// Whether it is another or below it.
    pub(super) fn is_below(&self, other: &Arc<Self>) -> bool {
        let mut here = self.state.lock().place.clone();
        while let Some((above, _)) = here {
            if Arc::ptr_eq(&above, other) {
                return true;
            }
            here = above.state.lock().place.clone();
        }
        false
    }

    /// How many directories are above.
    pub(super) fn depth(&self) -> usize {
        let (mut depth, mut here) = (0, self.state.lock().place.clone());
        while let Some((above, _)) = here {
            depth += 1;
            here = above.state.lock().place.clone();
        }
        depth
    }
}

#[derive(Debug)]
struct Known {
    item: Arc<Item>,
    references: u64,
}

/// The files in use.
#[derive(Debug)]
pub(super) struct Table {
    items: HashMap<u64, Known>,
    names: HashMap<(u64, Vec<u8>), u64>,
    next: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { items: HashMap::new(), names: HashMap::new(), next: Node::ROOT.0 + 1 }
    }

    /// A file by its node. Errors: `ESTALE`.
    pub(super) fn get(&self, node: Node) -> Result<Arc<Item>, Errno> {
        self.items.get(&node.0).map(|known| Arc::clone(&known.item)).ok_or(Errno::ESTALE)
    }

    /// Takes in what was found under a name; it counts as one reference.
    pub(super) fn enter(
        &mut self,
        place: (&Arc<Item>, &[u8]),
        kind: u32,
        sides: Sides,
        vstat: Vstat,
    ) -> Arc<Item> {
        let key = (place.0.node.0, place.1.to_vec());
        if let Some(node) = self.names.get(&key)
            && let Some(known) = self.items.get_mut(node)
            && known.item.kind == kind
        {
            known.references += 1;
            let mut state = known.item.state.lock();
            (state.sides, state.vstat) = (sides, vstat);
            drop(state);
            return Arc::clone(&known.item);
        }
        let place = Some((Arc::clone(place.0), place.1.to_vec()));
        let item = self.add(State { place, sides, ..State::new(vstat) }, kind);
        self.names.insert(key, item.node.0);
        item
    }

    /// Takes in a file without a name; it counts as one reference.
    pub(super) fn add(&mut self, state: State, kind: u32) -> Arc<Item> {
        let node = self.next;
        self.next += 1;
        let item = Arc::new(Item { node: Node(node), kind, state: Mutex::new(state) });
        self.items.insert(node, Known { item: Arc::clone(&item), references: 1 });
        item
    }

    /// Drops references; returns the file when it was the last.
    pub(super) fn forget(&mut self, node: Node, count: u64) -> Option<Arc<Item>> {
        let known = self.items.get_mut(&node.0)?;
        known.references = known.references.saturating_sub(count);
        if known.references > 0 {
            return None;
        }
        let item = self.items.remove(&node.0)?.item;
        if let Some((directory, name)) = &item.state.lock().place {
            let key = (directory.node.0, name.clone());
            if self.names.get(&key) == Some(&node.0) {
                self.names.remove(&key);
            }
        }
        Some(item)
    }

    /// A name leads nowhere now; returns what had it.
    pub(super) fn unname(&mut self, directory: &Item, name: &[u8]) -> Option<Arc<Item>> {
        let node = self.names.remove(&(directory.node.0, name.to_vec()))?;
        self.items.get(&node).map(|known| Arc::clone(&known.item))
    }

    /// Gives a file a name.
    pub(super) fn name(&mut self, item: &Arc<Item>, directory: &Arc<Item>, name: &[u8]) {
        self.names.insert((directory.node.0, name.to_vec()), item.node.0);
        item.state.lock().place = Some((Arc::clone(directory), name.to_vec()));
    }

    /// All that is below a directory, what is above before what is below.
    pub(super) fn below(&self, directory: &Arc<Item>) -> Vec<Arc<Item>> {
        let items = self.items.values().map(|known| &known.item);
        let mut below: Vec<_> =
            items.filter(|item| item.is_below(directory)).map(Arc::clone).collect();
        below.sort_by_key(|item| item.depth());
        below
    }
}
