//! The units of an archive: what can only be unpacked as a whole. That is the archive itself when it is
//! compressed, a member of a zip archive, a block of a 7z archive. A unit is unpacked into a file without a
//! name when something of it is read, and stays for as long as there is room.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;
use umvu_abi::{Errno, files::Backing};

use super::{
    filter,
    input::{Input, Place},
    seven::Seven,
    zip::Zip,
};
use crate::vufuse::lru::Lru;

/// How many units stay at most.
const MOST: u64 = 64;

/// What units are of.
#[derive(Debug)]
pub(super) enum Packed {
    /// Nothing has to be unpacked.
    Plain,
    /// All is one stream.
    Stream,
    Zip(Zip),
    Seven(Box<Seven>),
}

/// The units of an archive.
#[derive(Debug)]
pub(super) struct Units {
    image: Arc<dyn Backing>,
    pub(super) packed: Packed,
    /// How many bytes may be unpacked at once.
    limit: u64,
    kept: Mutex<Lru<usize, Arc<File>>>,
    /// Who has this unpacks.
    turn: Mutex<()>,
}

/// A file for what is unpacked, with the rest of its room.
pub(super) struct Sink {
    file: BufWriter<File>,
    rest: u64,
    limit: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len() as u64;
        self.rest = self.rest.checked_sub(count).ok_or_else(|| {
            let reason = format!(
                "needs more than {} MiB unpacked; give more with -o size=",
                self.limit >> 20
            );
            io::Error::new(io::ErrorKind::StorageFull, reason)
        })?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file without a name, on a disk where possible.
fn nameless() -> io::Result<File> {
    if let Some(folder) = env::var_os("TMPDIR").filter(|folder| Path::new(folder).is_absolute()) {
        return tempfile::tempfile_in(folder);
    }
    tempfile::tempfile_in("/var/tmp").or_else(|_| tempfile::tempfile())
}

impl Units {
    /// Of an image, with a limit in bytes.
    pub(super) fn new(image: Arc<dyn Backing>, packed: Packed, limit: u64) -> Self {
        let kept = Mutex::new(Lru::new(usize::try_from(limit).unwrap_or(usize::MAX)));
        Self { image, packed, limit, kept, turn: Mutex::default() }
    }

    /// The image as it is.
    pub(super) fn image(&self) -> Place {
        Place::Image(Arc::clone(&self.image))
    }

    /// How a unit is packed, where each is for itself.
    pub(super) fn method(&self, unit: usize) -> Option<zip::CompressionMethod> {
        match &self.packed {
            Packed::Zip(zip) => zip.method(unit),
            _ => None,
        }
    }

    /// Whether reading may take its time.
    pub(super) fn may_wait(&self) -> bool {
        self.image.may_wait() || !matches!(self.packed, Packed::Plain)
    }

    /// Where a unit is, and where it begins there. Errors: `EIO`, `ENOSPC`, `EACCES` when it is encrypted.
    pub(super) fn get(&self, unit: usize) -> Result<(Place, u64), Errno> {
        if let Packed::Zip(zip) = &self.packed
            && let Some(start) = zip.stored(unit)
        {
            return Ok((self.image(), start));
        }
        let unpacked = self.unpacked(unit).map_err(|error| match error.kind() {
            // The mount has told it.
            io::ErrorKind::PermissionDenied => Errno::EACCES,
            kind => {
                tracing::warn!("vufusearchive: {error}");
                if kind == io::ErrorKind::StorageFull { Errno::ENOSPC } else { Errno::EIO }
            }
        })?;
        Ok((Place::Unpacked(unpacked), 0))
    }

    /// Unpacks a unit, unless that was done. Errors: why that fails.
    pub(super) fn unpacked(&self, unit: usize) -> io::Result<Arc<File>> {
        if let Some(file) = self.kept.lock().get(&unit) {
            return Ok(file);
        }
        let _turn = self.turn.lock();
        if let Some(file) = self.kept.lock().get(&unit) {
            return Ok(file);
        }
        let file = BufWriter::with_capacity(1 << 18, nameless()?);
        let mut sink = Sink { file, rest: self.limit, limit: self.limit };
        match &self.packed {
            Packed::Plain => {}
            Packed::Stream => {
                let input = Input::new(self.image())?;
                io::copy(&mut filter::unpacked(input)?, &mut sink)?;
            }
            Packed::Zip(zip) => zip.unpack(unit, &mut sink)?,
            Packed::Seven(seven) => seven.unpack(unit, &mut sink)?,
        }
        let size = self.limit - sink.rest;
        let file = sink.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let file = Arc::new(file);
        let weight = usize::try_from(size.max(self.limit / MOST)).unwrap_or(usize::MAX);
        self.kept.lock().put(unit, Arc::clone(&file), weight);
        Ok(file)
    }
}
