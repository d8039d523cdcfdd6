//! Programs that look closely: what they are told of errors, scopes and holders of sockets.

use crate::harness::{on_two_hosts, with_hosts};

/// A script gives the same output on two kernel namespaces and inside umvu.
#[track_caller]
fn same_everywhere(script: &str, wanted: &str) {
    for place in with_hosts() {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}: {script}");
    }
}

#[test]
fn link_local_names_tell_their_interface() {
    let script = r#"
        six=$(on_b ip -6 -o addr show dev vde0 scope link | sed 's/.*inet6 \([^/]*\).*/\1/')
        until_ok on_a ping -c1 -W1 $six%vde0
        $B python3 -c '
import socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", 5000))
l = socket.socket(socket.AF_INET6); l.bind(("::", 5000)); l.listen()
d, a = u.recvfrom(100); u.sendto(d, a); d = a[2:]
c, a = l.accept()
print(d, a[2:], c.getpeername()[2:], c.getsockname()[2:])' >$W/server & server=$!
        until [ $($B ss -Htuan | grep -c :5000) = 2 ]; do sleep 0.1; done
        on_a python3 -c '
import errno, socket, sys
index = socket.if_nametoindex("vde0")
to = (sys.argv[1], 5000, 0, index)
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.settimeout(5)
u.sendto(b"x", to)
print(u.recvfrom(100)[1][2:] == (0, index))
u.connect(to); print(u.getsockname()[3] == u.getpeername()[3] == index)
c = socket.socket(socket.AF_INET6); c.connect(to)
print(c.getsockname()[3] == c.getpeername()[3] == index)
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    print(errno.errorcode[socket.socket(socket.AF_INET6, kind).connect_ex(to[:2])])' $six
        wait $server; cat $W/server"#;
    let wanted = "True\nTrue\nTrue\nEINVAL\nEINVAL\n(0, 2) (0, 2) (0, 2) (0, 2)\n";
    same_everywhere(script, wanted);
}

#[test]
fn errors_about_datagrams_are_reported_as_on_linux() {
    let script = "
        until_ok on_a ping -c1 -W1 10.0.0.2
        on_a ping -c 1 -M do -s 1500 10.0.0.2 | grep -v '^$'
        on_a ping -c 1 -W 5 10.0.0.77 | sed -n 2p
        on_a dig +tries=1 +time=5 @10.0.0.2 name | grep error
        on_a busybox ping6 -c 1 fd00::2 | grep -o 'ttl=.* '
        on_a tracepath -n 10.0.0.2 | tail -n 1 | tr -d ' '
        on_a tracepath -6 -n fd00::2 | tail -n 1 | tr -d ' '";
    let wanted = "\
--- 10.0.0.2 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss
;; communications error to 10.0.0.2#53: connection refused
From 10.0.0.1 icmp_seq=1 Destination Host Unreachable
PING 10.0.0.2 (10.0.0.2) 1500(1528) bytes of data.
Resume:pmtu1500hops1back1
Resume:pmtu1500hops1back1
ping: local error: message too long, mtu=1500
ttl=64 time=TIME\x20
";
    let script =
        format!("({script}) 2>&1 | sort | sed 's/time=[0-9.]*/time=TIME/; s/, time [0-9]*ms//'");
    same_everywhere(&script, wanted);
}

#[test]
fn ss_and_netstat_name_the_holders_of_sockets() {
    // The second connection is accepted without an address: no call tells umvu of its descriptor. For
    // the third, which never comes, umvu waits with a descriptor of its own.
    let script = r#"
        $B python3 -c '
import socket, threading
l = socket.socket(); l.bind(("10.0.0.2", 5000)); l.listen()
u = socket.socket(type=socket.SOCK_DGRAM); u.bind(("", 5000))
gone = socket.socket(type=socket.SOCK_DGRAM); gone.bind(("", 5001)); gone.close()
fd, _ = l._accept()
threading.Thread(target=l._accept, daemon=True).start()
print("ready", flush=True); u.recv(1)' >$W/ready & server=$!
        $A python3 -c '
import socket, time
c = socket.socket(); c.bind(("10.0.0.1", 6000))
while c.connect_ex(("10.0.0.2", 5000)): time.sleep(0.1)
c.recv(1)' & client=$!
        until grep -q ready $W/ready; do sleep 0.1; done
        for at in on_a on_b; do
            $at ss -Htuanp | tr -s ' ' | sed 's/pid=[0-9]*/pid=PID/g'
            $at netstat -tlnp 2>/dev/null | grep tcp | tr -s ' ' | sed 's/[0-9]*.python3/python3/'
        done
        on_a bash -c "echo >/dev/udp/10.0.0.2/5000"
        wait $client $server"#;
    let wanted = "\
tcp ESTAB 0 0 10.0.0.1:6000 10.0.0.2:5000 users:((\"python3\",pid=PID,fd=3))
udp UNCONN 0 0 0.0.0.0:5000 0.0.0.0:* users:((\"python3\",pid=PID,fd=4))
tcp LISTEN 0 128 10.0.0.2:5000 0.0.0.0:* users:((\"python3\",pid=PID,fd=3))
tcp ESTAB 0 0 10.0.0.2:5000 10.0.0.1:6000 users:((\"python3\",pid=PID,fd=5))
tcp 0 0 10.0.0.2:5000 0.0.0.0:* LISTEN python3\x20
";
    same_everywhere(script, wanted);
}

#[test]
fn a_cork_gathers_what_is_written() {
    let script = r#"
        $B python3 -c '
import socket
l = socket.create_server(("10.0.0.2", 5000))
for _ in range(3):
    c, _ = l.accept(); c.settimeout(10); sizes = []
    while data := c.recv(10000): sizes.append(len(data))
    print(sizes if len(sizes) < 3 else "one by one")' >$W/sizes & server=$!
        until on_b ss -Hltn | grep -q :5000; do sleep 0.1; done
        on_a python3 -c '
import socket, time
for way in ("corked", "never uncorked", "plain"):
    c = socket.create_connection(("10.0.0.2", 5000))
    c.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, way == "plain")
    c.setsockopt(socket.SOL_TCP, socket.TCP_CORK, way != "plain")
    for _ in range(5):
        c.send(bytes(20)); time.sleep(0.15 if way == "plain" else 0.005)
    if way == "corked":
        c.setsockopt(socket.SOL_TCP, socket.TCP_CORK, 0)
    time.sleep(0.6)
    if way == "never uncorked":
        c.send(bytes(7))
    c.close()'
        wait $server; cat $W/sizes"#;
    same_everywhere(script, "[100]\n[100, 7]\none by one\n");
}
