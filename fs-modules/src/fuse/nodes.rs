//! What is known of the program's nodes for a while: attributes, and names that a listing brought along.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Attributes};

use super::wire::EntryOut;

/// How many names of listings are kept.
const AHEAD_LIMIT: usize = 16_384;

/// Until when an answer holds; None for ever.
fn until(valid: Duration) -> Option<Instant> {
    Instant::now().checked_add(valid)
}

fn holds(until: Option<Instant>) -> bool {
    until.is_none_or(|until| Instant::now() < until)
}

#[derive(Debug)]
struct Known {
    attributes: Attributes,
    until: Option<Instant>,
    is_valid: bool,
    /// Where it was found last.
    place: Option<(u64, Vec<u8>)>,
}

#[derive(Debug)]
struct Ahead {
    entry: EntryOut,
    since: Instant,
}

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: Mutex<HashMap<u64, Known>>,
    places: Mutex<HashMap<(u64, Vec<u8>), u64>>,
    ahead: Mutex<HashMap<(u64, Vec<u8>), Ahead>>,
}

impl Nodes {
    /// Takes attributes in. Errors: `EIO` when the node had another type.
    pub(super) fn learn(
        &self,
        node: u64,
        attributes: Attributes,
        valid: Duration,
    ) -> Result<(), Errno> {
        let mut known = self.known.lock();
        let until = until(valid);
        let fresh = Known { attributes, until, is_valid: true, place: None };
        let one = known.entry(node).or_insert(fresh);
        if one.attributes.kind() != attributes.kind() {
            return Err(Errno::EIO);
        }
        (one.attributes, one.until, one.is_valid) = (attributes, until, true);
        Ok(())
    }

    /// A known node was found under a name.
    pub(super) fn stands(&self, node: u64, parent: u64, name: &[u8]) {
        let place = (parent, name.to_vec());
        let before = match self.known.lock().get_mut(&node) {
            Some(known) => known.place.replace(place.clone()),
            None => return,
        };
        let mut places = self.places.lock();
        if let Some(before) = before
            && places.get(&before) == Some(&node)
        {
            places.remove(&before);
        }
        places.insert(place, node);
    }

    /// A name is gone: what was there has one name less, as Linux counts it before it asks again.
    pub(super) fn unlinked(&self, parent: u64, name: &[u8]) {
        let Some(node) = self.places.lock().remove(&(parent, name.to_vec())) else { return };
        if let Some(known) = self.known.lock().get_mut(&node) {
            known.attributes.nlink = known.attributes.nlink.saturating_sub(1);
            known.place = None;
        }
    }

    /// A name leads to another node now.
    pub(super) fn moved(&self, from: (u64, &[u8]), to: (u64, &[u8])) {
        let node = self.places.lock().remove(&(from.0, from.1.to_vec()));
        self.unlinked(to.0, to.1);
        if let Some(node) = node {
            self.doubt(node);
            self.stands(node, to.0, to.1);
        }
    }

    /// The attributes, while they hold.
    pub(super) fn attributes(&self, node: u64) -> Option<Attributes> {
        let known = self.known.lock();
        known.get(&node).filter(|one| one.is_valid && holds(one.until)).map(|one| one.attributes)
    }

    /// The last attributes, whether they hold or not.
    pub(super) fn last(&self, node: u64) -> Option<Attributes> {
        self.known.lock().get(&node).map(|known| known.attributes)
    }

    /// The attributes do not hold any more.
    pub(super) fn doubt(&self, node: u64) {
        if let Some(known) = self.known.lock().get_mut(&node) {
            known.is_valid = false;
        }
    }

    /// The node is needed no more.
    pub(super) fn forget(&self, node: u64) {
        let known = self.known.lock().remove(&node);
        if let Some(place) = known.and_then(|known| known.place) {
            let mut places = self.places.lock();
            if places.get(&place) == Some(&node) {
                places.remove(&place);
            }
        }
    }

    /// Keeps what a name of a listing leads to; returns what is not kept, to be forgotten.
    pub(super) fn foresee(&self, parent: u64, name: &[u8], entry: EntryOut) -> Vec<u64> {
        let mut ahead = self.ahead.lock();
        let mut gone = Vec::new();
        if ahead.len() >= AHEAD_LIMIT {
            gone.extend(ahead.drain().map(|(_, one)| one.entry.node));
        }
        let one = Ahead { entry, since: Instant::now() };
        gone.extend(ahead.insert((parent, name.to_vec()), one).map(|one| one.entry.node));
        gone
    }

    /// What a name leads to by the listing: with the node, how long it still holds.
    pub(super) fn foreseen(&self, parent: u64, name: &[u8]) -> Option<Foreseen> {
        let one = self.ahead.lock().remove(&(parent, name.to_vec()))?;
        let age = one.since.elapsed();
        if one.entry.valid <= age {
            return Some(Foreseen::Stale(one.entry.node));
        }
        let left = |valid: Duration| {
            if valid == Duration::MAX { valid } else { valid.saturating_sub(age) }
        };
        let entry = EntryOut {
            valid: left(one.entry.valid),
            attributes_valid: left(one.entry.attributes_valid),
            ..one.entry
        };
        Some(Foreseen::Entry(entry))
    }

    /// All names of listings: they are not needed any more.
    pub(super) fn drop_foreseen(&self, node: Option<u64>) -> Vec<u64> {
        let mut ahead = self.ahead.lock();
        let gone: Vec<(u64, Vec<u8>)> = ahead
            .iter()
            .filter(|(_, one)| node.is_none_or(|node| one.entry.node == node))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().filter_map(|key| ahead.remove(key)).map(|one| one.entry.node).collect()
    }
}

/// What a listing has said of a name.
#[derive(Debug)]
pub(super) enum Foreseen {
    /// This, and it holds.
    Entry(EntryOut),
    /// It does not hold any more; the node is to be forgotten once.
    Stale(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(node: u64, valid: Duration) -> EntryOut {
        let attributes = Attributes { mode: libc::S_IFREG, ..Attributes::default() };
        EntryOut { node, attributes, valid, attributes_valid: valid }
    }

    #[test]
    fn attributes_hold_for_their_time() {
        let nodes = Nodes::default();
        let file = Attributes { mode: libc::S_IFREG, ..Attributes::default() };
        nodes.learn(2, file, Duration::MAX).expect("new");
        assert_eq!(nodes.attributes(2), Some(file));
        nodes.doubt(2);
        assert!(nodes.attributes(2).is_none() && nodes.last(2).is_some());
        nodes.learn(2, file, Duration::ZERO).expect("the same type");
        assert!(nodes.attributes(2).is_none());
        let directory = Attributes { mode: libc::S_IFDIR, ..Attributes::default() };
        assert_eq!(nodes.learn(2, directory, Duration::ZERO), Err(Errno::EIO));
    }

    #[test]
    fn names_of_listings_are_given_once() {
        let nodes = Nodes::default();
        assert!(nodes.foresee(1, b"a", entry(5, Duration::MAX)).is_empty());
        assert_eq!(nodes.foresee(1, b"a", entry(6, Duration::MAX)), [5]);
        assert!(matches!(nodes.foreseen(1, b"a"), Some(Foreseen::Entry(one)) if one.node == 6));
        assert!(nodes.foreseen(1, b"a").is_none());
        assert!(nodes.foresee(1, b"b", entry(7, Duration::ZERO)).is_empty());
        assert!(matches!(nodes.foreseen(1, b"b"), Some(Foreseen::Stale(7))));
    }
}
