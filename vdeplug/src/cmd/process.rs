//! Starts a command that is nobody's child, and ends it.
//!
//! A direct child would be noticed by whoever waits for all children of this process, so the
//! command's parent leaves at once, as that of a daemon does. It is known by a pidfd: a process
//! number might have been given to another process by the time it is used.
#![expect(unsafe_code, reason = "fork, exec and pidfds have no safe wrappers")]

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
    unistd::pipe2,
};

/// `PIDFD_SIGNAL_PROCESS_GROUP` of Linux 6.9: to all processes of the session's first group.
const WHOLE_GROUP: u32 = 1 << 2;
const LAST_SIGNAL: i32 = 64;

/// A command that runs, and its standard streams, which do not block.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl Drop for Process {
    fn drop(&mut self) {
        for flags in [WHOLE_GROUP, 0] {
            let (descriptor, nothing) = (self.0.as_raw_fd(), ptr::null::<libc::siginfo_t>());
            // SAFETY: the call takes integers and a null pointer, which it allows.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    descriptor,
                    libc::SIGTERM,
                    nothing,
                    flags,
                )
            };
            // Older kernels do not know the flag.
            if done == 0 || Errno::last() != Errno::EINVAL {
                break;
            }
        }
    }
}

/// Runs the program at `path` with `words`, the first of which is its name.
///
/// # Errors
/// Those of fork(2) and execve(2); `EMFILE` and the like.
pub(crate) fn start(path: &Path, words: &[String]) -> io::Result<Started> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let words: Vec<_> = words.iter().map(|w| CString::new(w.as_str())).collect::<Result<_, _>>()?;
    let arguments: Vec<_> =
        words.iter().map(|word| word.as_ptr()).chain([ptr::null::<c_char>()]).collect();
    let (their_input, input) = pipe2(OFlag::O_CLOEXEC)?;
    let (output, their_output) = pipe2(OFlag::O_CLOEXEC)?;
    for ours in [&input, &output] {
        fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (told, telling) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let theirs = [above_the_standard(their_input)?, above_the_standard(their_output)?];
    let telling = above_the_standard(telling)?;
    let child = Child {
        path: &path,
        arguments: &arguments,
        input: theirs[0].as_raw_fd(),
        output: theirs[1].as_raw_fd(),
        telling: telling.as_raw_fd(),
        told: told.as_raw_fd(),
    };
    // SAFETY: the child calls only functions that signal-safety(7) allows, and never returns.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: this is the child.
        0 => unsafe { child.leave_a_grandchild() },
        parent => {
            let mut status = 0;
            // SAFETY: waits for our own child; somebody else may have done so already.
            while unsafe { libc::waitpid(parent, &raw mut status, libc::__WALL) } < 0
                && Errno::last() == Errno::EINTR
            {}
        }
    }
    drop((theirs, telling));
    let process = hear_of_start(&told)?;
    Ok(Started { process, input, output })
}

/// Moves a descriptor away from the numbers of the standard streams.
fn above_the_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(descriptor);
    }
    let raw = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Learns the number of the process, lets it go on, and waits until it has become the program.
fn hear_of_start(told: &OwnedFd) -> io::Result<Process> {
    let number = hear(told)?.ok_or(Errno::EAGAIN)?;
    // SAFETY: pidfd_open takes integers and returns a new descriptor. The process waits for us.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    let raw = RawFd::try_from(raw).map_err(io::Error::other)?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let process = Process(unsafe { OwnedFd::from_raw_fd(raw) });
    send(told.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL)?;
    match hear(told)? {
        None => Ok(process),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Receives a number; None if the other end was closed.
fn hear(told: &OwnedFd) -> nix::Result<Option<i32>> {
    let mut bytes = [0; 4];
    loop {
        match recv(told.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(4) => return Ok(Some(i32::from_ne_bytes(bytes))),
            Ok(_) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a child needs to become the command, all made before the fork.
struct Child<'a> {
    path: &'a CStr,
    arguments: &'a [*const c_char],
    input: RawFd,
    output: RawFd,
    telling: RawFd,
    /// The other end, which must not stay open here: it tells that our maker is gone.
    told: RawFd,
}

impl Child<'_> {
    /// The whole life of the command's parent.
    ///
    /// # Safety
    /// To be called in a forked child only.
    unsafe fn leave_a_grandchild(&self) -> ! {
        // SAFETY: only functions that signal-safety(7) allows.
        unsafe {
            if libc::fork() == 0 {
                self.become_the_command();
            }
            libc::_exit(0)
        }
    }

    /// # Safety
    /// To be called in a forked child only.
    unsafe fn become_the_command(&self) -> ! {
        // SAFETY: only functions that signal-safety(7) allows, on locals, on descriptors of this
        // process and on strings that were made before the fork and end with NUL.
        unsafe {
            libc::close(self.told);
            libc::setsid();
            self.tell(libc::getpid());
            let mut go = 0_u8;
            if libc::recv(self.telling, (&raw mut go).cast(), 1, 0) == 1 {
                for signal in 1..=LAST_SIGNAL {
                    libc::signal(signal, libc::SIG_DFL);
                }
                let mut none = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
                libc::dup2(self.input, libc::STDIN_FILENO);
                libc::dup2(self.output, libc::STDOUT_FILENO);
                // What others forgot to mark is not the command's either.
                let (first, last, flags) = (3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                libc::syscall(libc::SYS_close_range, first, last, flags);
                libc::execv(self.path.as_ptr(), self.arguments.as_ptr());
                self.tell(*libc::__errno_location());
            }
            libc::_exit(127)
        }
    }

    /// # Safety
    /// To be called in a forked child only.
    unsafe fn tell(&self, number: i32) {
        let bytes = number.to_ne_bytes();
        // SAFETY: the array is a local of four bytes.
        unsafe { libc::send(self.telling, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    }
}
