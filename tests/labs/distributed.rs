//! Networks over UDP between machines, which are namespaces: with the kernel's vxlan device, and
//! nine stacks on three machines.

use crate::harness::{Place, run, succeed};

const WAITING: &str = r#"
W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf $W' EXIT
until_ok() {
    local tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "gave up: $*" >&2; exit 92; }; sleep 0.1
    done
}
machine() { # the pid of a process that holds a namespace of its own
    unshare -n sleep 110 & pid=$!
    until_ok sh -c "[ \$(readlink /proc/$pid/ns/net) != \$(readlink /proc/$$/ns/net) ]"
}
"#;

/// Runs a script in namespaces of its own; None if there can be none.
#[track_caller]
fn in_namespaces(variables: &str, script: &str) -> Option<String> {
    const PROBE: &str = "unshare -rn ip link add vx0 type vxlan id 1 dstport 4789";
    if run(Place::Native, PROBE).status != Some(0) {
        return None;
    }
    let script = format!("{WAITING}{script}").replace('\'', r"'\''");
    Some(succeed(Place::Native, &format!("{variables} unshare -rn bash -c '{script}'")))
}

/// A stack here and the kernel's device at the other end of a cable, each with a web server.
const KERNEL: &str = r#"
machine; host=$pid
k() { nsenter -t $host -n "$@"; }
ip link add v0 type veth peer name v1 && ip link set v1 netns $host || exit 95
ip addr add 192.168.77.1/24 dev v0; ip link set v0 up
k ip addr add 192.168.77.2/24 dev v1; k ip link set v1 up; k ip link set lo up
k ip link add vx0 type vxlan $DEVICE || exit 95
k ip addr add 10.3.0.2/24 dev vx0; k ip addr add fd03::2/64 dev vx0 nodad; k ip link set vx0 up
seq 1 100000 >$W/numbers; cd $W
serve() { "$@" python3 -m http.server -b :: 80 >/dev/null 2>&1; }
fetch() {
    until_ok "$@"/numbers; cmp copy numbers && echo same; rm copy
}
serve nsenter -t $host -n &
$UMVU sh -c '
    vumount -t vunetioth -o $0,ip=10.3.0.1/24,ip=fd03::1/64 $1 /dev/net/x || exit 93
    vustack /dev/net/x python3 -m http.server -b :: 80 >/dev/null 2>&1 & server=$!
    until [ -e gone ]; do
        for command in *.in; do
            [ -e $command ] || { sleep 0.1; continue; }
            vustack /dev/net/x sh -c "$(cat $command)" >out 2>&1; echo $? >status; rm $command
        done
    done; kill $server' $VNL $STACK &
x() { # runs a command on the stack
    echo "$*" >next; mv next command.in; until_ok test ! -e command.in; cat out; return $(cat status)
}
until_ok k ping -c1 -W1 10.3.0.1
until_ok x ping -c1 -W1 fd03::2
for target in 10.3.0.1 fd03::1; do k ping -q -c 3 -i 0.2 $target | grep -o '.* received'; done
for target in 10.3.0.2 fd03::2; do x ping -q -c 3 -i 0.2 $target | grep -o '.* received'; done
fetch k curl -s -o copy http://10.3.0.1; fetch k curl -s -o copy 'http://[fd03::1]'
fetch x curl -s -o copy http://10.3.0.2; fetch x curl -s -o copy "'http://[fd03::2]/numbers' #"
touch gone
"#;

#[test]
fn a_stack_and_the_kernels_vxlan_device_carry_all_to_each_other() {
    let group = "group 239.1.1.1 dev v1";
    let cases = [
        ("vxvde://239.1.1.1/if=v0/vni=5", format!("id 5 {group} dstport 14789"), "smoltcp"),
        ("vxvde://239.1.1.1/if=v0/vni=5", format!("id 5 {group} dstport 14789"), "vdestack"),
        ("vxlan://239.1.1.1/if=v0/vni=6", format!("id 6 {group} dstport 4789"), "smoltcp"),
        ("vxlan://192.168.77.2", "id 1 remote 192.168.77.1 dstport 4789".to_owned(), "smoltcp"),
    ];
    let has_taps = run(Place::Native, "unshare -rn true && test -w /dev/net/tun").status == Some(0);
    for (vnl, device, stack) in cases.iter().filter(|case| has_taps || case.2 != "vdestack") {
        let umvu = Place::Armed.prefix().join(" ");
        let variables = format!("UMVU='{umvu}' VNL='{vnl}' DEVICE='{device}' STACK={stack}");
        let Some(out) = in_namespaces(&variables, KERNEL) else { return };
        let wanted = "3 packets transmitted, 3 received\n".repeat(4) + &"same\n".repeat(4);
        assert_eq!(out, wanted, "{vnl} {stack}");
    }
}

/// Three machines on a bridge, three stacks on each.
const NINE: &str = r#"
ip link add br0 type bridge && ip link set br0 up || exit 95
for n in 1 2 3; do
    machine; eval host$n=$pid
    ip link add p$n type veth peer name eth0 netns $pid || exit 95
    ip link set p$n master br0 up
    m="nsenter -t $pid -n"
    $m ip link set lo up; $m ip addr add 192.168.50.$n/24 dev eth0; $m ip link set eth0 up
    $m ip route add 239.0.0.0/8 dev eth0
done
# Stack s of machine n is 10.5.n.s; the session does what it is told in $W/n.
session() {
    eval host=\$host$1
    rm -f $W/$1.*
    exec nsenter -t $host -n $UMVU -V machine$1 sh -c '
        for s in 1 2 3; do
            vumount -t vunetioth -o vxvde://239.5.5.5/vni=77,ip=10.5.$0.$s/16 smoltcp /dev/net/s$s || exit 93
        done
        touch $1/$0.up
        while :; do
            [ -e $1/$0.in ] || { sleep 0.05; continue; }
            sh $1/$0.in >$1/$0.out 2>&1; mv $1/$0.in $1/$0.done
        done' $1 $W
}
on() { # machine, script
    rm -f $W/$1.done; echo "$2" >$W/next; mv $W/next $W/$1.in; until_ok test -e $W/$1.done; cat $W/$1.out
}
# Each stack of a machine reaches each stack of the machines named.
reaches() {
    on $1 "for s in 1 2 3; do for n in $2; do for t in 1 2 3; do
        tries=0
        until vustack /dev/net/s\$s ping -c1 -W1 10.5.\$n.\$t >/dev/null; do
            tries=\$((tries + 1)); [ \$tries -lt 20 ] || { echo \$s lost \$n.\$t; break; }
        done
    done; done; done; echo machine $1 reaches $2"
}
for n in 1 2 3; do session $n & eval session$n=$!; until_ok test -e $W/$n.up; done
for n in 1 2 3; do reaches $n '1 2 3'; done

# What is for one machine goes there only. The bridge shows what each machine gets.
for n in 2 3; do python3 -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind((sys.argv[1], 0))
print("listening", flush=True)
while True:
    frame, address = s.recvfrom(70000)
    if address[2] == socket.PACKET_OUTGOING and frame[23:24] == b"\x11": print("datagram", flush=True)
' p$n >$W/seen$n & done
for n in 2 3; do until_ok grep -q listening $W/seen$n; done
on 1 'vustack /dev/net/s1 ping -q -c 40 -i 0.05 10.5.2.1' | grep -o '.* received'
settled() { sleep 0.3; [ $(grep -c datagram $W/seen2) -ge 40 ]; }; until_ok settled
heard=$(grep -c datagram $W/seen3)
[ $heard -lt 20 ] && echo 'machine 3 hears nothing of it' || echo "machine 3 hears $heard"

# A machine leaves; the others go on. It comes back.
kill $session3; wait $session3 2>/dev/null
reaches 1 2; reaches 2 1
on 1 'vustack /dev/net/s1 ping -q -c 2 -i 0.2 -W 1 10.5.3.1' | grep -o '100% packet loss'
session 3 & session3=$!
until_ok test -e $W/3.up
for n in 3 1 2; do reaches $n '1 2 3'; done
for n in 1 2 3; do eval kill \$session$n; done
"#;

#[test]
fn nine_stacks_on_three_machines_are_one_network() {
    let umvu = Place::Armed.prefix().join(" ");
    let Some(out) = in_namespaces(&format!("UMVU='{umvu}'"), NINE) else { return };
    let all = "machine 1 reaches 1 2 3\nmachine 2 reaches 1 2 3\nmachine 3 reaches 1 2 3\n";
    let wanted = format!(
        "{all}40 packets transmitted, 40 received\nmachine 3 hears nothing of it\n\
         machine 1 reaches 2\nmachine 2 reaches 1\n100% packet loss\n\
         machine 3 reaches 1 2 3\nmachine 1 reaches 1 2 3\nmachine 2 reaches 1 2 3\n"
    );
    assert_eq!(out, wanted);
}
