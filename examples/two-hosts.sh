#!/bin/sh
# Two hosts on one virtual Ethernet switch, in one umvu, without root:
#
#       alice 10.0.0.1 ---[ switch ]--- bob 10.0.0.2
#
# Each configures itself with the distribution's own ip, they ping each other over IPv4 and IPv6,
# and alice fetches a page from bob's web server.
. "$(dirname "$0")/common.sh"

if [ "${1:-}" != inside ]; then
    prepare
    say "starting umvu; everything from here on runs inside it"
    exec "$UMVU" -N sh "$0" inside
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Hello from bob, over a virtual Ethernet." >"$work/index.html"

say "a stack for each host, both plugged into one switch"
run vu_insmod vunet
run vumount -t vunetioth -o "switch://$work/switch" smoltcp /dev/net/alice
run vumount -t vunetioth -o "switch://$work/switch" smoltcp /dev/net/bob
run ls -l /dev/net

say "alice is a fresh host: lo and vde0, both down"
run vustack /dev/net/alice ip link

for host in alice:10.0.0.1 bob:10.0.0.2; do
    name=${host%%:*}
    say "$name configures itself"
    run vustack "/dev/net/$name" ip link set lo up
    run vustack "/dev/net/$name" ip addr add "${host#*:}/24" dev vde0
    run vustack "/dev/net/$name" ip link set vde0 up
done
run vustack /dev/net/alice ip addr
run vustack /dev/net/alice ip route

say "they ping each other"
run vustack /dev/net/alice ping -c 3 -i 0.2 10.0.0.2
run vustack /dev/net/bob ping -c 3 -i 0.2 10.0.0.1
bob6=$(vustack /dev/net/bob ip -6 -o addr show dev vde0 | sed 's/.*inet6 \([^/]*\).*/\1/')
run vustack /dev/net/alice ping -6 -c 2 -i 0.2 "$bob6%vde0"
run vustack /dev/net/alice ip neigh

say "bob serves a page, alice fetches it"
printf '$ vustack /dev/net/bob python3 -m http.server 80 &\n'
(cd "$work" && exec vustack /dev/net/bob python3 -m http.server 80 >"$work/log" 2>&1) &
server=$!
until_ok vustack /dev/net/alice curl -s http://10.0.0.2/
run vustack /dev/net/alice curl -s http://10.0.0.2/
kill "$server"
wait "$server" 2>/dev/null || true

say "done: two hosts, one wire, no root"
