//! An overlay as a file system.

use std::{
    fs::File,
    os::{fd::BorrowedFd, unix::fs::FileExt},
};

use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, Data, DirEntry, Entry, FileSystem, Handle, Node, Opened, READ,
        Right, Seen, StatFs, Traits,
    },
};

use super::{
    copy::Content,
    layer::{Make, Ref},
    overlay::{Mode, Overlay},
};

fn handled(data: Data) -> Opened {
    Opened { handle: Handle(0), data }
}

impl Overlay {
    /// The side of a file that shows.
    fn side(&self, node: Node) -> Result<Ref, Errno> {
        let sides = self.item(node)?.sides();
        sides.upper.or(sides.lower).ok_or(Errno::ENOENT)
    }

    /// Changes extended attributes.
    fn change_xattrs(
        &self,
        caller: &Caller,
        node: Node,
        work: impl Fn(&Caller, &Ref) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let _order = self.ordered()?;
        let item = self.item(node)?;
        item.touched();
        let sides = item.sides();
        let below = |caller: &Caller| match &sides.lower {
            Some(lower) => work(caller, lower),
            None => Err(Errno::ENOENT),
        };
        match self.below_first(caller, sides.upper.is_none(), below)? {
            Some(()) => Ok(()),
            None => {
                let upper = self.prepare(&item)?;
                self.insisting(&upper, || work(&self.us, &upper))
            }
        }
    }

    fn open_to_write(&self, caller: &Caller, node: Node, flags: i32) -> Result<Data, Errno> {
        let _order = self.ordered()?;
        let item = self.item(node)?;
        let sides = item.sides();
        let below = |caller: &Caller| match &sides.lower {
            Some(lower) => lower.open(caller, flags),
            None => Err(Errno::ENOENT),
        };
        if let Some(data) = self.below_first(caller, sides.upper.is_none(), below)? {
            let said = !item.state.lock().vstat.is_empty();
            return Ok(super::change::as_served(data, said));
        }
        // Who may read it in the view only, as the virtual administrator, begins with an empty copy.
        let may_read = caller.may(&self.looks(&item)?, READ);
        self.copy_up(&item, if may_read { Content::Readable } else { Content::Whole })?;
        self.open_side(&item, caller, flags)
    }
}

impl FileSystem for Overlay {
    fn traits(&self) -> Traits {
        Traits { read_only: self.manner.read_only, guards: true, ..Traits::default() }
    }

    fn grants(&self, caller: &Caller, file: &Attributes, right: Right) -> bool {
        let master = caller.uid == self.manner.owner && self.manner.mode != Mode::Merge;
        let is_his = match right {
            // One's own files have the rights that one has given them.
            Right::Change => file.uid != caller.uid,
            Right::GiveAway => true,
        };
        caller.is_privileged() || master && is_his
    }

    fn host_path(&self, node: Node) -> Option<Vec<u8>> {
        self.side(node).ok()?.host_path()
    }

    fn seen_at(&self, node: Node) -> Seen {
        let Ok(item) = self.item(node) else { return Seen::Here };
        let sides = item.sides();
        let layers = [sides.upper, sides.lower].into_iter().flatten();
        Seen::Layers(layers.filter_map(|side| side.host_path()).collect())
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let directory = self.item(parent)?;
        let found = self.find(&directory, name)?.ok_or(Errno::ENOENT)?;
        Ok(self.enter(&directory, name, found))
    }

    fn forget(&self, node: Node, count: u64) {
        Self::forget(self, node, count);
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        self.looks(&self.item(node)?)
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: Node,
        _: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        self.set(caller, &self.item(node)?, changes)
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        self.side(node)?.read_link(&self.us)
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        rdev: u64,
    ) -> Result<Entry, Errno> {
        self.make(caller, &self.item(parent)?, name, Make::Node { mode, rdev })
    }

    fn mkdir(&self, caller: &Caller, parent: Node, name: &[u8], mode: u32) -> Result<Entry, Errno> {
        self.make(caller, &self.item(parent)?, name, Make::Directory { mode })
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        self.make(caller, &self.item(parent)?, name, Make::Link { target })
    }

    fn link(&self, caller: &Caller, node: Node, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        Self::link(self, caller, (&self.item(node)?, None), &self.item(parent)?, name)
    }

    fn link_opened(
        &self,
        caller: &Caller,
        (node, file): (Node, BorrowedFd<'_>),
        parent: Node,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        Self::link(self, caller, (&self.item(node)?, Some(file)), &self.item(parent)?, name)
    }

    fn unlink(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.remove(caller, &self.item(parent)?, name)
    }

    fn rmdir(&self, caller: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        self.remove(caller, &self.item(parent)?, name)
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let (source, target) = (self.item(from.0)?, self.item(to.0)?);
        Self::rename(self, caller, (&source, from.1), (&target, to.1), flags)
    }

    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno> {
        let item = self.item(node)?;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        // A device or FIFO is not changed by what is written to it.
        let data = if writes && item.kind == libc::S_IFREG {
            self.open_to_write(caller, node, flags)?
        } else {
            self.open_side(&item, caller, flags)?
        };
        Ok(handled(data))
    }

    fn create(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let (entry, data) = Self::create(self, caller, &self.item(parent)?, name, (mode, flags))?;
        Ok((entry, handled(data)))
    }

    fn create_nameless(
        &self,
        caller: &Caller,
        parent: Node,
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let (entry, data) = self.nameless(caller, &self.item(parent)?, (mode, flags))?;
        Ok((entry, handled(data)))
    }

    fn read(&self, node: Node, _: Handle, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let side = self.side(node)?;
        match side.open_host(&self.us, libc::O_RDONLY)? {
            Some(file) => Ok(File::from(file).read_at(buffer, offset)?),
            None => side.read(offset, buffer),
        }
    }

    fn write(&self, node: Node, _: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let side = self.side(node)?;
        match side.open_host(&self.us, libc::O_WRONLY)? {
            Some(file) => Ok(File::from(file).write_at(data, offset)?),
            None => side.write(offset, data),
        }
    }

    fn fsync(&self, node: Node, _: Handle, data_only: bool) -> Result<(), Errno> {
        let side = self.side(node)?;
        match side.open_host(&self.us, libc::O_RDONLY) {
            Ok(Some(file)) if data_only => Ok(File::from(file).sync_data()?),
            Ok(Some(file)) => Ok(File::from(file).sync_all()?),
            _ => side.sync(data_only),
        }
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        let item = self.item(node)?;
        if !item.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.list(&item)?.into_iter().for_each(each);
        Ok(())
    }

    fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        let sides = self.item(node)?.sides();
        let root = self.root.sides();
        // Where the next file would go.
        let side = match self.manner.mode {
            Mode::Cow => root.upper,
            Mode::Merge | Mode::MinCow => sides.lower.or(sides.upper).or(root.lower),
        };
        side.ok_or(Errno::ENOENT)?.statfs()
    }

    fn getxattr(&self, _: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.side(node)?.get_xattr(&self.us, name)
    }

    fn setxattr(
        &self,
        caller: &Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.change_xattrs(caller, node, |caller, side| side.set_xattr(caller, name, value, flags))
    }

    fn listxattr(&self, _: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        self.side(node)?.list_xattr(&self.us)
    }

    fn removexattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        self.change_xattrs(caller, node, |caller, side| side.remove_xattr(caller, name))
    }

    fn stop(&self) {
        self.meta.tidy();
    }

    fn sync(&self) -> Result<(), Errno> {
        let sides = self.root.sides();
        for side in [sides.upper, sides.lower].into_iter().flatten() {
            side.sync_all()?;
        }
        Ok(())
    }
}
