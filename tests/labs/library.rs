//! Networks that umvu has no transport for, joined by libvdeplug; and those inside other networks.

use crate::harness::{INSIDE, Place, run, succeed};

#[test]
fn slirp_leads_to_the_loopback_of_the_host() {
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'kill $server; rm -rf $W' EXIT
            seq 1 100000 >$W/numbers; cd $W
            vustack kernel python3 -u -m http.server 0 --bind 127.0.0.1 >log 2>&1 & server=$!
            until port=$(sed -n 's/.*port \([0-9]*\) .*/\1/p' log) && [ "$port" ]; do sleep 0.1; done
            vumount -t vunetioth -o slirp:///allow_host_loopback,ip=10.0.2.15/24,gw=10.0.2.2 smoltcp /dev/net/out
            vustack /dev/net/out ping -q -c 2 -i 0.2 10.0.2.2 | grep -o '.* received'
            vustack /dev/net/out curl -s -o copy http://10.0.2.2:$port/numbers
            cmp copy numbers && echo same"#;
        let out = succeed(place, script);
        assert_eq!(out, "2 packets transmitted, 2 received\nsame\n", "{place:?}");
    }
}

/// What is between braces is one network for all, and outside of them are several.
#[test]
fn stacks_share_a_switch_and_not_their_vlans() {
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'rm -rf $W' EXIT
            echo 00112233445566778899aabbccddeeff >$W/key
            host() { vumount -t vunetioth -o "$2,ip=10.4.0.$1/24" smoltcp /dev/net/$1; }
            on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
            host 1 "vlan://4{switch://$W/sw}"
            host 2 "vlan://4{switch://$W/sw}"
            host 3 "vlan://5{switch://$W/sw}"
            host 4 "agno://$W/key{vlan://5{switch://$W/sw}}"
            host 5 "agno://$W/key{vlan://5{switch://$W/sw}}"
            on 1 ping -q -c 2 -i 0.2 10.4.0.2 | grep -o '.* received'
            on 4 ping -q -c 2 -i 0.2 10.4.0.5 | grep -o '.* received'
            on 1 ping -q -c 1 -W 1 10.4.0.3 | grep -o '.* received'
            on 3 ping -q -c 1 -W 1 10.4.0.4 | grep -o '.* received'"#;
        let (both, none) =
            ("2 packets transmitted, 2 received\n", "1 packets transmitted, 0 received\n");
        assert_eq!(succeed(place, script), [both, both, none, none].concat(), "{place:?}");
    }
}

#[test]
fn a_debian_host_is_met_in_an_encrypted_vlan() {
    if run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status != Some(0) {
        return eprintln!("skipped: vdens needs user namespaces and taps");
    }
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf $W' EXIT
            echo 00112233445566778899aabbccddeeff >$W/key
            vumount -t vunetioth -o "agno://$W/key{vlan://4{switch://$W/sw}},ip=10.5.0.1/24" \
                smoltcp /dev/net/1
            vustack kernel vdens "agno://$W/key{vlan://4{vde://$W/sw}}" sh -c '
                ip address add 10.5.0.2/24 dev vde0; ip link set vde0 up
                until ping -c 1 -W 1 10.5.0.1 >/dev/null; do :; done
                ping -q -c 3 -i 0.2 10.5.0.1 | grep -o ".* received"'
            echo $?"#;
        assert_eq!(succeed(place, script), "3 packets transmitted, 3 received\n0\n", "{place:?}");
    }
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    for place in INSIDE {
        let absent = "vumount -t vunetsmoltcp nosuch://x /dev/net/a; echo $?";
        let out = run(place, absent);
        assert_ne!(out.out, "0\n", "{place:?}");
        let said = out.err;
        assert_eq!(said.lines().count(), 1, "{place:?}: {said}");
        assert!(said.contains("by plugins of libvdeplug: vdesl://"), "{said}");
    }
}

/// QEMU's user network, a router at 10.0.2.2, on one wire with a host of ours.
#[test]
fn qemu_is_met_on_a_switch_without_a_daemon() {
    let found = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    if !found.is_ok_and(|done| done.status.success()) {
        return eprintln!("skipped: qemu-system-x86_64 is not installed");
    }
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'kill $qemu; rm -rf $W' EXIT
            vumount -t vunetioth -o switch://$W/sw,ip=10.0.2.15/24,gw=10.0.2.2 smoltcp /dev/net/1
            vustack kernel qemu-system-x86_64 -M none -nodefaults -display none -monitor none \
                -netdev user,id=u -netdev hubport,id=a,hubid=0,netdev=u \
                -netdev vde,id=v,sock=$W/sw -netdev hubport,id=b,hubid=0,netdev=v 2>/dev/null &
            qemu=$!
            until vustack /dev/net/1 ping -c 1 -W 1 10.0.2.2 >/dev/null; do :; done
            vustack /dev/net/1 ping -q -c 3 -i 0.2 10.0.2.2 | grep -o '.* received'"#;
        assert_eq!(succeed(place, script), "3 packets transmitted, 3 received\n", "{place:?}");
    }
}
