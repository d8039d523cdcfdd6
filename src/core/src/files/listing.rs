//! Listings of directories with positions that last.
//!
//! A guest's descriptor of a virtual directory is one of an empty real directory; its position, in
//! the kernel, counts the entries of the inode's listing. A name keeps its place for as long as the
//! listing is remembered, whatever comes and goes, so that a guest that removes what it reads meets
//! each name once (readdir(3)). Reading from the start looks at the directory anew.

use std::collections::HashMap;

use umvu_abi::files::DirEntry;

/// What is known of one directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    entries: Vec<Option<DirEntry>>,
    places: HashMap<Vec<u8>, usize>,
}

impl Listing {
    /// Takes in what the directory holds now.
    pub(crate) fn refresh(&mut self, found: Vec<DirEntry>) {
        // More gaps than names: nobody reads there, or it matters little.
        if self.entries.len() > 64 && self.entries.len() > 4 * found.len() {
            *self = Self::default();
        }
        let mut entries: Vec<Option<DirEntry>> = vec![None; self.entries.len()];
        let mut places = HashMap::with_capacity(found.len());
        for entry in found {
            let name = entry.name.clone();
            let known = self.places.get(&name).copied().filter(|at| entries[*at].is_none());
            let place = known.unwrap_or_else(|| {
                entries.push(None);
                entries.len() - 1
            });
            entries[place] = Some(entry);
            places.insert(name, place);
        }
        (self.entries, self.places) = (entries, places);
    }

    /// The entries from a place on, each with the place behind it.
    pub(crate) fn from(&self, place: usize) -> impl Iterator<Item = (usize, &DirEntry)> {
        let rest = self.entries.iter().enumerate().skip(place);
        rest.filter_map(|(at, entry)| Some((at + 1, entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<DirEntry> {
        let entry = |name: &&str| DirEntry { name: name.as_bytes().to_vec(), ino: 1, kind: 0 };
        names.iter().map(entry).collect()
    }

    fn names(listing: &Listing, from: usize) -> Vec<String> {
        let name =
            |(_, entry): (usize, &DirEntry)| String::from_utf8_lossy(&entry.name).into_owned();
        listing.from(from).map(name).collect()
    }

    #[test]
    fn names_keep_their_places_while_others_come_and_go() {
        let mut listing = Listing::default();
        listing.refresh(found(&["a", "b", "c", "d"]));
        let (place, _) = listing.from(0).nth(1).expect("b");
        listing.refresh(found(&["c", "d", "e"]));
        assert_eq!(names(&listing, place), ["c", "d", "e"]);
        listing.refresh(found(&["b", "d"]));
        assert_eq!(names(&listing, 0), ["d", "b"]);
    }

    #[test]
    fn a_listing_does_not_grow_for_ever() {
        let mut listing = Listing::default();
        for round in 0..1000 {
            listing.refresh(found(&[&format!("{round}")]));
        }
        assert!(listing.entries.len() <= 66);
    }
}
