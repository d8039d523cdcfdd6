//! Writing an archive: anew, beside the one that is there, which it then replaces. So there is a whole
//! archive at every moment, the old one or the new one, whatever happens. The first time the old one stays
//! as `ARCHIVE.orig`, as archivemount(1) leaves it.

mod cpio;
mod tar;
mod zip;

use std::{
    fmt,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use umvu_abi::{
    Errno,
    files::{Backing, Changes, Claim, Entry, Outside, Source},
};

use super::{
    filter::{Filter, Packer},
    units::Units,
};
use crate::vufuse::mem::{Member, Save, View};

/// How much is copied at once.
const CHUNK: usize = 1 << 18;
/// How many symbolic links may lead to the archive (`ELOOP`).
const LINKS: usize = 40;

/// The format of an archive that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Tar(Option<Filter>),
    Cpio(Option<Filter>),
    Zip,
}

/// Where an archive is and how it is written.
pub(super) struct Writer {
    pub(super) outside: Arc<dyn Outside>,
    /// Its path in the view; the last step may be a link.
    pub(super) path: Vec<u8>,
    pub(super) format: Format,
    /// How members of a zip archive were packed.
    pub(super) units: Arc<Units>,
    /// Whether the archive had something to say of its root.
    pub(super) has_root: bool,
    /// Whether the old archive is to stay.
    pub(super) backup: AtomicBool,
    /// Whether what has changed is thrown away.
    pub(super) discards: bool,
    /// The archive that is there now, so that nobody else writes it.
    pub(super) held: parking_lot::Mutex<Arc<dyn Backing>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", String::from_utf8_lossy(&self.path))
    }
}

impl Save for Writer {
    fn allows(&self, name: &[u8], kind: u32) -> Result<(), Errno> {
        let is_plain = matches!(kind, libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK);
        match self.format {
            Format::Tar(_) if kind == libc::S_IFSOCK => Err(Errno::EPERM),
            Format::Zip if !is_plain => Err(Errno::EPERM),
            Format::Zip if std::str::from_utf8(name).is_err() => Err(Errno(libc::EILSEQ)),
            _ => Ok(()),
        }
    }

    fn has_xattrs(&self) -> bool {
        matches!(self.format, Format::Tar(_))
    }

    fn save(&self, members: &[Member<'_>]) -> Result<(), Errno> {
        if self.discards {
            return Ok(());
        }
        let members = if self.has_root { members } else { members.get(1..).unwrap_or_default() };
        let told = |(errno, what): (Errno, &str)| {
            let path = String::from_utf8_lossy(&self.path);
            tracing::error!("vufusearchive: {path}: {what}: {errno}; it is as it was");
            errno
        };
        self.replace(members).map_err(told)
    }
}

/// What failed, and in doing what.
type Failure = (Errno, &'static str);

impl Writer {
    fn replace(&self, members: &[Member<'_>]) -> Result<(), Failure> {
        let caller = self.outside.caller();
        let (folder, name) = self.place().map_err(|errno| (errno, "cannot be found"))?;
        let place = name_below(&folder, &name);
        let Source { files, root } =
            self.outside.files(&folder).map_err(|errno| (errno, "cannot be found"))?;
        let old = files.lookup(&caller, root, &name).map_err(|errno| (errno, "is gone"))?;
        let aside = beside(&name, b".new");
        let _ = files.unlink(&caller, root, &aside);
        let made = files.mknod(&caller, root, &aside, libc::S_IFREG | 0o600, 0);
        let made = made.map_err(|errno| (errno, "cannot be written anew beside it"))?;
        let written = self.write(&name_below(&folder, &aside), members).and_then(|held| {
            let Entry { attributes, .. } = old;
            let mode = Changes { mode: Some(attributes.mode & 0o7777), ..Changes::default() };
            files.setattr(&caller, made.node, None, &mode)?;
            let [uid, gid] = [attributes.uid, attributes.gid].map(Some);
            if [made.attributes.uid, made.attributes.gid].map(Some) != [uid, gid] {
                // Who may write it may yet not give it away.
                let _ = files.setattr(
                    &caller,
                    made.node,
                    None,
                    &Changes { uid, gid, ..Changes::default() },
                );
                let _ = files.setattr(&caller, made.node, None, &mode);
            }
            if self.backup.load(Ordering::Relaxed) {
                let kept = beside(&name, b".orig");
                let _ = files.unlink(&caller, root, &kept);
                files.link(&caller, old.node, root, &kept).or_else(|_| {
                    files.rename(&caller, (root, &name), (root, &kept), 0).map(|()| old)
                })?;
            }
            files.rename(&caller, (root, &aside), (root, &name), 0)?;
            files.fsyncdir(root, false)?;
            Ok(held)
        });
        if written.is_err() {
            let _ = files.unlink(&caller, root, &aside);
        }
        for node in [old.node, made.node] {
            files.forget(node, 1);
        }
        *self.held.lock() = written.map_err(|errno| (errno, "cannot be written"))?;
        self.backup.store(false, Ordering::Relaxed);
        tracing::debug!("vufusearchive: {} is written", String::from_utf8_lossy(&place));
        Ok(())
    }

    /// The directory of the archive and its name there, behind all links.
    fn place(&self) -> Result<(Vec<u8>, Vec<u8>), Errno> {
        let caller = self.outside.caller();
        let mut path = self.path.clone();
        for _ in 0..LINKS {
            let slash = path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
            let (folder, name) = (path[..slash.max(1)].to_vec(), path[slash + 1..].to_vec());
            let Source { files, root } = self.outside.files(&folder)?;
            let found = files.lookup(&caller, root, &name)?;
            let target = (found.attributes.kind() == libc::S_IFLNK)
                .then(|| files.readlink(&caller, found.node));
            files.forget(found.node, 1);
            let Some(target) = target.transpose()? else { return Ok((folder, name)) };
            path = if target.starts_with(b"/") { target } else { name_below(&folder, &target) };
        }
        Err(Errno::ELOOP)
    }

    /// Writes an archive to a file that is there, and holds it. Errors: those of reading and writing.
    fn write(&self, path: &[u8], members: &[Member<'_>]) -> Result<Arc<dyn Backing>, Errno> {
        let image = self.outside.backing(path, true)?;
        image.claim(Claim::Alone)?;
        let out = Out { image: Arc::clone(&image), at: 0, end: 0 };
        self.pack(BufWriter::with_capacity(CHUNK, out), members)?;
        if self.format == Format::Zip {
            zip::complete(&image, members)?;
        }
        image.flush()?;
        Ok(image)
    }

    fn pack(&self, out: BufWriter<Out>, members: &[Member<'_>]) -> io::Result<()> {
        let mut out = match self.format {
            Format::Tar(filter) => {
                let mut packer = Packer::new(filter, out)?;
                tar::write(&mut packer, members)?;
                packer.finish()?
            }
            Format::Cpio(filter) => {
                let mut packer = Packer::new(filter, out)?;
                cpio::write(&mut packer, members)?;
                packer.finish()?
            }
            Format::Zip => zip::write(out, members, &self.units)?,
        };
        out.flush()
    }
}

/// A path below another.
fn name_below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
    [folder, slash, name].concat()
}

/// The name of a file that goes with another, as long as names may be.
fn beside(name: &[u8], more: &[u8]) -> Vec<u8> {
    [&name[..name.len().min(255 - more.len())], more].concat()
}

/// A file that is written from its beginning on, or anywhere.
struct Out {
    image: Arc<dyn Backing>,
    at: u64,
    end: u64,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.image.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(Errno::EINVAL)?;
        Ok(self.at)
    }
}

/// Copies a part of the content of a member. Errors: `EIO`, also when there is less; those of writing.
fn copy(member: &Member<'_>, from: u64, to: u64, out: &mut impl Write) -> io::Result<()> {
    let View::File(data) = member.content else { return Ok(()) };
    let mut buffer = vec![0; CHUNK.min(usize::try_from(to - from).unwrap_or(CHUNK))];
    let mut at = from;
    while at < to {
        let wanted = buffer.len().min(usize::try_from(to - at).unwrap_or(CHUNK));
        let got = data.read(at, &mut buffer[..wanted])?;
        if got == 0 {
            return Err(Errno::EIO.into());
        }
        out.write_all(&buffer[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// Says which member cannot be written, and why.
fn cannot(member: &Member<'_>, why: &str) -> io::Error {
    tracing::error!("vufusearchive: {}: {why}", String::from_utf8_lossy(&member.path));
    Errno::EINVAL.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_one_are_no_longer_than_names_may_be() {
        assert_eq!(beside(b"a.tar", b".orig"), b"a.tar.orig");
        assert_eq!(beside(&[b'x'; 255], b".orig").len(), 255);
        assert_eq!(
            (name_below(b"/", b"a"), name_below(b"/d", b"a")),
            (b"/a".to_vec(), b"/d/a".to_vec())
        );
    }
}
