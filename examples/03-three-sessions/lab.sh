#!/bin/sh
# Three umvu sessions, as on three machines, that meet over vxvde://, a switch that is nowhere: each
# session sends its frames to an IP multicast group, or straight to the session that has the address.
#
#       ann 10.9.0.1 ----+
#       ben 10.9.0.2 ----+---( vxvde://239.0.0.1, UDP port 14789 )
#       cleo 10.9.0.3 ---+
#
# The lab runs in a network namespace of its own: no packet reaches the network of this machine.
needs='unshare'
. "$(dirname "$(readlink -f "$0")")/../common.sh"

# One session: makes its host and answers until the lab ends.
session() {
    host "$1" smoltcp "vxvde://239.0.0.1,ip=10.9.0.$2/24"
    touch "$3/$1"
    exec sleep 60
}

case "${1:-}" in
'')
    prepare
    say "a network namespace with a multicast route stands for the local network"
    exec unshare -Urn sh "$lab_script" namespace
    ;;
namespace)
    workplace
    run ip link set lo up multicast on
    run ip route add 239.0.0.0/8 dev lo
    say "two sessions start, each with a host of its own"
    for number in 1 2; do
        name=$(echo ann ben | cut -d' ' -f$number)
        "$UMVU" -N -V "$name" -m vunet sh "$lab_script" session "$name" "$number" "$work" &
        lab_servers="$lab_servers $!"
    done
    until_ok test -e "$work/ann"
    until_ok test -e "$work/ben"
    say "a third one starts, and looks around"
    "$UMVU" -N -V cleo -m vunet sh "$lab_script" third
    say "done: three sessions, one Ethernet, no switch"
    ;;
session) session "$2" "$3" "$4" ;;
third)
    workplace
    host cleo smoltcp "vxvde://239.0.0.1,ip=10.9.0.3/24"
    for number in 1 2; do
        until_ok quietly_on cleo ping -c 1 -W 1 "10.9.0.$number"
        on cleo ping -c 3 -i 0.2 "10.9.0.$number"
    done
    on cleo ip neigh
    check "cleo has met ann and ben" sh -c \
        'test "$(vustack /dev/net/cleo ip neigh | grep -c lladdr)" = 2'
    say "the sessions know each other only by the wire: cleo's view has one stack"
    run ls /dev/net
    check "ann's stack is not here" not test -e /dev/net/ann
    ;;
esac
