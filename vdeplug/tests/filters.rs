//! `vlan://` and `agno://` against the plugins of libvdeplug.

mod common;

use std::{collections::VecDeque, fs};

use common::{VdePlug, beside, directory, frame, open, path_text, receive, receive_until, send};

/// Opens one end by Debian's plugin and the other one by ours, on one switch, and sends a frame
/// in each direction.
fn meet(ours: &str, theirs: &str) {
    let ours = open(ours);
    let mut debian = VdePlug::start(theirs);
    let hello = frame(255, 9, b"hello");
    debian.greet(&ours, &hello);
    for length in [46, 47, 48, 61, 62, 63, 1000, 1486, 1500] {
        let payload: Vec<u8> = (0..=255_u8).cycle().take(length).collect();
        send(&ours, &frame(9, 1, &payload));
        debian.expect(&frame(9, 1, &payload));
        debian.send(&frame(1, 9, &payload));
        receive_until(&ours, &frame(1, 9, &payload));
    }
}

#[test]
fn vlans_are_those_of_the_plugin() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let _switch = open(&format!("hub://{path}"));
    for (ours, theirs) in
        [("4", "4"), ("5/qinq", "5/qinq"), ("0x6", "6"), ("", ""), ("2/u=3", "2/untag=3")]
    {
        meet(
            &format!("vlan://{ours}{{hub://{path}}}"),
            &format!("vlan://{theirs}{{vde://{path}}}"),
        );
    }
}

#[test]
fn vlans_are_kept_apart_and_nest() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let wire = open(&format!("hub://{path}"));
    let four = open(&format!("vlan://4{{hub://{path}}}"));
    let five = open(&format!("vlan://5{{hub://{path}}}"));
    let double = open(&format!("vlan://4{{vlan://5/qinq{{hub://{path}}}}}"));
    send(&four, &frame(255, 1, b"four"));
    let tagged = receive(&wire);
    assert_eq!(tagged[12..16], [0x81, 0, 0, 4]);
    send(&double, &frame(255, 1, b"double"));
    assert_eq!(receive(&wire)[12..20], [0x88, 0xa8, 0, 5, 0x81, 0, 0, 4]);
    send(&wire, &tagged);
    assert_eq!(receive(&four), frame(255, 1, b"four"));
    let mut rest = VecDeque::new();
    for plug in [&four, &five, &double] {
        plug.receive(&mut rest, 64).expect("a live plug");
    }
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn agno_is_that_of_the_plugin() {
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let key = path_text(&beside(&directory, "key"));
    fs::write(&key, "00112233 44556677 8899aabb ccddeeff\n").expect("a file");
    let wire = open(&format!("hub://{path}"));
    for options in ["", "[ethtype=copy]", "[ethtype=rand]", "[ethtype=0x88b6]"] {
        let ours = format!("agno://{key}{options}{{hub://{path}}}");
        meet(&ours, &format!("agno://{key}{options}{{vde://{path}}}"));
    }
    let sealed = receive(&wire);
    assert_eq!(sealed[12..14], [0xa6, 0xde]);
    assert!(!sealed.windows(5).any(|bytes| bytes == b"hello"));
}
