//! Stacks that configure themselves, with Debian's servers on the other side of the wire, and
//! Debian's clients on a stack.

use crate::harness::{INSIDE, Place, run, succeed};

/// Servers on 10.0.0.1 and fd00::1, on the stack `/dev/net/s`; `serve_NAME` starts one, and ends it
/// with the script.
const SERVERS: &str = r#"
W=$(mktemp -d); chmod 755 "$W"
jobs_of_ours=; trap 'kill $jobs_of_ours 2>/dev/null; rm -rf "$W"' EXIT
vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.1/24,ip=fd00::1/64" smoltcp /dev/net/s || exit 90
S='vustack /dev/net/s'
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1)); [ $tries -lt 300 ] || { echo "gave up: $*" >&2; exit 92; }; sleep 0.1
    done
}
serve_dnsmasq() {
    $S dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --interface=vde0 \
        --bind-dynamic --no-ping --dhcp-range=10.0.0.50,10.0.0.60,2m --dhcp-range=fd00::50,fd00::60,64,2m \
        --dhcp-option=option:router,10.0.0.1 --dhcp-option=option:mtu,1400 --domain=lab.test \
        --dhcp-option=option6:dns-server,[fd00::1] --enable-ra --address=/web.lab.test/10.0.0.1 \
        --dhcp-leasefile="$W/leases" --pid-file= --user=root --log-dhcp --log-facility=- "$@" \
        > "$W/log" 2>&1 & jobs_of_ours="$jobs_of_ours $!"
    until_ok grep -q 'sockets bound exclusively' "$W/log"
}
serve_udhcpd() {
    touch "$W/leases"
    printf '%s\n' 'start 10.0.0.50' 'end 10.0.0.60' 'interface vde0' 'min_lease 5' \
        "lease_file $W/leases" 'option lease 12' 'option subnet 255.255.255.0' \
        'option dns 10.0.0.53' 'option domain small.test' > "$W/udhcpd.conf"
    $S busybox udhcpd -f "$W/udhcpd.conf" > "$W/log" 2>&1 & jobs_of_ours="$jobs_of_ours $!"
    until_ok grep -q started "$W/log"
}
serve_radvd() {
    cat > "$W/radvd.conf" <<END
interface vde0 {
    AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvLinkMTU 1400;
    prefix fd00:1::/64 { AdvValidLifetime 7300; AdvPreferredLifetime 7200; };
    RDNSS fd00:1::53 { AdvRDNSSLifetime 30; }; DNSSL six.test { AdvDNSSLLifetime 30; };
};
END
    chmod 644 "$W/radvd.conf"
    $S sysctl -qw net.ipv6.conf.all.forwarding=1
    $S radvd -n -m stderr -d 1 -u root -C "$W/radvd.conf" -p "$W/radvd.pid" > "$W/log" 2>&1 &
    jobs_of_ours="$jobs_of_ours $!"
    until_ok test -s "$W/radvd.pid"
}
C='vustack /dev/net/c'
client() { vumount -t vunetioth -o "switch://$W/sw,$2" $1 /dev/net/c; }
"#;

/// The stacks that can configure themselves here.
fn stacks() -> Vec<&'static str> {
    // vdestack needs user namespaces and a tap.
    let probe = "vumount -t vunetvdestack null:// /dev/net/probe 2>/dev/null";
    let has_vdestack = run(Place::Armed, probe).status == Some(0);
    ["smoltcp", "vdestack"].into_iter().filter(|one| *one != "vdestack" || has_vdestack).collect()
}

/// The script gives the same output on every stack.
#[track_caller]
fn on_all_stacks(script: &str, wanted: &str) {
    for stack in stacks() {
        let out = succeed(Place::Armed, &format!("{SERVERS}\nstack={stack}\n{script}"));
        assert_eq!(out, wanted, "{stack}: {script}");
    }
}

#[test]
fn a_lease_of_dnsmasq_gives_all_that_a_host_needs() {
    let script = r#"
        serve_dnsmasq
        client $stack dhcp,fqdn=one.lab.test || exit 1
        $C ip -4 -o addr show dev vde0 | grep -oE 'inet 10.0.0.[56][0-9]/24 brd 10.0.0.255 .* dynamic' | sed 's/10.0.0.../IP/'
        $C ip route show default | grep -o 'via 10.0.0.1 dev vde0 proto dhcp'
        $C ip -o link show vde0 | grep -o 'mtu 1400'
        $C cat /etc/resolv.conf
        $C getent hosts web.lab.test
        grep -c 'one.lab.test\|03:6f:6e:65' "$W/log" | sed 's/^[1-9].*/named/'
        vuumount /dev/net/c
        until_ok grep -q DHCPRELEASE "$W/log"
        grep -c . "$W/leases"
    "#;
    let wanted = "inet IP/24 brd 10.0.0.255 scope global dynamic\nvia 10.0.0.1 dev vde0 proto dhcp\n\
                  mtu 1400\nsearch lab.test\nnameserver 10.0.0.1\n10.0.0.1        web.lab.test\nnamed\n";
    for stack in stacks() {
        let out = succeed(Place::Armed, &format!("{SERVERS}\nstack={stack}\n{script}"));
        assert!(out.starts_with(wanted), "{stack}: {out}");
    }
}

#[test]
fn a_lease_is_renewed_in_the_background() {
    let script = r#"
        serve_udhcpd
        client $stack dhcp || exit 1
        $C cat /etc/resolv.conf
        renewed() { [ "$(grep -c 'sending ACK' "$W/log")" -ge 2 ]; }
        until_ok renewed
        $C ip -4 -o addr show dev vde0 | grep -c dynamic
    "#;
    on_all_stacks(script, "search small.test\nnameserver 10.0.0.53\n1\n");
}

/// By a socket of type SOCK_PACKET: the server asks by ARP whether an address is free.
#[test]
fn an_address_that_somebody_has_is_not_given_away() {
    let script = r#"
        vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.50/24" smoltcp /dev/net/squatter
        for n in 51 52 53; do vustack /dev/net/squatter ip addr add 10.0.0.$n/24 dev vde0; done
        touch "$W/leases"
        printf '%s\n' 'start 10.0.0.50' 'end 10.0.0.54' 'interface vde0' "lease_file $W/leases" > "$W/udhcpd.conf"
        $S busybox udhcpd -f "$W/udhcpd.conf" > "$W/log" 2>&1 & jobs_of_ours="$jobs_of_ours $!"
        until_ok grep -q started "$W/log"
        # It begins with an address that follows from the hardware's, and that somebody has.
        vumount -t vunetioth -o "switch://$W/sw" smoltcp /dev/net/d
        vustack /dev/net/d ip link set vde0 address 02:00:00:00:00:02 up
        vustack /dev/net/d busybox udhcpc -f -q -n -t 9 -T 2 -i vde0 -s /bin/true 2>&1 | grep -o 'lease of [0-9.]* obtained'
        grep -o 'belongs to someone' "$W/log" | sort -u"#;
    let wanted = "lease of 10.0.0.54 obtained\nbelongs to someone\n";
    assert_eq!(succeed(Place::Armed, &format!("{SERVERS}\n{script}")), wanted);
}

#[test]
fn addresses_come_by_dhcpv6() {
    let script = r#"
        serve_dnsmasq
        client $stack dhcp6,fqdn=one.lab.test || exit 1
        $C ip -6 -o addr show dev vde0 | grep -oE 'inet6 fd00::[56][0-9a-f]/128 scope global dynamic' | sed 's/::../::IP/'
        $C cat /etc/resolv.conf
        vuumount /dev/net/c; until_ok grep -q DHCPRELEASE "$W/log"
    "#;
    on_all_stacks(script, "inet6 fd00::IP/128 scope global dynamic\nnameserver fd00::1\n");
}

#[test]
fn routers_give_addresses_and_name_servers() {
    let script = r#"
        serve_radvd
        client $stack slaac,fqdn=test.v2.cs.unibo.it || exit 1
        $C ip -6 -o addr show dev vde0 scope global | grep -o 'inet6 fd00:1::[^ ]*'
        $C ip -6 route show default | grep -oE 'proto ra .*mtu 1400 hoplimit 64'  | sed -E 's/expires [0-9]+sec/expires/'
        until_ok $C grep -q fd00:1::53 /etc/resolv.conf
        $C cat /etc/resolv.conf
        $C rdisc6 -1 -q vde0
    "#;
    let wanted = "inet6 fd00:1::68d6:2fac:95a:5a2e/64\nproto ra metric 1024 expires mtu 1400 \
                  hoplimit 64\nsearch six.test\nnameserver fd00:1::53\nfd00:1::/64\n";
    on_all_stacks(script, wanted);
}

#[test]
fn without_a_server_the_mount_says_so() {
    let script = r#"
        for word in dhcp dhcp6 slaac; do
            client $stack $word,wait=1 2>&1 | sed "s|$W|W|"; test -e /dev/net/c && echo "still there"
        done
        echo done
    "#;
    let line = |word: &str, who: &str| {
        format!(
            "vumount: vde0: {word}: no {who} answered within 1 s (is one on switch://W/sw? \
             wait=SECONDS waits longer)\n"
        )
    };
    let wanted = [line("dhcp", "server"), line("dhcp6", "server"), line("rd", "router")].concat();
    on_all_stacks(script, &format!("{wanted}done\n"));
}

#[test]
fn several_interfaces_are_made_and_configured_at_once() {
    let script = r#"
        client $stack "lan:switch://$W/lan,mac=02:00:00:00:00:01,ip=10.0.0.9/24,iface=lan,mac=02:00:00:00:00:02,ip=10.9.0.1/16,mtu=1300,gw=10.9.0.254" || exit 1
        $C ip -o link | grep -oE '^[0-9]+: [a-z0-9]+: .*mtu [0-9]+|link/ether [0-9a-f:]+' | sed 's/<.*>/FLAGS/'
        $C ip route show default; $C ping -q -c 1 -W 5 10.0.0.1 > /dev/null && echo answered
    "#;
    let wanted = "1: lo: FLAGS mtu 65536\n2: vde0: FLAGS mtu 1500\nlink/ether 02:00:00:00:00:01\n\
                  3: lan: FLAGS mtu 1300\nlink/ether 02:00:00:00:00:02\n\
                  default via 10.9.0.254 dev lan \nanswered\n";
    on_all_stacks(script, wanted);
}

#[test]
fn debians_clients_run_on_a_stack() {
    let script = r#"
        # dhclient goes on in the background, and writes its number there.
        stop() { until_ok test -s "$1"; kill "$(cat "$1")"; }
        serve_dnsmasq
        before=$(cat /etc/resolv.conf)
        client $stack eth || exit 1
        $C timeout 60 udhcpc -i vde0 -n -q -f >/dev/null 2>&1 || exit 2
        $C ip -4 -o addr show dev vde0 | grep -c 'inet 10.0.0.'; $C cat /etc/resolv.conf
        $C getent hosts web.lab.test; $C ip addr flush dev vde0
        $C timeout 60 dhclient -1 -lf "$W/c4" -pf "$W/pid4" vde0 >/dev/null 2>&1 || exit 4
        $C ip -4 -o addr show dev vde0 | grep -c 'inet 10.0.0.'; $C grep nameserver /etc/resolv.conf
        stop "$W/pid4"; $C ip link set vde0 down; $C ip link set vde0 up
        $C timeout 60 dhclient -6 -1 -lf "$W/c6" -pf "$W/pid6" vde0 >/dev/null 2>&1 || exit 3
        $C ip -6 -o addr show dev vde0 | grep -cE 'fd00::[56][0-9a-f]/128'
        stop "$W/pid6"
        [ "$(cat /etc/resolv.conf)" = "$before" ] && echo "the host's is as it was"
    "#;
    let wanted = "1\ndomain lab.test\nnameserver 10.0.0.1\n10.0.0.1        web.lab.test\n1\n\
                  nameserver 10.0.0.1\n1\nthe host's is as it was\n";
    on_all_stacks(script, wanted);
}

#[test]
fn each_stack_has_its_own_files_about_names() {
    let script = r#"
        vumount -t vunetioth -o null://,dns=10.0.0.53,domain=lab.test smoltcp /dev/net/a || exit 1
        vumount -t vunetioth -o null:// smoltcp /dev/net/b || exit 1
        A='vustack /dev/net/a'; B='vustack /dev/net/b'
        host=$(cat /etc/resolv.conf /etc/hosts)
        $A cat /etc/resolv.conf
        $B sh -c 'echo nameserver 9.9.9.9 > /etc/resolv.conf.new && mv -f /etc/resolv.conf.new /etc/resolv.conf'
        $B sh -c 'cd /etc && cat resolv.conf; sed -i s/9.9.9.9/8.8.8.8/ /etc/resolv.conf; cat ./resolv.conf'
        $B stat -c '%F %s' /etc/resolv.conf
        $B sh -c 'echo 10.0.0.7 alice >> /etc/hosts; getent hosts alice'
        $A getent hosts alice || echo unknown
        $A sh -c 'echo "; mine" >> /etc/resolv.conf; tail -n 1 /etc/resolv.conf'
        [ "$(cat /etc/resolv.conf /etc/hosts)" = "$host" ] && echo "the host's are as they were"
    "#;
    let wanted = "search lab.test\nnameserver 10.0.0.53\nnameserver 9.9.9.9\nnameserver 8.8.8.8\n\
                  regular file 19\n10.0.0.7        alice\nunknown\n; mine\n\
                  the host's are as they were\n";
    for place in INSIDE {
        assert_eq!(succeed(place, script), wanted, "{place:?}");
    }
}
