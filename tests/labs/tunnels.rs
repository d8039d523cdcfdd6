//! `/dev/net/tun` in the view: tun and tap interfaces of a stack, and the programs that use them.

use crate::harness::{INSIDE, Place, on_two_hosts, run, succeed, with_hosts};

/// Whether plain Linux lets us have such interfaces in a namespace.
fn has_taps() -> bool {
    run(Place::Native, "unshare -rn true && test -w /dev/net/tun").status == Some(0)
}

/// Where scripts on two hosts with tun interfaces can run.
fn places() -> Vec<Place> {
    let mut places = with_hosts();
    places.retain(|place| *place != Place::Native || has_taps());
    places
}

const DEVICE: &str = r#"
if command -v vumount >/dev/null; then
    vu_insmod vudev; vumount -t vudevtap none /dev/net/tun || exit 94
fi
"#;

#[test]
fn a_program_sees_what_it_sees_on_plain_linux() {
    const PROGRAM: &str =
        concat!("timeout 60 python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/tunnels.py");
    let inside = format!(
        "{DEVICE}vumount -t vunetioth -o null:// smoltcp /dev/net/s && exec vustack /dev/net/s {PROGRAM}"
    );
    let outs = INSIDE.map(|place| succeed(place, &inside));
    assert_eq!(outs[0], outs[1]);
    assert!(outs[0].contains("3 packets transmitted, 3 received"), "{}", outs[0]);
    if has_taps() {
        let script = format!("unshare -rnm sh -c 'mount -t sysfs none /sys; {PROGRAM}'");
        assert_eq!(outs[0], succeed(Place::Native, &script));
    }
}

#[test]
fn openvpn_joins_two_hosts() {
    let script = r#"
        openvpn --genkey secret "$W/key" 2>/dev/null
        vpn() { # words before the command, the other host, the device, the addresses
            $1 openvpn --dev $3 --remote 10.0.0.$2 --ifconfig $4 $5 --secret "$W/key" \
                --cipher AES-256-CBC --auth SHA256 >"$W/log$2" 2>&1 &
        }
        seq 1 100000 >"$W/numbers"
        for dev in tun tap; do
            case $dev in
            tun) to_b=10.8.0.2; to_a=10.8.0.1 ;;
            tap) to_b=255.255.255.0; to_a=$to_b ;;
            esac
            vpn "$A" 2 $dev 10.8.0.1 $to_b; first=$!
            vpn "$B" 1 $dev 10.8.0.2 $to_a; second=$!
            until_ok on_a ping -q -c 1 -W 1 10.8.0.2
            on_a ping -q -c 3 -i 0.2 10.8.0.2 | grep -o '.* received'
            $B python3 -m http.server -d "$W" --bind 10.8.0.2 80 >/dev/null 2>&1 & server=$!
            until_ok on_a curl -s http://10.8.0.2/numbers -o "$W/copy"
            cmp "$W/copy" "$W/numbers" && echo same
            kill $server $first $second; wait $server $first $second 2>/dev/null
            on_a ip link show ${dev}0 2>&1 || true
        done
    "#;
    let script = &format!("{DEVICE}{script}");
    let wanted = "\
3 packets transmitted, 3 received
same
Device \"tun0\" does not exist.
3 packets transmitted, 3 received
same
Device \"tap0\" does not exist.
";
    for place in places() {
        assert_eq!(on_two_hosts(place, script), wanted, "{place:?}");
    }
}

#[test]
fn an_interface_of_socat_is_watched_and_bridged() {
    let script = r#"
        # Not connected: what comes before the other one listens is lost, and no error.
        pipe() { echo "UDP4-DATAGRAM:10.0.0.$1:7777,bind=10.0.0.$2:7777"; }
        $A socat $(pipe 2 1) TUN:192.168.9.1/24,up & first=$!
        $B socat $(pipe 1 2) TUN:192.168.9.2/24,up & second=$!
        until_ok on_a ping -q -c 1 -W 1 192.168.9.2
        $B tcpdump --immediate-mode -lnt -i tun0 -c 2 icmp >"$W/seen" 2>"$W/err" & dump=$!
        until_ok grep -q 'link-type RAW' "$W/err"
        on_a ping -q -c 1 192.168.9.2 >/dev/null
        wait $dump; grep -o 'IP .* echo [a-z]*' "$W/seen"
        kill $first $second; wait $first $second 2>/dev/null
        on_b ip link add br0 type bridge; on_b ip addr add 192.168.9.2/24 dev br0
        $A socat $(pipe 2 1) TUN:192.168.9.1/24,tun-type=tap,iff-no-pi,up & first=$!
        $B socat $(pipe 1 2) TUN,tun-type=tap,iff-no-pi,up & second=$!
        until_ok on_b ip link set tap0 master br0
        on_b ip link set br0 up
        until_ok on_a ping -q -c 1 -W 1 192.168.9.2
        on_a ip neigh show dev tap0 | grep -c 192.168.9.2
        kill $first $second
    "#;
    let wanted = "\
IP 192.168.9.1 > 192.168.9.2: ICMP echo request
IP 192.168.9.2 > 192.168.9.1: ICMP echo reply
1
";
    for place in INSIDE {
        assert_eq!(on_two_hosts(place, &format!("{DEVICE}{script}")), wanted, "{place:?}");
    }
}

#[test]
fn the_source_names_a_stack() {
    let script = r#"
        vu_insmod vudev
        vumount -t vunetioth -o null:// smoltcp /dev/net/s || exit 90
        vumount -t vudevtap /dev/net/none /dev/net/tun 2>&1 && exit 91
        vumount -t vudevtap /dev/net/s /dev/tunnels || exit 92
        python3 -c '
import fcntl, os, struct
tun = os.open("/dev/tunnels", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"mine", 0x1001))
os.system("vustack /dev/net/s ip -o link show mine | cut -d: -f2; vuumount /dev/net/s")
print(os.read(tun, 9))'
    "#;
    let wanted = "\
vumount: /dev/net/none: no network stack is mounted there (`none` is for that of each process)
 mine
b''
";
    for place in INSIDE {
        assert_eq!(succeed(place, script), wanted, "{place:?}");
    }
}
