//! Every system call the kernel's headers know, in exactly one class.
//!
//! *Virtualized* and *refused* calls have a row in the [`dispatch`](crate::dispatch) table; the
//! others are *passed*: the filter lets them through at native speed. The lists here say why that
//! is right. A number that a newer kernel adds is in no list, and the test below fails until
//! somebody has thought about it. Calls of foreign architectures (int 0x80, x32) never reach the
//! table: the filter answers `ENOSYS`.

use umvu_tracer::api::Trap;

use crate::dispatch;

/// What happens to a system call in an armed view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Trapped and answered where the view concerns it; the note says what is supported.
    Virtualized(&'static str),
    /// The kernel's, never trapped; the note says why.
    Passed(&'static str),
    /// Answered with an error by the filter; the note says why.
    Refused(&'static str),
}

/// Classifies a call by its name; None for one that nobody has thought about.
#[must_use]
pub fn class_of(name: &str) -> Option<Class> {
    if let Some(row) = dispatch::rows().into_iter().find(|row| row.name == name) {
        return Some(match row.trap {
            Trap::Refuse(_) => Class::Refused(row.note),
            _ => Class::Virtualized(row.note),
        });
    }
    let group = PASSED.iter().find(|(_, names)| names.contains(&name))?;
    Some(Class::Passed(group.0))
}

/// The passed calls, by the reason why they need no virtualization.
#[rustfmt::skip]
pub const PASSED: &[(&str, &[&str])] = &[
    ("data of a descriptor: virtual sockets and files are real kernel objects", &[
        "lseek", "close_range", "dup", "dup2", "dup3", "fcntl", "flock",
        "sync", "sync_file_range", 
        "fadvise64", "readahead", "tee", "vmsplice",
        "cachestat", "lookup_dcookie",
    ]),
    ("waiting: the readiness of a virtual socket is the kernel's", &[
        "ppoll_time64", "pselect6_time64", "epoll_create", "epoll_create1", "epoll_ctl",
        "epoll_ctl_old", "epoll_wait_old",
    ]),
    ("makes descriptors that are no virtual object", &[
        "pipe", "pipe2", "socketpair", "eventfd", "eventfd2", "signalfd", "signalfd4",
        "timerfd_create", "timerfd_settime64",
        "timerfd_gettime64", "memfd_create", "memfd_secret", "userfaultfd", "pidfd_open",
        "pidfd_getfd", "inotify_init", "inotify_init1", "inotify_rm_watch", "fanotify_init",
        "perf_event_open",
    ]),
    ("memory", &[
        "munmap", "mprotect", "mremap", "msync", "mincore", "madvise", "process_madvise",
        "process_mrelease", "brk", "mlock", "mlock2", "munlock", "mlockall", "munlockall",
        "remap_file_pages", "mbind", "set_mempolicy", "get_mempolicy", "set_mempolicy_home_node",
        "migrate_pages", "move_pages", "membarrier", "pkey_alloc", "pkey_free", "pkey_mprotect",
        "map_shadow_stack", "mseal", "process_vm_readv", "process_vm_writev",
    ]),
    ("life of tasks: followed by ptrace", &[
        "clone", "clone3", "fork", "vfork", "exit", "exit_group", "wait4",
        "waitid", "setsid", "getsid", "setpgid", "getpgid", "getpgrp", "getpid", "getppid",
        "gettid", "set_tid_address", "arch_prctl", "personality", "seccomp",
        "rseq", "set_robust_list", "get_robust_list", "set_thread_area", "get_thread_area",
        "modify_ldt", "restart_syscall", "kcmp", "uprobe", "uretprobe",
    ]),
    ("signals", &[
        "kill", "tkill", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
        "rt_sigpending", "rt_sigtimedwait_time64", "rt_sigqueueinfo",
        "rt_tgsigqueueinfo", "rt_sigsuspend", "sigaltstack", "pause", "pidfd_send_signal",
    ]),
    ("clocks and timers", &[
        "adjtimex", "clock_gettime64", "clock_settime64", "clock_getres", "clock_getres_time64", "clock_adjtime",
        "clock_adjtime64", "clock_nanosleep_time64", 
        "timer_create", "timer_settime64",
        "timer_gettime64", "timer_getoverrun", "timer_delete", "times",
    ]),
    ("scheduling and limits", &[
        "sched_yield", "sched_setparam", "sched_getparam", "sched_setscheduler",
        "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min",
        "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
        "sched_getaffinity", "sched_setattr", "sched_getattr", "getpriority", "setpriority",
        "ioprio_set", "ioprio_get", "getrlimit", "setrlimit", "prlimit64", "getrusage", "getcpu",
    ]),
    ("synchronisation and System V or POSIX communication", &[
        "futex_time64", "futex_wait", "futex_wake", "futex_requeue", 
        "semget", "semop", "semctl", "semtimedop_time64", "msgget", "msgsnd",
        "msgrcv", "msgctl", "shmget", "shmat", "shmdt", "shmctl", "mq_open", "mq_unlink",
        "mq_timedsend", "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64",
        "mq_notify", "mq_getsetattr",
    ]),
    ("linux-aio: works on descriptors like read and write", &[
        "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64",
    ]),
    ("names and state of the host, which the view shares", &[
        "sysinfo", "syslog", "sysfs", "ustat", "getrandom", "add_key", "request_key", "keyctl", "bpf", "landlock_create_ruleset",
        "landlock_add_rule", "landlock_restrict_self", "lsm_get_self_attr", "lsm_set_self_attr",
        "lsm_list_modules",
    ]),
    ("administration of the host: the kernel refuses it to the unprivileged", &[
        "acct", "swapon", "swapoff", "reboot", "iopl", "ioperm", "init_module", "finit_module",
        "delete_module", "kexec_load", "kexec_file_load", "quotactl", "quotactl_fd", "vhangup",
        "pivot_root",
    ]),
    ("paths of the kernel only: a virtual path is ENOENT there", &[
        "name_to_handle_at", "open_by_handle_at", "uselib", "setxattrat",
        "getxattrat", "listxattrat", "removexattrat", "file_getattr", "file_setattr",
    ]),
    ("not implemented by the kernel", &[
        "_sysctl", "create_module", "get_kernel_syms", "query_module", "nfsservctl", "getpmsg",
        "putpmsg", "afs_syscall", "tuxcall", "security", "vserver",
    ]),
];

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;

    #[test]
    fn every_system_call_is_in_exactly_one_class() {
        let rows: Vec<&str> = dispatch::rows().iter().map(|row| row.name).collect();
        let passed: Vec<&str> =
            PASSED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let times = |name: &str| rows.iter().chain(&passed).filter(|known| **known == name).count();
        let wrong: Vec<String> = Sysno::iter()
            .filter(|sysno| times(sysno.name()) != 1)
            .map(|sysno| format!("{} ({} times)", sysno.name(), times(sysno.name())))
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn no_name_is_listed_twice() {
        let mut names: Vec<&str> =
            PASSED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        names.extend(dispatch::rows().iter().map(|row| row.name));
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn classes_are_told_by_name() {
        assert!(matches!(class_of("close_range"), Some(Class::Passed(_))));
        assert!(matches!(class_of("openat"), Some(Class::Virtualized(_))));
        assert!(matches!(class_of("io_uring_setup"), Some(Class::Refused(_))));
        assert_eq!(class_of("no_such_call"), None);
    }
}
