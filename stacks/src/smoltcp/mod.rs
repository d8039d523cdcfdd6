//! The stack "smoltcp": an IP stack of its own, with smoltcp as its TCP engine.
//!
//! Theory of operation. A stack is an [`inner::Inner`] behind one lock ([`shared::Shared`]). Frames
//! come from transports on the reactor's thread ([`input`]), calls come from any thread; both end
//! by [`inner::Inner::settle`], which lets connections send and flushes what was produced
//! ([`output`]) in one batch per transport. Links, neighbours, routes, fragments, forwarding, ICMP
//! and every socket table are this crate's; smoltcp sees one packet at a time, of one connection,
//! through [`device`].

pub(crate) mod address;
pub(crate) mod arp;
pub(crate) mod bridge;
pub(crate) mod clock;
mod counts;
pub(crate) mod dgram;
pub(crate) mod follow;
pub(crate) mod forward;
pub(crate) mod host;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub(crate) mod icmp;
pub(crate) mod ident;
pub(crate) mod inner;
pub(crate) mod input;
pub(crate) mod layers;
pub(crate) mod link;
pub(crate) mod ndp;
pub(crate) mod neighbour;
pub(crate) mod net;
pub(crate) mod opttable;
pub(crate) mod output;
pub(crate) mod ports;
pub(crate) mod qdisc;
pub(crate) mod redirect;
pub(crate) mod rng;
pub(crate) mod routers;
pub(crate) mod rows;
pub(crate) mod segmentation;
pub(crate) mod shared;
pub(crate) mod slab;
pub(crate) mod sockopt;
pub(crate) mod stack;
pub(crate) mod tcp;
pub(crate) mod tunnel;
pub(crate) mod wire;

pub(crate) use vdeplug::ip::{device, fragment, hash, packet, pool, reassembly};

#[cfg(any(test, fuzzing))]
mod testing;
#[cfg(test)]
mod tests;
