//! One file per family of system calls; each handler is decode, find, one call, encode.

mod bind;
mod capabilities;
mod clocks;
mod foreign;
mod ids;
mod ioctl;
mod mapping;
mod mount;
mod msocket;
mod names;
mod native;
mod process;
pub(crate) mod sockets;
pub(crate) mod vu;
mod vuctl;

#[cfg(any(test, fuzzing))]
pub(crate) use self::sockets::{DATAGRAM_LIMIT, Outgoing, read_header};
use crate::dispatch::{Row, refused};

/// The rows of all families but the path calls.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = sockets::rows();
    rows.extend(mount::rows());
    rows.extend(ioctl::rows());
    rows.extend(mapping::rows());
    rows.extend(process::rows());
    rows.extend(ids::rows());
    rows.extend(clocks::rows());
    rows.extend(names::rows());
    rows.extend(capabilities::rows());
    rows.extend([
        refused("io_uring_setup", "rings bypass interception"),
        refused("io_uring_enter", "rings bypass interception"),
        refused("io_uring_register", "rings bypass interception"),
    ]);
    rows
}
