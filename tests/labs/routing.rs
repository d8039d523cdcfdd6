//! Routing daemons: unmodified, they fill the tables of stacks by rtnetlink and talk to each other by
//! raw sockets, multicast and TCP.

use crate::harness::{INSIDE, on_two_hosts, with_hosts};

fn same_everywhere(script: &str, wanted: &str) {
    for place in with_hosts() {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}: {script}");
    }
}

/// BIRD on both hosts, which are routers with an address that only they know; `daemon` starts one.
const BIRD: &str = r#"
    n=1
    for at in on_a on_b; do
        $at sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        $at ip addr add 10.255.0.$n/32 dev lo; $at ip -6 addr add fd00:ff::$n/128 dev lo
        n=$((n+1))
    done
    daemon() { # NAME ROUTER-ID COMMAND PROTOCOLS
        printf '%s\n' "log \"$W/log$1\" all; router id $2;" 'protocol device { scan time 1; }' \
            'protocol direct { ipv4; ipv6; interface "lo"; }' \
            'protocol kernel { ipv4 { export where source != RTS_DEVICE; }; }' \
            'protocol kernel { ipv6 { export where source != RTS_DEVICE; }; }' \
            "$4" >$W/$1.conf
        exec $3 bird -f -c $W/$1.conf -s $W/$1.ctl -P $W/$1.pid
    }
    # Elections and timers take their time: half a minute.
    patiently() {
        for i in $(seq 300); do "$@" && return; sleep 0.1; done
        echo "gave up: $*"; cat $W/log?; kill $a $b; exit 93
    }
"#;

#[test]
fn ospf_fills_the_tables_of_its_routers() {
    let script = r#"
        ospf='ipv4 { export all; }; area 0 { interface "vde0" { hello 1; wait 2; dead 4; }; };'
        both="protocol ospf v2 { $ospf } protocol ospf v3 { $(echo "$ospf" | sed s/ipv4/ipv6/) }"
        daemon a 10.0.0.1 "$A" "$both" & a=$!
        daemon b 10.0.0.2 "$B" "$both" & b=$!
        patiently learned
        on_a birdc -s $W/a.ctl show ospf neighbors | grep -o 'Full/' | sort | uniq -c | tr -s ' '
        on_a ip route get 10.255.0.2 | head -1 | sed 's/ uid.*//'
        on_a ip route show 10.255.0.2; on_b ip route show 10.255.0.1
        on_a ip -6 route show fd00:ff::2 | sed 's/via fe80[^ ]*/via LINK/'
        on_a ping -c 1 -I 10.255.0.1 10.255.0.2 | grep -o '. received'
        on_a ping -c 1 -I fd00:ff::1 fd00:ff::2 | grep -o '. received'
        # Its routes go with a daemon that ends; those of one that dies, when it is missed.
        kill $b; wait $b; on_b ip route show proto bird
        patiently forgotten; on_a ip route show 10.255.0.2
        kill $a; wait $a"#;
    let functions = r"
        learned() { on_a ip route show 10.255.0.2 | grep -q bird && on_b ip route show 10.255.0.1 | grep -q bird &&
            on_a ip -6 route show fd00:ff::2 | grep -q bird && on_b ip -6 route show fd00:ff::1 | grep -q bird; }
        forgotten() { ! on_a ip route show 10.255.0.2 | grep -q bird; }";
    let wanted = " 2 Full/\n\
        10.255.0.2 via 10.0.0.2 dev vde0 src 10.0.0.1\n\
        10.255.0.2 via 10.0.0.2 dev vde0 proto bird metric 32 \n\
        10.255.0.1 via 10.0.0.1 dev vde0 proto bird metric 32 \n\
        fd00:ff::2 via LINK dev vde0 proto bird metric 32 pref medium\n\
        1 received\n1 received\n";
    same_everywhere(&format!("{BIRD}{functions}{script}"), wanted);
}

/// FRR wants to begin as root and to go on as a user of its own: the root is a virtual one, so that it
/// does for whoever runs the test.
#[test]
fn frr_runs_by_a_virtual_root() {
    let script = r#"
        cat >$W/run <<'E'
        daemons=
        start() { "$@" & daemons="$daemons $!"; }
        for n in 1 2; do
            at=$([ $n = 1 ] && echo "$A" || echo "$B"); D=$W/frr$n; mkdir $D; chown frr:frr $D
            printf '%s\n' "log file $D/log" 'interface lo' " ip address 10.255.0.$n/32" >$D/zebra.conf
            printf '%s\n' "log file $D/log" 'interface vde0' ' ip ospf hello-interval 1' ' ip ospf dead-interval 3' \
                'router ospf' ' network 10.0.0.0/8 area 0' ' timers throttle spf 0 50 200' >$D/ospfd.conf
            for daemon in zebra ospfd; do
                start $at /usr/lib/frr/$daemon -f $D/$daemon.conf -i $D/$daemon.pid -z $D/zserv --vty_socket $D -P 0
                for i in $(seq 100); do [ -S $D/zserv ] && break; sleep 0.1; done
            done
        done
        for i in $(seq 300); do
            $A ip route show 10.255.0.2 | grep -q ospf && $B ip route show 10.255.0.1 | grep -q ospf && break
            sleep 0.1
        done
        $A ip route show 10.255.0.2; $B ip route show 10.255.0.1
        $A ping -c 1 -I 10.255.0.1 10.255.0.2 | grep -o '. received'
        ps -o user= $(cat $W/frr1/ospfd.pid)
        kill $daemons; wait
E
        export A B W; chmod 755 $W; vu_insmod unrealuidgid; vusu -c "bash $W/run" 2>$W/errors || { cat $W/errors >&2; exit 1; }"#;
    let wanted = "\
10.255.0.2 via 10.0.0.2 dev vde0 proto ospf metric 20\x20
10.255.0.1 via 10.0.0.1 dev vde0 proto ospf metric 20\x20
1 received
frr
";
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}");
    }
}
