#!/bin/sh
# One switch, two VLANs: red hosts do not see blue ones, until a gateway on a tagged port (a trunk)
# routes between the VLANs:
#
#       red1 10.10.0.1 --+                       +-- blue1 10.20.0.1
#                        +--- [ umvu switch ] ---+
#       red2 10.10.0.2 --+          |            +-- blue2 10.20.0.2
#                                 trunk
#                      gateway 10.10.0.254, 10.20.0.254
needs='tracepath'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

ask() {
    printf 'vde$ %s\n' "$*"
    "$UMVU" switch --ask "$work/mgmt" "$@"
}

say "a switch with two VLANs: ports 1 and 2 are in VLAN 10, ports 3 and 4 in VLAN 20"
"$UMVU" switch --sock "$work/switch" --mgmt "$work/mgmt" --nostdin &
lab_servers="$lab_servers $!"
until_ok test -S "$work/mgmt"
ask vlan/create 10
ask vlan/create 20
for port in 1 2 3 4 5; do ask port/create "$port"; done
for port in 1 2; do ask port/setvlan "$port" 10; done
for port in 3 4; do ask port/setvlan "$port" 20; done
say "port 5 is a trunk: both VLANs, with their tags"
ask vlan/addport 10 5
ask vlan/addport 20 5
ask vlan/allprint

host red1 smoltcp "vde://$work/switch[1],ip=10.10.0.1/24,gw=10.10.0.254"
host red2 smoltcp "vde://$work/switch[2],ip=10.10.0.2/24,gw=10.10.0.254"
host blue1 smoltcp "vde://$work/switch[3],ip=10.20.0.1/24,gw=10.20.0.254"
host blue2 smoltcp "vde://$work/switch[4],ip=10.20.0.2/24,gw=10.20.0.254"

say "red sees red, blue sees blue"
on red1 ping -c 2 -i 0.2 10.10.0.2
on blue1 ping -c 2 -i 0.2 10.20.0.2
check "red1 reaches red2" quietly_on red1 ping -c 1 -W 1 10.10.0.2
check "blue1 reaches blue2" quietly_on blue1 ping -c 1 -W 1 10.20.0.2
say "even with an address of the other network, red does not see blue"
on red1 ip addr add 10.20.0.99/24 dev vde0
check "no answer from blue1" not quietly_on red1 ping -c 1 -W 1 -I 10.20.0.99 10.20.0.1
on red1 ip addr del 10.20.0.99/24 dev vde0
check "no answer through a gateway that is not there" not quietly_on red1 ping -c 1 -W 1 10.20.0.1

say "a gateway on the trunk, with an interface in each VLAN"
trunk="vde://$work/switch[5]"
host gateway vdestack "red:vlan://10{$trunk},blue:vlan://20{$trunk},eth"
on gateway ip addr add 10.10.0.254/24 dev red
on gateway ip addr add 10.20.0.254/24 dev blue
on gateway sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
until_ok quietly_on red1 ping -c 1 -W 1 10.20.0.1
on red1 ping -c 2 -i 0.2 10.20.0.1
on red1 tracepath -n 10.20.0.1 >"$work/path"
cat "$work/path"
check "red1 reaches blue1 through the gateway" shows "$work/path" '1: *10\.10\.0\.254 '
ask hash/print

say "done: one switch, two networks, one door between them"
