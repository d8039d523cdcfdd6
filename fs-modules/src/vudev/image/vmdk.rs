//! VMDK, the images of VMware: a text that lists pieces of a disk, which are plain files or sparse ones.
//!
//! A sparse piece ([`sparse`]) may hold the text itself; then it is the only one.

mod sparse;
mod stream;

use std::sync::Arc;

use umvu_abi::{Errno, files::Backing, module::MountError};

use self::{sparse::Sparse, stream::Stream};
use super::{Surroundings, blocks::Mapped};

const SECTOR: u64 = 512;
/// The most that is read of the text.
const TEXT_LIMIT: u64 = 64 << 10;
const PIECES_LIMIT: usize = 1024;

/// Whether a file begins as the text of an image does.
pub(super) fn is_descriptor(start: &[u8]) -> bool {
    const SIGN: &[u8] = b"# Disk DescriptorFile";
    start.get(..SIGN.len()).is_some_and(|start| start.eq_ignore_ascii_case(SIGN))
}

/// Opens an image. Errors: `EOPNOTSUPP`, `EROFS` for one that can only be read, `EUCLEAN`, `EIO`, those of
/// opening its pieces and what it stands on.
pub(super) fn open(
    image: Arc<dyn Backing>,
    around: &Surroundings<'_>,
) -> Result<Arc<dyn Backing>, MountError> {
    opened(image, around).map(|(disk, _)| disk)
}

/// As [`open`], with the text of the image.
fn opened(
    image: Arc<dyn Backing>,
    around: &Surroundings<'_>,
) -> Result<(Arc<dyn Backing>, String), MountError> {
    let mut header = [0; sparse::HEADER];
    image.read_at(0, &mut header)?;
    if header.starts_with(b"KDMV") && sparse::is_stream(&header) {
        if around.writable {
            let reason = "a VMDK image for streams can only be read: mount with -o ro";
            return Err(MountError::new(Errno::EROFS, reason));
        }
        let (stream, text) = Stream::open(image, &header)?;
        return Ok((Arc::new(stream), text));
    }
    if header.starts_with(b"KDMV") {
        let (sparse, text) = Sparse::open(image)?;
        let sparse = match parent(&text, around)? {
            Some(disk) => sparse.over(disk),
            None => sparse,
        };
        return Ok((Arc::new(Mapped::new(sparse)), text));
    }
    let length = usize::try_from(image.size()?.min(TEXT_LIMIT)).unwrap_or(0);
    let mut text = vec![0; length];
    image.read_at(0, &mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if value(&text, "parentCID").is_some_and(|id| !is_whole(id)) {
        let reason = "a VMDK snapshot in several files: convert it (qemu-img convert)";
        return Err(MountError::new(Errno::EOPNOTSUPP, reason));
    }
    Ok((Arc::new(Pieces::open(&text, around)?), text))
}

/// A value in a text.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.trim().strip_prefix(key)?.trim_start().strip_prefix('=');
    text.lines().find_map(value).map(|value| value.trim().trim_matches('"'))
}

/// Whether an image stands on no other.
fn is_whole(id: &str) -> bool {
    id.eq_ignore_ascii_case("ffffffff")
}

/// The disk that an image has the differences to. Errors: `EUCLEAN` when that was changed since.
fn parent(text: &str, around: &Surroundings<'_>) -> Result<Option<Arc<dyn Backing>>, MountError> {
    let Some(id) = value(text, "parentCID").filter(|id| !is_whole(id)) else { return Ok(None) };
    let name = value(text, "parentFileNameHint").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        let reason = "a VMDK snapshot that does not say of what: convert it (qemu-img convert)";
        MountError::new(Errno::EOPNOTSUPP, reason)
    })?;
    let (image, around) = around.file(name.as_bytes(), false)?;
    let around = Surroundings { writable: false, ..around };
    let (disk, text) = opened(image, &around)?;
    if !value(&text, "CID").is_some_and(|found| found.eq_ignore_ascii_case(id)) {
        let reason =
            format!("{name}, of which the VMDK image has the differences, was changed since");
        return Err(MountError::new(Errno::EUCLEAN, reason));
    }
    Ok(Some(disk))
}

#[derive(Debug)]
struct Piece {
    /// Where in the disk, and how much of it.
    start: u64,
    size: u64,
    /// None: it reads as zeros.
    data: Option<Arc<dyn Backing>>,
    /// Where in the file.
    offset: u64,
}

/// A disk in several files.
#[derive(Debug)]
struct Pieces {
    pieces: Vec<Piece>,
    size: u64,
}

impl Pieces {
    fn open(text: &str, around: &Surroundings<'_>) -> Result<Self, MountError> {
        let invalid = |line: &str| {
            MountError::new(
                Errno::EUCLEAN,
                format!("the text of the VMDK image is damaged: {line}"),
            )
        };
        let (mut pieces, mut size) = (Vec::new(), 0_u64);
        for line in text.lines().map(str::trim) {
            let Some((access, rest)) = line.split_once(' ') else { continue };
            if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
                continue;
            }
            let (sectors, rest) = rest.trim().split_once(' ').ok_or_else(|| invalid(line))?;
            let (kind, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
            let mut quoted = rest.split('"');
            let (name, offset) = (quoted.nth(1), quoted.next().unwrap_or_default().trim());
            let length: Option<u64> = sectors.parse().ok();
            let length = length.and_then(|sectors| sectors.checked_mul(SECTOR));
            let length = length.ok_or_else(|| invalid(line))?;
            let offset = match offset {
                "" => Some(0),
                number => number.parse::<u64>().ok().and_then(|at| at.checked_mul(SECTOR)),
            };
            let offset = offset.ok_or_else(|| invalid(line))?;
            let file = || {
                let name = name.ok_or_else(|| invalid(line))?;
                around.file(name.as_bytes(), around.writable && access == "RW")
            };
            let data = match kind {
                "ZERO" => None,
                "FLAT" => Some(file()?.0),
                "SPARSE" => {
                    let opened: Arc<dyn Backing> =
                        Arc::new(Mapped::new(Sparse::open(file()?.0)?.0));
                    Some(opened)
                }
                other => {
                    let reason =
                        format!("VMDK pieces of type {other}: convert it (qemu-img convert)");
                    return Err(MountError::new(Errno::EOPNOTSUPP, reason));
                }
            };
            pieces.push(Piece { start: size, size: length, data, offset });
            size = size.checked_add(length).ok_or_else(|| invalid(line))?;
            if pieces.len() > PIECES_LIMIT {
                return Err(invalid("too many pieces"));
            }
        }
        if pieces.is_empty() { Err(invalid("no piece")) } else { Ok(Self { pieces, size }) }
    }

    /// Does something with each piece of a range: its index, the place in it and the place in the
    /// range.
    fn each(
        &self,
        offset: u64,
        length: usize,
        mut act: impl FnMut(&Piece, u64, std::ops::Range<usize>) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        for piece in &self.pieces {
            let at = offset + done as u64;
            if done == length || !(piece.start..piece.start + piece.size).contains(&at) {
                continue;
            }
            let inside = at - piece.start;
            let left = usize::try_from(piece.size - inside).unwrap_or(usize::MAX);
            let count = left.min(length - done);
            act(piece, piece.offset + inside, done..done + count)?;
            done += count;
        }
        Ok(done)
    }
}

impl Backing for Pieces {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.each(offset, buffer.len(), |piece, at, range| {
            let into = &mut buffer[range];
            let got = piece.data.as_ref().map_or(Ok(0), |data| data.read_at(at, into))?;
            into[got..].fill(0);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let done = self.each(offset, data.len(), |piece, at, range| {
            piece.data.as_ref().ok_or(Errno::EIO)?.write_at(at, &data[range])
        })?;
        if done == data.len() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.size)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.pieces.iter().filter_map(|piece| piece.data.as_ref()).try_for_each(|data| data.flush())
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        let done = self.each(offset, length, |piece, at, range| {
            piece.data.as_ref().map_or(Ok(()), |data| data.discard(at, range.len() as u64))
        });
        done.map(|_| ())
    }

    fn may_wait(&self) -> bool {
        self.pieces.iter().filter_map(|piece| piece.data.as_ref()).any(|data| data.may_wait())
    }
}
