//! File systems and devices of umvu.
//!
//! One folder for each module; modules never import each other, and are named in the crate that
//! assembles umvu only. To write one:
//!
//! 1. Implement [`FileSystem`](umvu_abi::files::FileSystem): begin with `lookup`, `getattr`,
//!    `readdir`, `open` and `read`; every method that is left out answers the errno that Linux gives
//!    for a file system that cannot. Answer `open` with [`Opened::cached`] and the core keeps the
//!    content, so that guests read, write and map it at native speed; with
//!    [`Data::Direct`](umvu_abi::files::Data::Direct) each read and write of a guest is one of yours.
//!    For a device implement [`Device`](umvu_abi::files::Device).
//! 2. Implement [`Module`](umvu_abi::module::Module): its name is the beginning of its file-system
//!    types, and [`mount_over`](umvu_abi::module::Module::mount_over) returns what is to be mounted.
//!    Other files are reached through [`Outside`](umvu_abi::files::Outside) only: a disk image by
//!    `backing`, a tree of files (to bind, to lay something over it) by `files`. So a source is looked
//!    up in the view, as it was before the mount.
//! 3. Name it in the list of built-in modules, and in tests/e2e a mount of it that is compared with a
//!    directory of the host.
//!
//! What the core does for a module: paths and symbolic links, permissions by the mode bits and the
//! sticky bit (unless [`Traits::checks_access`](umvu_abi::files::Traits) says otherwise), `umask`,
//! `MS_RDONLY`, `EXDEV`, `st_dev`, positions and listings of directories, `fstat` of descriptors,
//! `EBUSY` at umount. A call that may wait for a guest or for the network runs on a thread of its own
//! when [`Traits::may_wait`](umvu_abi::files::Traits) is set.
//!
//! [`vufusemem`](vufuse::mem) is the one to copy for a file system with data of its own, [`mountreal`]
//! for one that stands on other files.
//!
//! [`Opened::cached`]: umvu_abi::files::Opened::cached

pub mod fuse;
pub mod identity;
pub mod mountreal;
pub mod options;
mod specials;
pub mod unreal;
pub mod vubinfmt;
pub mod vudev;
pub mod vufs;
pub mod vufuse;
pub mod vumisc;
