//! `umvu switch`: its life as a program, and who can join it.

use crate::harness::{INSIDE, Place, run, succeed, umvu};

/// `$U` is `umvu switch`; `wait_for PATH`, `wait_gone PATH`; `ask LINE` at the socket `$W/m`.
const TOOLS: &str = r#"
W=$(mktemp -d); cd $W; trap 'kill $(cat $W/*.pid) 2>/dev/null; rm -rf $W' EXIT
wait_for() { tries=0; until [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || exit 92; sleep 0.05; done; }
wait_gone() { tries=0; while [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || exit 91; sleep 0.05; done; }
ask() { python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(20); text = b""
def hear():
    global text
    text = b""
    while not text.endswith(b"vde$ "):
        piece = s.recv(4096)
        if not piece: return
        text += piece
hear(); s.sendall(sys.argv[2].encode() + b"\n"); hear()
sys.stdout.write(text.decode().replace("\n\nvde$ ", "\n"))' $W/m "$1"; }
"#;

fn with_tools(script: &str) -> String {
    format!("UMVU={}\nU=\"$UMVU switch\"\n{TOOLS}{script}", umvu())
}

#[test]
fn a_switch_in_the_background_is_there_when_the_command_returns_and_leaves_nothing() {
    let script = with_tools(
        r#"
        $U -s sw -M m -d -p sw.pid -n 8 -m 660 --mgmtmode 640 --macaddr 00:ff:01:02:03:04; echo $?
        stat -c '%a %F' sw sw/ctl m; kill -0 $(cat sw.pid) && echo runs
        ask port/showinfo | grep Numports; ask showinfo | grep -o 'MAC.* uptime'; ask ds/showinfo | grep mode
        $U -s sw --nostdin 2>&1 | grep -o 'another switch works there'
        $U -s other -M m --nostdin 2>&1 | grep -o 'another switch has its management'
        kill $(cat sw.pid); wait_gone sw.pid; ls sw m other 2>&1 | wc -l
        $U -s sw -d -p sw.pid -M m; kill -9 $(cat sw.pid); ls sw/ctl m
        $U -s sw -d -p sw.pid -M m; echo $?; ask shutdown; wait_gone sw.pid; ls sw 2>/dev/null
        $U -s /nosuch/folder/sw -d 2>/dev/null; echo $?
        $U -s $W/m/x -d -p sw.pid 2>/dev/null; echo $?; [ -e sw.pid ] && echo left; true
        "#,
    );
    let out = succeed(Place::Native, &script);
    let wanted = "0\n2770 directory\n660 socket\n640 socket\nruns\nNumports=8\n\
                  MAC 00:ff:01:02:03:04 uptime\nstd mode 0660\nanother switch works there\n\
                  another switch has its management\n3\nm\nsw/ctl\n0\n9999 END OF SESSION1\n1\n";
    assert_eq!(out, wanted);
}

#[test]
fn a_switch_in_front_takes_commands_and_ends_with_its_input() {
    let script = with_tools(
        r#"
        printf 'vlan/create 7\n\n# a comment\n' >rc; echo nosuch >>rc
        printf 'vlan/print\nnosuch\nlogout\nport/sethub 1' >commands
        (cat commands; sleep 0.3; echo) | $U -s sw -f rc 2>errors; echo $?
        grep -c 'rc:4: nosuch: Function not implemented' errors; grep -c 'input has ended' errors; ls sw 2>/dev/null
        (echo shutdown; sleep 20) | (timeout 10 $U -s sw; echo ended $?)
        $U -s sw --nostdin </dev/null & wait_for sw/ctl; kill -INT $!; kill -TERM $!; wait $!; echo $?; ls sw 2>/dev/null
        $U -s sw -f nosuchfile </dev/null 2>/dev/null; echo $?
        $U -s sw -m 9 2>/dev/null; echo $?; $U -s sw -g nosuchgroup 2>/dev/null; echo $?; $U -s sw -t nosuchtap0/x 2>/dev/null; echo $?
        "#,
    );
    // The pipe that feeds `shutdown` sleeps on: only the switch must end.
    let done = run(Place::Native, &script.replace("sleep 20", "sleep 1"));
    let wanted = "0000 DATA END WITH '.'\nVLAN 0000\nVLAN 0007\n.\n1000 Success\n\nvde$ \
                  1038 Function not implemented\n\nvde$ \nvde$ 1000 Success\n\nvde$ 0\n1\n1\n\
                  ended 0\n0\n1\n1\n1\n1\n";
    assert_eq!(done.out, wanted, "{}", done.err);
}

#[test]
fn hosts_of_every_kind_meet_on_it_and_vlans_keep_them_apart() {
    for place in INSIDE {
        let script = format!(
            "UMVU_SWITCH={}\n{TOOLS}{}",
            umvu(),
            r#"
            umvu-switch -s $W/sw -M $W/m -d -p $W/sw.pid || exit 90
            vumount -t vunetioth -o "vde://$W/sw[port=1],ip=10.3.0.1/24" smoltcp /dev/net/a || exit 90
            vumount -t vunetioth -o "vde://$W/sw[port=2],ip=10.3.0.2/24" smoltcp /dev/net/b || exit 90
            # A host behind Debian's plug, in port 3.
            umvu-dpipe -d -p $W/cable.pid vde_plug "$W/sw[3]" = umvu-plug switch://$W/far || exit 90
            wait_for $W/far/ctl
            vumount -t vunetioth -o "vde://$W/far,ip=10.3.0.3/24" smoltcp /dev/net/c || exit 90
            reaches() { vustack /dev/net/a ping -c 1 -W 1 10.3.0.$1 >/dev/null; }
            for host in 2 3; do until reaches $host; do :; done; done; echo together
            ask 'vlan/create 10'; ask 'port/setvlan 1 10'; ask 'port/setvlan 2 10'
            until reaches 2; do :; done; reaches 3 || echo apart
            ask 'port/setvlan 3 10'; until reaches 3; do :; done; echo together
            ask port/print | grep -c '^Port 000[123] untagged_vlan=0010 ACTIVE'
            kill $(cat $W/cable.pid) $(cat $W/sw.pid); wait_gone $W/sw.pid"#
        );
        let wanted = "together\n1000 Success\n1000 Success\n1000 Success\napart\n1000 Success\n\
                      together\n3\n";
        assert_eq!(succeed(place, &script), wanted, "{place:?}");
    }
}

#[test]
fn a_tap_of_the_kernel_is_a_port() {
    if run(Place::Native, "unshare -rn true && test -c /dev/net/tun").status != Some(0) {
        return; // a tap needs a namespace of our own
    }
    let inner = with_tools(
        r#"
        $U -s sw -M m -d -p sw.pid -t tap7 || exit 90
        ip addr add 10.3.0.1/24 dev tap7; ip link set tap7 up
        $UMVU -N -m vunet sh -c '
            vumount -t vunetioth -o vde://$0/sw,ip=10.3.0.2/24 smoltcp /dev/net/a || exit 90
            until vustack /dev/net/a ping -c 1 -W 1 10.3.0.1 >/dev/null; do :; done
            vustack /dev/net/a ping -q -c 3 -i 0.2 10.3.0.1 | grep -o ".* received"' $W
        ask port/print | grep -o 'module tuntap      : tap7'
        kill $(cat sw.pid); wait_gone sw.pid"#,
    );
    let script = format!("unshare -rn bash -c '{}'", inner.replace('\'', r"'\''"));
    let wanted = "3 packets transmitted, 3 received\nmodule tuntap      : tap7\n";
    assert_eq!(succeed(Place::Native, &script), wanted);
}
