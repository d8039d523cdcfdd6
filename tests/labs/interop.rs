//! Across sessions, with Debian's vde2 and with the kernel: vde_switch, vxvde, vxlan, a tap.

use crate::harness::{INSIDE, Place, run, succeed};

fn umvu_of(place: Place) -> String {
    place.prefix().join(" ")
}

/// `session` becomes a session of its own with one stack, that runs a script; for subshells only.
const SESSION: &str = r#"
W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$W"' EXIT
session() { # options, stack, script
    exec $UMVU sh -c '
        tries=0
        until vumount -t vunetioth -o "$0" "$1" /dev/net/x; do # the switch may not listen yet
            tries=$((tries + 1)); [ $tries -lt 100 ] || exit 93; sleep 0.1
        done
        exec vustack /dev/net/x sh -c "$2"' "$@"
}
wait_for() { tries=0; until [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 100 ] || exit 92; sleep 0.1; done; }
"#;

#[test]
fn two_hosts_of_one_session_meet_on_a_vde_switch() {
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'kill $(cat $W/pid); rm -rf $W' EXIT
            vde_switch -s $W/switch -d -p $W/pid </dev/null >/dev/null 2>&1 || exit 94
            for n in 1 2; do # the switch may not listen yet
                until vumount -t vunetioth -o vde://$W/switch,ip=10.3.0.$n/24 smoltcp /dev/net/$n
                do sleep 0.1; done
            done 2>/dev/null
            on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
            until on 1 ping -c 1 -W 1 10.3.0.2 >/dev/null; do :; done
            on 1 ping -q -c 3 -i 0.2 10.3.0.2 | grep -o '.* received'
            seq 1 200000 >$W/numbers; cd $W
            vustack /dev/net/1 python3 -m http.server 80 >/dev/null 2>&1 & server=$!
            until on 2 curl -s -o copy http://10.3.0.1/numbers; do sleep 0.1; done
            cmp copy numbers && echo same
            kill $server"#;
        let out = succeed(place, script);
        assert_eq!(out, "3 packets transmitted, 3 received\nsame\n", "{place:?}");
    }
}

#[test]
fn two_sessions_meet_on_a_vde_switch() {
    for place in INSIDE {
        let script = format!(
            "UMVU='{}'{SESSION}{}",
            umvu_of(place),
            r#"
            vde_switch -s $W/switch -d -p $W/pid </dev/null >/dev/null 2>&1 || exit 94
            session vde://$W/switch,ip=10.3.0.1/24 smoltcp "touch $W/up; exec sleep 100" & first=$!
            wait_for $W/up
            session vde://$W/switch,ip=10.3.0.2/24 smoltcp 'ping -q -c 3 -i 0.2 10.3.0.1' | grep -o '.* received'
            kill $(cat $W/pid)
            kill $first"#
        );
        let out = succeed(Place::Native, &script);
        assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}");
    }
}

#[test]
fn a_command_carries_a_network_and_ends_with_it() {
    for place in INSIDE {
        let script = format!(
            "UMVU='{}'{SESSION}{}",
            umvu_of(place),
            r#"
            vde_switch -s $W/switch -d -p $W/pid </dev/null >/dev/null 2>&1 || exit 94
            session vde://$W/switch,ip=10.3.0.1/24 smoltcp "touch $W/up; exec sleep 100" & first=$!
            wait_for $W/up
            printf '#!/bin/sh\necho $$ >%s\nexec vde_plug %s\n' $W/plug $W/switch >$W/carry
            chmod +x $W/carry
            timeout 30 $UMVU sh -c '
                vumount -t vunetsmoltcp -o ip=10.3.0.2/24 "cmd://$0/carry" /dev/net/x || exit 93
                vustack /dev/net/x ping -q -c 3 -i 0.2 10.3.0.1' $W | grep -o '.* received'
            tries=0
            while kill -0 $(cat $W/plug) 2>/dev/null; do
                tries=$((tries + 1)); [ $tries -lt 100 ] || exit 91; sleep 0.1; done
            kill $(cat $W/pid)
            kill $first"#
        );
        let out = succeed(Place::Native, &script);
        assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}");
    }
}

#[test]
fn another_session_joins_a_switch_without_a_daemon() {
    for place in INSIDE {
        let script = format!(
            "UMVU='{}'{SESSION}{}",
            umvu_of(place),
            r#"
            session switch://$W/sw,ip=10.3.0.1/24 smoltcp "touch $W/up; exec sleep 100" & first=$!
            wait_for $W/up
            session vde://$W/sw,ip=10.3.0.2/24 smoltcp 'ping -q -c 3 -i 0.2 10.3.0.1' | grep -o '.* received'
            kill $first"#
        );
        let out = succeed(Place::Native, &script);
        assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}");
    }
}

#[test]
fn two_sessions_meet_on_a_multicast_group() {
    let inner = format!(
        "{SESSION}{}",
        r#"
        ip link set lo up multicast on && ip route add 239.0.0.0/8 dev lo || exit 95
        session vxvde://,ip=10.3.0.1/24 smoltcp "touch $W/up; exec sleep 100" & first=$!
        wait_for $W/up
        session vxvde://,ip=10.3.0.2/24 smoltcp 'ping -q -c 3 -i 0.2 10.3.0.1' | grep -o '.* received'
        kill $first"#
    );
    if run(Place::Native, "unshare -rn true").status != Some(0) {
        return; // no user namespaces here: no place for multicast of our own
    }
    for place in INSIDE {
        let inner = inner.replace('\'', r"'\''");
        let script = format!("UMVU='{}' unshare -rn bash -c '{inner}'", umvu_of(place));
        let out = succeed(Place::Native, &script);
        assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}");
    }
}

#[test]
fn a_session_and_the_kernels_vxlan_device_meet_on_a_multicast_group() {
    const PROBE: &str = "unshare -rn ip link add vx0 type vxlan id 1 dstport 4789";
    if run(Place::Native, PROBE).status != Some(0) {
        return; // no user namespaces here, or no such device
    }
    let inner = format!(
        "{SESSION}{}",
        r#"
        unshare -n sleep 100 & host=$!
        until [ $(readlink /proc/$host/ns/net) != $(readlink /proc/$$/ns/net) ]; do sleep 0.1; done
        k() { nsenter -t $host -n "$@"; }
        ip link add v0 type veth peer name v1 && ip link set v1 netns $host || exit 95
        ip addr add 192.168.77.1/24 dev v0; ip link set v0 up
        k ip addr add 192.168.77.2/24 dev v1; k ip link set v1 up
        k ip link add vx0 type vxlan id 1 group 239.0.0.1 dev v1 dstport 14789 || exit 95
        k ip addr add 10.3.0.2/24 dev vx0; k ip link set vx0 up
        V=vxlan://239.0.0.1/port=14789/if=v0
        session $V,ip=10.3.0.1/24 smoltcp "
            until ping -c 1 -W 1 10.3.0.2 >/dev/null; do :; done
            ping -q -c 3 -i 0.2 10.3.0.2 | grep -o '.* received'
            touch $W/up; exec sleep 100" & first=$!
        wait_for $W/up
        k ping -q -c 3 -i 0.2 10.3.0.1 | grep -o '.* received'
        kill $first"#
    );
    for place in INSIDE {
        let inner = inner.replace('\'', r"'\''");
        let script = format!("UMVU='{}' unshare -rn bash -c '{inner}'", umvu_of(place));
        let out = succeed(Place::Native, &script);
        let wanted = "3 packets transmitted, 3 received\n3 packets transmitted, 3 received\n";
        assert_eq!(out, wanted, "{place:?}");
    }
}

#[test]
fn the_kernels_stack_behind_a_tap_talks_to_ours() {
    if run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status != Some(0) {
        return; // vdestack needs user namespaces and a tap
    }
    for place in INSIDE {
        let script = r#"
            W=$(mktemp -d); trap 'rm -rf $W' EXIT
            vumount -t vunetioth -o switch://$W/sw,ip=10.3.0.1/24 smoltcp /dev/net/ours || exit 90
            vumount -t vunetvdestack vde://$W/sw /dev/net/kernels || exit 90
            K='vustack /dev/net/kernels'
            k() { $K "$@"; }
            k ip addr add 10.3.0.2/24 dev vde0; k ip link set vde0 up
            for i in 1 2 3 4 5 6 7 8 9; do k ping -c1 -W1 10.3.0.1 >/dev/null && break; done
            k ping -q -c 3 -i 0.2 10.3.0.1 | grep -o '.* received'
            vustack /dev/net/ours ping -q -c 3 -i 0.2 10.3.0.2 | grep -o '.* received'
            seq 1 200000 >$W/numbers; cd $W
            $K python3 -m http.server 80 >/dev/null 2>&1 & a=$!
            vustack /dev/net/ours python3 -m http.server 80 >/dev/null 2>&1 & b=$!
            fetch() { until "$@" -s -o copy; do sleep 0.1; done; cmp copy numbers && echo same; }
            fetch vustack /dev/net/ours curl http://10.3.0.2/numbers
            fetch k curl http://10.3.0.1/numbers
            kill $a $b"#;
        let wanted =
            "3 packets transmitted, 3 received\n3 packets transmitted, 3 received\nsame\nsame\n";
        assert_eq!(succeed(place, script), wanted, "{place:?}");
    }
}
