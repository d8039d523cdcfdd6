//! One file of the tree.

use std::collections::BTreeMap;

use umvu_abi::files::{Attributes, Changes, SetTime, Time};

use super::{Names, data::Data};

/// What kind of a file it is, with what only that kind has.
#[derive(Debug)]
pub(super) enum Body {
    File(Data),
    Directory(Names),
    Link(Vec<u8>),
    /// A FIFO, a socket, a device with its number.
    Special(u64),
}

/// A file.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) mode: u32,
    owner: [u32; 2],
    pub(super) links: u32,
    /// How often it was found and not forgotten.
    pub(super) references: u64,
    times: [Time; 3],
    born: Time,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) body: Body,
}

impl Inode {
    pub(super) fn new(mode: u32, owner: [u32; 2], body: Body) -> Self {
        let now = Time::now();
        let xattrs = BTreeMap::new();
        Self { mode, owner, links: 0, references: 0, times: [now; 3], born: now, xattrs, body }
    }

    /// One that was there before.
    pub(super) fn known(
        attributes: &Attributes,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
        body: Body,
    ) -> Self {
        let Attributes { mode, uid, gid, nlink, atime, mtime, ctime, btime, .. } = *attributes;
        Self {
            mode,
            owner: [uid, gid],
            links: nlink,
            references: 0,
            times: [atime, mtime, ctime],
            born: btime.unwrap_or(ctime),
            xattrs: xattrs.into_iter().collect(),
            body,
        }
    }

    pub(super) fn directory(mode: u32, owner: [u32; 2]) -> Self {
        Self::new(mode, owner, Body::Directory(Names::new()))
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    pub(super) fn gid(&self) -> u32 {
        self.owner[1]
    }

    pub(super) fn attributes(&self, node: u64) -> Attributes {
        let (size, blocks, rdev) = match &self.body {
            Body::File(data) => (data.size(), data.blocks(), 0),
            Body::Directory(names) => (20 * (names.len() as u64 + 2), 0, 0),
            Body::Link(target) => (target.len() as u64, 0, 0),
            Body::Special(rdev) => (0, 0, *rdev),
        };
        let [atime, mtime, ctime] = self.times;
        Attributes {
            dev: None,
            ino: node,
            mode: self.mode,
            nlink: self.links,
            uid: self.owner[0],
            gid: self.owner[1],
            rdev,
            size,
            blocks,
            blksize: 4096,
            atime,
            mtime,
            ctime,
            btime: Some(self.born),
        }
    }

    /// Its looks have changed.
    pub(super) fn touched(&mut self) {
        self.times[2] = Time::now();
    }

    /// It was read.
    pub(super) fn accessed(&mut self, time: Time) {
        self.times[0] = time;
    }

    /// Its content has changed.
    pub(super) fn written(&mut self) {
        let now = Time::now();
        (self.times[1], self.times[2]) = (now, now);
    }

    /// Changes everything but the size.
    pub(super) fn change(&mut self, changes: &Changes) {
        if let Some(mode) = changes.mode {
            self.mode = self.mode & libc::S_IFMT | mode & 0o7777;
        }
        self.owner = [changes.uid.unwrap_or(self.owner[0]), changes.gid.unwrap_or(self.owner[1])];
        let set = |now: Time, change: Option<SetTime>| change.map_or(now, SetTime::resolve);
        self.times[0] = set(self.times[0], changes.atime);
        self.times[1] = set(self.times[1], changes.mtime);
        self.times[2] = changes.ctime.unwrap_or_else(Time::now);
    }
}
