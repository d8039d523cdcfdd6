//! An interpreter that is looked up when its format is registered, and kept (flag `F`).

use std::{
    fs::{self, File},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
    path::PathBuf,
    sync::Arc,
};

use rustix::fs::MemfdFlags;
use umvu_abi::{
    Errno,
    files::{Caller, Outside},
};

/// The longest file of a mounted file system that is kept.
const LONGEST: u64 = 256 << 20;
/// How much of it is copied at once.
const PART: usize = 1 << 20;

/// The file, whatever happens to its name.
#[derive(Debug)]
pub(super) struct Fixed {
    file: File,
    /// Where the host has it, if it is one of the host's.
    host: Option<PathBuf>,
}

impl Fixed {
    /// Opens an interpreter; of a mounted file system it is copied. Errors: `EACCES` for what cannot be executed, those
    /// of open(2).
    pub(super) fn open(outside: &Arc<dyn Outside>, path: &[u8]) -> Result<Self, Errno> {
        let outside = outside.current().unwrap_or_else(|| Arc::clone(outside));
        let found = outside.files(path)?;
        let looks = found.files.getattr(&Caller::root(), found.root, None)?;
        if !looks.is_regular() || looks.mode & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        if let Some(host) = found.files.host_path(found.root) {
            let host = PathBuf::from(std::ffi::OsString::from_vec(host));
            return Ok(Self { file: File::open(&host)?, host: Some(host) });
        }
        let backing = outside.backing(path, false)?;
        let size = backing.size()?;
        if size > LONGEST {
            return Err(Errno::EFBIG);
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC);
        let mut file = File::from(memory.map_err(std::io::Error::from)?);
        let mut part = vec![0; PART];
        let mut at = 0;
        loop {
            match backing.read_at(at, &mut part)? {
                0 => return Ok(Self { file, host: None }),
                got => {
                    file.write_all(&part[..got])?;
                    at += got as u64;
                }
            }
        }
    }

    /// A path by which the kernel finds it: that of the host as long as it leads there.
    pub(super) fn path(&self) -> Vec<u8> {
        let is_there = |host: &&PathBuf| {
            let found = fs::metadata(host).map(|found| (found.dev(), found.ino())).ok();
            found.is_some() && found == self.file.metadata().map(|own| (own.dev(), own.ino())).ok()
        };
        match self.host.as_ref().filter(is_there) {
            Some(host) => host.as_os_str().as_bytes().to_vec(),
            None => {
                let number = self.file.as_raw_fd();
                format!("/proc/{}/fd/{number}", std::process::id()).into_bytes()
            }
        }
    }
}
