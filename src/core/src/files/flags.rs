//! The flags of a mount: what mount(2) is told, `/proc/mounts` shows and statfs(2) tells.
//!
//! Linux keeps two sets: one of the mount, another of the file system, which other mounts may share.

use std::sync::atomic::{AtomicU64, Ordering};

use libc::{
    MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC,
    MS_NOSUID, MS_RDONLY, MS_RELATIME, MS_STRICTATIME, MS_SYNCHRONOUS,
};

/// `MS_NOSYMFOLLOW`.
const MS_NOSYMFOLLOW: u64 = 256;

/// The flags of a mount but `ro`, in the order of `/proc/mounts`, and the bits of `f_flags` (statfs(2)).
const OF_MOUNTS: [(u64, &str, i64); 7] = [
    (MS_NOSUID, "nosuid", 2),
    (MS_NODEV, "nodev", 4),
    (MS_NOEXEC, "noexec", 8),
    (MS_NOATIME, "noatime", 0x400),
    (MS_NODIRATIME, "nodiratime", 0x800),
    (MS_RELATIME, "relatime", 0x1000),
    (MS_NOSYMFOLLOW, "nosymfollow", 0x2000),
];

/// Those of a file system; `dirsync` and `lazytime` are not told by statfs(2).
const OF_FILE_SYSTEMS: [(u64, &str, i64); 4] = [
    (MS_SYNCHRONOUS, "sync", 0x10),
    (MS_DIRSYNC, "dirsync", 0),
    (MS_MANDLOCK, "mand", 0x40),
    (MS_LAZYTIME, "lazytime", 0),
];

/// What says when a file was read last.
const TIMES_OF_ACCESS: u64 = MS_NOATIME | MS_NODIRATIME | MS_RELATIME;
/// `ST_VALID`, without which glibc looks the flags up in `/proc/mounts`, and `ST_RDONLY`.
const ST_VALID: i64 = 0x20;
const ST_RDONLY: i64 = 1;

/// The flags of a mount and of its file system, as bits of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) mount: u64,
    pub(crate) file_system: u64,
}

fn known(table: &[(u64, &str, i64)]) -> u64 {
    table.iter().fold(MS_RDONLY, |all, (flag, ..)| all | flag)
}

fn named<'a>(flags: u64, table: &'a [(u64, &'a str, i64)]) -> impl Iterator<Item = &'a str> {
    table.iter().filter(move |(flag, ..)| flags & flag != 0).map(|(_, name, _)| *name)
}

fn mode(flags: u64) -> &'static str {
    if flags & MS_RDONLY != 0 { "ro" } else { "rw" }
}

impl Flags {
    /// Those of mount(2). What it says of the times of access is `relatime` unless something else is said.
    pub(crate) fn of(flags: u64) -> Self {
        let mut mount = flags & known(&OF_MOUNTS) & !MS_RELATIME;
        if flags & MS_NOATIME == 0 {
            mount |= MS_RELATIME;
        }
        if flags & MS_STRICTATIME != 0 {
            mount &= !(MS_RELATIME | MS_NOATIME);
        }
        Self { mount, file_system: flags & known(&OF_FILE_SYSTEMS) }
    }

    /// Those of a mount of the kernel, by the words of its table (proc_pid_mountinfo(5)).
    pub(crate) fn named(mount: &str, file_system: &str) -> Self {
        let of = |words: &str, table: &[(u64, &str, i64)]| {
            let has = |name: &str| words.split(',').any(|word| word == name);
            let flags = table.iter().filter(|(_, name, _)| has(name));
            let read_only = if has("ro") { MS_RDONLY } else { 0 };
            flags.fold(read_only, |all, (flag, ..)| all | flag)
        };
        Self { mount: of(mount, &OF_MOUNTS), file_system: of(file_system, &OF_FILE_SYSTEMS) }
    }

    /// After `MS_REMOUNT`; with `MS_BIND` only the mount changes. What is not said of the times of access
    /// stays.
    pub(crate) fn remounted(self, flags: u64) -> Self {
        let mut fresh = Self::of(flags);
        if flags & (TIMES_OF_ACCESS | MS_STRICTATIME) == 0 {
            fresh.mount = fresh.mount & !TIMES_OF_ACCESS | self.mount & TIMES_OF_ACCESS;
        }
        fresh.file_system = match flags & libc::MS_BIND {
            0 => fresh.file_system & !MS_DIRSYNC | self.file_system & MS_DIRSYNC,
            _ => self.file_system,
        };
        fresh
    }

    /// Whether nothing can be changed.
    pub(crate) fn read_only(self) -> bool {
        (self.mount | self.file_system) & MS_RDONLY != 0
    }

    /// Whether all of these are set of the mount.
    pub(crate) fn has(self, flags: u64) -> bool {
        self.mount & flags == flags
    }

    /// The words of the mount, as in the sixth field of `/proc/self/mountinfo`.
    pub(crate) fn of_mount(self) -> String {
        let words = named(self.mount, &OF_MOUNTS);
        std::iter::once(mode(self.mount)).chain(words).collect::<Vec<_>>().join(",")
    }

    /// The words of the file system, as in the last field there.
    pub(crate) fn of_file_system(self) -> String {
        let words = named(self.file_system, &OF_FILE_SYSTEMS);
        std::iter::once(mode(self.file_system)).chain(words).collect::<Vec<_>>().join(",")
    }

    /// The words of both, as in `/proc/mounts`.
    pub(crate) fn of_both(self) -> String {
        let words = named(self.file_system, &OF_FILE_SYSTEMS).chain(named(self.mount, &OF_MOUNTS));
        let either = mode(self.mount | self.file_system);
        std::iter::once(either).chain(words).collect::<Vec<_>>().join(",")
    }

    /// `f_flags` of statfs(2).
    pub(crate) fn told(self) -> i64 {
        let bits = |flags: u64, table: &[(u64, &str, i64)]| {
            let set = table.iter().filter(|(flag, ..)| flags & flag != 0);
            set.fold(0, |all, (.., bit)| all | bit)
        };
        let read_only = if self.read_only() { ST_RDONLY } else { 0 };
        let both = bits(self.mount, &OF_MOUNTS) | bits(self.file_system, &OF_FILE_SYSTEMS);
        ST_VALID | read_only | both
    }
}

/// Flags that change while others look: bits of the file system above those of the mount.
#[derive(Debug)]
pub(super) struct Changing(AtomicU64);

impl Changing {
    pub(super) fn new(flags: Flags) -> Self {
        Self(AtomicU64::new(Self::pack(flags)))
    }

    pub(super) fn get(&self) -> Flags {
        let both = self.0.load(Ordering::Relaxed);
        Flags { mount: both & 0xffff_ffff, file_system: both >> 32 }
    }

    pub(super) fn set(&self, flags: Flags) {
        self.0.store(Self::pack(flags), Ordering::Relaxed);
    }

    fn pack(flags: Flags) -> u64 {
        flags.mount | flags.file_system << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bits_are_those_of_linux() {
        let plain = Flags::of(0);
        assert_eq!((plain.of_both(), plain.told()), ("rw,relatime".into(), 0x1020));
        let flags = Flags::of(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_SYNCHRONOUS);
        assert_eq!(flags.of_both(), "rw,sync,nosuid,nodev,noexec,noatime");
        assert_eq!(
            (flags.of_mount(), flags.of_file_system()),
            ("rw,nosuid,nodev,noexec,noatime".into(), "rw,sync".into())
        );
        assert_eq!(Flags::of(MS_STRICTATIME).of_both(), "rw");
        assert_eq!(Flags::of(MS_RDONLY).of_both(), "ro,relatime");
        let changing = Changing::new(flags);
        assert_eq!(changing.get(), flags);
    }

    #[test]
    fn words_of_the_kernel_are_read_back() {
        let flags = Flags::of(MS_RDONLY | MS_NODEV | MS_NOATIME | MS_DIRSYNC);
        assert_eq!(Flags::named(&flags.of_mount(), &flags.of_file_system()), flags);
    }

    #[test]
    fn what_a_remount_does_not_say_stays() {
        let flags = Flags::of(MS_NOATIME | MS_NOSUID | MS_DIRSYNC);
        assert_eq!(flags.remounted(MS_RDONLY).of_both(), "ro,dirsync,noatime");
        assert_eq!(flags.remounted(MS_RELATIME).of_both(), "rw,dirsync,relatime");
        let bound = flags.remounted(MS_RDONLY | libc::MS_BIND);
        assert_eq!(
            (bound.of_mount(), bound.of_file_system()),
            ("ro,noatime".into(), "rw,dirsync".into())
        );
    }
}
