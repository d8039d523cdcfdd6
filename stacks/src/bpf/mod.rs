//! Classic BPF: the filters that programs attach to sockets (`SO_ATTACH_FILTER`, socket(7)).
//!
//! [`Program`] is a checked program: what `check` lets through cannot loop, read outside a packet or
//! use what it has not stored. `run` is the machine. The rules are those of Linux (the kernel's
//! documentation, "Linux Socket Filtering"), its ancillary loads included.

mod check;
mod instruction;
mod run;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use umvu_abi::Errno;

use self::{instruction::Instruction, run::Ancillary};

/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;
/// The words of a program's memory.
const WORDS: usize = 16;

/// A program that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    code: Arc<[Instruction]>,
    asks_for_random: bool,
}

/// What a program looks at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packet<'a> {
    /// Everything from the link's header on.
    pub(crate) bytes: &'a [u8],
    /// Where the program's offset 0 is.
    pub(crate) start: usize,
    /// Where the network's header begins.
    pub(crate) network: usize,
    /// Whether there is a link's header in front of it.
    pub(crate) has_link: bool,
    /// The EtherType.
    pub(crate) protocol: u16,
    /// `PACKET_HOST` and its kin.
    pub(crate) pkttype: u8,
    /// The interface index.
    pub(crate) ifindex: u32,
    /// `ARPHRD_*`.
    pub(crate) hatype: u16,
    /// The tag that was taken off: its control information and its EtherType.
    pub(crate) vlan: Option<(u16, u16)>,
    /// A random number for programs that ask for one.
    pub(crate) random: u32,
}

impl Program {
    /// Reads and checks an array of `struct sock_filter`. Errors: `EINVAL`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        let (instructions, rest) = bytes.as_chunks();
        if instructions.is_empty() || instructions.len() > LONGEST || !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let code: Arc<[Instruction]> =
            instructions.iter().map(|bytes| Instruction::decode(*bytes)).collect();
        check::check(&code)?;
        let asks_for_random = code.iter().any(|one| one.asks_for(Ancillary::Random));
        Ok(Self { code, asks_for_random })
    }

    /// Whether it matters what [`Packet::random`] is.
    pub(crate) fn asks_for_random(&self) -> bool {
        self.asks_for_random
    }

    /// The array that it was read from.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.code.iter().flat_map(|one| one.encode()).collect()
    }

    /// How many bytes of a packet are let through, from offset 0 on; 0 lets none.
    pub(crate) fn run(&self, packet: &Packet<'_>) -> u32 {
        run::run(&self.code, packet)
    }
}
