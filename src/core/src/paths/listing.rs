//! The listings of directories that are not the kernel's.

use std::{
    fs,
    os::unix::{ffi::OsStringExt, fs::FileTypeExt},
};

use umvu_abi::{Errno, tree::Entry};

use super::{
    directories::{Kind, Listing},
    lexical::join,
    reach::reach,
    resolve::{Place, TreeEntry},
    territory::Territory,
};
use crate::view::Mount;

/// Lists a place. Errors: `ENOTDIR`; those of reading the real directory.
pub(super) fn of(place: &Place, territory: &Territory) -> Result<Listing, Errno> {
    match place {
        Place::Entry(entry) => of_entry(entry),
        Place::Directory(path) => Ok(mounted(path, territory)),
        Place::Merged(path) => {
            let mut listing = mounted(path, territory);
            listing.extend(real(path)?);
            Ok(listing)
        }
        Place::Real(_)
        | Place::Node(_)
        | Place::Missing(_)
        | Place::Inode(_)
        | Place::Vacant(_) => Err(Errno::ENOTDIR),
    }
}

fn of_entry(entry: &TreeEntry) -> Result<Listing, Errno> {
    let Entry::Directory(names) = &entry.entry else { return Err(Errno::ENOTDIR) };
    let child = |name: &String| {
        let inner =
            if entry.inner.is_empty() { name.clone() } else { format!("{}/{name}", entry.inner) };
        let kind = match entry.tree.entry(&inner).ok()? {
            Entry::Directory(_) => Kind::Directory,
            Entry::File { .. } => Kind::File,
            Entry::Link(target) => Kind::Link(target.into_bytes()),
        };
        Some((name.as_bytes().to_vec(), kind))
    };
    Ok(names.iter().filter_map(child).collect())
}

/// The names that lead to mount points.
fn mounted(path: &[u8], territory: &Territory) -> Listing {
    let kind = |name: Vec<u8>| {
        let target = join(path, &name);
        let kind = match (territory.node(&target), territory.sub_device(&target)) {
            (Some(mount), _) => kind_of(mount),
            (None, Some(_)) => Kind::File,
            (None, None) => Kind::Directory,
        };
        (name, kind)
    };
    territory.names_in(path).into_iter().map(kind).collect()
}

/// What a mount point shows as, as far as an unprivileged process can make it.
fn kind_of(mount: &Mount) -> Kind {
    if mount.is_stack() {
        return Kind::Socket;
    }
    match mount.root.as_ref().and_then(|root| root.kind().ok()) {
        None | Some(libc::S_IFDIR) => Kind::Directory,
        Some(libc::S_IFCHR) => Kind::Character,
        Some(_) => Kind::File,
    }
}

fn real(path: &[u8]) -> Result<Listing, Errno> {
    let mut listing = Listing::new();
    for entry in fs::read_dir(reach(path)?.path())? {
        let entry = entry?;
        let Ok(found) = entry.file_type() else { continue };
        let kind = if found.is_dir() {
            Kind::Directory
        } else if found.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            Kind::Link(target.into_os_string().into_vec())
        } else if found.is_fifo() {
            Kind::Fifo
        } else if found.is_socket() {
            Kind::Socket
        } else if found.is_char_device() {
            Kind::Character
        } else {
            Kind::File
        };
        listing.insert(entry.file_name().into_vec(), kind);
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake::{self, ScratchDir};

    #[test]
    fn a_merged_directory_shows_both_and_the_real_wins() {
        let scratch = ScratchDir::new("merged");
        fs::write(scratch.path().join("file"), "").expect("writable");
        let root = scratch.path().to_str().expect("UTF-8").to_owned();
        let targets = [format!("{root}/lab"), format!("{root}/deep/er"), format!("{root}/file")];
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let territory = Territory::of(&fake::view(&targets), b"");
        let listing = of(&Place::Merged(root.clone().into_bytes()), &territory).expect("readable");
        let expected = [
            (b"deep".to_vec(), Kind::Directory),
            (b"file".to_vec(), Kind::File),
            (b"lab".to_vec(), Kind::Socket),
        ];
        assert_eq!(listing, Listing::from(expected));
        let listing =
            of(&Place::Directory(root.into_bytes()), &territory).expect("no file is read");
        assert_eq!(listing.len(), 3);
    }
}
