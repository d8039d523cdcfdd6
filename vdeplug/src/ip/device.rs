//! The one-packet device between a stack's IP layer and smoltcp's TCP engine.
//!
//! smoltcp's `Interface` is used as an engine only: any address, no neighbours, no routes. Each
//! link has one, because the engine knows a single MTU. Checksums are never computed there: the
//! IP layer verifies and fills them where a link needs them.

use std::num::NonZeroU16;

use smoltcp::{
    iface::{Config, Interface},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken},
    time::Instant,
    wire::HardwareAddress,
};

use super::{packet::HEADROOM, pool};

/// The longest IP packet: its length field has 16 bits.
pub const LONGEST: usize = 65_535;

/// What the engine of a link may produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Segments that fit the MTU.
    Here,
    /// TCP over IPv4 may hand over segments of up to 64 KiB, cut up by whoever receives them.
    Offloaded,
}

/// A packet that the engine produced: IP at [`HEADROOM`].
#[derive(Debug)]
pub struct Produced {
    /// The buffer.
    pub bytes: Vec<u8>,
    /// The payload of each segment to cut it into.
    pub segment: Option<NonZeroU16>,
}

/// Makes the capabilities and the engine of a link.
pub fn engine(
    mtu: usize,
    segmentation: Segmentation,
    seed: u64,
    now: Instant,
) -> (DeviceCapabilities, Interface) {
    let mut caps = DeviceCapabilities::default();
    caps.medium = Medium::Ip;
    caps.max_transmission_unit = mtu.clamp(576, LONGEST);
    caps.checksum = ChecksumCapabilities::ignored();
    if segmentation == Segmentation::Offloaded {
        caps.segmentation.tcpv4 = std::num::NonZeroUsize::new(LONGEST);
    }
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut produced = Vec::new();
    let mut port = Port { caps: &caps, incoming: None, produced: &mut produced };
    let mut interface = Interface::new(config, &mut port, now);
    interface.set_any_ip(true);
    (caps, interface)
}

/// The device: at most one packet in, any number out.
#[derive(Debug)]
pub struct Port<'a> {
    /// The capabilities of the link.
    pub caps: &'a DeviceCapabilities,
    /// The packet to take in, without any header room.
    pub incoming: Option<&'a [u8]>,
    /// Where produced packets go.
    pub produced: &'a mut Vec<Produced>,
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing { produced: self.produced, segment: None }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { produced: self.produced, segment: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.caps.clone()
    }
}

/// A packet on its way into the engine.
#[derive(Debug)]
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A place for a packet out of the engine.
#[derive(Debug)]
pub struct Outgoing<'a> {
    produced: &'a mut Vec<Produced>,
    segment: Option<NonZeroU16>,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = pool::take(HEADROOM + len);
        let result = f(&mut bytes[HEADROOM..]);
        self.produced.push(Produced { bytes, segment: self.segment });
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size;
    }
}
