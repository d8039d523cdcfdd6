//! What happens when a plugin's code is hit by SIGSEGV and the like: the thread stops there, for
//! ever, and its stack is given up; the rest of the process goes on.
//!
//! A plugin's thread is recognised by its name, which threads inherit: the host's thread for stack
//! N is called `iothN-NAME`. What the thread has locked stays locked. A crash of any other thread
//! is passed on to whoever handled it before.
#![expect(unsafe_code, reason = "sigaction(2) and what a signal handler may call")]

use std::{
    ffi::{c_int, c_void},
    mem::MaybeUninit,
    ptr,
    sync::{
        Once, OnceLock,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
};

/// How many stacks are told apart.
const STACKS: usize = 256;
/// How a thread's name begins.
const PREFIX: &str = "ioth";
const SIGNALS: [c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// The signal that ended a thread of each stack, 0 while none has.
static CRASHED: [AtomicI32; STACKS] = [const { AtomicI32::new(0) }; STACKS];
/// The process whose threads they are.
static OWNER: AtomicI32 = AtomicI32::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
static BEFORE: [OnceLock<libc::sigaction>; SIGNALS.len()] =
    [const { OnceLock::new() }; SIGNALS.len()];

/// The number under which the crashes of a stack are recorded.
#[derive(Debug)]
pub(crate) struct Guard(usize);

impl Guard {
    /// Has crashes caught from now on, and makes a number for a stack.
    pub(crate) fn new() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(install);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % STACKS;
        CRASHED[number].store(0, Ordering::Relaxed);
        Self(number)
    }

    /// What the threads of the stack are to be called.
    pub(crate) fn thread_name(&self, stack: &str) -> String {
        format!("{PREFIX}{}-{stack}", self.0)
    }

    /// The signal that stopped one of its threads.
    pub(crate) fn crashed(&self) -> Option<c_int> {
        Some(CRASHED[self.0].load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

fn install() {
    OWNER.store(own_id(), Ordering::Relaxed);
    for (signal, before) in SIGNALS.iter().zip(&BEFORE) {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all-zero bytes are a valid `sigaction`; the handler calls only what
        // signal-safety(7) allows, and the old action is stored before it can be needed.
        unsafe {
            libc::sigaction(*signal, ptr::null(), old.as_mut_ptr());
            let _ = before.set(old.assume_init());
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = caught;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_SIGINFO;
            libc::sigaction(*signal, &raw const action, ptr::null_mut());
        }
    }
}

fn own_id() -> i32 {
    // SAFETY: getpid(2) takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// # Safety
/// For the kernel to call, as an action with `SA_SIGINFO`.
unsafe extern "C" fn caught(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    match number_of(&name) {
        // A process that a plugin has forked is none of our threads.
        Some(number) if OWNER.load(Ordering::Relaxed) == own_id() => stop(number, signal),
        _ => {
            pass_on(signal);
            // SAFETY: the kernel has filled in the information for this call.
            if unsafe { (*info).si_code } <= 0 {
                // Somebody has sent it: no instruction will raise it again.
                // SAFETY: raise(3) is allowed in handlers.
                unsafe { libc::raise(signal) };
            }
        }
    }
}

/// The number in the name of a plugin's thread.
fn number_of(name: &[u8]) -> Option<usize> {
    let rest = name.strip_prefix(PREFIX.as_bytes())?;
    let digits = rest.iter().position(|byte| *byte == b'-').filter(|count| *count > 0)?;
    let mut number = 0;
    for byte in &rest[..digits] {
        number = number * 10 + usize::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    (number < STACKS).then_some(number)
}

fn stop(number: usize, signal: c_int) -> ! {
    CRASHED[number].store(signal, Ordering::Relaxed);
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: these calls are allowed in handlers; the set is ours.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut());
        loop {
            libc::pause();
        }
    }
}

/// Puts the former action back, to which a faulting instruction comes again.
fn pass_on(signal: c_int) {
    let before = SIGNALS.iter().zip(&BEFORE).find(|(one, _)| **one == signal);
    let Some(before) = before.and_then(|(_, before)| before.get()) else { return };
    // SAFETY: the action is the one that was in force before ours.
    unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_stacks_are_known_by_their_names() {
        assert_eq!(number_of(b"ioth7-lwipv6\0\0\0\0"), Some(7));
        assert_eq!(number_of(b"ioth255-x\0"), Some(255));
        for other in [&b"ioth\0"[..], b"ioth-x", b"ioth256-x", b"iothx-y", b"main\0"] {
            assert_eq!(number_of(other), None);
        }
        let guard = Guard::new();
        let name = guard.thread_name("a_stack_with_a_long_name");
        assert_eq!(number_of(&name.as_bytes()[..15]), Some(guard.0));
    }
}
