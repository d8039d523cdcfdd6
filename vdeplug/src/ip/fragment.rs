//! Packets cut into fragments that fit a link (RFC 791, RFC 8200).

use super::{
    packet::{HEADROOM, fill_header_checksum},
    pool,
};

/// Cuts the packet in `bytes` (IP behind the header room) into pieces of at most `mtu` bytes. None
/// when it forbids that (IPv4) or is not one of ours to cut.
pub fn fragments(bytes: &[u8], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let ip = &bytes[HEADROOM..];
    match ip.first()? >> 4 {
        4 => fragments_v4(ip, mtu),
        6 => fragments_v6(ip, mtu, id),
        _ => None,
    }
}

fn fragments_v4(ip: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    let header = usize::from(ip[0] & 15) * 4;
    let flags = u16::from_be_bytes([ip[6], ip[7]]);
    if flags & 0x4000 != 0 || mtu < header + 8 {
        return None;
    }
    let first = usize::from(flags & 0x1fff) * 8;
    let step = (mtu - header) & !7;
    let payload = &ip[header..];
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let end = (at + step).min(payload.len());
        let mut piece = pool::take(HEADROOM + header + end - at);
        piece[HEADROOM..HEADROOM + header].copy_from_slice(&ip[..header]);
        piece[HEADROOM + header..].copy_from_slice(&payload[at..end]);
        let out = &mut piece[HEADROOM..];
        let total = u16::try_from(out.len()).ok()?;
        let more = end < payload.len() || flags & 0x2000 != 0;
        let place = u16::try_from((first + at) / 8).ok()? | if more { 0x2000 } else { 0 };
        out[2..4].copy_from_slice(&total.to_be_bytes());
        out[6..8].copy_from_slice(&place.to_be_bytes());
        fill_header_checksum(out);
        pieces.push(piece);
        at = end;
    }
    Some(pieces)
}

fn fragments_v6(ip: &[u8], mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    const FRAGMENT: u8 = 44;
    if mtu < 56 {
        return None;
    }
    let step = (mtu - 48) & !7;
    let payload = ip.get(40..)?;
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let end = (at + step).min(payload.len());
        let mut piece = pool::take(HEADROOM + 48 + end - at);
        let out = &mut piece[HEADROOM..];
        out[..40].copy_from_slice(&ip[..40]);
        out[4..6].copy_from_slice(&u16::try_from(8 + end - at).ok()?.to_be_bytes());
        out[6] = FRAGMENT;
        out[40] = ip[6];
        out[41] = 0;
        let place = u16::try_from(at).ok()? | u16::from(end < payload.len());
        out[42..44].copy_from_slice(&place.to_be_bytes());
        out[44..48].copy_from_slice(&id.to_be_bytes());
        out[48..].copy_from_slice(&payload[at..end]);
        pieces.push(piece);
        at = end;
    }
    Some(pieces)
}
