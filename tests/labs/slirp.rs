//! `slirp://`: the network of this host for guests, tried in a namespace with servers on its
//! loopback and on addresses of its own, so that nothing leaves this machine.

use crate::harness::{Place, run, succeed, umvu};

/// The host: 192.0.2.1 and 2001:db8::1 are its own, `on` runs a command on the stack `out`.
const HOST: &str = r#"
    ip link set lo up
    ip link add out type veth peer name far; ip link set far up
    ip address add 192.0.2.1/24 dev out; ip address add 2001:db8::1/64 dev out nodad
    ip link set out up; sysctl -qw net.ipv4.ping_group_range="0 0"
    W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf $W' EXIT
    cd $W
    serve() { # serve NAME ADDRESS: a web server; its port is in $NAME
        python3 -u -m http.server 0 --bind $2 >$1.log 2>&1 &
        until eval $1='$(sed -n "s/.*port \([0-9]*\) .*/\1/p" '$1.log')'; eval [ "\$$1" ]; do
            sleep 0.05; done; export $1; }
    export ON='on() { vustack /dev/net/out "$@"; }
        out() { vumount -t vunetioth -o "$1,$2" $STACK /dev/net/out || exit 90; }'
"#;

/// Runs a script on such a host, in both modes, on both kinds of stack: `umvu` runs a session.
fn on_a_host(script: &str) -> Vec<String> {
    if run(Place::Native, "unshare -Urnm ip link add a type veth peer name b").status != Some(0) {
        eprintln!("skipped: no user namespaces with veth interfaces here");
        return Vec::new();
    }
    let modes = [("", "smoltcp"), ("", "vdestack"), ("-S", "smoltcp")];
    let outputs = modes.map(|(mode, stack)| {
        let umvu =
            format!("umvu() {{ STACK={stack} {} -N {mode} -m vunet sh -c \"$ON\n$1\"; }}", umvu());
        let script = format!("unshare -Urnm bash <<'END'\n{HOST}\n{umvu}\n{script}\nEND\n");
        succeed(Place::Native, &script)
    });
    outputs.into()
}

#[test]
fn a_guest_configures_itself_and_reaches_the_network_of_the_host() {
    let script = r#"
        seq 1 200000 >numbers; sum=$(sha256sum <numbers)
        serve four 192.0.2.1; serve six 2001:db8::1
        umvu 'out slirp:// dhcp,slaac
            on ip -br -4 address show vde0 | tr -s " "
            on ip route show default | cut -d " " -f 1-5
            on sed s/:.*:/:/ /etc/resolv.conf
            on ping -q -c 2 -i 0.2 10.0.2.2 | grep -o ".* received"
            on ping -q -c 2 -i 0.2 -s 4000 192.0.2.1 | grep -o ".* received"
            on ping -q -c 2 -i 0.2 2001:db8::1 | grep -o ".* received"
            on curl -s http://192.0.2.1:$four/numbers | sha256sum
            on curl -s -g http://[2001:db8::1]:$six/numbers | sha256sum' | sed "s/$sum/same/""#;
    for out in on_a_host(script) {
        let expected = "vde0 UNKNOWN 10.0.2.15/24 \ndefault via 10.0.2.2 dev vde0\n\
                        nameserver fd00:3\nnameserver 10.0.2.3\n";
        let pings = "2 packets transmitted, 2 received\n".repeat(3);
        assert_eq!(out.replace(" UP ", " UNKNOWN "), format!("{expected}{pings}same\nsame\n"));
    }
}

/// Not by its own address, not by the router's, not in disguise; unless it is asked for.
#[test]
fn the_loopback_of_the_host_is_its_own() {
    let script = r#"
        serve local 127.0.0.1
        ask() { echo "curl -s -o /dev/null -m 5 http://$1:$local/; echo \$?"; }
        umvu "out slirp:// dhcp,slaac
            on $(ask 10.0.2.2); on $(ask 127.0.0.1); on $(ask 0.0.0.0)
            on curl -s -g -m 5 http://[::ffff:127.0.0.1]:$local/; echo \$?
            on curl -s -g -m 5 http://[fd00::2]:$local/; echo \$?"
        umvu "out slirp:///allow_host_loopback dhcp; on $(ask 10.0.2.2); on $(ask 10.0.2.3)""#;
    for out in on_a_host(script) {
        assert_eq!(out, "7\n7\n7\n7\n7\n0\n7\n");
    }
}

#[test]
fn errors_of_the_host_are_those_of_the_guest() {
    let script = r#"
        umvu 'out slirp:// dhcp,slaac
            on python3 - <<"E"
import errno, socket
def tcp(family, address):
    s = socket.socket(family); s.settimeout(20)
    try: s.connect(address); return "connected"
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
def udp(family, address):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(20); s.connect(address)
    try: s.send(b"x"); return s.recv(9)
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
for attempt in tcp, udp:
    for family, address in (
        (socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET, ("198.51.100.1", 9)),
        (socket.AF_INET6, ("2001:db8::1", 9)), (socket.AF_INET6, ("2001:db9::1", 9))):
        print(attempt(family, address))
E'"#;
    for out in on_a_host(script) {
        let four = "ECONNREFUSED\nENETUNREACH\nECONNREFUSED\nENETUNREACH\n";
        // An unreachable network is no reason for a UDP socket to fail (udp(7)) on IPv4.
        assert_eq!(out.lines().take(4).collect::<Vec<_>>().join("\n") + "\n", four);
        assert!(out.lines().nth(4) == Some("ECONNREFUSED"), "{out}");
        assert!(out.lines().nth(6) == Some("ECONNREFUSED"), "{out}");
    }
}
