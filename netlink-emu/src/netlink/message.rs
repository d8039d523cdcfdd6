//! The framing of netlink messages: headers, acknowledgements, ends of dumps.

use umvu_abi::Errno;

use super::Body;
use crate::host::Failure;

/// The size of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// `NLM_F_DUMP_FILTERED`.
pub(crate) const DUMP_FILTERED: u16 = 0x20;
/// `NLM_F_CAPPED`: an error carries the header of the request only.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow an error.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ATTR_MSG: u16 = 1;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Corresponds to `struct nlmsghdr`, without the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
    /// The whole message, header included.
    pub(crate) raw: &'a [u8],
    /// The socket has set `NETLINK_GET_STRICT_CHK`.
    pub(crate) strict: bool,
}

impl Request<'_> {
    /// Whether a flag of the header (`NLM_F_*`) is set, all of its bits.
    pub(crate) fn has(&self, flag: i32) -> bool {
        let flags = i32::from(self.header.flags);
        flags & flag == flag
    }

    /// Whether it asks for a dump.
    pub(crate) fn is_dump(&self) -> bool {
        self.has(libc::NLM_F_DUMP)
    }
}

/// Splits what was sent into messages, as the kernel does: it stops at the first bad length.
pub(crate) fn split(data: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (header, length) = parse_header(rest)?;
        let raw = rest.get(..length)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((header, raw))
    })
}

fn parse_header(bytes: &[u8]) -> Option<(Header, usize)> {
    let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let length = usize::try_from(u32_at(0)?).ok()?;
    let header =
        Header { kind: u16_at(4)?, flags: u16_at(6)?, sequence: u32_at(8)?, port: u32_at(12)? };
    (length >= HEADER).then_some((header, length))
}

/// Rounds up to the alignment of messages and attributes.
pub(crate) fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Writes a message behind what `out` holds.
pub(crate) fn write(out: &mut Vec<u8>, header: Header, payload: &[u8]) {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&header.kind.to_ne_bytes());
    out.extend_from_slice(&header.flags.to_ne_bytes());
    out.extend_from_slice(&header.sequence.to_ne_bytes());
    out.extend_from_slice(&header.port.to_ne_bytes());
    out.extend_from_slice(payload);
    out.resize(align(out.len()), 0);
}

/// How a socket wants its errors (`NETLINK_EXT_ACK`, `NETLINK_CAP_ACK`).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AckStyle {
    pub(crate) extended: bool,
    pub(crate) capped: bool,
}

/// Makes an acknowledgement, or with a failure an error.
pub(crate) fn acknowledge(
    request: &Request<'_>,
    port: u32,
    failure: Option<&Failure>,
    style: AckStyle,
) -> Vec<u8> {
    let code = failure.map_or(0, |failure| -failure.errno.0);
    let mut payload = code.to_ne_bytes().to_vec();
    let mut flags = 0;
    if failure.is_some() && !style.capped {
        payload.extend_from_slice(request.raw);
        payload.resize(align(payload.len()), 0);
    } else {
        payload.extend_from_slice(request.raw.get(..HEADER).unwrap_or_default());
        flags |= CAPPED;
    }
    if let Some(failure) = failure.filter(|failure| style.extended && !failure.message.is_empty()) {
        flags |= ACK_TLVS;
        write_text(&mut payload, &failure.message);
    }
    let header = Header { kind: NLMSG_ERROR, flags, sequence: request.header.sequence, port };
    let mut out = Vec::with_capacity(HEADER + payload.len());
    write(&mut out, header, &payload);
    out
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len() + 5).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&ATTR_MSG.to_ne_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out.resize(align(out.len()), 0);
}

/// The parts of a dump: a few messages each, the last one with the end.
pub(crate) struct Dump {
    pub(crate) bodies: Box<dyn Iterator<Item = Body> + Send>,
    /// The header of every message but for its type.
    pub(crate) header: Header,
    /// The flags of the end.
    pub(crate) end: u16,
    /// A message that did not fit into the last part.
    pub(crate) held: Option<Body>,
    /// The end comes in a part of its own, unless there is nothing else.
    pub(crate) parted: bool,
}

/// The size of a part. The kernel starts with this size, and C libraries that give a buffer of one
/// page rely on it.
const PART: usize = 3776;

impl Dump {
    /// Makes the next part; the flag tells that it is the last.
    pub(crate) fn next_part(&mut self) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(PART);
        while let Some(body) = self.held.take().or_else(|| self.bodies.next()) {
            let needed = align(HEADER + body.payload.len());
            if !out.is_empty() && out.len() + needed > PART {
                self.held = Some(body);
                return (out, false);
            }
            write(&mut out, Header { kind: body.kind, ..self.header }, &body.payload);
        }
        if (self.parted || out.len() + HEADER + 4 > PART) && !out.is_empty() {
            return (out, false);
        }
        let end = Header { kind: NLMSG_DONE, flags: self.end, ..self.header };
        write(&mut out, end, &0i32.to_ne_bytes());
        (out, true)
    }
}

/// The end of a dump that failed before its first message.
pub(crate) fn failed_dump(header: Header, failure: &Failure, style: AckStyle) -> Vec<u8> {
    let mut payload = (-failure.errno.0).to_ne_bytes().to_vec();
    let mut flags = header.flags;
    if style.extended && !failure.message.is_empty() {
        flags |= ACK_TLVS;
        write_text(&mut payload, &failure.message);
    }
    let mut out = Vec::new();
    write(&mut out, Header { kind: NLMSG_DONE, flags, ..header }, &payload);
    out
}

/// Whether an error of a dump is found before it starts: then it is an error message, not an end.
pub(crate) fn is_early(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::EBUSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_bad_lengths_end_the_messages() {
        let mut data = Vec::new();
        let header = Header { kind: 18, flags: 0x301, sequence: 7, port: 0 };
        write(&mut data, header, &[1, 2, 3, 4, 5]);
        assert_eq!(data.len(), 24);
        write(&mut data, header, &[]);
        data.extend_from_slice(&[0; 128]);
        let messages: Vec<_> = split(&data).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0], (header, &data[..21]));
        assert_eq!(split(&data[..20]).count(), 0);
        assert_eq!(split(&[0xff; 64]).count(), 0);
        assert_eq!(split(&[]).count(), 0);
    }

    #[test]
    fn errors_carry_the_request_and_the_sentence() {
        let header = Header { kind: 20, flags: 5, sequence: 9, port: 0 };
        let mut raw = Vec::new();
        write(&mut raw, header, &[0; 8]);
        let request = Request { header, payload: &raw[16..], raw: &raw, strict: false };
        let failure = Failure::new(Errno::EEXIST, "no");
        let style = AckStyle { extended: true, capped: false };
        let bytes = acknowledge(&request, 77, Some(&failure), style);
        assert_eq!(bytes.len(), 16 + 4 + 24 + 8);
        assert_eq!(&bytes[16..20], &(-17i32).to_ne_bytes());
        assert_eq!(&bytes[20..44], &raw[..]);
        assert_eq!(&bytes[44..], &[7, 0, 1, 0, b'n', b'o', 0, 0]);
        assert_eq!(&bytes[6..8], &ACK_TLVS.to_ne_bytes());
        let bytes = acknowledge(&request, 77, None, AckStyle::default());
        assert_eq!(bytes.len(), 36);
    }

    #[test]
    fn dumps_come_in_parts_of_a_page_at_most() {
        let body = Body { kind: 16, payload: vec![0; 1000] };
        let header = Header { kind: 0, flags: 2, sequence: 1, port: 1 };
        let bodies = Box::new(std::iter::repeat_n(body, 7));
        let mut dump = Dump { bodies, header, end: 2, held: None, parted: false };
        let mut counts = Vec::new();
        loop {
            let (part, last) = dump.next_part();
            assert!(part.len() <= PART);
            counts.push(split(&part).count());
            if last {
                break;
            }
        }
        assert_eq!(counts, [3, 3, 2]);
    }
}
