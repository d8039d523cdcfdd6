//! The tree that the members of an archive make, the last of those with the same name.

use std::collections::BTreeMap;

use umvu_abi::{
    Errno,
    files::{Attributes, Node, Time},
};

use super::content::Content;

/// How many files an archive may have.
const MOST: usize = 4 << 20;
/// How long a path may be (`PATH_MAX`).
const LONGEST: usize = 4096;

/// Extended attributes: names and values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a file is besides its attributes.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Directory(BTreeMap<Box<[u8]>, usize>),
    File(Content),
    Link(Target),
    /// A device, FIFO or socket.
    Special,
}

/// Where a symbolic link leads.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Known(Vec<u8>),
    /// It is the content of the member.
    Stored(Content),
}

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) attributes: Attributes,
    pub(super) body: Body,
    pub(super) xattrs: Xattrs,
}

impl Inode {
    /// A member whose content is data, or the target of a link.
    pub(super) fn stored(mut attributes: Attributes, content: Content) -> Self {
        let body = match attributes.kind() {
            libc::S_IFDIR => Body::Directory(Default::default()),
            libc::S_IFLNK => Body::Link(Target::Stored(content)),
            libc::S_IFREG => Body::File(content),
            _ => Body::Special,
        };
        if matches!(body, Body::Directory(_) | Body::Special) {
            attributes.size = 0;
        }
        Self { attributes, body, xattrs: Vec::new() }
    }
}

/// What members have that their archive does not say about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub(super) owner: [u32; 2],
    pub(super) time: Time,
}

/// The files of an archive.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: Vec<Inode>,
    /// Hard links to what was not there yet.
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) defaults: Defaults,
    /// Whether some member is the root.
    pub(super) has_root: bool,
    /// How many members are not shown.
    pub(super) left_out: usize,
    /// How many more there are that are damaged.
    pub(super) damaged: usize,
}

/// Looks at the path of a member. None for one that cannot be shown: it leads out of the archive, or is too
/// long.
fn steps(path: &[u8]) -> Option<Vec<&[u8]>> {
    let steps = path.split(|byte| *byte == b'/').filter(|step| !matches!(*step, b"" | b"."));
    let steps: Vec<_> = steps.collect();
    let fits = |step: &&[u8]| *step != b".." && step.len() <= 255 && !step.contains(&0);
    (path.len() < LONGEST && steps.iter().all(fits)).then_some(steps)
}

impl Tree {
    /// An empty one.
    pub(super) fn new(defaults: Defaults) -> Self {
        let (inodes, pending) = (Vec::new(), Vec::new());
        let mut tree = Self { inodes, pending, defaults, has_root: false, left_out: 0, damaged: 0 };
        tree.inodes.push(tree.implied());
        tree
    }

    /// A directory that no member makes.
    fn implied(&self) -> Inode {
        let [uid, gid] = self.defaults.owner;
        let time = self.defaults.time;
        let attributes = Attributes {
            mode: libc::S_IFDIR | 0o755,
            uid,
            gid,
            atime: time,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        };
        Inode { attributes, body: Body::Directory(BTreeMap::new()), xattrs: Vec::new() }
    }

    /// A file. Errors: `EIO` for an unknown one.
    pub(super) fn get(&self, node: Node) -> Result<&Inode, Errno> {
        let index = usize::try_from(node.0).ok().and_then(|node| node.checked_sub(1));
        index.and_then(|index| self.inodes.get(index)).ok_or(Errno::EIO)
    }

    /// The names in a directory. Errors: `ENOTDIR`.
    pub(super) fn names(&self, node: Node) -> Result<&BTreeMap<Box<[u8]>, usize>, Errno> {
        match &self.get(node)?.body {
            Body::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.inodes.len()
    }

    fn push(&mut self, inode: Inode) -> Result<usize, String> {
        if self.inodes.len() >= MOST {
            return Err(format!("more than {MOST} files"));
        }
        self.inodes.push(inode);
        Ok(self.inodes.len() - 1)
    }

    fn is_directory(&self, index: usize) -> bool {
        matches!(self.inodes[index].body, Body::Directory(_))
    }

    fn child(&self, index: usize, name: &[u8]) -> Option<usize> {
        match &self.inodes[index].body {
            Body::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    fn set(&mut self, parent: usize, name: &[u8], index: usize) {
        if let Body::Directory(names) = &mut self.inodes[parent].body {
            names.insert(name.into(), index);
        }
    }

    /// The directory of a path; what is missing is made.
    fn parent(&mut self, steps: &[&[u8]]) -> Result<usize, String> {
        let mut at = 0;
        for step in steps {
            at = match self.child(at, step) {
                Some(index) if self.is_directory(index) => index,
                _ => {
                    let index = self.push(self.implied())?;
                    self.set(at, step, index);
                    index
                }
            };
        }
        Ok(at)
    }

    fn find(&self, steps: &[&[u8]]) -> Option<usize> {
        steps.iter().try_fold(0, |at, step| self.child(at, step))
    }

    /// Whether something may take the place of what is there: files do not replace directories that have
    /// something in them.
    fn may_replace(&self, index: usize) -> bool {
        !matches!(&self.inodes[index].body, Body::Directory(names) if !names.is_empty())
    }

    /// Adds a member; returns its number. Errors: there are too many.
    pub(super) fn add(&mut self, path: &[u8], inode: Inode) -> Result<Option<usize>, String> {
        let Some(steps) = steps(path) else {
            self.left_out += 1;
            return Ok(None);
        };
        let is_directory = matches!(inode.body, Body::Directory(_));
        let Some((name, above)) = steps.split_last() else {
            if is_directory {
                self.has_root = true;
                self.dress(0, inode);
            }
            return Ok(Some(0));
        };
        let parent = self.parent(above)?;
        match self.child(parent, name) {
            Some(index) if is_directory && self.is_directory(index) => {
                self.dress(index, inode);
                Ok(Some(index))
            }
            Some(index) if !self.may_replace(index) => {
                self.left_out += 1;
                Ok(None)
            }
            _ => {
                let index = self.push(inode)?;
                self.set(parent, name, index);
                Ok(Some(index))
            }
        }
    }

    /// What is said of a directory that is there.
    fn dress(&mut self, index: usize, inode: Inode) {
        self.inodes[index].attributes = inode.attributes;
        self.inodes[index].xattrs = inode.xattrs;
    }

    /// Gives a file that is there a content, for all its names.
    pub(super) fn fill(&mut self, index: usize, size: u64, content: Content) {
        self.inodes[index].attributes.size = size;
        self.inodes[index].body = Body::File(content);
    }

    /// Gives something that is there one more name.
    pub(super) fn name(&mut self, path: &[u8], index: usize) -> Result<(), String> {
        let Some(steps) = steps(path) else {
            self.left_out += 1;
            return Ok(());
        };
        let Some((name, above)) = steps.split_last() else { return Ok(()) };
        let parent = self.parent(above)?;
        match self.child(parent, name) {
            Some(there) if !self.may_replace(there) => self.left_out += 1,
            _ => self.set(parent, name, index),
        }
        Ok(())
    }

    /// Adds a hard link. Errors: there is too much.
    pub(super) fn link(&mut self, path: &[u8], to: &[u8]) -> Result<(), String> {
        let found = steps(to).and_then(|steps| self.find(&steps));
        match found {
            Some(index) if !self.is_directory(index) => self.name(path, index),
            _ if self.pending.len() < MOST => {
                self.pending.push((path.to_vec(), to.to_vec()));
                Ok(())
            }
            _ => Err(format!("more than {MOST} links")),
        }
    }

    /// Every member was added: links to later ones are made, and links counted.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for (path, to) in std::mem::take(&mut self.pending) {
            match steps(&to).and_then(|steps| self.find(&steps)) {
                Some(index) if !self.is_directory(index) => self.name(&path, index)?,
                _ => self.left_out += 1,
            }
        }
        let mut counts = vec![0_u32; self.inodes.len()];
        counts[0] = 2;
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let Body::Directory(names) = &self.inodes[at].body else { continue };
            for index in names.values() {
                if self.is_directory(*index) {
                    open.push(*index);
                    counts[*index] = 2;
                    counts[at] += 1;
                } else {
                    counts[*index] += 1;
                }
            }
        }
        for (index, inode) in self.inodes.iter_mut().enumerate() {
            inode.attributes.nlink = counts[index];
            inode.attributes.ino = 1 + index as u64;
            let data = match &inode.body {
                Body::File(content) => content.runs.iter().map(|run| run.length).sum(),
                _ => 0,
            };
            inode.attributes.blocks = data.div_ceil(512);
            inode.attributes.blksize = 4096;
        }
        Ok(())
    }
}
