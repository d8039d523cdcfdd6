//! What differs between processors: registers, the system-call instruction, numbers.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

/// The machine code by which guests judge paths themselves (see [`crate::shortcut`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shortcut {
    /// The page of the code, at the same address in every guest.
    pub(crate) at: u64,
    /// The code common to all sites.
    pub(crate) code: &'static [u8],
    /// The page of the table: a count, then so many first components of paths to be trapped, each
    /// a number made of its first eight bytes, big-endian. A negative count traps every path.
    pub(crate) table: u64,
    /// What the program counter is, for a filter, at the call that is not to be trapped.
    pub(crate) allowed: u64,
    /// Where a guest goes on that has faulted in the code.
    pub(crate) fallback: u64,
    /// The size of a site in bytes.
    pub(crate) site: usize,
    /// How many sites there is room for.
    pub(crate) blocks: u64,
    /// Tells the number of the call when these bytes are a site.
    pub(crate) recognise: fn(&[u8]) -> Option<i64>,
    /// Makes the block of a site, from its index, the number of the call, the address after the
    /// site and the argument with the path.
    pub(crate) block: fn(u64, i64, u64, u8) -> Option<Block>,
}

/// What the rewriting of one site writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where the block is.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) code: Vec<u8>,
    /// What comes over the site.
    pub(crate) patch: Vec<u8>,
}
