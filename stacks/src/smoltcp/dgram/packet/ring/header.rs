//! The headers of frames: `struct tpacket_hdr`, `tpacket2_hdr`, `tpacket3_hdr`.

use super::{Arrival, Request, USER, Version};

/// `TP_STATUS_VLAN_VALID`, `TP_STATUS_VLAN_TPID_VALID`, `TP_STATUS_TS_SOFTWARE`.
const VLAN: u32 = 0x10;
const VLAN_PROTOCOL: u32 = 0x40;
const SOFTWARE_TIME: u32 = 1 << 29;

/// Where the parts of a frame go, counted from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The first byte of the frame (`tp_mac`).
    pub(super) start: usize,
    /// The network's header (`tp_net`).
    pub(super) network: usize,
}

impl Layout {
    /// The layout that Linux chooses; None when it does not fit the header's fields.
    pub(super) fn of(request: &Request, link_header: Option<usize>) -> Option<Self> {
        let head = usize::try_from(request.version.header_and_name()).ok()?;
        let reserve = usize::try_from(request.reserve).ok()?;
        let network = match link_header {
            Some(length) => (head + length.max(16)).next_multiple_of(16) + reserve,
            None => head.next_multiple_of(16) + 16 + reserve,
        };
        u16::try_from(network).ok()?;
        Some(Self { start: network - link_header.unwrap_or(0), network })
    }
}

/// What goes in front of a frame.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) arrival: &'a Arrival<'a>,
    pub(super) layout: Layout,
    /// How much of the frame is there.
    pub(super) kept: usize,
}

impl Header<'_> {
    /// What the status says about the frame, beside whose it is.
    pub(super) fn status(&self) -> u32 {
        let vlan = if self.arrival.vlan.is_some() { VLAN | VLAN_PROTOCOL } else { 0 };
        self.arrival.status | vlan | SOFTWARE_TIME
    }

    /// The header and the sender's name, as the guest finds them; the status of the first two
    /// versions is 0.
    pub(super) fn encode(&self, version: Version) -> Vec<u8> {
        let arrival = self.arrival;
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
        let half = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_ne_bytes();
        let seconds = u32::try_from(arrival.time.as_secs() & 0xffff_ffff).unwrap_or(0);
        let (length, kept) = (arrival.length.to_ne_bytes(), word(self.kept));
        let (start, network) = (half(self.layout.start), half(self.layout.network));
        let nanos = arrival.time.subsec_nanos();
        let (tag, protocol) = arrival.vlan.unwrap_or_default();
        let parts: &[&[u8]] = match version {
            Version::V1 => &[
                &[0; 8],
                &length,
                &kept,
                &start,
                &network,
                &seconds.to_ne_bytes(),
                &(nanos / 1000).to_ne_bytes(),
                &[0; 4],
            ],
            Version::V2 => &[
                &[0; 4],
                &length,
                &kept,
                &start,
                &network,
                &seconds.to_ne_bytes(),
                &nanos.to_ne_bytes(),
                &tag.to_ne_bytes(),
                &protocol.to_ne_bytes(),
                &[0; 4],
            ],
            Version::V3 => &[
                // The distance to the next frame.
                &word(self.span()),
                &seconds.to_ne_bytes(),
                &nanos.to_ne_bytes(),
                &kept,
                &length,
                &(USER | self.status()).to_ne_bytes(),
                &start,
                &network,
                &[0; 4],
                &u32::from(tag).to_ne_bytes(),
                &protocol.to_ne_bytes(),
                &[0; 10],
            ],
        };
        let mut bytes = parts.concat();
        bytes.extend_from_slice(&arrival.name);
        bytes
    }

    /// What the frame takes in a block of the third version.
    pub(super) fn span(&self) -> usize {
        (self.layout.start + self.kept).next_multiple_of(8)
    }
}
