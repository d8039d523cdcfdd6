//! Our machine beside the kernel's: the same programs on a socket of AF_UNIX.

use std::os::{fd::AsFd, unix::net::UnixDatagram};

use proptest::prelude::*;
use umvu_abi::Errno;

use super::{Instruction, Packet, Program};
use crate::ffi::filter;

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn bytes(code: &[Instruction]) -> Vec<u8> {
    code.iter().flat_map(|one| one.encode()).collect()
}

/// What the kernel lets through of a datagram. Errors: the program is refused.
fn by_the_kernel(program: &[u8], data: &[u8]) -> Result<u32, Errno> {
    let (sender, receiver) = UnixDatagram::pair().expect("a pair");
    filter::attach(receiver.as_fd(), program)?;
    receiver.set_nonblocking(true).expect("a flag");
    sender.send(data).expect("room");
    let got = receiver.recv(&mut [0; 4096]).unwrap_or(0);
    Ok(u32::try_from(got).expect("small"))
}

fn by_us(program: &[u8], data: &[u8]) -> Result<u32, Errno> {
    let length = u32::try_from(data.len()).expect("small");
    let packet = Packet { bytes: data, ..Packet::default() };
    Ok(Program::parse(program)?.run(&packet).min(length))
}

#[track_caller]
fn same(code: &[Instruction], data: &[u8]) {
    let program = bytes(code);
    assert_eq!(by_us(&program, data), by_the_kernel(&program, data), "{code:?} on {data:?}");
}

/// Every code there is, and some that are none.
const CODES: [u16; 56] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24,
    0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50,
    0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac,
    0xb1, 0x38, 0x8c, 0x17, 0xb4, 0x11, 0xff, 0x106,
];

/// Numbers that mean something: small ones, ancillary loads that a socket of AF_UNIX answers as a
/// packet of nothing known does, the edges.
fn number() -> impl Strategy<Value = u32> {
    let ancillary = [0, 4, 12, 16, 20, 40, 44, 48, 64, 66].map(|at| 0xffff_f000_u32 + at);
    prop_oneof![
        6 => 0..40_u32,
        1 => prop::sample::select(ancillary.to_vec()),
        1 => prop::sample::select(vec![0x7fff_ffff, 0x8000_0000, 0xffdf_ffff, 4096, 65_536]),
        1 => any::<u32>().prop_map(|k| k & 0x7fff_ffff),
    ]
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let code = prop::sample::select(CODES.to_vec());
    (code, 0..4_u8, 0..4_u8, number()).prop_map(|(code, jump_true, jump_false, k)| Instruction {
        code,
        jump_true,
        jump_false,
        k,
    })
}

/// A program whose loads find something, so that most of it runs.
fn program() -> impl Strategy<Value = Vec<Instruction>> {
    let start = [op(0x00, 7), op(0x02, 0), op(0x02, 1), op(0x01, 3), op(0x03, 2)];
    let end = [op(0x16, 0), op(0x06, 9), op(0x16, 0), op(0x06, 0x0004_0000), op(0x16, 0)];
    prop::collection::vec(instruction(), 0..12)
        .prop_map(move |middle| [&start[..], &middle, &end].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn programs_do_what_they_do_in_the_kernel(
        code in program(),
        data in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let program = bytes(&code);
        prop_assert_eq!(by_us(&program, &data), by_the_kernel(&program, &data));
    }

    #[test]
    fn bytes_are_accepted_or_refused_as_by_the_kernel(
        code in prop::collection::vec(instruction(), 1..6),
    ) {
        let program = bytes(&code);
        let ours = Program::parse(&program).map(|_| ());
        prop_assert_eq!(ours, by_the_kernel(&program, &[1]).map(|_| ()));
    }

    #[test]
    fn no_bytes_do_harm(
        code in prop::collection::vec(any::<u64>(), 1..64),
        packet in prop::collection::vec(any::<u8>(), 0..64),
        start in 0..64_usize,
    ) {
        let program: Vec<u8> = code.iter().flat_map(|word| word.to_ne_bytes()).collect();
        if let Ok(program) = Program::parse(&program) {
            program.run(&Packet { bytes: &packet, start, ..Packet::default() });
        }
    }
}

#[test]
fn every_code_runs_as_in_the_kernel() {
    let data: Vec<u8> = (1..60).map(|byte: u8| byte.wrapping_mul(5)).collect();
    for code in CODES {
        for k in [0, 1, 3, 14, 31, 32, 57, 58, 100, 0xffff_f028] {
            let start = [op(0x01, 5), op(0x00, 0x1234_5678), op(0x02, 1), op(0x03, 3)];
            let under_test = Instruction { code, jump_true: 0, jump_false: 1, k };
            same(&[&start[..], &[under_test, op(0x54, 63), op(0x16, 0)]].concat(), &data);
            same(&[&start[..], &[under_test, op(0x87, 0), op(0x16, 0)]].concat(), &data);
        }
    }
}

#[test]
fn lengths_are_bounded() {
    let accept = |count: usize| Program::parse(&bytes(&vec![op(0x06, 1); count])).map(|_| ());
    assert_eq!(accept(4096), Ok(()));
    assert_eq!(accept(4097), Err(Errno::EINVAL));
    assert_eq!(accept(0), Err(Errno::EINVAL));
    assert_eq!(Program::parse(&[0x06, 0, 0, 0, 0, 0, 0]).map(|_| ()), Err(Errno::EINVAL));
}

#[test]
fn what_is_known_about_a_packet_can_be_asked_for() {
    let frame: Vec<u8> = (0..60).collect();
    let packet = Packet {
        bytes: &frame,
        start: 14,
        network: 14,
        has_link: true,
        protocol: 0x0800,
        pkttype: 4,
        ifindex: 7,
        hatype: 1,
        vlan: Some((0x2005, 0x88a8)),
        random: 99,
    };
    let load = |code, k| {
        let program = bytes(&[op(code, k), op(0x16, 0)]);
        Program::parse(&program).expect("accepted").run(&packet)
    };
    let about = [0, 4, 8, 28, 44, 48, 56, 60].map(|at| load(0x20, 0xffff_f000 + at));
    assert_eq!(about, [0x0800, 4, 7, 1, 0x2005, 1, 99, 0x88a8]);
    // The link's header, the network's, offset 0.
    assert_eq!([0xffe0_000c, 0xfff0_0000, 0].map(|k| load(0x28, k)), [0x0c0d, 0x0e0f, 0x0e0f]);
    assert_eq!(load(0x80, 0), 46);
    assert_eq!(load(0x28, 45), 0);
}
