//! The guest side of a call: memory by `/proc/TID/mem`, descriptors by `/proc/TID/fd` and
//! pidfd_getfd(2). The descriptors for all of them are kept from one call to the next.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::FileExt},
    },
    path::Path,
    sync::OnceLock,
};

use nix::{
    fcntl::{AtFlags, OFlag, open, readlinkat},
    sys::{
        stat::{Mode, fstatat},
        uio::{RemoteIoVec, process_vm_writev},
    },
    unistd::Pid,
};
use umvu_abi::{Errno, GuestAddr, GuestFd, Tid};

use crate::{
    api::{FileIdentity, Guest},
    sys,
    turn::Turn,
};

/// How much of a string is read at once.
const STRING_CHUNK: usize = 256;

/// The memory of one guest process. It stays that of the same program: after an exec, or once
/// the process is gone, accesses fail and never reach another one.
#[derive(Debug)]
pub(crate) struct Memory(File);

impl Memory {
    /// Opens the memory of a thread. Errors: those of open(2) on `/proc/TID/mem`.
    pub(crate) fn open(tid: Tid) -> io::Result<Self> {
        let path = format!("/proc/{tid}/mem");
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// Reads all of `buffer`. Errors: `EFAULT`.
    pub(crate) fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(buffer, from).map_err(|_| Errno::EFAULT)
    }

    /// Reads at least one byte. Errors: `EFAULT`.
    pub(crate) fn read_some(&self, from: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.0.read_at(buffer, from) {
            Ok(count) if count > 0 || buffer.is_empty() => Ok(count),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Writes all of `data`. Errors: `EFAULT`.
    pub(crate) fn write(&self, to: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write_all_at(data, to).map_err(|_| Errno::EFAULT)
    }
}

/// One guest thread.
#[derive(Debug)]
pub(crate) struct TaskGuest {
    pub(crate) tid: Tid,
    group: i32,
    memory: OnceLock<Memory>,
    descriptors: OnceLock<OwnedFd>,
    process: OnceLock<OwnedFd>,
    /// Whose call is decided now.
    pub(crate) turn: Turn,
}

impl TaskGuest {
    pub(crate) fn new(tid: Tid, group: i32) -> Self {
        Self {
            tid,
            group,
            memory: OnceLock::new(),
            descriptors: OnceLock::new(),
            process: OnceLock::new(),
            turn: Turn::default(),
        }
    }

    /// The thread group.
    pub(crate) fn group(&self) -> i32 {
        self.group
    }

    pub(crate) fn memory(&self) -> Result<&Memory, Errno> {
        if let Some(memory) = self.memory.get() {
            return Ok(memory);
        }
        let memory = Memory::open(self.tid).map_err(|error| scarce(error, Errno::EFAULT))?;
        Ok(self.memory.get_or_init(|| memory))
    }

    /// Performs the writes of an answer, several in one call. Errors: `EFAULT`.
    pub(crate) fn write_all(&self, writes: &[(GuestAddr, Vec<u8>)]) -> Result<(), Errno> {
        if writes.len() > 1 {
            let from: Vec<_> = writes.iter().map(|(_, data)| IoSlice::new(data)).collect();
            let place = |(at, data): &(GuestAddr, Vec<u8>)| {
                usize::try_from(at.0).map(|base| RemoteIoVec { base, len: data.len() })
            };
            let to: Result<Vec<_>, _> = writes.iter().map(place).collect();
            let all = writes.iter().map(|(_, data)| data.len()).sum();
            let group = Pid::from_raw(self.group);
            if to.is_ok_and(|to| process_vm_writev(group, &from, &to) == Ok(all)) {
                return Ok(());
            }
        }
        writes.iter().try_for_each(|(at, data)| self.write(*at, data))
    }

    /// Whether a descriptor is closed on exec (proc_pid_fdinfo(5)). Errors: `EBADF`.
    pub(crate) fn closes_on_exec(&self, fd: GuestFd) -> Result<bool, Errno> {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.tid, fd.0))
            .map_err(|error| scarce(error, Errno::EBADF))?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.map(|flags| flags & libc::O_CLOEXEC != 0).ok_or(Errno::EBADF)
    }

    fn descriptors(&self) -> Result<&OwnedFd, Errno> {
        if let Some(directory) = self.descriptors.get() {
            return Ok(directory);
        }
        let path = format!("/proc/{}/fd", self.tid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path.as_str(), flags, Mode::empty())
            .map_err(|error| scarce(error.into(), Errno::ESRCH))?;
        Ok(self.descriptors.get_or_init(|| directory))
    }
}

/// What the guest is told: of a lack of our own descriptors or memory that the system has no more,
/// of anything else `usual`.
fn scarce(error: io::Error, usual: Errno) -> Errno {
    match Errno::from(error) {
        Errno::EMFILE | Errno::ENFILE => Errno::ENFILE,
        Errno::ENOMEM => Errno::ENOMEM,
        _ => usual,
    }
}

impl Guest for TaskGuest {
    fn tid(&self) -> Tid {
        self.tid
    }

    fn read(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<(), Errno> {
        self.memory()?.read(from.0, buffer)
    }

    fn read_some(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.memory()?.read_some(from.0, buffer)
    }

    fn write(&self, to: GuestAddr, data: &[u8]) -> Result<(), Errno> {
        self.memory()?.write(to.0, data)
    }

    fn read_string(&self, from: GuestAddr, limit: usize) -> Result<Vec<u8>, Errno> {
        let memory = self.memory()?;
        let mut text = Vec::new();
        let mut chunk = [0; STRING_CHUNK];
        while text.len() < limit {
            let got = memory.read_some(from.0.wrapping_add(text.len() as u64), &mut chunk)?;
            if let Some(end) = chunk[..got].iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return if text.len() < limit { Ok(text) } else { Err(Errno::ENAMETOOLONG) };
            }
            text.extend_from_slice(&chunk[..got]);
        }
        Err(Errno::ENAMETOOLONG)
    }

    fn fetch_fd(&self, fd: GuestFd) -> Result<OwnedFd, Errno> {
        if self.process.get().is_none() {
            let process =
                sys::pidfd_open(self.group).map_err(|error| scarce(error, Errno::ESRCH))?;
            let _ = self.process.set(process);
        }
        let process = self.process.get().ok_or(Errno::ESRCH)?;
        sys::pidfd_getfd(process, fd.0).map_err(|error| scarce(error, Errno::EBADF))
    }

    fn identify_fd(&self, fd: GuestFd) -> Result<FileIdentity, Errno> {
        let mut name = [0; 12];
        let name = decimal(fd.0, &mut name);
        let stat = fstatat(self.descriptors()?.as_fd(), name, AtFlags::empty())
            .map_err(|_| Errno::EBADF)?;
        Ok(FileIdentity { dev: stat.st_dev, ino: stat.st_ino, mode: stat.st_mode })
    }

    fn fd_link(&self, fd: GuestFd) -> Result<Vec<u8>, Errno> {
        let mut name = [0; 12];
        let name = decimal(fd.0, &mut name);
        let link = readlinkat(self.descriptors()?.as_fd(), name).map_err(|_| Errno::EBADF)?;
        Ok(link.into_vec())
    }

    fn cwd_link(&self) -> Result<Vec<u8>, Errno> {
        let path = format!("/proc/{}/cwd", self.tid);
        std::fs::read_link(path).map(|link| link.into_os_string().into_vec()).map_err(Errno::from)
    }

    fn signal(&self, signal: i32) {
        sys::tgkill(self.group, self.tid.0, signal);
    }
}

/// How many seccomp filters a process has beyond those that we run under ourselves.
pub(crate) fn filters_of(pid: i32) -> u32 {
    let count = |status: &Path| {
        let text = std::fs::read(status).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?;
        line.trim().parse::<u32>().ok()
    };
    let theirs = count(Path::new(&format!("/proc/{pid}/status"))).unwrap_or(0);
    theirs.saturating_sub(count(Path::new("/proc/self/status")).unwrap_or(0))
}

/// Writes a number in decimal without allocating.
fn decimal(number: i32, buffer: &mut [u8; 12]) -> &str {
    let mut left = number.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or("-1")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 4096, i32::MAX, -1, i32::MIN] {
            assert_eq!(decimal(number, &mut [0; 12]), number.to_string());
        }
    }

    #[test]
    fn close_on_exec_can_be_told() {
        let guest =
            TaskGuest::new(Tid(nix::unistd::gettid().as_raw()), nix::unistd::getpid().as_raw());
        let closed = File::open("/dev/null").expect("is there");
        let kept = nix::unistd::dup(&closed).expect("room");
        let tell = |fd: i32| guest.closes_on_exec(GuestFd(fd));
        assert_eq!(tell(closed.as_raw_fd()), Ok(true));
        assert_eq!(tell(kept.as_raw_fd()), Ok(false));
        assert_eq!(tell(-1), Err(Errno::EBADF));
    }

    #[test]
    fn our_own_strings_can_be_read() {
        let guest =
            TaskGuest::new(Tid(nix::unistd::gettid().as_raw()), nix::unistd::getpid().as_raw());
        let text = c"hello";
        let at = GuestAddr(text.as_ptr() as u64);
        assert_eq!(guest.read_string(at, 4096).expect("readable"), b"hello");
        assert_eq!(guest.read_string(at, 3), Err(Errno::ENAMETOOLONG));
        assert_eq!(guest.read_string(GuestAddr(8), 100), Err(Errno::EFAULT));
    }
}
