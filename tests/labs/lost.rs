//! Lost connections: the carrier goes and comes back by itself, and what was under way goes on.

use crate::harness::{INSIDE, Place, run, succeed};

/// `until_ok COMMAND`, and `carrier HOST STATE` that waits for `ip link` to say so on a stack.
const WAITING: &str = r#"
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 200 ] || { echo "gave up: $*" >&2; exit 92; }; sleep 0.1
    done
}
carrier() {
    if [ $2 = yes ]; then until_ok sh -c "vustack /dev/net/$1 ip link show vde0 | grep -q LOWER_UP"
    else until_ok sh -c "vustack /dev/net/$1 ip link show vde0 | grep -q NO-CARRIER"; fi
}
"#;

/// Two stacks on a vde_switch that is killed and started again.
const RESTARTED: &str = r#"
W=$(mktemp -d); trap 'kill $(cat $W/pid) 2>/dev/null; rm -rf $W' EXIT
switch() {
    rm -rf $W/sw
    vde_switch -s $W/sw -d -p $W/pid </dev/null >/dev/null 2>&1 || exit 94
    until_ok test -S $W/sw/ctl
}
switch
mount() { vumount -t vunetioth -o $OPTIONS,vde://$W/sw,ip=10.3.0.$1/24 $STACK /dev/net/$2 || exit 90; }
mount 1 a; mount 2 b
A='vustack /dev/net/a'; B='vustack /dev/net/b'
until_ok $A ping -c1 -W1 10.3.0.2
"#;

#[test]
fn a_transfer_survives_a_switch_that_is_restarted() {
    let script = r#"
        dd if=/dev/urandom of=$W/big bs=1M count=8 2>/dev/null; cd $W
        $B python3 -m http.server 80 >/dev/null 2>&1 & server=$!
        $A ip monitor link >$W/seen 2>&1 & monitor=$!
        until_ok $A curl -s -o /dev/null http://10.3.0.2/
        $A curl -s --limit-rate 4M -o copy http://10.3.0.2/big & transfer=$!
        until_ok test -s copy
        kill $(cat $W/pid)
        carrier a no; carrier b no
        $A sh -c 'cat /sys/class/net/vde0/carrier /sys/class/net/vde0/operstate'
        switch
        carrier a yes; carrier b yes
        $A sh -c 'cat /sys/class/net/vde0/carrier /sys/class/net/vde0/carrier_changes'
        wait $transfer; echo "curl = $?"; cmp copy big && echo same
        until_ok $A ping -c1 -W1 10.3.0.2
        kill $server $monitor
        grep -o 'NO-CARRIER\|LOWER_UP' $W/seen"#;
    let wanted = "0\ndown\n1\n2\ncurl = 0\nsame\nNO-CARRIER\nLOWER_UP\n";
    for place in INSIDE {
        for stack in stacks() {
            let setup = format!("OPTIONS=eth STACK={stack}\n{WAITING}{RESTARTED}");
            assert_eq!(succeed(place, &format!("{setup}{script}")), wanted, "{place:?} {stack}");
        }
    }
}

#[test]
fn in_strict_mode_a_loss_is_final_and_said_once() {
    let script = r#"
        kill $(cat $W/pid)
        carrier a no; carrier b no
        switch
        $A ping -c 3 -i 0.5 -W1 10.3.0.2 >/dev/null; echo "= $?"
        $A ip link show vde0 | grep -o NO-CARRIER"#;
    for stack in stacks() {
        let setup = format!("OPTIONS=strict STACK={stack}\n{WAITING}{RESTARTED}");
        let done = run(Place::Armed, &format!("{setup}{script}"));
        assert_eq!(done.out, "= 1\nNO-CARRIER\n", "{stack} {}", done.err);
        let said = done.err.matches("is lost for good (strict)").count();
        assert_eq!(said, 2, "once for each host: {}", done.err);
    }
}

#[test]
fn a_shared_switch_outlives_the_session_that_made_it() {
    for place in INSIDE {
        for (stack, signal) in stacks().into_iter().zip(["TERM", "KILL"]) {
            let umvu = place.prefix().join(" ");
            let script = format!("UMVU='{umvu}' STACK={stack} SIGNAL={signal}\n{WAITING}{SHARED}");
            let wanted = "carried on\nnothing left\n";
            assert_eq!(succeed(Place::Native, &script), wanted, "{place:?} {stack} {signal}");
        }
    }
}

/// Three sessions on a switch that the first one made.
const SHARED: &str = r#"
W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf $W' EXIT
session() { # number, stack, script
    exec $UMVU sh -c '
        vumount -t vunetioth -o switch://$3/sw,ip=10.3.0.$0/24 $1 /dev/net/x || exit 93
        exec vustack /dev/net/x sh -c "$2"' "$1" "$2" "$3" $W
}
session 1 smoltcp "touch $W/up1; exec sleep 100" & first=$!
until_ok test -e $W/up1
session 2 $STACK "touch $W/up2; exec sleep 100" & second=$!
until_ok test -e $W/up2
session 3 smoltcp "
    until ping -c1 -W1 10.3.0.2 >/dev/null; do :; done
    until ping -c1 -W1 10.3.0.1 >/dev/null; do :; done
    touch $W/up3
    until ! ping -c1 -W1 10.3.0.1 >/dev/null; do sleep 0.1; done
    until ping -c1 -W1 10.3.0.2 >/dev/null; do :; done
    touch $W/on; exec sleep 100" & third=$!
until_ok test -e $W/up3
kill -$SIGNAL $first; wait $first 2>/dev/null
until_ok test -e $W/on; echo 'carried on'
kill $second; wait $second 2>/dev/null
kill $third; wait $third 2>/dev/null
until_ok test ! -e $W/sw; echo 'nothing left'
"#;

#[test]
fn a_distributed_switch_follows_its_interface() {
    let inner = format!("{WAITING}{FOLLOWED}").replace('\'', r"'\''");
    if run(Place::Native, "unshare -rn true").status != Some(0) {
        return; // no user namespaces here
    }
    for vnl in ["vxvde://239.1.1.1/if=v0", "vxlan://239.1.1.1/if=v0", "udp://4000->10.9.0.2:4000"] {
        let umvu = Place::Armed.prefix().join(" ");
        let peer = vnl.replace("v0", "v1").replace("9.0.2", "9.0.1");
        let script =
            format!("UMVU='{umvu}' VNL='{vnl}' PEER='{peer}' unshare -rn bash -c '{inner}'");
        let wanted = "met\nno address\nmet\ndown\nmet\ngone\nmet\n";
        assert_eq!(succeed(Place::Native, &script), wanted, "{vnl}");
    }
}

/// Two sessions whose network goes through a veth pair between two namespaces.
const FOLLOWED: &str = r#"
W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf $W' EXIT
unshare -n sleep 100 & host=$!
until_ok sh -c "[ \$(readlink /proc/$host/ns/net) != \$(readlink /proc/$$/ns/net) ]"
k() { nsenter -t $host -n "$@"; }
address() { ip addr add 10.9.0.1/24 dev v0; }
cable() {
    ip link add v0 type veth peer name v1 && ip link set v1 netns $host || exit 95
    address; ip link set v0 up
    k ip addr add 10.9.0.2/24 dev v1; k ip link set v1 up
    until_ok ping -c1 -W1 10.9.0.2
}
cable
# No names of hosts may be asked for, and duplicates of addresses are not looked for.
nsenter -t $host -n $UMVU sh -c '
    vumount -t vunetioth -o $0,ip=10.3.0.2/24 smoltcp /dev/net/x && touch $1/up && exec sleep 100' $PEER $W &
until_ok test -e $W/up
$UMVU sh -c '
    vumount -t vunetioth -o $0,ip=10.3.0.1/24 smoltcp /dev/net/x || exit 93
    exec vustack /dev/net/x sh -c "
        while :; do
            until ping -c1 -W1 10.3.0.2 >/dev/null; do :; done; touch $1/met
            until ip link show vde0 | grep -q NO-CARRIER; do sleep 0.1; done; touch $1/lost
            until ip link show vde0 | grep -q LOWER_UP; do sleep 0.1; done
        done"' $VNL $W &
met() { until_ok test -e $W/met; echo met; rm -f $W/met $W/lost; }
lost() { until_ok test -e $W/lost; }
met
ip addr flush dev v0; lost; echo 'no address'; address; met
ip link set v0 down; lost; echo down; ip link set v0 up; met
ip link del v0; lost; echo gone; cable; met
"#;

/// The stacks that can be had here.
fn stacks() -> Vec<&'static str> {
    let has_taps = run(Place::Native, "unshare -rn true && test -w /dev/net/tun").status == Some(0);
    if has_taps { vec!["smoltcp", "vdestack"] } else { vec!["smoltcp"] }
}
