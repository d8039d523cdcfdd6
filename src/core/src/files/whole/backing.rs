//! A file or device that holds the data of a module. Claims on what is a file of the host, or is kept
//! in one, are locks of flock(2): they hold between sessions too.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use umvu_abi::{
    Errno, Tid,
    files::{Backing, Caller, Claim, Data, Handle, Opened, READ, Seek, WRITE},
};

use crate::{
    Core,
    files::{Inode, access, claims, mounted::Footing},
    paths::reach::reach,
};

/// A file of the host, or the kept content of a virtual one.
#[derive(Debug)]
struct Plain {
    file: File,
    /// The virtual file whose content it is.
    inode: Option<Arc<Inode>>,
    _footing: Option<Footing>,
}

impl Backing for Plain {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut got = 0;
        while got < buffer.len() {
            match self.file.read_at(&mut buffer[got..], offset + got as u64)? {
                0 => break,
                count => got += count,
            }
        }
        Ok(got)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        Ok(self.file.write_all_at(data, offset)?)
    }

    fn size(&self) -> Result<u64, Errno> {
        let mut file = &self.file;
        let found = file.metadata()?;
        // A block device has its end where lseek(2) says.
        Ok(if found.is_file() {
            found.len()
        } else {
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?
        })
    }

    fn flush(&self) -> Result<(), Errno> {
        match &self.inode {
            Some(inode) => inode.content.lock().write_back(inode),
            None => Ok(self.file.sync_data()?),
        }
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |value: u64| i64::try_from(value).map_err(|_| Errno::EINVAL);
        fallocate(&self.file, flags, number(offset)?, number(length)?)
            .map_err(|errno| std::io::Error::from(errno).into())
    }

    fn claim(&self, claim: Claim) -> Result<(), Errno> {
        claims::lock(&self.file, claim)
    }

    fn may_wait(&self) -> bool {
        self.inode.as_ref().is_some_and(|inode| inode.files.fs.traits().may_wait)
    }
}

/// A virtual file whose data is direct: a device, a file that is too large to be kept.
#[derive(Debug)]
struct Direct {
    inode: Arc<Inode>,
    handle: Handle,
    claim: OnceLock<Claim>,
    _footing: Footing,
}

impl Backing for Direct {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut got = 0;
        while got < buffer.len() {
            let at = offset + got as u64;
            match self.inode.files.fs.read(self.inode.node, self.handle, at, &mut buffer[got..])? {
                0 => break,
                count => got += count,
            }
        }
        Ok(got)
    }

    fn write_at(&self, mut offset: u64, mut data: &[u8]) -> Result<(), Errno> {
        while !data.is_empty() {
            let wrote = self.inode.files.fs.write(self.inode.node, self.handle, offset, data)?;
            if wrote == 0 {
                return Err(Errno::ENOSPC);
            }
            offset += wrote as u64;
            data = data.get(wrote..).unwrap_or_default();
        }
        Ok(())
    }

    fn size(&self) -> Result<u64, Errno> {
        let looks = self.inode.attributes(&Caller::root())?;
        if looks.is_regular() {
            return Ok(looks.size);
        }
        self.inode.files.fs.seek(self.inode.node, self.handle, 0, Seek::Hole)
    }

    fn flush(&self) -> Result<(), Errno> {
        self.inode.files.fs.fsync(self.inode.node, self.handle, true)
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.inode.files.fs.fallocate(self.inode.node, self.handle, mode, offset, length)
    }

    fn claim(&self, claim: Claim) -> Result<(), Errno> {
        self.inode.claims.add(claim)?;
        self.claim.set(claim).map_err(|_| {
            self.inode.claims.remove(claim);
            Errno::EBUSY
        })
    }

    fn may_wait(&self) -> bool {
        self.inode.files.fs.traits().may_wait
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.get() {
            self.inode.claims.remove(*claim);
        }
        self.inode.files.fs.release(self.inode.node, self.handle);
    }
}

/// A file or block device of the host. Errors: those of open(2), `EISDIR`.
pub(super) fn of_host(path: &[u8], writable: bool) -> Result<Arc<dyn Backing>, Errno> {
    let file = OpenOptions::new().read(true).write(writable).open(reach(path)?.path())?;
    if file.metadata()?.is_dir() {
        return Err(Errno::EISDIR);
    }
    Ok(of_file(file))
}

/// A file or block device of the host that is open.
pub(super) fn of_file(file: File) -> Arc<dyn Backing> {
    Arc::new(Plain { file, inode: None, _footing: None })
}

/// A file or device of a mounted file system. Errors: those of open(2).
pub(super) fn of_inode(
    core: &Core,
    inode: &Arc<Inode>,
    tid: Tid,
    writable: bool,
) -> Result<Arc<dyn Backing>, Errno> {
    let caller = if tid.0 == 0 { Caller::root() } else { core.caller(tid) };
    let (flags, wanted) =
        if writable { (libc::O_RDWR, READ | WRITE) } else { (libc::O_RDONLY, READ) };
    if inode.is_directory()? {
        return Err(Errno::EISDIR);
    }
    access::check(inode, &caller, wanted)?;
    let opened = inode.files.ask()?.open(&caller, inode.node, flags)?;
    match opened.data {
        Data::Cached { keep } => {
            let opened = Opened { handle: opened.handle, data: Data::Direct };
            let flags = OFlag::from_bits_retain(flags);
            let mut content = inode.content.lock();
            let file = content.serve(inode, &caller, &opened, keep, flags)?;
            Ok(Arc::new(Plain {
                file: File::from(file),
                inode: Some(Arc::clone(inode)),
                _footing: Some(Footing::on(&inode.files)),
            }))
        }
        Data::Host(file) | Data::HostDressed(file) => Ok(of_file(File::from(file))),
        Data::HostPath(path) => of_host(&path, writable),
        Data::Same(inner) => {
            let inner = inner.downcast::<Inode>().map_err(|_| Errno::EIO)?;
            of_inode(core, &inner, Tid(0), writable)
        }
        Data::Direct => Ok(Arc::new(Direct {
            inode: Arc::clone(inode),
            handle: opened.handle,
            claim: OnceLock::new(),
            _footing: Footing::on(&inode.files),
        })),
    }
}
