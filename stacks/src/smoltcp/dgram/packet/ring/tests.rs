//! Rings beside what a guest does to them.

use std::{fs::File, os::unix::fs::FileExt, time::Duration};

use proptest::prelude::*;
use smoltcp::time::Instant;
use umvu_abi::Errno;

use super::{Arrival, Outcome, PAGE, Request, Ring, Version};

const BLOCKS: usize = 3;

fn request(version: Version, frame: u32, frames: u32) -> Request {
    let words = [4096, 3, frame, frames, 50, 0, 0_u32];
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    Request::decode(version, 0, &bytes).expect("fits").expect("a ring")
}

fn arrival(bytes: &[u8], millis: i64) -> Arrival<'_> {
    Arrival {
        bytes,
        length: u32::try_from(bytes.len()).expect("short"),
        link_header: Some(14),
        name: [0; 20],
        status: 0,
        vlan: None,
        time: Duration::from_secs(1),
        now: Instant::from_millis(millis),
    }
}

/// The guest's side.
fn file(ring: &Ring) -> File {
    File::from(ring.file(BLOCKS * PAGE).expect("whole"))
}

fn word(file: &File, at: usize) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, u64::try_from(at).expect("small")).expect("inside");
    u32::from_ne_bytes(bytes)
}

fn give_back(file: &File, at: usize) {
    file.write_all_at(&[0; 4], u64::try_from(at).expect("small")).expect("inside");
}

#[test]
fn a_full_ring_of_slots_loses_until_slots_are_given_back() {
    let mut ring = Ring::new(&request(Version::V2, 2048, 6), Duration::ZERO).expect("memory");
    let guest = file(&ring);
    let put = |ring: &mut Ring| ring.put(&arrival(&[7; 60], 0));
    assert!(!ring.is_readable());
    assert_eq!((0..6).map(|_| put(&mut ring)).filter(|one| *one == Outcome::Ready).count(), 6);
    assert_eq!(put(&mut ring), Outcome::Lost);
    assert!(ring.is_readable());
    give_back(&guest, 0);
    assert_eq!(put(&mut ring), Outcome::Ready);
    // TP_STATUS_LOSING, until the statistics are asked for.
    assert_eq!(word(&guest, 0) & 7, 5);
    ring.take_freezes();
    give_back(&guest, 2048);
    assert_eq!(put(&mut ring), Outcome::Ready);
    assert_eq!(word(&guest, 2048) & 7, 1);
}

#[test]
fn a_block_is_the_guests_when_it_is_full_or_old() {
    let mut ring = Ring::new(&request(Version::V3, 2048, 6), Duration::ZERO).expect("memory");
    let guest = file(&ring);
    assert_eq!(
        (ring.put(&arrival(&[1; 60], 10)), ring.due()),
        (Outcome::Kept, Some(Instant::from_millis(60)))
    );
    assert!(!ring.expire(Instant::from_millis(59), Duration::ZERO) && !ring.is_readable());
    assert!(ring.expire(Instant::from_millis(60), Duration::ZERO) && ring.is_readable());
    // TP_STATUS_BLK_TMO; one frame.
    assert_eq!([word(&guest, 8), word(&guest, 12)], [0x21, 1]);
    assert_eq!(ring.due(), None);
    let long = [2; 3000];
    assert_eq!(ring.put(&arrival(&long, 70)), Outcome::Kept);
    assert_eq!(ring.put(&arrival(&long, 70)), Outcome::Ready);
    assert_eq!(word(&guest, PAGE + 8), 1);
    // The next block is still the guest's.
    assert_eq!(ring.put(&arrival(&long, 70)), Outcome::LostButReady);
    assert_eq!(ring.put(&arrival(&[3; 60], 70)), Outcome::Lost);
    assert_eq!(ring.take_freezes(), 1);
    give_back(&guest, 8);
    assert_eq!(ring.put(&arrival(&[3; 60], 70)), Outcome::Kept);
    assert!(ring.expire(Instant::from_millis(200), Duration::ZERO));
    assert_eq!([word(&guest, 8), word(&guest, 12), word(&guest, 24)], [0x21, 1, 4]);
}

#[test]
fn a_frame_that_is_longer_than_a_block_is_cut() {
    let mut ring = Ring::new(&request(Version::V3, 2048, 6), Duration::ZERO).expect("memory");
    let guest = file(&ring);
    assert_eq!(ring.put(&arrival(&[9; 60_000], 0)), Outcome::Kept);
    assert_eq!(ring.put(&arrival(&[9; 60_000], 0)), Outcome::Ready);
    assert_eq!([word(&guest, 48 + 12), word(&guest, 48 + 16)], [4096 - 48 - 82, 60_000]);
}

#[test]
fn a_mapping_is_whole() {
    let ring = Ring::new(&request(Version::V1, 2048, 6), Duration::ZERO).expect("memory");
    for length in [0, PAGE, BLOCKS * PAGE + 1, usize::MAX] {
        assert_eq!(ring.file(length).map(|_| ()), Err(Errno::EINVAL));
    }
    assert!(ring.file(BLOCKS * PAGE - 1).is_ok());
}

proptest! {
    /// Whatever a guest asks for, it is refused or it fits.
    #[test]
    fn requests_are_bounded(
        words in prop::collection::vec(prop_oneof![any::<u32>(), 0..9_u32, Just(4096), Just(2048)], 7),
        version in 0..3_i32,
        reserve in prop_oneof![any::<u32>(), 0..100_u32],
    ) {
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let version = Version::from_number(version).expect("known");
        if let Ok(Some(request)) = Request::decode(version, reserve, &bytes) {
            prop_assert!(request.size() <= 256 << 20);
            if let Ok(mut ring) = Ring::new(&request, Duration::ZERO) {
                ring.put(&arrival(&[5; 100], 0));
                ring.put(&arrival(&[5; 9000], 0));
            }
        }
    }

    /// Whatever a guest writes into the memory, the ring goes on.
    #[test]
    fn scribbled_rings_do_no_harm(
        version in 0..3_i32,
        steps in prop::collection::vec((0..3 * 4096_u64 - 8, any::<u64>(), 0..5000_usize), 1..60),
    ) {
        let version = Version::from_number(version).expect("known");
        let mut ring = Ring::new(&request(version, 2048, 6), Duration::ZERO).expect("memory");
        let guest = file(&ring);
        for (number, (at, value, length)) in steps.into_iter().enumerate() {
            guest.write_all_at(&value.to_ne_bytes(), at).expect("inside");
            let now = i64::try_from(number).expect("small") * 20;
            ring.put(&arrival(&vec![1; length], now));
            ring.expire(Instant::from_millis(now), Duration::ZERO);
            ring.is_readable();
        }
    }
}
