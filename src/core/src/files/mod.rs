//! Mounted file systems as the core keeps them: nodes, names, contents, listings.
//!
//! Key types: [`MountedFiles`] is a file system with what is known of it; [`Inode`] one node that
//! somebody needs; [`content`] keeps the data of open files in files of our own, which the kernel
//! serves to the guests, and [`room`] sees to it that they write no more than there is room for;
//! [`objects`] numbers those files, so that a descriptor that comes back tells its inode by its path in
//! `/proc/TID/fd`; [`shadows`] stand for what guests watch; [`names`] and [`change`] are the calls with the checks
//! that Linux makes before it asks a file system; [`whole`] shows the tree of files to modules.
//!
//! Lock order: the content of an inode, then the signs of the objects, the shadows, the tables of its
//! mount, the objects. A file system is asked with at most the lock of one content held.

pub(crate) mod access;
mod accessed;
pub(crate) mod attributes;
mod blocks;
pub(crate) mod change;
mod claims;
pub(crate) mod content;
pub(crate) mod device;
pub(crate) mod fcntl;
pub(crate) mod flags;
pub(crate) mod holders;
pub(crate) mod inode;
pub(crate) mod listing;
pub(crate) mod mounted;
pub(crate) mod names;
pub(crate) mod objects;
mod room;
pub(crate) mod shadows;
pub(crate) mod whole;
mod worker;

pub(crate) use self::{
    inode::Inode,
    mounted::MountedFiles,
    objects::{Held, Objects},
};
