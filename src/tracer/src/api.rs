//! The contract between the interception backends and the handlers above them.
//!
//! A backend (seccomp notifications, or pure ptrace) turns each trapped system call into a
//! [`Call`], asks the [`Supervisor`], and carries out the [`Action`]. A handler cannot tell which
//! backend carried its call.

mod trap;

use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use syscalls::Sysno;
use umvu_abi::{Errno, GuestAddr, GuestFd, Pid, Tid, vu};

pub use trap::{Before, Subscription, Trap, Watch};

/// A trapped system call of a guest thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syscall {
    /// The number; negative for the calls of [`umvu_abi::vu`].
    pub number: i64,
    /// The raw argument registers.
    pub args: [u64; 6],
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = usize::try_from(self.number).ok().and_then(Sysno::new);
        match (number, vu::name_of(self.number)) {
            (Some(sysno), _) => write!(f, "{sysno}")?,
            (None, Some(name)) => f.write_str(name)?,
            (None, None) => write!(f, "call {}", self.number)?,
        }
        let [a, b, c, d, e, g] = self.args;
        write!(f, "({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {g:#x})")
    }
}

/// The guest side of a trapped call: its memory and its descriptors.
///
/// Reads and writes never fault the hypervisor; errors are `EFAULT` for bad addresses and `ESRCH`
/// for a guest that has died.
pub trait Guest: Send + Sync {
    /// The thread that made the call.
    fn tid(&self) -> Tid;

    /// Reads exactly `buffer.len()` bytes. Errors: `EFAULT`.
    fn read(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Reads up to `buffer.len()` bytes, short at the end of a mapping; at least one.
    fn read_some(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// Writes all of `data`. Errors: `EFAULT`.
    fn write(&self, to: GuestAddr, data: &[u8]) -> Result<(), Errno>;

    /// Reads a NUL-terminated string of at most `limit` bytes, in one host call for usual paths.
    /// Errors: `EFAULT`, `ENAMETOOLONG`.
    fn read_string(&self, from: GuestAddr, limit: usize) -> Result<Vec<u8>, Errno>;

    /// Duplicates a descriptor of the guest into the hypervisor (pidfd_getfd(2)).
    /// Errors: `EBADF`; `ENFILE` when the hypervisor can have no more descriptors.
    fn fetch_fd(&self, fd: GuestFd) -> Result<OwnedFd, Errno>;

    /// `st_dev` and `st_ino` of an open descriptor, by one fstatat(2) on `/proc/TID/fd` (the
    /// directory descriptor is cached). Errors: `EBADF`, `ENFILE`.
    fn identify_fd(&self, fd: GuestFd) -> Result<FileIdentity, Errno>;

    /// The target of `/proc/TID/fd/N`, by one readlinkat(2). Errors: `EBADF`.
    fn fd_link(&self, fd: GuestFd) -> Result<Vec<u8>, Errno>;

    /// The target of `/proc/TID/cwd`.
    fn cwd_link(&self) -> Result<Vec<u8>, Errno>;

    /// Sends a signal to the thread, as the kernel would (SIGPIPE of a failed send).
    fn signal(&self, signal: i32);
}

/// What makes two descriptors the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// `st_mode`.
    pub mode: u32,
}

/// A trapped call with everything a handler needs.
#[derive(Clone)]
pub struct Call {
    /// Number and arguments: the hypervisor's own copy.
    pub syscall: Syscall,
    /// Memory and descriptors.
    pub guest: Arc<dyn Guest>,
    /// Makes the [`Completer`] of a call that is answered later.
    pub defer: Arc<dyn Fn() -> Completer + Send + Sync>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} by {})", self.syscall.number, self.guest.tid())
    }
}

impl Call {
    /// The thread that made the call.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.guest.tid()
    }

    /// Argument `n` as a descriptor number.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the kernel truncates fds the same way")]
    pub fn fd(&self, n: usize) -> GuestFd {
        GuestFd(self.syscall.args[n] as i32)
    }

    /// Argument `n` as a C int.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the kernel truncates ints the same way")]
    pub fn int(&self, n: usize) -> i32 {
        self.syscall.args[n] as i32
    }

    /// Argument `n` as a pointer.
    #[must_use]
    pub fn addr(&self, n: usize) -> GuestAddr {
        GuestAddr(self.syscall.args[n])
    }
}

/// What a handler decides about a call.
#[derive(Debug)]
pub enum Action {
    /// The kernel performs the call as the guest made it.
    Forward,
    /// The call returns this, after the writes to guest memory.
    Return(Reply),
    /// The call returns a new descriptor of the guest.
    ReturnFd(FdReply),
    /// More calls are trapped from now on in this process and in those that it creates; then this is
    /// carried out.
    Watched(Box<Action>, Watch),
    /// The next calls of this thread about descriptors are trapped, until it connects a socket or has made
    /// many; then this is carried out. It costs stops: not to be asked for often.
    Followed(Box<Action>),
    /// The guest executes a program in place of the one that it named.
    Exec(Exec),
    /// The kernel performs this call in place of the guest's. Not from a [`Completer`].
    Instead(Instead),
    /// The kernel performs this call in place of the guest's, and may wait in it. Not from a
    /// [`Completer`].
    Wait(Wait),
    /// Another file takes the place of one of the guest's, then the handler is asked again. Not from
    /// a [`Completer`].
    Renew(Renewal),
    /// The handler has taken a [`Completer`] and answers later.
    Pending,
    /// The handler may block: run this on a thread of its own and carry out what it returns.
    Slow(SlowHandler),
}

/// A call for the kernel, made of nothing that the guest could change meanwhile.
#[derive(Debug, Clone)]
pub struct Instead {
    /// The number.
    pub number: i64,
    /// The arguments.
    pub args: [u64; 6],
    /// An argument that points to these bytes.
    pub data: Option<(usize, Vec<u8>)>,
    /// A pointer in the data, so far from its begin, and where in the data it points.
    pub inner: Option<(usize, u64)>,
    /// An argument that is a descriptor of this file, which the guest has during the call only.
    pub file: Option<(usize, Arc<OwnedFd>)>,
    /// What is trapped from then on in the process, and in those that it creates.
    pub then: Then,
}

impl Instead {
    /// A call with these arguments, and nothing else.
    #[must_use]
    pub fn call(number: i64, args: [u64; 6]) -> Self {
        Self { number, args, data: None, inner: None, file: None, then: Then::Nothing }
    }
}

/// A call for the kernel that may wait, in place of the guest's. A signal that interrupts it takes the
/// guest's own call back as the kernel does: that is what is made again.
#[derive(Debug)]
pub struct Wait {
    /// The call, without a file.
    pub call: Instead,
    /// An argument that points so far into the data of the call.
    pub also: Option<(usize, u64)>,
    /// What is done when the call ends.
    pub after: AfterWait,
}

/// What is done with the guest in hand when a [`Wait`] has ended.
pub struct AfterWait(pub Box<EndOfWait>);

/// Gets the guest, what the kernel returns (also its sign that the call is made again), and the data as
/// it is then; returns what the guest gets.
pub type EndOfWait = dyn FnOnce(&dyn Guest, i64, &[u8]) -> i64 + Send;

impl fmt::Debug for AfterWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AfterWait")
    }
}

/// What more is trapped in a process once it has made a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// No more than before.
    Nothing,
    /// The calls of [`Trap::Waiting`].
    Waits,
}

/// A program to execute by execve(2), with the environment that the guest gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The path, for the kernel.
    pub path: Vec<u8>,
    /// The arguments, when they are others than the guest's.
    pub arguments: Option<Vec<Vec<u8>>>,
    /// Where the guest's arguments and environment are.
    pub vectors: [GuestAddr; 2],
}

/// A file for a descriptor that the guest has. Whether it is closed on exec stays as it was; other
/// descriptors of the former file keep that one.
#[derive(Debug)]
pub struct Renewal {
    /// The descriptor.
    pub at: GuestFd,
    /// The file to put there.
    pub fd: OwnedFd,
}

/// The rest of a handler that may block.
pub struct SlowHandler(pub Box<dyn FnOnce() -> Action + Send>);

impl SlowHandler {
    /// Does the work, and what it leaves to be done: one that has waited for a file system may find that the file
    /// has to be waited for, too.
    pub(crate) fn run(self) -> Action {
        let mut action = (self.0)();
        while let Action::Slow(next) = action {
            action = (next.0)();
        }
        action
    }
}

impl fmt::Debug for SlowHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowHandler")
    }
}

/// A result and the outputs that go to the guest's memory before it returns.
///
/// The backend performs the writes; when a signal cancels the call in between, it keeps the reply
/// and delivers it to the restarted call, so that a handler runs exactly once per guest call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the call returns.
    pub result: Result<i64, Errno>,
    /// Guest memory to write first; a fault turns the result into `EFAULT`.
    pub writes: Vec<(GuestAddr, Vec<u8>)>,
}

/// A descriptor to install in the guest.
#[derive(Debug)]
pub struct FdReply {
    /// The file to give.
    pub fd: OwnedFd,
    /// Whether it is closed on exec.
    pub close_on_exec: bool,
    /// Guest memory to write first (the peer's address of accept(2)).
    pub writes: Vec<(GuestAddr, Vec<u8>)>,
    /// Goes when our descriptor of the file is closed, which may be after the guest has closed its own.
    pub handing: Option<Handing>,
}

/// Counts for as long as it is there.
#[derive(Debug)]
pub struct Handing(Arc<AtomicUsize>);

impl Handing {
    /// One more.
    #[must_use]
    pub fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("the kernel's"),
            Self::Return(Reply { result: Ok(value), .. }) => write!(f, "{value}"),
            Self::Return(Reply { result: Err(errno), .. }) => write!(f, "-1 {errno}"),
            Self::Watched(action, _) => write!(f, "{action}, watched"),
            Self::Followed(action) => write!(f, "{action}, followed"),
            Self::ReturnFd(_) => f.write_str("a descriptor"),
            Self::Exec(exec) => write!(f, "executes {}", String::from_utf8_lossy(&exec.path)),
            Self::Instead(instead) => {
                let other = Syscall { number: instead.number, args: instead.args };
                write!(f, "the kernel's {other}")
            }
            Self::Wait(Wait { call, .. }) => {
                let other = Syscall { number: call.number, args: call.args };
                write!(f, "the kernel's {other}")
            }
            Self::Renew(Renewal { at, .. }) => write!(f, "asked again with a new {at}"),
            Self::Pending => f.write_str("later"),
            Self::Slow(_) => f.write_str("by a thread"),
        }
    }
}

impl Action {
    /// Returns a value.
    #[must_use]
    pub fn value(value: i64) -> Self {
        Self::Return(Reply { result: Ok(value), writes: Vec::new() })
    }

    /// Returns an error.
    #[must_use]
    pub fn error(errno: Errno) -> Self {
        Self::Return(Reply { result: Err(errno), writes: Vec::new() })
    }

    /// Returns 0 or the error.
    #[must_use]
    pub fn done(result: Result<(), Errno>) -> Self {
        Self::Return(Reply { result: result.map(|()| 0), writes: Vec::new() })
    }
}

impl Action {
    /// Carries this out in a process that is watched.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self::Watched(Box::new(self), watch)
    }

    /// The same, and the next calls of the thread are trapped ([`Action::Followed`]).
    #[must_use]
    pub fn followed(self) -> Self {
        Self::Followed(Box::new(self))
    }
}

impl From<Result<i64, Errno>> for Action {
    fn from(result: Result<i64, Errno>) -> Self {
        Self::Return(Reply { result, writes: Vec::new() })
    }
}

impl From<Errno> for Action {
    fn from(errno: Errno) -> Self {
        Self::error(errno)
    }
}

/// Answers a deferred call, once, from any thread. Dropped without an answer, it returns `EIO`.
pub struct Completer {
    inner: Option<Box<dyn Answer>>,
}

/// The backend's side of a [`Completer`].
pub trait Answer: Send {
    /// Carries out the action (`Forward`, `Return` or `ReturnFd`).
    fn answer(self: Box<Self>, action: Action);

    /// Whether a signal or the guest's death has taken the call back.
    fn cancelled(&self) -> bool;

    /// Whether an answer is waited for at all.
    fn can_come(&self) -> bool {
        true
    }
}

impl Completer {
    /// Wraps a backend's answer.
    #[must_use]
    pub fn new(inner: Box<dyn Answer>) -> Self {
        Self { inner: Some(inner) }
    }

    /// Carries out the action. An answer to a call that was taken back is kept for its restart.
    pub fn complete(mut self, action: Action) {
        if let Some(inner) = self.inner.take() {
            inner.answer(action);
        }
    }

    /// Whether the call has been taken back by a signal or by the guest's death.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.cancelled())
    }

    /// Whether an answer is waited for. Of a call that has stopped its guest none is: its handler
    /// returns [`Action::Pending`], has done nothing, and is asked again where there is time.
    #[must_use]
    pub fn can_come(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.can_come())
    }

    /// Gives the call up without any answer: it was taken back and is not to be replayed.
    pub fn forget(mut self) {
        self.inner = None;
    }
}

impl fmt::Debug for Completer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completer")
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.answer(Action::error(Errno::EIO));
        }
    }
}

/// How a new task came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// A new thread group: fork, vfork, clone without CLONE_THREAD.
    Process,
    /// A thread of its creator's group.
    Thread,
}

/// The size of a value with its key in the auxiliary vector of a program (getauxval(3)), in bytes.
pub const VECTOR_ENTRY: u64 = 16;

/// What the layer above the backends provides. Called from the tracer thread and from the
/// notification threads; methods must not block (see [`Action::Slow`]).
pub trait Supervisor: Send + Sync {
    /// Answers a trapped call.
    fn handle(&self, call: &Call) -> Action;

    /// Whether this call, which is the kernel's or is worked on by a [`SlowHandler`], may wait for
    /// an event and so be interrupted by a signal: opening a FIFO may, opening a directory does not.
    /// Asked when a signal has come, of calls that are [`Subscription::interruptible`].
    fn may_wait(&self, call: &Call) -> bool;

    /// The first task of the tree exists, stopped.
    fn started(&self, task: Tid);

    /// `child` was created by `parent`; neither has run since.
    fn born(&self, parent: Tid, child: Tid, birth: Birth);

    /// The group has executed a program; `former` is the thread that called execve(2), and has
    /// become the leader `task`.
    fn executed(&self, task: Tid, former: Tid);

    /// The dynamic linker that a new program gets in place of the kernel's choice, as an ELF file.
    fn linker(&self, _task: Tid) -> Option<Arc<[u8]>> {
        None
    }

    /// The dynamic linker has been put at this base address (`AT_BASE`).
    fn linked(&self, _task: Tid, _base: u64) {}

    /// The program that its interpreter, a new program, is given open for reading (`AT_EXECFD`).
    fn program(&self, _task: Tid) -> Option<OwnedFd> {
        None
    }

    /// That is under this number of the task, whose stack is lower now by [`VECTOR_ENTRY`].
    fn given_program(&self, _task: Tid, _number: u64) {}

    /// The task is gone. `last` tells whether it was the last of its group `group`.
    fn ended(&self, task: Tid, group: Pid, last: bool);
}
