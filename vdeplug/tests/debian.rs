//! Debian's `vde_plug` and `dpipe` on the wire: networks that they make and we join, cables that
//! they draw between networks of ours.

mod common;

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::Arc,
};

use common::{
    Running, VdePlug, arp_answer, arp_question, beside, directory, frame, in_private_network,
    installed, open, path_text, receive_until, send, send_until, vde_switch, wait_for_path,
};
use vdeplug::Transport;

/// Sends frames of several lengths in both directions, once both ends are there.
fn exchange(left: &Arc<dyn Transport>, right: &Arc<dyn Transport>, longest: usize) {
    let hello = frame(255, 1, b"hello");
    send_until(left, right, &hello, |bytes| (bytes == hello).then_some(()));
    for length in [46, 64, 1000, longest] {
        let payload: Vec<u8> = (0..=255_u8).cycle().take(length).collect();
        send(left, &frame(255, 1, &payload));
        receive_until(right, &frame(255, 1, &payload));
        send(right, &frame(255, 2, &payload));
        receive_until(left, &frame(255, 2, &payload));
    }
}

#[test]
fn nodes_that_debian_made_are_joined() {
    if !installed("vde_plug") {
        return;
    }
    for kind in ["switch", "hub", "multi", "bonding"] {
        let directory = directory();
        let path = path_text(&beside(&directory, "node"));
        let mut debian = VdePlug::start(&format!("{kind}://{path}[mode=0660]"));
        wait_for_path(std::path::Path::new(&path).join("ctl").as_path());
        let plug = open(&path);
        debian.greet(&plug, &frame(255, 9, b"hello"));
        send(&plug, &frame(9, 1, b"answer"));
        debian.expect(&frame(9, 1, b"answer"));
    }
}

#[test]
fn links_of_debian_to_one_host_of_ours_carry_all_or_take_turns() {
    if !installed("vde_plug") {
        return;
    }
    for kind in ["multi", "bonding"] {
        let directory = directory();
        let path = path_text(&beside(&directory, "node"));
        let host = open(&format!("{kind}://{path}"));
        let mut links = [1, 2].map(|_| VdePlug::start(&format!("vde://{path}")));
        for (link, number) in links.iter_mut().zip(1..) {
            link.greet(&host, &frame(255, number, b"hello"));
        }
        for number in 0..10 {
            send(&host, &frame(255, 7, &[number]));
        }
        let count = if kind == "multi" { 10 } else { 5 };
        for link in &mut links {
            let numbers: Vec<u8> = (0..count).map(|_| link.receive()[14]).collect();
            assert!(numbers.is_sorted(), "{kind}: {numbers:?}");
            assert!(!link.is_readable(), "{kind}: more than its part");
        }
    }
}

#[test]
fn dpipe_draws_a_cable_between_two_switches() {
    if !installed("dpipe") || !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let (ours, theirs) = (beside(&directory, "ours"), beside(&directory, "theirs"));
    let _switch = vde_switch(&theirs);
    let left = open(&format!("switch://{}", path_text(&ours)));
    let right = open(&path_text(&theirs));
    let mut command = Command::new("dpipe");
    command.args(["vde_plug".as_ref(), ours.as_os_str(), "=".as_ref()]);
    command.args(["vde_plug".as_ref(), theirs.as_os_str()]);
    let _cable = Running::start(command.stdin(Stdio::null()));
    exchange(&left, &right, 1500);
}

#[test]
fn vde_plug_bridges_networks_of_different_kinds() {
    let test = "vde_plug_bridges_networks_of_different_kinds";
    let setup = "ip route add 239.0.0.0/8 dev lo";
    if !installed("vde_plug") || !in_private_network(test, setup) {
        return;
    }
    let directory = directory();
    let key = path_text(&beside(&directory, "key"));
    fs::write(&key, "0123456789abcdef0123456789abcdef").expect("a file");
    let path = path_text(&beside(&directory, "sw"));
    let hub = path_text(&beside(&directory, "hub"));
    let cases = [
        (format!("switch://{path}"), format!("vde://{path}"), "vxvde://", "vxvde://"),
        ("udp://2000->127.0.0.1:3000".into(), "udp://3000->127.0.0.1:2000".into(), "", ""),
        ("udp://2000->[::1]:3000".into(), "udp://3000->::1:2000".into(), "", ""),
        (
            format!("vlan://4{{agno://{key}{{vxvde:///vni=3}}}}"),
            format!("vlan://4{{agno://{key}{{vxvde:///vni=3}}}}"),
            "",
            "",
        ),
    ];
    for (ours, debian, other_ours, other_debian) in cases {
        let or_hub = |text: &str, scheme: &str| match text {
            "" => format!("{scheme}://{hub}"),
            text => text.to_owned(),
        };
        let left = open(&ours);
        let right = open(&or_hub(other_ours, "hub"));
        let mut command = Command::new("vde_plug");
        command.args([&debian, &or_hub(other_debian, "vde")]);
        let _bridge = Running::start(&mut command);
        exchange(&left, &right, 9000);
    }
}

#[test]
fn a_namespace_of_debian_is_a_host_on_our_switch() {
    let probe = Command::new("unshare").args(["-Urn", "test", "-c", "/dev/net/tun"]).status();
    if !installed("vdens") || !probe.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: vdens needs user namespaces and taps");
    }
    let directory = directory();
    let path = path_text(&beside(&directory, "sw"));
    let plug = open(&format!("switch://{path}"));
    let script = "ip address add 10.9.9.1/24 dev vde0 && ip link set vde0 up && read _";
    let mut command = Command::new("vdens");
    command.args([&path, "sh", "-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut namespace = Running::start(&mut command);
    let question = arp_question([10, 9, 9, 2], [10, 9, 9, 1]);
    send_until(&plug, &plug, &question, |bytes| {
        if let Ok(Some(status)) = namespace.0.try_wait() {
            let mut text = String::new();
            let _ = namespace.0.stderr.take().map(|mut said| said.read_to_string(&mut text));
            panic!("vdens ended: {status}: {text}");
        }
        arp_answer(bytes, [10, 9, 9, 1])
    });
    let _ = namespace.0.stdin.take().map(|mut input| input.write_all(b"\n"));
    assert!(namespace.0.wait().expect("vdens").success());
}
