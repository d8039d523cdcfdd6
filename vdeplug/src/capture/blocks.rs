//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng).

use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// Options: of any block, of a section, of an interface, of a packet.
const END: u16 = 0;
const PROGRAM: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const MAC: u16 = 6;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
/// Timestamps count nanoseconds.
const NANOSECONDS: u8 = 9;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the interface.
    Inbound,
    /// From it.
    Outbound,
}

/// Appends the block that begins a file.
pub(super) fn section(into: &mut Vec<u8>, program: &str) {
    block(into, SECTION, |body| {
        body.extend_from_slice(&BYTE_ORDER.to_ne_bytes());
        body.extend_from_slice(&1_u16.to_ne_bytes());
        body.extend_from_slice(&0_u16.to_ne_bytes());
        // How long the section is, nobody knows.
        body.extend_from_slice(&u64::MAX.to_ne_bytes());
        option(body, PROGRAM, program.as_bytes());
        option(body, END, &[]);
    });
}

/// Appends the block that introduces an interface.
pub(super) fn interface(into: &mut Vec<u8>, name: &str, about: &str, mac: Option<[u8; 6]>) {
    block(into, INTERFACE, |body| {
        body.extend_from_slice(&ETHERNET.to_ne_bytes());
        body.extend_from_slice(&0_u16.to_ne_bytes());
        // Frames are never cut.
        body.extend_from_slice(&0_u32.to_ne_bytes());
        option(body, NAME, name.as_bytes());
        if !about.is_empty() {
            option(body, DESCRIPTION, about.as_bytes());
        }
        if let Some(mac) = mac {
            option(body, MAC, &mac);
        }
        option(body, RESOLUTION, &[NANOSECONDS]);
        option(body, END, &[]);
    });
}

/// Appends a frame that was seen at a time since the epoch.
pub(super) fn packet(
    into: &mut Vec<u8>,
    interface: u32,
    time: Duration,
    direction: Direction,
    frame: &[u8],
) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let stamp = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let [high, low] =
        [stamp >> 32, stamp & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
    block(into, PACKET, |body| {
        for word in [interface, high, low, length, length] {
            body.extend_from_slice(&word.to_ne_bytes());
        }
        padded(body, frame);
        let flags: u32 = if direction == Direction::Inbound { 1 } else { 2 };
        option(body, FLAGS, &flags.to_ne_bytes());
        option(body, END, &[]);
    });
}

fn block(into: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(&[0; 4]);
    fill(into);
    let length = u32::try_from(into.len() - start + 4).unwrap_or(u32::MAX).to_ne_bytes();
    into[start + 4..start + 8].copy_from_slice(&length);
    into.extend_from_slice(&length);
}

fn option(into: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    into.extend_from_slice(&code.to_ne_bytes());
    into.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_ne_bytes());
    padded(into, value);
}

fn padded(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(bytes);
    into.resize(into.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_tell_their_length_twice() {
        let mut file = Vec::new();
        section(&mut file, "umvu");
        interface(&mut file, "vde0", "switch:///x", Some([2; 6]));
        for length in 14..20 {
            let time = Duration::new(5_000_000_000, 7);
            packet(&mut file, 0, time, Direction::Outbound, &vec![9; length]);
        }
        let (mut rest, mut kinds) = (&file[..], Vec::new());
        while let Some(head) = rest.first_chunk::<8>() {
            let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four"));
            let length = usize::try_from(word(4)).expect("small");
            assert_eq!(length % 4, 0);
            assert_eq!(rest[length - 4..length], head[4..]);
            kinds.push(word(0));
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET, PACKET, PACKET, PACKET, PACKET]);
        let stamp = 5_000_000_007_u64 * 1_000_000_000 - 7_000_000_000 + 7;
        let high = u32::try_from(stamp >> 32).expect("a half");
        assert!(file.windows(4).any(|bytes| bytes == high.to_ne_bytes()));
    }
}
