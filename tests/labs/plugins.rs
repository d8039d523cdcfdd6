//! Stacks that are plugins of libioth: LWIPv6 and libvdestack of Debian, and one for the corners.
//!
//! None of it runs on plain Linux, where nothing loads such plugins; what their guests do is what
//! they do on any stack.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use crate::harness::{INSIDE, Place, scratch, succeed};

/// The folder with the compiled plugins.
fn plugins() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch("plugins");
        let corner = |stack: &str, file: &str, more: &[&str]| {
            let name = format!("-DSTACK={stack}");
            compile(&folder.join(file), "ioth_corner.c", &[&[name.as_str()], more].concat());
        };
        corner("corner", "ioth_corner.so", &[]);
        corner("shared", "ioth_shared-r.so", &[]);
        corner("staying", "ioth_staying.so", &["-Wl,-z,nodelete"]);
        corner("closed", "ioth_closed.so", &[r#"-DLICENSE="Proprietary""#]);
        corner("gpl", "ioth_gpl.so", &[r#"-DLICENSE="SPDX-License-Identifier: GPL-2.0-or-later""#]);
        corner("empty", "ioth_empty.so", &["-DNO_NEWSTACK"]);
        std::fs::write(folder.join("ioth_bad.so"), "no library").expect("writable");
        compile(&folder.join("ioth_lwipv6.so"), "ioth_lwipv6.c", &["-llwipv6"]);
        compile(&folder.join("ioth_libvdestack.so"), "ioth_libvdestack.c", &["-lvdestack"]);
        folder
    })
}

fn compile(to: &PathBuf, source: &str, more: &[&str]) {
    let source = format!("{}/tests/plugins/{source}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("cc");
    command.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).arg(to);
    let done = command.arg(&source).args(more).arg("-lpthread").status();
    assert!(done.is_ok_and(|status| status.success()), "cc {source} {more:?}");
}

/// `mount` mounts, and says what went wrong; `descriptors` counts those of the hypervisor but for
/// the access to its guests.
const TOOLS: &str = r#"
W=$(mktemp -d); trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$W"' EXIT
HYPERVISOR=$PPID
mount() { vumount -t vunetioth "$@" 2>&1 || echo "= $?"; }
descriptors() {
    for fd in /proc/$HYPERVISOR/fd/*; do readlink $fd; done | grep -v -e ^/proc -e pidfd | wc -l
}
wait_for() { tries=0; until [ -s "$1" ]; do tries=$((tries + 1)); [ $tries -lt 100 ] || exit 92; sleep 0.1; done; }
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "gave up: $*" >&2; exit 92; }; sleep 0.1
    done
}
"#;

/// Runs a script with the plugins in the system's directory, which is to print `wanted`.
#[track_caller]
fn prints(place: Place, script: &str, wanted: &str) {
    let folder = plugins().display();
    let script = format!("export SYSTEM_IOTH_PATH={folder}\n{TOOLS}{script}");
    let out = succeed(place, &script).replace(&folder.to_string(), "DIR");
    assert_eq!(out, wanted, "{place:?}");
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_refused_with_the_reason() {
    let script = r#"
        HOME=$W
        mount nowhere /dev/net/a | sed "s|$W|HOME|g"
        mount closed /dev/net/a
        mount empty /dev/net/a
        mount bad /dev/net/a
        mount -o fail=13 corner /dev/net/a
        mount -o eth0:vxvde:// corner /dev/net/a
        mount gpl /dev/net/a && vuumount /dev/net/a && echo mounted"#;
    let wanted = "\
vumount: nowhere: no such stack (built in: smoltcp, vdestack, kernel, null; no plugin \
HOME/.ioth/ioth_nowhere-r.so, HOME/.ioth/ioth_nowhere.so, DIR/ioth_nowhere-r.so, \
DIR/ioth_nowhere.so; SYSTEM_IOTH_PATH names another directory)
= 1
vumount: plugin closed: DIR/ioth_closed.so is under \"Proprietary\", which a program under \
MIT OR Apache-2.0 must not load
= 1
vumount: plugin empty: DIR/ioth_empty.so has no ioth_empty_newstack: it is no plugin, or of another stack
= 1
vumount: plugin bad: DIR/ioth_bad.so: file too short
= 1
vumount: plugin corner: newstack: Permission denied
= 1
vumount: plugin corner: newstack: No such device or address
= 1
mounted
";
    for place in INSIDE {
        prints(place, script, wanted);
    }
}

#[test]
fn a_plugin_is_found_at_home_first_or_by_its_file() {
    let script = r#"
        HOME=$W; mkdir $W/.ioth; mv_to_home() { cp $SYSTEM_IOTH_PATH/ioth_closed.so $W/.ioth/ioth_corner.so; }
        mount $SYSTEM_IOTH_PATH/ioth_corner.so /dev/net/a && vuumount /dev/net/a && echo by its file
        mount corner /dev/net/a && vuumount /dev/net/a && echo by its name
        mv_to_home; mount corner /dev/net/a | sed "s|$W|HOME|g"
        env -u SYSTEM_IOTH_PATH vumount -t vunetioth shared /dev/net/a 2>&1 | grep -o '/usr/local[^ ,;]*'"#;
    let wanted = "\
by its file
by its name
vumount: plugin corner: HOME/.ioth/ioth_corner.so has no ioth_corner_newstack: it is no plugin, or of another stack
= 1
/usr/local/lib/ioth/ioth_shared-r.so
/usr/local/lib/ioth/ioth_shared.so
";
    prints(Place::Armed, script, wanted);
}

#[test]
fn stacks_of_one_plugin_are_apart_unless_it_is_reentrant() {
    // The plugin makes one stack at a time, and knows by a variable of its own.
    let script = "
        mount corner /dev/net/a; mount corner /dev/net/b; vuumount /dev/net/a; vuumount /dev/net/b
        mount shared /dev/net/a; mount shared /dev/net/b
        vuumount /dev/net/a; mount shared /dev/net/b; vuumount /dev/net/b; echo done";
    let wanted = "\
vumount: plugin shared: newstack: Device or resource busy
= 1
done
";
    for place in INSIDE {
        prints(place, script, wanted);
    }
}

#[test]
fn link_namespaces_run_out_with_a_word_and_come_back() {
    let script = r#"
        mount corner /dev/net/a
        for round in $(seq 25); do # glibc has 16 in all
            mount corner /dev/net/b; vuumount /dev/net/a; mount corner /dev/net/a; vuumount /dev/net/b
        done
        for round in $(seq 25); do mount staying /dev/net/b; vuumount /dev/net/b; done
        count=0
        while said=$(mount corner /dev/net/n$count) && [ -z "$said" ] && [ $count -lt 20 ]; do
            count=$((count + 1))
        done
        echo "$said" | sed 's/(.*)/(REASON)/'; [ $count -ge 8 ] && [ $count -lt 16 ] && echo several
        while [ $count -gt 0 ]; do count=$((count - 1)); vuumount /dev/net/n$count; done
        mount gpl /dev/net/n0; mount corner /dev/net/n1
        vustack /dev/net/n1 python3 -c 'import socket; socket.socket(); print("works")'"#;
    let wanted = "\
vumount: plugin corner: no link namespace is left for another stack (REASON): unmount one, or \
start umvu with GLIBC_TUNABLES=glibc.rtld.nns=16 for up to 15
= 1
several
works
";
    prints(Place::Armed, script, wanted);
}

#[test]
fn a_plugin_that_crashes_ends_its_own_stack_only() {
    let script = r#"
        mount corner /dev/net/a; mount -o crash corner /dev/net/b
        mount -o late corner /dev/net/b
        try() { vustack /dev/net/b python3 -c 'import socket; socket.socket()' 2>&1; }
        until try | grep -o 'Input/output error'; do sleep 0.1; done
        vuumount /dev/net/b; mount -o busy corner /dev/net/b; vuumount /dev/net/b
        vustack /dev/net/a python3 -c 'import socket; socket.socket(); print("works")'"#;
    let wanted = "\
vumount: plugin corner: newstack: crashed with SIGSEGV
= 1
Input/output error
works
";
    for place in INSIDE {
        prints(place, script, wanted);
    }
}

/// `serve` prints its port, takes a connection, and sends back what it was sent, last byte first;
/// `ask` does so with a megabyte.
const ECHO: &str = r#"
serve() { exec "$@" python3 -c '
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
c, a = s.accept()
d = b"".join(iter(lambda: c.recv(65536), b""))
c.sendall(d[::-1])'; }
ask() { "$@" python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
d = bytes(range(256)) * 4096
s.sendall(d); s.shutdown(socket.SHUT_WR)
r = b"".join(iter(lambda: s.recv(65536), b""))
print(r == d[::-1])' $(cat $W/port); }
both() { # how the server and how the client run
    serve $1 >$W/port & wait_for $W/port; ask $2; wait $!; rm $W/port
}
"#;

#[test]
fn any_pair_of_functions_moves_the_bytes_of_a_stream() {
    let script = format!(
        "{ECHO}{}",
        r#"
        before=$(descriptors)
        for io in $ALL; do
            mount -o io=$io corner /dev/net/a
            echo $io; both '' 'vustack /dev/net/a'; both 'vustack /dev/net/a' ''
            vustack /dev/net/a python3 -c '
import socket
try: socket.create_connection(("127.0.0.1", 1))
except OSError as e: print(e.strerror)'
            vuumount /dev/net/a
        done
        until [ $(descriptors) -le $before ]; do sleep 0.1; done"#
    );
    let one = |io| format!("{io}\nTrue\nTrue\nConnection refused\n");
    let all = ["read", "readv", "recv", "recvfrom", "recvmsg"];
    // Programs are slow to start under ptrace.
    for (place, some) in [(Place::Armed, &all[..]), (Place::Ptrace, &all[..1])] {
        let wanted: String = some.iter().map(one).collect();
        prints(place, &format!("ALL='{}'; {script}", some.join(" ")), &wanted);
    }
}

#[test]
fn datagrams_keep_their_bounds_and_sources() {
    let script = r#"
        for io in recvfrom recvmsg; do
            mount -o io=$io corner /dev/net/a
            vustack /dev/net/a python3 -c '
import socket
one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
for s in one, other: s.bind(("127.0.0.1", 0))
one.sendto(b"first", other.getsockname()); one.sendto(b"", other.getsockname())
for size in 10, 10:
    data, source = other.recvfrom(size); print(data, source == one.getsockname())
one.connect(other.getsockname()); one.send(b"cut off"); print(other.recv(3))
one.connect(("127.0.0.1", 1)); one.send(b"lost")
try: one.recvfrom(10)
except OSError as e: print(e.strerror)
one.connect(other.getsockname()); other.sendto(b"after", one.getsockname()); print(one.recvfrom(10)[0])'
            vuumount /dev/net/a
        done"#;
    let one = "b'first' True\nb'' True\nb'cut'\nConnection refused\nb'after'\n";
    for place in INSIDE {
        prints(place, script, &one.repeat(2));
    }
}

/// Two stacks of LWIPv6 and one of smoltcp on a switch.
const LWIPV6: &str = r#"
mount -o switch://$W/sw,ip=10.9.0.1/24 smoltcp /dev/net/s
for n in 2 3; do mount -o eth0:vde://$W/sw,ip=10.9.0.$n/24 lwipv6 /dev/net/$n; done
on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
"#;

#[test]
fn stacks_of_lwipv6_and_smoltcp_ping_each_other() {
    let script = format!(
        "{LWIPV6}{}",
        r#"
        try() { on $1 ping -n -q -c 2 -i 0.2 10.9.0.$2 2>/dev/null | grep -o '.* received'; }
        until_ok on s ping -c 1 -W 1 10.9.0.2; until_ok on 2 ping -n -c 1 -W 1 10.9.0.3
        try s 2; try s 3; try 2 1; try 3 1; try 2 3
        on 2 ip addr add 10.8.0.2/24 dev vd0; on 2 ip addr 2>/dev/null | grep -o 'inet 10[^ ]*' | sort
        on 2 ip route 2>/dev/null | grep -o '10.8.0.0/24 dev vd0'
        on 2 python3 -c 'import socket; print(socket.if_nameindex())'
        on 3 cat /proc/net/route 2>&1; on 3 ifconfig vd0 | grep -o 'inet [0-9.]*'
        for stack in s 2 3; do vuumount /dev/net/$stack; done"#
    );
    let wanted = format!(
        "{}{}",
        "2 packets transmitted, 2 received\n".repeat(5),
        "\
inet 10.8.0.2/24
inet 10.9.0.2/24
10.8.0.0/24 dev vd0
[(1, 'lo0'), (2, 'vd0')]
cat: /proc/net/route: No such file or directory
inet 10.9.0.3
"
    );
    for place in INSIDE {
        prints(place, &script, &wanted);
    }
}

#[test]
fn stacks_of_lwipv6_and_smoltcp_speak_tcp() {
    let script = format!(
        "{LWIPV6}{}",
        r#"
        seq 1 40000 >$W/numbers; cd $W
        fetch() { # server, its address, client
            on $1 python3 -m http.server --bind 10.9.0.$2 80 >/dev/null 2>&1 & server=$!
            until on $3 curl -s -m 20 -o copy http://10.9.0.$2/numbers; do sleep 0.2; done
            cmp copy numbers && echo "$1 to $3"; rm copy
            pkill -P $server; kill $server; wait $server 2>/dev/null
        }
        fetch s 1 2; fetch 2 2 s; fetch 2 2 3
        echo hello | timeout 20 vustack /dev/net/3 nc -l -p 5000 & server=$!
        until on s nc -w 5 10.9.0.3 5000 </dev/null | grep . ; do sleep 0.2; done
        on 2 nc -w 5 10.9.0.1 5001 </dev/null || echo refused"#
    );
    for place in INSIDE {
        prints(place, &script, "s to 2\n2 to s\n2 to 3\nhello\nrefused\n");
    }
}

#[test]
fn stacks_of_lwipv6_and_smoltcp_speak_udp() {
    let script = format!(
        "{LWIPV6}{}",
        r#"
        cd $W
        datagrams() { # server, its address, client
            vustack /dev/net/$1 timeout 60 python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 53)); print("up", flush=True)
while True: d, a = s.recvfrom(100); s.sendto(d.upper(), a)' 10.9.0.$2 >up & server=$!
            wait_for up
            on $3 timeout 60 python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
while True:
    s.sendto(b"datagram", (sys.argv[1], 53))
    try: print(s.recvfrom(100)); break
    except TimeoutError: pass' 10.9.0.$2
            kill $server; wait $server 2>/dev/null; rm up
        }
        datagrams s 1 2; datagrams 2 2 s; datagrams 2 2 3"#
    );
    let wanted = "\
(b'DATAGRAM', ('10.9.0.1', 53))
(b'DATAGRAM', ('10.9.0.2', 53))
(b'DATAGRAM', ('10.9.0.2', 53))
";
    for place in INSIDE {
        prints(place, &script, wanted);
    }
}

#[test]
fn a_plugin_is_configured_by_its_own_netlink() {
    let script = r#"
        mount -o switch://$W/sw,ip=10.9.0.1/24 smoltcp /dev/net/s
        mount -o lan:vde://$W/sw,conf,ip=10.9.0.2/24,gw=10.9.0.1,dns=10.9.0.53 libvdestack /dev/net/v
        V='vustack /dev/net/v'
        $V ip -o addr show dev lan scope global | grep -o 'inet [^ ]*'; $V ip route show default
        $V cat /etc/resolv.conf; until_ok $V ping -c 1 -W 1 10.9.0.1
        mount -o lan:vde://$W/sw,conf,dhcp,wait=1 libvdestack /dev/net/w | sed "s|$W|W|"
    "#;
    let wanted = "inet 10.9.0.2/24\ndefault via 10.9.0.1 dev lan \nnameserver 10.9.0.53\n\
                  vumount: lan: dhcp: no server answered within 1 s (is one on vde://W/sw? \
                  wait=SECONDS waits longer)\n= 1\n";
    for place in INSIDE {
        prints(place, script, wanted);
    }
}

#[test]
fn the_smoltcp_plugin_is_a_stack_here_too() {
    let test = std::env::current_exe().expect("procfs");
    let plugin = test.with_file_name("libioth_smoltcp.so");
    let script = format!(
        "PLUGIN={}\n{}",
        plugin.display(),
        r#"
        mount -o switch://$W/sw,ip=10.9.0.1/24 smoltcp /dev/net/s
        on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
        seq 1 40000 >$W/numbers; cd $W
        for own in 2 3; do
            [ $own = 2 ] && file=ioth_smoltcp.so || file=ioth_smoltcp-r.so
            cp $PLUGIN $W/$file
            mount -o vde://$W/sw,ip=10.9.0.$own/24 $W/$file /dev/net/p
            on p ip -o addr show dev vde0 scope global | grep -o 'inet [^ ]*'
            on p ping -q -c 2 -i 0.2 10.9.0.1 | grep -o '.* received'
            on s ping -q -c 2 -i 0.2 10.9.0.$own | grep -o '.* received'
            on p python3 -m http.server --bind 10.9.0.$own 80 >/dev/null 2>&1 & pid=$!
            until on s curl -s -m 20 -o copy http://10.9.0.$own/numbers; do sleep 0.2; done
            cmp copy numbers && echo same
            pkill -P $pid; kill $pid; wait $pid 2>/dev/null
            until_ok vuumount /dev/net/p
        done"#
    );
    let one = |own| {
        let pings = "2 packets transmitted, 2 received\n".repeat(2);
        format!("inet 10.9.0.{own}/24\n{pings}same\n")
    };
    prints(Place::Armed, &script, &[one(2), one(3)].concat());
}

#[test]
fn libvdestack_gives_sockets_of_the_kernel_or_bridged_ones() {
    // With `counted` the plugin wants its own close called, so that its sockets are bridged.
    let script = r#"
        mount -o switch://$W/sw,ip=10.9.0.1/24 smoltcp /dev/net/s
        on() { stack=$1; shift; vustack /dev/net/$stack "$@"; }
        for own in 2 3; do
            [ $own = 2 ] && option= || option=,counted
            mount -o lan:vde://$W/sw$option libvdestack /dev/net/v
            on v ip link set lo up; on v ip addr add 10.9.0.$own/24 dev lan; on v ip link set lan up
            on v ip -o addr show dev lan scope global | grep -o 'inet [^ ]*'
            on v ifconfig lan 2>/dev/null | grep -o 'inet [0-9.]*'
            until_ok on s ping -c 1 -W 1 10.9.0.$own
            on s ping -q -c 2 -i 0.2 10.9.0.$own | grep -o '.* received'
            on v ping -q -c 2 -i 0.2 10.9.0.1 | grep -o '.* received'
            seq 1 40000 >$W/numbers; cd $W
            for pair in s:1:v v:$own:s; do
                IFS=: read server number client <<EOF
$pair
EOF
                vustack /dev/net/$server python3 -m http.server --bind 10.9.0.$number 80 >/dev/null 2>&1 & pid=$!
                until on $client curl -s -m 20 -o copy http://10.9.0.$number/numbers; do sleep 0.2; done
                cmp copy numbers && echo $pair; rm copy
                [ $server = s ] || vuumount /dev/net/v 2>&1 | grep -o 'in use'
                kill $pid; wait $pid 2>/dev/null
            done
            until_ok vuumount /dev/net/v
        done"#;
    let one = |own| {
        format!(
            "inet 10.9.0.{own}/24\ninet 10.9.0.{own}\n{}s:1:v\nv:{own}:s\nin use\n",
            "2 packets transmitted, 2 received\n".repeat(2)
        )
    };
    for place in INSIDE {
        prints(place, script, &[one(2), one(3)].concat());
    }
}

#[test]
fn stacks_of_plugins_leave_no_descriptors() {
    // libvdestack keeps up to five descriptors of each stack that it has ended, in any program. LWIPv6 is
    // no measure: now and then its own lwip_stack_free crashes, in a plain C program as well.
    let script = r#"
        mount -o switch://$W/sw,ip=10.9.0.1/24 smoltcp /dev/net/s
        use() {
            mount -o $2 $1 /dev/net/x
            vustack /dev/net/x python3 -c '
import socket
keep = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 5]
keep[0].bind(("0.0.0.0", 7000)); keep[0].listen()'
            vuumount /dev/net/x
        }
        before=$(descriptors)
        for round in 1 2 3; do use libvdestack lan:vde://$W/sw,conf,ip=10.9.0.2/24; use corner io=recvmsg; done
        until [ $(descriptors) -le $((before + 15)) ]; do sleep 0.1; done; echo none"#;
    prints(Place::Armed, script, "none\n");
}
