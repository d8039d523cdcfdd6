//! Hostile bytes from a network: what fuzz targets and property tests share.
//!
//! Nothing here may panic, and no byte may be invented, whatever the bytes are.

use std::{
    collections::VecDeque,
    io::Write,
    net::SocketAddr,
    num::NonZeroU16,
    os::unix::net::{UnixDatagram, UnixStream},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    agno::{Cipher, OuterType},
    filter::{Codec, Verdict},
    frame::{Frame, MAX_OFFLOADED, MIN_FRAME, Offload},
    mac_table::MacTable,
    shared::{
        self,
        memory::Memory,
        ring::{Broken, Consumer},
    },
    switch::{
        fabric::{Fabric, Policy},
        port::Port,
        server,
    },
    transport::Drops,
    vde::handshake::{BoundPath, Handshake, Progress},
    vlan::Tagging,
    vnl::Vnl,
    vxlan::{self, tunnel::Peers, wire},
    vxvde,
};

/// A frame with work left to do: whether checksums are pending, the size of segments, the bytes.
pub type Unfinished = (bool, u16, Vec<u8>);

/// Reads a locator; what parses prints as something that parses alike.
pub fn locator(text: &str) {
    if let Ok(locator) = text.parse::<Vnl>() {
        assert_eq!(locator.to_string().parse::<Vnl>().as_ref(), Ok(&locator));
    }
}

/// Completes a frame.
pub fn complete(frame: Unfinished) {
    let frame = frame_of(frame);
    let most = frame.bytes.len();
    frame.complete(&mut |part| assert!(part.len() <= most, "a part longer than the whole"));
}

/// Forwards frames, each from the port that its first byte tells, through each kind of switch.
pub fn forward(frames: &[Unfinished]) {
    let table = MacTable::new(64, 120, Some(7));
    let policies =
        [Policy::Learn(Mutex::new(table)), Policy::Flood, Policy::Multi, Policy::Bonding];
    for fabric in policies.map(Fabric::new) {
        let ports: [Arc<Port>; 3] = std::array::from_fn(|_| Arc::new(Port::local()));
        let slots = ports.each_ref().map(|port| fabric.attach(Arc::clone(port)));
        for frame in frames {
            let frame = frame_of(frame.clone());
            let from = usize::from(frame.bytes.first().copied().unwrap_or(0)) % slots.len();
            fabric.forward(slots[from], &mut vec![frame], &mut Vec::new(), &Drops::default());
        }
        for port in &ports {
            let mut received = VecDeque::new();
            port.inbox().map(|inbox| inbox.take(&mut received, usize::MAX));
            assert!(received.len() <= frames.len());
            assert!(received.iter().all(Frame::has_valid_length));
        }
    }
}

/// Takes over a frame that may be a kernel's, and does what that left to do.
fn adopt(bytes: &[u8]) {
    let Some(frame) = Frame::from_tunnel(bytes.to_vec()) else { return };
    assert_eq!(frame.bytes, bytes);
    assert!(frame.has_valid_length());
    frame.complete(&mut |part| assert!(part.len() <= bytes.len()));
}

/// Hears datagrams of a distributed switch and of a VXLAN, each from one of four members.
pub fn vxlan(vni: u32, datagrams: &[(u8, Vec<u8>)]) {
    let mut peers = Peers::small();
    let header = wire::header(vni);
    for (member, bytes) in datagrams {
        let sender = SocketAddr::from(([10, 0, 0, member % 4], 14_789));
        for datagram in [bytes.clone(), [&header[..], bytes].concat()] {
            let mut learn = |frame: &[u8], peers: &mut Peers| peers.learn(frame, sender, 0);
            let heard = vxvde::hear(&mut peers, &header, &datagram, sender, &mut learn);
            if let vxvde::Heard::Frame(frame) = heard {
                assert_eq!(frame, &datagram[wire::HEADER..]);
                assert!(frame.len() <= MAX_OFFLOADED);
                adopt(frame);
            }
            let heard = vxlan::hear(&mut peers, &header, &datagram, sender, 4789, 0);
            assert!(heard.is_none_or(|frame| datagram.ends_with(frame)));
        }
    }
}

/// Plays both ends of the handshake of a switch with somebody who sends these pieces.
pub fn handshake(pieces: &[Vec<u8>]) {
    let (mut theirs, mut ours) = pair();
    let mut request = Vec::new();
    for piece in pieces {
        // The other end may have been closed, and the queue is bounded.
        let _ = theirs.write_all(piece);
        if server::read_request(&mut ours, &mut request).is_err() {
            break;
        }
        assert!(request.len() <= 2 * wire_limit());
    }
    let (mut theirs, ours) = pair();
    let Ok(data) = UnixDatagram::unbound() else { return };
    let nowhere = BoundPath(PathBuf::new());
    let mut handshake = Handshake::begun(ours, data, nowhere, "vde://".to_owned());
    for piece in pieces {
        let _ = theirs.write_all(piece);
        match handshake.advance() {
            Ok(Progress::Waiting(again)) => handshake = again,
            Ok(Progress::Done(_)) | Err(_) => return,
        }
    }
}

/// Takes frames from shared memory where somebody writes words at places.
pub fn ring(writes: &[(u16, u64)]) {
    let Ok((memory, _)) = Memory::create(shared::WORDS) else { return };
    let mut consumer = Consumer::new(Arc::new(memory), 1);
    for (at, value) in writes {
        // Most values are small: then they are lengths of frames, and positions in the ring.
        consumer.poke(usize::from(*at), if at % 4 == 3 { *value } else { value % 2048 });
        for _ in 0..4 {
            match consumer.take(Vec::with_capacity) {
                Ok(Some(frame)) => assert!(frame.has_valid_length()),
                Ok(None) => break,
                Err(Broken) => return,
            }
        }
        consumer.release();
        consumer.sleep();
    }
}

/// Passes frames through VLANs and an encrypted network, in both directions.
pub fn filters(frames: &[Vec<u8>]) {
    let ports = ["vlan://", "vlan://4", "vlan://5/u=6/t=7-8.8-7/x", "vlan://9/qinq"];
    let ports = ports.map(|port| port.parse::<Vnl>().ok().and_then(|vnl| Tagging::of(&vnl).ok()));
    let cipher = Cipher::new(&[7; 16]);
    for frame in frames.iter().filter(|frame| frame.len() >= MIN_FRAME) {
        for port in ports.iter().flatten() {
            for verdict in [port.outward(frame.clone()), port.inward(frame.clone())] {
                if let Verdict::Pass(passed) = verdict {
                    assert!(passed.len() >= MIN_FRAME && passed.len() <= frame.len() + 4);
                    assert_eq!(passed[..12], frame[..12], "addresses stay");
                }
            }
        }
        assert_eq!(cipher.unseal(frame, 0), None);
        let sealed = cipher.seal(frame, OuterType::Copy, 0, [0; 6]);
        assert_eq!(cipher.unseal(&sealed, 0).as_ref(), Some(frame));
    }
}

fn wire_limit() -> usize {
    crate::vde::wire::LONGEST_REQUEST
}

fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("descriptors are left");
    for end in [&one, &other] {
        end.set_nonblocking(true).expect("a socket");
    }
    (one, other)
}

fn frame_of((checksum_pending, segment, mut bytes): Unfinished) -> Frame {
    bytes.truncate(MAX_OFFLOADED + 1);
    let offload = Offload { checksum_pending, segment_size: NonZeroU16::new(segment) };
    Frame { bytes, offload }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::vde::wire::Request;

    /// A frame that looks like one, up to the longest.
    fn frame() -> impl Strategy<Value = Unfinished> {
        let stations = vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 12);
        let kind = prop_oneof![
            Just(vec![8, 0, 0x45]),
            Just(vec![8, 0, 0x4f]),
            Just(vec![0x86, 0xdd, 0x60]),
            Just(vec![0x81, 0, 0, 7, 8, 0, 0x45]),
            Just(vec![0x81, 0]),
            vec(any::<u8>(), 0..4),
        ];
        let size = prop_oneof![4 => 0usize..80, 1 => Just(1486usize), 1 => 9000usize..9240];
        let body = size.prop_flat_map(|size| vec(any::<u8>(), size));
        let segment = prop_oneof![Just(0u16), Just(1), Just(1460), any::<u16>()];
        (any::<bool>(), segment, stations, kind, body).prop_map(
            |(pending, segment, stations, kind, body)| {
                (pending, segment, [stations, kind, body].concat())
            },
        )
    }

    /// A request or a reply, damaged and cut into pieces.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let address = PathBuf::from("/nowhere/at/all");
        let description = "lab".to_owned();
        let whole = Request { port: Some(3), address, description, shared: true };
        let request = whole.encode().expect("a short path");
        let reply = request[12..122].to_vec();
        let bytes = prop_oneof![Just(request), Just(reply), vec(any::<u8>(), 0..1500)];
        let damage = vec((0usize..130, any::<u8>()), 0..3);
        (bytes, damage, 1usize..200).prop_map(|(mut bytes, damage, size)| {
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.chunks(size).map(<[u8]>::to_vec).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_a_locator_or_not(text in "\\PC*") {
            locator(&text);
        }

        #[test]
        fn any_text_with_the_marks_of_a_locator_is_one_or_not(
            text in "(vde|vxvde|agno|cmd|vlan|libvdeplug)(://)?[a/\\[\\]{}'\"\\\\%25= é:]{0,40}"
        ) {
            locator(&text);
        }

        #[test]
        fn any_frame_is_completed(frame in frame()) {
            complete(frame);
        }

        #[test]
        fn any_datagram_of_a_distributed_switch_is_heard(
            vni: u32,
            datagrams in vec((any::<u8>(), prop_oneof![vec(any::<u8>(), 0..40), frame().prop_map(|frame| frame.2)]), 0..5),
        ) {
            vxlan(vni, &datagrams);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn any_frames_are_forwarded(frames in vec(frame(), 0..6)) {
            forward(&frames);
        }

        #[test]
        fn any_frame_passes_filters_or_not(frames in vec(frame().prop_map(|frame| frame.2), 0..4)) {
            filters(&frames);
        }

        #[test]
        fn any_words_in_shared_memory_are_frames_or_not(
            writes in vec((prop_oneof![Just(0u16), 512..600u16, any::<u16>()], any::<u64>()), 0..60),
        ) {
            ring(&writes);
        }

        #[test]
        fn any_handshake_ends(pieces in pieces()) {
            handshake(&pieces);
        }
    }
}
