#!/bin/sh
# Two networks and a router. The hosts are smoltcp stacks; the router is Linux itself, in a network
# namespace with two interfaces (the stack vdestack), and routes when it is told to:
#
#       anna 10.1.0.2 ---[ left ]--- 10.1.0.1 router 10.2.0.1 ---[ right ]--- boris 10.2.0.2
needs='tracepath curl python3'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

say "two switches, a host on each, and a router with an interface on both"
host anna smoltcp "switch://$work/left,ip=10.1.0.2/24"
host boris smoltcp "switch://$work/right,ip=10.2.0.2/24"
host router vdestack "left:switch://$work/left,right:switch://$work/right,eth"
on router ip addr add 10.1.0.1/24 dev left
on router ip addr add 10.2.0.1/24 dev right
on router ip addr

say "anna knows no way to boris"
on anna ping -c 1 -W 1 10.2.0.2 || true
check "the network is unreachable" sh -c \
    'vustack /dev/net/anna ping -c 1 -W 1 10.2.0.2 2>&1 | grep "Network is unreachable"'

say "a way there and a way back, but the router does not route yet"
on anna ip route add default via 10.1.0.1
on boris ip route add default via 10.2.0.1
on router sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'
until_ok quietly_on anna ping -c 1 -W 1 10.1.0.1
check "anna reaches the router" quietly_on anna ping -c 1 -W 2 10.1.0.1
check "but not boris" not quietly_on anna ping -c 1 -W 1 10.2.0.2

say "now it does"
on router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
until_ok quietly_on anna ping -c 1 -W 1 10.2.0.2
on anna ping -c 3 -i 0.2 10.2.0.2
check "each packet has passed one router (ttl 63)" sh -c \
    'vustack /dev/net/anna ping -c 1 10.2.0.2 | grep "ttl=63"'
on anna tracepath -n 10.2.0.2 >"$work/path"
cat "$work/path"
check "the path: the router, then boris" sh -c \
    "grep -q '1: *10.1.0.1 ' '$work/path' && grep -q '2: *10.2.0.2 .*reached' '$work/path'"

say "a megabyte through the router"
head -c 1000000 /dev/urandom >"$work/data"
serve boris "$work/log" python3 -m http.server --directory "$work" 80
until_ok quietly_on anna curl -s -o /dev/null http://10.2.0.2/
on anna curl -s -o "$work/copy" http://10.2.0.2/data
check "the copy is exact" cmp "$work/data" "$work/copy"
on router ip -s neigh
check "boris's server saw anna, not the router" shows "$work/log" '^10\.1\.0\.2 .*GET /data'

say "done: two networks, one Linux router, no root"
