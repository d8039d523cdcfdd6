//! The contract of file systems.

use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, DirEntry, Entry, FileSystem, Handle, Node, Opened, Right,
        Seek, StatFs, Takes, Time, Traits,
    },
};

use super::{
    Ext, control,
    data::{Refusal, Work},
    inode::{Stamp, flag},
    names::{set_target, target},
    volume::{Volume, ino_of, node_of, type_of},
};

/// The attributes that files of Linux have; those of other spaces are not shown.
const SPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];

impl Ext {
    fn work<T>(
        &self,
        node: Node,
        mut act: impl FnMut(&mut Work<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Errno> {
        let ino = ino_of(node)?;
        let cache = &self.cache;
        self.change(|volume| act(&mut Work { volume, cache, ino }))
    }

    fn look<T>(
        &self,
        node: Node,
        act: impl FnOnce(Work<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let ino = ino_of(node)?;
        self.with(|volume| act(Work { volume, cache: &self.cache, ino }))
    }

    /// Makes something with a name.
    fn make(
        &self,
        parent: Node,
        make: impl Fn(&mut Volume, u32) -> Result<u32, Errno>,
    ) -> Result<Entry, Errno> {
        let parent = ino_of(parent)?;
        self.change(|volume| {
            volume.may_add(parent)?;
            let ino = make(volume, parent)?;
            Ok(entry(volume, ino)?)
        })
    }

    fn edit(&self, act: impl Fn(&mut Volume) -> Result<(), Errno>) -> Result<(), Errno> {
        self.change(|volume| Ok(act(volume)?))
    }
}

fn entry(volume: &mut Volume, ino: u32) -> Result<Entry, Errno> {
    let attributes = volume.found(ino)?;
    Ok(Entry::lasting(node_of(ino), attributes))
}

impl FileSystem for Ext {
    fn traits(&self) -> Traits {
        Traits {
            may_wait: self.may_wait,
            read_only: !self.writes(),
            keeps_access_times: true,
            ..Traits::default()
        }
    }

    /// Who has mounted an image can write to all of it anyway.
    fn grants(&self, caller: &Caller, _: &Attributes, _: Right) -> bool {
        caller.is_privileged() || caller.uid == self.owner
    }

    fn options(&self) -> Option<String> {
        Some(String::new())
    }

    fn lookup(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let parent = ino_of(parent)?;
        self.with(|volume| {
            let ino = volume.lookup((parent, name))?;
            entry(volume, ino)
        })
    }

    fn forget(&self, node: Node, count: u64) {
        let forgotten = ino_of(node).and_then(|ino| self.with(|volume| volume.forget(ino, count)));
        if let Err(errno) = forgotten {
            tracing::debug!("vufuseext2: forget {}: {errno}", node.0);
        }
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        self.look(node, |work| work.volume.attributes(work.ino))
    }

    fn setattr(
        &self,
        _: &Caller,
        node: Node,
        handle: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        self.work(node, |work| {
            let raw = &work.volume.get(work.ino)?.raw;
            let shrinks = changes.size.is_some_and(|size| size < raw.size());
            // By a handle comes what was written before.
            let is_fixed = raw.has(flag::IMMUTABLE) || shrinks && raw.has(flag::APPEND);
            if handle.is_none() && is_fixed {
                return Err(Errno::EPERM.into());
            }
            if let Some(size) = changes.size {
                work.resize(size)?;
            }
            work.volume.set(work.ino, changes)?;
            Ok(work.volume.attributes(work.ino)?)
        })
    }

    fn accessed(&self, node: Node, time: Time) -> Result<(), Errno> {
        self.work(node, |work| {
            if work.volume.get(work.ino)?.raw.has(flag::NOATIME) {
                return Ok(());
            }
            Ok(work.volume.change(work.ino, |raw| raw.set_time(Stamp::Access, time))?)
        })
    }

    fn readlink(&self, _: &Caller, node: Node) -> Result<Vec<u8>, Errno> {
        self.look(node, target)
    }

    fn mknod(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        rdev: u64,
    ) -> Result<Entry, Errno> {
        self.make(parent, |volume, parent| volume.mknod((parent, name), caller, mode, rdev))
    }

    fn mkdir(&self, caller: &Caller, parent: Node, name: &[u8], mode: u32) -> Result<Entry, Errno> {
        self.make(parent, |volume, parent| volume.mkdir((parent, name), caller, mode))
    }

    fn symlink(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        to: &[u8],
    ) -> Result<Entry, Errno> {
        let directory = ino_of(parent)?;
        if to.len() >= self.cache.block() {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut made = None;
        self.change(|volume| {
            let spot = (directory, name);
            let ino = match made {
                Some(ino) => ino,
                None => match volume.short_link(spot, caller, to)? {
                    Some(ino) => return Ok(entry(volume, ino)?),
                    None => volume.long_link(directory, caller)?,
                },
            };
            made = Some(ino);
            match set_target(Work { volume, cache: &self.cache, ino }, to) {
                Err(Refusal::Failed(errno)) => {
                    volume.delete(ino)?;
                    return Err(errno.into());
                }
                other => other?,
            }
            volume.name_link(spot, ino)?;
            Ok(entry(volume, ino)?)
        })
    }

    fn link(&self, _: &Caller, node: Node, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        let ino = ino_of(node)?;
        self.make(parent, |volume, parent| {
            if volume.get(ino)?.raw.has(flag::IMMUTABLE | flag::APPEND) {
                return Err(Errno::EPERM);
            }
            volume.link(ino, (parent, name))?;
            Ok(ino)
        })
    }

    fn unlink(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let parent = ino_of(parent)?;
        self.edit(|volume| {
            volume.may_take((parent, name))?;
            volume.unlink((parent, name))
        })
    }

    fn rmdir(&self, _: &Caller, parent: Node, name: &[u8]) -> Result<(), Errno> {
        let parent = ino_of(parent)?;
        self.edit(|volume| {
            volume.may_take((parent, name))?;
            volume.rmdir((parent, name))
        })
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let (from, to) = ((ino_of(from.0)?, from.1), (ino_of(to.0)?, to.1));
        let known = libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE | libc::RENAME_WHITEOUT;
        if flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
        self.edit(|volume| {
            volume.may_take(from)?;
            volume.may_take(to)?;
            if flags & libc::RENAME_EXCHANGE != 0 {
                return volume.exchange(from, to);
            }
            if flags & libc::RENAME_NOREPLACE != 0 && volume.lookup(to).is_ok() {
                return Err(Errno::EEXIST);
            }
            volume.rename(from, to)?;
            if flags & libc::RENAME_WHITEOUT != 0 {
                volume.mknod(from, caller, libc::S_IFCHR, 0)?;
            }
            Ok(())
        })
    }

    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno> {
        // What was written before is still taken in.
        let is_ours = caller.pid.0 == 0;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && !is_ours;
        self.look(node, |work| {
            let raw = &work.volume.get(work.ino)?.raw;
            match raw.kind() {
                _ if writes && raw.has(flag::IMMUTABLE) => Err(Errno::EPERM),
                _ if writes && raw.has(flag::APPEND) && flags & libc::O_APPEND == 0 => {
                    Err(Errno::EPERM)
                }
                libc::S_IFREG => Ok(Opened::cached()),
                kind => {
                    let rdev = work.volume.attributes(work.ino)?.rdev;
                    crate::specials::open(kind, rdev)
                }
            }
        })
    }

    fn tmpfile(&self, caller: &Caller, parent: Node, mode: u32) -> Result<Entry, Errno> {
        let parent = ino_of(parent)?;
        self.change(|volume| {
            let ino = volume.nameless_file(parent, caller, mode)?;
            volume.get(ino)?.references += 1;
            Ok(Entry::lasting(node_of(ino), volume.attributes(ino)?))
        })
    }

    fn read(&self, node: Node, _: Handle, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.look(node, |mut work| work.read(offset, buffer))
    }

    fn write(&self, node: Node, _: Handle, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.work(node, |work| work.write(offset, data))
    }

    fn fsync(&self, _: Node, _: Handle, _: bool) -> Result<(), Errno> {
        self.sync()
    }

    fn fallocate(
        &self,
        node: Node,
        _: Handle,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.work(node, |work| work.fallocate(mode, offset, length))
    }

    fn seek(&self, node: Node, _: Handle, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.look(node, |mut work| work.seek(offset, what))
    }

    fn readdir(
        &self,
        _: &Caller,
        node: Node,
        _: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        self.look(node, |work| {
            for (name, (ino, kind)) in work.volume.names(work.ino)? {
                each(DirEntry { name: name.clone(), ino: u64::from(*ino), kind: type_of(*kind) });
            }
            Ok(())
        })
    }

    fn fsyncdir(&self, _: Node, _: bool) -> Result<(), Errno> {
        self.sync()
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        self.with(|volume| Ok(volume.fs.superblock().statfs(volume.fs.shape())))
    }

    fn getxattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<Vec<u8>, Errno> {
        space(caller, name)?;
        let all = self.look(node, |work| work.volume.fs.attributes(work.ino))?;
        all.into_iter().find(|(it, _)| it == name).map(|(_, value)| value).ok_or(Errno::ENODATA)
    }

    fn setxattr(
        &self,
        caller: &Caller,
        node: Node,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        space(caller, name)?;
        let ino = ino_of(node)?;
        self.edit(|volume| {
            let is_there = volume.fs.attributes(ino)?.iter().any(|(it, _)| it == name);
            match (is_there, flags) {
                (true, libc::XATTR_CREATE) => Err(Errno::EEXIST),
                (false, libc::XATTR_REPLACE) => Err(Errno::ENODATA),
                _ => volume.set_xattr(ino, name, Some(value)),
            }
        })
    }

    fn listxattr(&self, caller: &Caller, node: Node) -> Result<Vec<Vec<u8>>, Errno> {
        let all = self.look(node, |work| work.volume.fs.attributes(work.ino))?;
        let shown = |name: &Vec<u8>| space(caller, name).is_ok();
        Ok(all.into_iter().map(|(name, _)| name).filter(shown).collect())
    }

    fn removexattr(&self, caller: &Caller, node: Node, name: &[u8]) -> Result<(), Errno> {
        space(caller, name)?;
        let ino = ino_of(node)?;
        self.edit(|volume| {
            if !volume.fs.attributes(ino)?.iter().any(|(it, _)| it == name) {
                return Err(Errno::ENODATA);
            }
            volume.set_xattr(ino, name, None)
        })
    }

    fn takes(&self, _: Node, request: u32) -> Takes {
        control::takes(request)
    }

    fn ioctl(
        &self,
        caller: &Caller,
        node: Node,
        _: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        if !control::changes(request) {
            return self.look(node, |mut work| work.tell(request, argument)).map(|()| 0);
        }
        if !self.writes() {
            return Err(Errno::EROFS);
        }
        self.work(node, |work| work.set_flags(caller, (self.owner, argument))).map(|()| 0)
    }

    fn sync(&self) -> Result<(), Errno> {
        Self::sync(self)
    }

    fn stop(&self) {
        self.finish();
    }
}

/// Errors: `EOPNOTSUPP` for a name that is in no space of Linux's, `EPERM` for one of the administrator's.
fn space(caller: &Caller, name: &[u8]) -> Result<(), Errno> {
    match SPACES.iter().find(|space| name.starts_with(space)) {
        None => Err(Errno::EOPNOTSUPP),
        Some(&b"trusted.") if !caller.is_privileged() => Err(Errno::EPERM),
        Some(_) => Ok(()),
    }
}
