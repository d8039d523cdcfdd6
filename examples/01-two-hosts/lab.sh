#!/bin/sh
# Two hosts on one virtual Ethernet switch, in one umvu, without root:
#
#       alice 10.0.0.1 ---[ switch ]--- bob 10.0.0.2
#
# Each configures itself with the distribution's own ip, they ping each other over IPv4 and IPv6,
# and alice fetches a page from bob's web server.
needs='curl python3'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

echo "Hello from bob, over a virtual Ethernet." >"$work/index.html"

say "a stack for each host, both plugged into one switch"
host alice smoltcp "switch://$work/switch"
host bob smoltcp "switch://$work/switch"
run ls -l /dev/net

say "alice is a fresh host: lo and vde0, both down"
on alice ip link
check "no way to bob yet" not quietly_on alice ping -c 1 -W 1 10.0.0.2

for name in alice bob; do
    say "$name configures itself"
    [ "$name" = alice ] && address=10.0.0.1/24 || address=10.0.0.2/24
    on "$name" ip link set lo up
    on "$name" ip addr add "$address" dev vde0
    on "$name" ip link set vde0 up
done
on alice ip addr
on alice ip route

say "they ping each other"
on alice ping -c 3 -i 0.2 10.0.0.2
on bob ping -c 3 -i 0.2 10.0.0.1
bob6=$(quietly_on bob ip -6 -o addr show dev vde0 | sed 's/.*inet6 \([^/]*\).*/\1/')
on alice ping -6 -c 2 -i 0.2 "$bob6%vde0"
on alice ip neigh
check "alice knows bob's hardware address" sh -c \
    'vustack /dev/net/alice ip neigh show 10.0.0.2 | grep -i "$(vustack /dev/net/bob cat /sys/class/net/vde0/address)"'

say "bob serves a page, alice fetches it"
serve bob "$work/log" python3 -m http.server --directory "$work" 80
until_ok quietly_on alice curl -s http://10.0.0.2/
on alice curl -s http://10.0.0.2/
check "the page is bob's" sh -c 'vustack /dev/net/alice curl -s http://10.0.0.2/ | grep "from bob"'
check "bob's server saw alice" shows "$work/log" '^10\.0\.0\.1 .*GET / '

say "done: two hosts, one wire, no root"
