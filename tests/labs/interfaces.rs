//! Interfaces that come and go while a stack runs.

use crate::harness::{INSIDE, on_two_fresh_hosts, on_two_hosts};

#[test]
fn an_interface_is_added_used_and_removed() {
    let script = r#"
        $A ip monitor link > "$W/monitor" & monitor=$!
        until_ok on_a sh -c 'test "$(grep -c . /proc/net/netlink)" -gt 1'
        on_a iplink add vde9 type vde data "switch://$W/sw" || exit 1
        on_a ip link add dummy0 type dummy || exit 2
        on_a ip addr add 10.9.0.1/24 dev vde9; on_a ip link set vde9 up
        on_b ip addr add 10.9.0.2/24 dev vde0
        on_a ping -q -c 1 -W 5 10.9.0.2 >/dev/null || exit 3
        on_a python3 -c '
import os, socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vde9")
group = socket.inet_aton("239.1.1.1") + socket.inet_aton("10.9.0.1")
udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
assert os.system("iplink del vde9") == 0
try: udp.sendto(b"x", ("10.9.0.2", 9))
except OSError as error: print(error.strerror)
' || exit 4
        on_a ip link del dev dummy0 || exit 5
        on_a ip -o link | wc -l; on_a ip route | grep -c 10.9; on_a ip neigh | grep -c vde9
        on_a grep -c vde9 /proc/net/igmp /proc/net/dev
        until_ok grep -q 'Deleted.*dummy0' "$W/monitor"
        kill $monitor; grep -c Deleted "$W/monitor"
    "#;
    let wanted = "No such device\n2\n0\n0\n/proc/net/igmp:0\n/proc/net/dev:0\n2\n";
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}");
    }
}

#[test]
fn what_cannot_be_opened_says_why_and_leaves_nothing() {
    let script = r#"
        export HOME="$W"
        say() { on_a "$@" 2>&1; echo "= $?"; }
        say iplink add vde1 type vde data /nowhere/sw
        say iplink add vde1 type vde data nothing://
        say iplink add vde1 type nothing
        say iplink del vde1
        say iplink add vde1
        mkdir "$W/.vdeplug"; echo "switch://$W/sw" > "$W/.vdeplug/default"
        on_a ip -o link | wc -l
    "#;
    let wanted = "\
iplink: vde:///nowhere/sw: no switch there (start one with `vde_switch -s /nowhere/sw` or use \
switch:///nowhere/sw)
= 1
iplink: nothing://: no such transport (there are: ";
    for place in INSIDE {
        let done = on_two_fresh_hosts(place, script);
        assert!(done.out.starts_with(wanted), "{place:?} {done:?}");
        let ends = ["Unknown device type\n= 1", "No such device\n= 1", "= 2\n2\n"];
        for end in ends {
            assert!(done.out.contains(end), "{place:?} {done:?}");
        }
    }
}

#[test]
fn a_network_that_does_not_answer_holds_nobody_up() {
    // A switch that takes the connection and says nothing.
    let script = r#"
        mkdir "$W/mute"
        python3 -c '
import socket, sys, time
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen(1)
open(sys.argv[2], "w").close(); time.sleep(100)
' "$W/mute/ctl" "$W/listening" & mute=$!
        until_ok test -e "$W/listening"
        $A iplink add vde1 type vde data "$W/mute" & adding=$!
        on_a ping -q -c 3 -i 0.2 -W 5 10.0.0.2 >/dev/null && echo answered
        on_a ip -o link | wc -l
        kill $mute; wait $adding; echo "= $?"
        on_a ip -o link | wc -l
    "#;
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, script), "answered\n2\n= 1\n2\n", "{place:?}");
    }
}

#[test]
fn a_stack_of_the_kernels_gets_interfaces_from_umvu() {
    let script = r#"
        vumount -t vunetioth -o "switch://$W/sw,eth" vdestack /dev/net/v 2>/dev/null || { echo none; exit 0; }
        V='vustack /dev/net/v'
        $V iplink add lan type vde data "switch://$W/sw" || exit 1
        $V iplink add type vde data null:// || exit 2
        $V iplink add lan type vde data null:// 2>&1
        $V ip addr add 10.0.0.3/24 dev lan; $V ip link set lan up
        $V ping -q -c 1 -W 5 10.0.0.2 >/dev/null && echo answered
        $V iplink del lan; $V ip link del vde1; $V ip -o link | wc -l
        vuumount /dev/net/v && echo unmounted
    "#;
    for place in INSIDE {
        let out = on_two_hosts(place, script);
        // vdestack needs user namespaces and a tap.
        if out != "none\n" {
            assert_eq!(out, "iplink: File exists\nanswered\n2\nunmounted\n", "{place:?}");
        }
    }
}
