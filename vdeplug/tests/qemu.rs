//! QEMU on the wire: its `-netdev vde`, `dgram` and `socket`, without any guest.
//!
//! A machine of type `none` has no processor; hub ports join two of its networks, of which one is
//! `-netdev user`, a router at 10.0.2.2 that answers ARP and pings.

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{
    Running, beside, directory, exchange_pings, in_private_network, installed, open, path_text,
    vde_switch,
};
use vdeplug::Transport;

const QEMU: &str = "qemu-system-x86_64";
const OWN: [u8; 4] = [10, 0, 2, 15];
const ROUTER: [u8; 4] = [10, 0, 2, 2];

/// Starts a router on a network that QEMU reaches by `-netdev NETDEV`.
fn router(netdev: &str) -> Running {
    let mut command = Command::new(QEMU);
    command.args("-M none -nodefaults -display none -monitor none -serial none".split(' '));
    command.args(["-netdev", "user,id=router", "-netdev", &format!("{netdev},id=wire")]);
    for end in ["router", "wire"] {
        command.args(["-netdev", &format!("hubport,id=port-{end},hubid=0,netdev={end}")]);
    }
    // What it says of graphical modules that are not installed is no concern of ours.
    Running::start(command.stdin(Stdio::null()).stderr(Stdio::null()))
}

fn exchange(plug: &Arc<dyn Transport>) {
    exchange_pings(plug, OWN, ROUTER);
}

fn vde(path: &Path) -> String {
    format!("vde,sock={}", path.display())
}

#[test]
fn qemu_joins_our_switch() {
    if !installed(QEMU) {
        return;
    }
    for kind in ["switch", "hub", "multi"] {
        let directory = directory();
        let path = beside(&directory, "sw");
        let plug = open(&format!("{kind}://{}", path_text(&path)));
        let _qemu = router(&vde(&path));
        exchange(&plug);
    }
}

#[test]
fn qemu_is_met_on_a_vde_switch() {
    if !installed(QEMU) || !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let _qemu = router(&vde(&path));
    exchange(&open(&path_text(&path)));
}

#[test]
fn qemu_is_met_on_a_multicast_group_and_in_vlans() {
    let test = "qemu_is_met_on_a_multicast_group_and_in_vlans";
    let setup = "ip route add 239.0.0.0/8 dev lo; ip -6 route add local ff05::/16 dev lo";
    if !installed(QEMU) || !in_private_network(test, setup) {
        return;
    }
    for vnl in ["vxvde://", "vxvde:///v6", "vlan://4{vxvde:///vni=2}"] {
        let _qemu = router(&format!("vde,sock={vnl}"));
        exchange(&open(vnl));
    }
}

#[test]
fn qemu_ends_a_cable_through_udp() {
    if !installed(QEMU) || !in_private_network("qemu_ends_a_cable_through_udp", "true") {
        return;
    }
    let dgram = "dgram,local.type=inet,local.host=127.0.0.1,local.port=3000,\
                 remote.type=inet,remote.host=127.0.0.1,remote.port=2000";
    let socket = "socket,udp=127.0.0.1:2001,localaddr=127.0.0.1:3001";
    for (netdev, vnl) in
        [(dgram, "udp://2000->127.0.0.1:3000"), (socket, "udp://2001->127.0.0.1:3001")]
    {
        let _qemu = router(netdev);
        exchange(&open(vnl));
    }
}
