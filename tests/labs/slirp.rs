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
    if run(Place::Native, "unshare -Urnm ip link add one type veth peer name two").status != Some(0)
    {
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
for family, refused, unreachable in (
        (socket.AF_INET, "192.0.2.1", "198.51.100.1"), (socket.AF_INET6, "2001:db8::1", "2001:db9::1")):
    print(tcp(family, (refused, 9)), tcp(family, (unreachable, 9)), udp(family, (refused, 9)))
E'"#;
    for out in on_a_host(script) {
        // Of a datagram that was refused, a smoltcp stack says ECONNRESET.
        let out = out.replace("ECONNRESET", "ECONNREFUSED");
        assert_eq!(out, "ECONNREFUSED ENETUNREACH ECONNREFUSED\n".repeat(2));
    }
}

/// Upload and download, both families, ended by one side while the other still speaks.
#[test]
fn bytes_arrive_whole_in_both_directions() {
    let script = r#"
        cat >server.py <<'E'
import hashlib, socket, threading
def talk(c):
    h = hashlib.sha256()
    while d := c.recv(1 << 16): h.update(d)
    # The guest has ended and still hears.
    c.sendall(h.hexdigest().encode() + open("data", "rb").read()); c.close()
for family, address in (socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"):
    s = socket.socket(family); s.bind((address, 7000)); s.listen(9)
    def serve(s=s):
        while True: threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
open("ready", "w"); threading.Event().wait()
E
        head -c 32M /dev/urandom >data; python3 server.py & until [ -e ready ]; do sleep 0.05; done
        umvu 'out slirp:// dhcp,slaac
            on python3 - <<"E"
import hashlib, socket
data = open("data", "rb").read()
for family, address in (socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"):
    s = socket.socket(family); s.connect((address, 7000)); s.sendall(data); s.shutdown(socket.SHUT_WR)
    got = s.makefile("rb").read()
    print(got[:64].decode() == hashlib.sha256(data).hexdigest(), got[64:] == data)
E'"#;
    for out in on_a_host(script) {
        assert_eq!(out, "True True\nTrue True\n");
    }
}

#[test]
fn a_thousand_connections_at_once_lose_nothing() {
    let script = r#"
        ulimit -n $(ulimit -Hn)
        cat >server.py <<'E'
import asyncio
async def echo(reader, writer):
    writer.write(await reader.read()); await writer.drain(); writer.close()
async def main():
    await asyncio.start_server(echo, "192.0.2.1", 7001, backlog=2000)
    open("ready", "w"); await asyncio.Event().wait()
asyncio.run(main())
E
        python3 server.py & until [ -e ready ]; do sleep 0.05; done
        umvu 'out slirp:// dhcp
            on python3 - <<"E"
import asyncio
async def main():
    streams = await asyncio.gather(*(asyncio.open_connection("192.0.2.1", 7001) for n in range(1000)))
    async def one(number, reader, writer):
        text = b"%06d" % number * 100
        writer.write(text); writer.write_eof()
        return await reader.read() == text
    print(sum(await asyncio.gather(*(one(n, *streams[n]) for n in range(1000)))))
asyncio.run(main())
E'"#;
    for out in on_a_host(script) {
        assert_eq!(out, "1000\n");
    }
}

#[test]
fn datagrams_of_any_size_come_back() {
    let script = r#"
        cat >server.py <<'E'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("192.0.2.1", 7002)); open("ready", "w")
while True:
    d, a = s.recvfrom(70000); s.sendto(d[::-1], a)
E
        python3 server.py & until [ -e ready ]; do sleep 0.05; done
        umvu 'out slirp:// dhcp
            on python3 - <<"E"
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(20)
for n in 0, 1, 1472, 1473, 9000, 65507:
    text = bytes(i % 251 for i in range(n)); u.sendto(text, ("192.0.2.1", 7002))
    print(u.recvfrom(70000) == (text[::-1], ("192.0.2.1", 7002)))
E'"#;
    for out in on_a_host(script) {
        assert_eq!(out, "True\n".repeat(6));
    }
}

#[test]
fn names_are_asked_of_the_servers_of_the_host() {
    let script = r#"
        cat >server.py <<'E'
import socket, struct, threading
def answer(d):
    q = d[12:d.index(0, 12) + 5]
    return d[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x63"
s = socket.socket(); s.bind(("127.0.0.1", 53)); s.listen(9)
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 53)); open("ready", "w")
    while True:
        d, a = s.recvfrom(70000); s.sendto(answer(d), a)
threading.Thread(target=datagrams, daemon=True).start()
while True:
    c, a = s.accept(); d = c.recv(9999); r = answer(d[2:]); c.sendall(struct.pack(">H", len(r)) + r); c.close()
E
        echo nameserver 127.0.0.1 >resolv; mount --bind resolv /etc/resolv.conf
        python3 server.py & until [ -e ready ]; do sleep 0.05; done
        umvu 'out slirp:// dhcp,slaac
            for question in @10.0.2.3 "+tcp @10.0.2.3" @fd00::3; do
                on dig +short +tries=2 $question www.example.org
            done
            on getent ahostsv4 www.example.org | head -n 1 | cut -d " " -f 1'"#;
    for out in on_a_host(script) {
        assert_eq!(out, "192.0.2.99\n".repeat(4));
    }
}

/// A port of the host leads to a guest, and one of the network to a command and a socket of the host.
#[test]
fn ports_lead_in_and_services_lead_out() {
    let script = r#"
        socat UNIX-LISTEN:$W/socket,fork SYSTEM:'echo from the socket' &
        forward=tcpfwd=127.0.0.1:8080:10.0.2.15:80%2c192.0.2.1:8080:10.0.2.15:80
        umvu "out slirp:///$forward/udpfwd=127.0.0.1:8081:10.0.2.15:81/unixfwd=10.0.2.9:70:\"'$W/socket'\"/cmdfwd=79:\"'tr a-z A-Z'\" dhcp"'
            vustack /dev/net/out socat TCP-LISTEN:80,reuseaddr,fork SYSTEM:"echo \\\$SOCAT_PEERADDR; cat" & one=$!
            vustack /dev/net/out socat UDP-RECVFROM:81,fork SYSTEM:cat & two=$!
            until [ $(on ss -Hlntu | grep -c ":8[01] ") = 2 ]; do sleep 0.05; done
            for host in 127.0.0.1 192.0.2.1; do
                echo hello | vustack kernel socat -t 9 - TCP:$host:8080
            done
            echo datagram | vustack kernel socat -t 3 - UDP:127.0.0.1:8081,shut-none | head -n 1
            echo shout | on socat -t 9 - TCP:10.0.2.4:79
            on socat -t 9 -u TCP:10.0.2.9:70 -
            on socat -u TCP:10.0.2.9:71 - 2>&1 | grep -o refused
            kill $one $two'"#;
    for out in on_a_host(script) {
        let expected =
            "10.0.2.2\nhello\n192.0.2.1\nhello\ndatagram\nSHOUT\nfrom the socket\nrefused\n";
        assert_eq!(out, expected);
    }
}

/// What boots over the network gets its files from the router; what lies beside them stays unseen.
#[test]
fn files_are_served_by_tftp() {
    let script = r#"
        mkdir -p served/sub; seq 1 100000 >served/sub/numbers; cp served/sub/numbers .; echo text >served/small
        ln -s ../numbers served/out; ln -s sub/numbers served/in; : >served/empty
        umvu "out slirp:///bootfile=\"'sub/numbers'\"/tftp_path=\"'$W/served'\" dhcp,slaac"'
            for name in sub/numbers in ../numbers out sub none; do
                on busybox tftp -g -l got -r $name 10.0.2.2 2>&1 | grep server
                [ -s got ] && cmp got numbers && echo $name; rm -f got
            done
            on busybox tftp -b 1400 -g -l got -r sub/numbers 10.0.2.2 2>log && cmp got numbers && echo large blocks
            on busybox tftp -g -l got -r empty 10.0.2.2 2>log; wc -c <got
            for host in 10.0.2.2 [fd00::2]; do on curl -sg tftp://$host/small; done
            on curl -s --tftp-blksize 1024 tftp://10.0.2.2/sub/numbers | cmp - numbers && echo by curl
            echo new >new; on curl -sT new tftp://10.0.2.2/new; echo $?; ls served | wc -l'"#;
    for out in on_a_host(script) {
        let refused = "tftp: server error: (1) file not found\n";
        let odd = "tftp: server error: (2) not a regular file\n";
        let expected = format!(
            "sub/numbers\nin\n{refused}{refused}{odd}{refused}large blocks\n0\ntext\ntext\nby curl\n69\n5\n"
        );
        assert_eq!(out, expected);
    }
}

/// Routers on the way are seen, and a path that is narrow is told.
#[test]
fn hops_and_path_mtu_are_those_of_the_host() {
    let script = r#"
        unshare -n sleep 60 & router=$!
        unshare -n sleep 60 & end=$!
        ours=$(readlink /proc/self/ns/net)
        for pid in $router $end; do
            until [ "$(readlink /proc/$pid/ns/net)" != $ours ]; do sleep 0.05; done
        done
        at() { pid=$1; shift; nsenter -n -t $pid "$@"; }
        ip link add way type veth peer name in netns $router
        ip address add 203.0.113.9/29 dev way; ip link set way up
        ip route add default via 203.0.113.10
        at $router sh -c 'ip address add 203.0.113.10/29 dev in; ip link set in up
            sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0'
        at $router ip link add out type veth peer name in netns $end
        at $router sh -c 'ip address add 198.51.100.2/24 dev out; ip link set out mtu 1300 up'
        at $end sh -c 'ip address add 198.51.100.1/24 dev in; ip link set in mtu 1300 up
            ip route add default via 198.51.100.2; ip link set lo up'
        until ping -q -c 1 -W 1 198.51.100.1 >/dev/null; do :; done
        umvu 'out slirp:// dhcp
            for how in "" -I; do
                on busybox traceroute $how -n -q 1 -w 9 -m 5 198.51.100.1 | grep -o "^ [0-9] *[0-9.]*"
            done
            on ping -M do -s 1400 -c 1 -W 9 198.51.100.1 | grep -o "Frag.*"
            on ping -q -s 1400 -c 1 -W 9 198.51.100.1 | grep -o ".* received"'; kill $router $end"#;
    for out in on_a_host(script) {
        let hops = " 1  10.0.2.2\n 2  203.0.113.10\n 3  198.51.100.1\n";
        let told = "Frag needed and DF set (mtu = 1300)\n1 packets transmitted, 1 received\n";
        assert_eq!(out, format!("{hops}{hops}{told}"));
    }
}

/// The distribution's own client gets a lease, and what was asked for comes with it.
#[test]
fn the_dhcp_client_of_busybox_gets_a_lease() {
    let script = r#"
        printf '#!/bin/sh\n[ "$1" = bound ] && echo $ip $mask $router $dns $domain $hostname $mtu\n' >got
        chmod +x got; export W
        umvu 'out slirp:///addr=192.168.77.2/24/vdomainname=lab.test/hostname=one/mtu=1400 eth
            on busybox udhcpc -q -n -f -i vde0 -s $W/got 2>/dev/null'"#;
    for out in on_a_host(script) {
        let expected = "192.168.77.15 24 192.168.77.2 192.168.77.3 lab.test one 1400\n";
        assert_eq!(out, expected);
    }
}
