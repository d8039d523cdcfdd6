//! The system calls that have no safe wrapper: seccomp(2), its notifications, pidfd_getfd(2),
//! fork and exec of the first program, register access.

#![expect(unsafe_code, reason = "raw system calls of the tracer")]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{sys::signal::SigSet, unistd::Pid};

use crate::{arch, filter::Instruction};

const IOCTL_RECV: libc::c_ulong = 0xc050_2100;
const IOCTL_SEND: libc::c_ulong = 0xc018_2101;
const IOCTL_ID_VALID: libc::c_ulong = 0x4008_2102;
const IOCTL_ADDFD: libc::c_ulong = 0x4018_2103;
const IOCTL_SET_FLAGS: libc::c_ulong = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;
const FLAG_CONTINUE: u32 = 1;
const ADDFD_SETFD: u32 = 1;
const ADDFD_SEND: u32 = 2;

fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `struct seccomp_notif`, what a handler needs of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// The id to answer to.
    pub(crate) id: u64,
    /// The thread.
    pub(crate) tid: i32,
    /// The number.
    pub(crate) number: i32,
    /// The ABI that the call was made in (`AUDIT_ARCH_*`).
    pub(crate) abi: u32,
    /// The address after the instruction.
    pub(crate) after: u64,
    /// The arguments.
    pub(crate) args: [u64; 6],
}

/// Waits for a notification. Errors: `EINTR`, `ENOENT` when no task is left or the caller died.
pub(crate) fn receive(listener: &OwnedFd) -> io::Result<Notification> {
    // SAFETY: all-zero is a valid value of this plain C struct, and what the kernel asks for.
    let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the ioctl writes one seccomp_notif through a valid pointer.
    check(libc::c_long::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), IOCTL_RECV, &raw mut notif)
    }))?;
    Ok(Notification {
        id: notif.id,
        tid: notif.pid.cast_signed(),
        number: notif.data.nr,
        abi: notif.data.arch,
        after: notif.data.instruction_pointer,
        args: notif.data.args,
    })
}

/// How a notification is answered by value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// The kernel performs the call.
    Continue,
    /// The call returns this: a value, or a negative error number.
    Value(i64),
}

/// Answers a notification. Errors: `ENOENT` when the call was taken back.
pub(crate) fn respond(listener: &OwnedFd, id: u64, verdict: Verdict) -> io::Result<()> {
    let (val, error, flags) = match verdict {
        Verdict::Continue => (0, 0, FLAG_CONTINUE),
        Verdict::Value(value) if value < 0 => (0, i32::try_from(value).unwrap_or(-5), 0),
        Verdict::Value(value) => (value, 0, 0),
    };
    let mut response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the ioctl reads one seccomp_notif_resp through a valid pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_SEND, &raw mut response) };
    check(libc::c_long::from(result)).map(|_| ())
}

/// Installs a descriptor in the guest and answers with its number, at once.
pub(crate) fn respond_fd(
    listener: &OwnedFd,
    id: u64,
    fd: &OwnedFd,
    close_on_exec: bool,
) -> io::Result<()> {
    add_fd(listener, id, fd, close_on_exec, (ADDFD_SEND, 0))
}

/// Puts a descriptor under a number of the guest, whose call goes on waiting for its answer.
pub(crate) fn replace_fd(
    listener: &OwnedFd,
    id: u64,
    fd: &OwnedFd,
    close_on_exec: bool,
    at: i32,
) -> io::Result<()> {
    let at = u32::try_from(at).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    add_fd(listener, id, fd, close_on_exec, (ADDFD_SETFD, at))
}

fn add_fd(
    listener: &OwnedFd,
    id: u64,
    fd: &OwnedFd,
    close_on_exec: bool,
    (flags, newfd): (u32, u32),
) -> io::Result<()> {
    let srcfd = u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX);
    let newfd_flags = if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
    let mut addfd = libc::seccomp_notif_addfd { id, flags, srcfd, newfd, newfd_flags };
    // SAFETY: the ioctl reads one seccomp_notif_addfd through a valid pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_ADDFD, &raw mut addfd) };
    check(libc::c_long::from(result)).map(|_| ())
}

/// Whether the call behind a notification still waits.
pub(crate) fn is_waiting(listener: &OwnedFd, id: u64) -> bool {
    // SAFETY: the ioctl reads one u64 through a valid pointer.
    unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_ID_VALID, &raw const id) == 0 }
}

/// Asks that the answering thread and the guest share a processor (Linux 6.6); older kernels
/// refuse, and that is all right.
pub(crate) fn wake_synchronously(listener: &OwnedFd) {
    // SAFETY: the argument is passed by value.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), IOCTL_SET_FLAGS, SYNC_WAKE_UP) };
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers and returns a new descriptor.
    let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    own(raw)
}

/// pidfd_getfd(2).
pub(crate) fn pidfd_getfd(pidfd: &OwnedFd, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes integers and returns a new descriptor.
    let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    own(raw)
}

/// A duplicate of another process's descriptor (pidfd_getfd(2)). Errors: `ESRCH`, `EBADF`, `EPERM`.
pub fn fetch_descriptor(process: i32, fd: i32) -> io::Result<OwnedFd> {
    pidfd_getfd(&pidfd_open(process)?, fd)
}

fn own(raw: i64) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(raw).map_err(io::Error::other)?;
    // SAFETY: callers pass the result of a call that has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// tgkill(2).
pub(crate) fn tgkill(group: i32, tid: i32, signal: i32) {
    // SAFETY: tgkill takes integers only.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, group, tid, signal) };
}

/// Reads the registers of a stopped thread. Errors: `ESRCH`.
pub(crate) fn registers(tid: Pid) -> io::Result<arch::Raw> {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut raw: arch::Raw = unsafe { std::mem::zeroed() };
    let mut vector =
        libc::iovec { iov_base: (&raw mut raw).cast(), iov_len: size_of::<arch::Raw>() };
    // SAFETY: the iovec describes `raw`; the kernel writes at most iov_len bytes.
    check(unsafe {
        libc::ptrace(libc::PTRACE_GETREGSET, tid.as_raw(), libc::NT_PRSTATUS, &raw mut vector)
    })?;
    Ok(raw)
}

/// Writes the registers of a stopped thread. Errors: `ESRCH`.
pub(crate) fn set_registers(tid: Pid, raw: &arch::Raw) -> io::Result<()> {
    let mut copy = *raw;
    let mut vector =
        libc::iovec { iov_base: (&raw mut copy).cast(), iov_len: size_of::<arch::Raw>() };
    // SAFETY: the iovec describes `copy`; the kernel reads at most iov_len bytes.
    check(unsafe {
        libc::ptrace(libc::PTRACE_SETREGSET, tid.as_raw(), libc::NT_PRSTATUS, &raw mut vector)
    })?;
    Ok(())
}

/// PTRACE_LISTEN: leaves a thread in its group-stop.
pub(crate) fn listen(tid: Pid) {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_LISTEN takes no pointers.
    let _ = unsafe { libc::ptrace(libc::PTRACE_LISTEN, tid.as_raw(), null, null) };
}

/// What the first child needs to start, prepared before the fork.
pub(crate) struct Launch {
    /// Candidates of the program's path, tried in order as execvp(3) does.
    pub(crate) paths: Vec<CString>,
    /// The arguments.
    pub(crate) arguments: Vec<CString>,
    /// The environment.
    pub(crate) environment: Vec<CString>,
    /// The filter to install, empty for none.
    pub(crate) filter: Vec<Instruction>,
    /// The signal mask to restore.
    pub(crate) mask: SigSet,
}

/// Forks a child that waits for a byte from `gate` (`opener` is its other end), installs the filter and executes
/// the program. Errors: those of fork(2).
pub(crate) fn fork_exec(launch: &Launch, gate: &OwnedFd, opener: &OwnedFd) -> io::Result<Pid> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let arguments = pointers(&launch.arguments);
    let environment = pointers(&launch.environment);
    let code: Vec<[u8; 8]> = launch.filter.iter().map(|one| one.encode()).collect();
    // SAFETY: between fork and exec the child makes async-signal-safe calls only, on memory that
    // was prepared before.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        check(libc::c_long::from(pid))?;
        return Ok(Pid::from_raw(pid));
    }
    let mut byte = 0_u8;
    // SAFETY: as above; pointers stay valid since nothing has been freed.
    unsafe {
        // Before the gate: the view may be armed while the child waits at it.
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        // Without the hypervisor the gate ends instead of opening.
        libc::close(opener.as_raw_fd());
        if libc::read(gate.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(1);
        }
        for signal in [libc::SIGPIPE, libc::SIGINT, libc::SIGQUIT, libc::SIGTTIN, libc::SIGTTOU] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mask = *launch.mask.as_ref();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
        if !code.is_empty() {
            let program = libc::sock_fprog {
                len: u16::try_from(code.len()).unwrap_or(0),
                filter: code.as_ptr().cast_mut().cast(),
            };
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program);
        }
        let mut status = 127;
        for path in &launch.paths {
            libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            if *libc::__errno_location() != libc::ENOENT {
                status = 126;
            }
        }
        libc::_exit(status)
    }
}

/// sigaction(2).
pub(crate) fn set_action(
    signal: nix::sys::signal::Signal,
    action: &nix::sys::signal::SigAction,
) -> io::Result<()> {
    // SAFETY: the handlers that this crate installs do nothing at all.
    unsafe { nix::sys::signal::sigaction(signal, action) }?;
    Ok(())
}

/// What waitpid(2) reported of a guest. Real-time signals have no names, hence plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing has happened.
    Nothing,
    /// It ended by itself.
    Exited(Pid, i32),
    /// A signal ended it.
    Killed(Pid, i32),
    /// A signal is about to be delivered.
    Signal(Pid, i32),
    /// A ptrace event, with the stop's signal.
    Event(Pid, i32, i32),
}

/// What the calling thread has started or traces: not what other threads of the hypervisor start.
const OWN: i32 = libc::__WALL | libc::__WNOTHREAD;

/// waitpid(2) for all threads of guests, by the thread that traces them; `pid` -1 is any guest.
/// Errors: `ECHILD`, `EINTR`.
pub(crate) fn wait(pid: i32, flags: i32) -> io::Result<Wait> {
    let mut status = 0;
    // SAFETY: the kernel writes one int through a valid pointer.
    let found = unsafe { libc::waitpid(pid, &raw mut status, flags | OWN) };
    check(libc::c_long::from(found))?;
    let tid = Pid::from_raw(found);
    Ok(if found == 0 {
        Wait::Nothing
    } else if libc::WIFEXITED(status) {
        Wait::Exited(tid, libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Wait::Killed(tid, libc::WTERMSIG(status))
    } else if libc::WIFSTOPPED(status) && status >> 16 == 0 {
        Wait::Signal(tid, libc::WSTOPSIG(status))
    } else if libc::WIFSTOPPED(status) {
        Wait::Event(tid, libc::WSTOPSIG(status), status >> 16)
    } else {
        Wait::Nothing
    })
}

/// Waits until a guest stops or ends, which stays to be reported by [`wait`]; returns whether it has
/// ended. Errors: `ECHILD`, `EINTR`.
pub(crate) fn await_change(tid: Pid) -> io::Result<bool> {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = tid.as_raw().cast_unsigned();
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the kernel writes one siginfo_t through a valid pointer.
    let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) };
    check(libc::c_long::from(result))?;
    Ok(matches!(info.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED))
}

/// Lets a stopped guest run, delivering a signal (0: none).
pub(crate) fn resume(tid: Pid, signal: i32) {
    ptrace_signal(libc::PTRACE_CONT, tid, signal);
}

/// Lets a stopped guest run one instruction.
pub(crate) fn step(tid: Pid) {
    ptrace_signal(libc::PTRACE_SINGLESTEP, tid, 0);
}

fn ptrace_signal(request: libc::c_uint, tid: Pid, signal: i32) {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take a number where others take a pointer.
    let _ = unsafe { libc::ptrace(request, tid.as_raw(), null, i64::from(signal)) };
}

/// The signals that a stopped guest blocks, bit n - 1 for signal n. Errors: `ESRCH`.
pub(crate) fn signal_mask(tid: Pid) -> io::Result<u64> {
    let mut mask = 0_u64;
    let size = size_of::<u64>();
    // SAFETY: the kernel writes `size` bytes to `mask`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid.as_raw(), size, &raw mut mask) })?;
    Ok(mask)
}

/// Sets the signals that a stopped guest blocks. Errors: `ESRCH`.
pub(crate) fn set_signal_mask(tid: Pid, mask: u64) -> io::Result<()> {
    let size = size_of::<u64>();
    // SAFETY: the kernel reads `size` bytes from `mask`.
    check(unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid.as_raw(), size, &raw const mask) })?;
    Ok(())
}

/// sigtimedwait(2); None waits for ever. Errors: `EAGAIN` when the time is over, `EINTR`.
pub(crate) fn await_signal(set: &SigSet, patience: Option<Duration>) -> io::Result<i32> {
    let time = patience.map(|patience| libc::timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: i64::from(patience.subsec_nanos()),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the set is valid, no information is asked for, and the time is null or lives on.
    let signal = unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), time) };
    check(libc::c_long::from(signal))?;
    Ok(signal)
}

/// Lets a stopped guest run to its next system call.
pub(crate) fn resume_to_call(tid: Pid, signal: i32) {
    ptrace_signal(libc::PTRACE_SYSCALL, tid, signal);
}

/// At which end of a call a system-call stop is, and the ABI of the call (`AUDIT_ARCH_*`).
/// Errors: `ESRCH`.
pub(crate) fn call_stop(tid: Pid) -> io::Result<(bool, u32)> {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes to `info`.
    check(unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid.as_raw(), size, &raw mut info)
    })?;
    Ok((info.op == libc::PTRACE_SYSCALL_INFO_ENTRY, info.arch))
}
