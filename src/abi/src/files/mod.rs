//! The contracts of files: what a file system and a device are, and what the core gives them.
//!
//! A module implements [`FileSystem`] (nodes and handles, as the kernel's FUSE protocol has them,
//! fuse(4)) or [`Device`] and returns it as
//! [`Mounted::FileSystem`](crate::module::Mounted::FileSystem) or
//! [`Mounted::Device`](crate::module::Mounted::Device). The core walks paths, checks permissions
//! and the `ro` flag, shows `st_dev`, keeps the content of open files where the kernel can serve
//! it, and lists directories. [`Outside`] is what a module may ask of the core: the tree of files
//! as it was when the module's mount was made.
//!
//! Defaults of the traits return the errno that Linux gives for an object that cannot.

mod attributes;
mod caller;
mod device;
mod open;
mod outside;
mod system;

pub use attributes::{Attributes, Changes, SetTime, StatFs, Time};
pub use caller::{Caller, EXECUTE, READ, WRITE};
pub use device::{Block, Device, DeviceKind, Looks};
pub use open::{Data, Handle, Node, Opened};
pub use outside::{Backing, Claim, GuestFile, OpenFile, Outside, Source};
pub use system::{DirEntry, Entry, FileSystem, Keeper, Right, Seek, Seen, Takes, Traits};
