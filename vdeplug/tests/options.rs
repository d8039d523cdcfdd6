//! Every option of every manual page is understood, by the names and shortened names there.

mod common;

use common::{beside, directory, in_private_network, open, path_text};

#[test]
fn nodes_have_the_options_of_the_manual() {
    let directory = directory();
    let path = path_text(&beside(&directory, "node"));
    for kind in ["switch", "hub", "multi", "bonding"] {
        for options in [
            "mode=0666/dirmode=02777/grp=root",
            "hashsize=1k/hashseed=0x5/expiretime=60",
            "m=600/d=2700/g=0/hashsi=512/hashse=7/e=1",
        ] {
            drop(open(&format!("{kind}://{path}[{options}]")));
        }
    }
}

#[test]
fn the_permissions_of_a_node_are_those_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = beside(&directory, "node");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    };
    for (options, of_socket, of_directory) in [
        ("", 0o600, 0o2700),
        ("[mode=0660]", 0o660, 0o2770),
        ("[mode=0666]", 0o666, 0o2777),
        ("[mode=0666/dirmode=0755]", 0o666, 0o755),
    ] {
        let _node = open(&format!("switch://{}{options}", path_text(&path)));
        assert_eq!((mode(&path.join("ctl")), mode(&path)), (of_socket, of_directory), "{options}");
    }
}

#[test]
fn tunnels_have_the_options_of_the_manual() {
    let setup = "ip address add 10.9.9.1/24 dev lo; ip route add 239.0.0.0/8 dev lo; \
                 ip -6 route add local ff05::/16 dev lo";
    if !in_private_network("tunnels_have_the_options_of_the_manual", setup) {
        return;
    }
    let shared = "port=5000/vni=42/ttl=3/hashsize=128/expiretime=9/rcvbuf=64k/if=lo";
    for vnl in [
        format!("vxvde:///{shared}"),
        format!("vxvde://239.1.2.3/v4/{shared}"),
        format!("vxvde:///v6/{shared}/bind=::1"),
        "vxvde:///v4/bind=10.9.9.1/grp=root".to_owned(),
        "vxvde:///p=5001/vn=root/g=7/t=1/h=64/e=5/r=1M/i=lo/b=10.9.9.1".to_owned(),
        format!("vxlan:///{shared}"),
        format!("vxlan:///v6/{shared}"),
        "vxlan://10.9.9.1/p=5002/vn=7/t=1/h=64/e=5/r=1M/i=lo".to_owned(),
        "udp://2000->127.0.0.1:3000".to_owned(),
        "udp://\"127.0.0.1:2001->localhost:3000\"".to_owned(),
        "udp://:2002->[::1]:3000".to_owned(),
        "udp://::1:2003->::1:3000".to_owned(),
    ] {
        drop(open(&vnl));
    }
}
