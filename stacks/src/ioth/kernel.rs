//! Sockets of a plugin that are the kernel's own, in a network namespace that the plugin keeps.
//!
//! A plugin such as vdestack opens sockets in a namespace and leaves everything else to the C
//! library: it puts `bind`, `recvmsg`, `close` and so on into its table as they are. Such a plugin
//! cannot know what becomes of a descriptor, so guests are given the kernel's sockets themselves.
//! Whether some are left is asked of a process in the namespace.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::sys::{
    socket::{getsockopt, sockopt},
    stat::fstat,
};
use umvu_abi::Errno;

use super::ffi::plugin;

/// A network namespace, by the inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Namespace(u64);

impl Namespace {
    /// The namespace of a socket (`SIOCGSKNS`). Errors: `EPERM` when it is none of this user's.
    pub(crate) fn of(socket: &OwnedFd) -> Result<Self, Errno> {
        let file = plugin::namespace_of(socket.as_fd())?;
        fstat(&file).map(|stat| Self(stat.st_ino)).map_err(|errno| Errno(errno as i32))
    }

    /// How many sockets are open in the namespace; 0 when nobody can be asked.
    pub(crate) fn sockets(self) -> usize {
        crate::vdestack::sockets(&self.read("net/sockstat"))
    }

    /// How many connections say goodbye for a socket that is closed: the kernel counts them as
    /// sockets.
    pub(crate) fn orphans(self) -> usize {
        crate::vdestack::orphans(&self.read("net/tcp"))
            + crate::vdestack::orphans(&self.read("net/tcp6"))
    }

    /// A file of procfs, as a process in the namespace has it.
    fn read(self, file: &str) -> String {
        let folder = self.folder();
        folder.and_then(|folder| fs::read_to_string(folder.join(file)).ok()).unwrap_or_default()
    }

    /// The folder in procfs of a process or thread in the namespace.
    pub(crate) fn folder(self) -> Option<PathBuf> {
        let wanted = format!("net:[{}]", self.0);
        let lists = ["/proc/self/task", "/proc"];
        let entries = lists.iter().filter_map(|list| fs::read_dir(list).ok()).flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).find(|folder| {
            fs::read_link(folder.join("ns/net")).is_ok_and(|name| name.as_os_str() == &*wanted)
        })
    }
}

/// Whether a descriptor is a socket of the kernel.
pub(crate) fn is_socket(fd: plugin::PluginFd) -> bool {
    getsockopt(&plugin::borrow(fd), sockopt::SockType).is_ok()
}
