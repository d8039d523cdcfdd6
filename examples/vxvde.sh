#!/bin/sh
# Two umvu sessions that meet over vxvde://, a distributed switch on an IP multicast group:
#
#       umvu 1: 10.9.0.1 ---( 239.0.0.1, UDP 14789 )--- umvu 2: 10.9.0.2
#
# Without a multicast route on the host the lab makes a network namespace of its own.
. "$(dirname "$0")/common.sh"

case "${1:-}" in
'')
    prepare
    if ip route get 239.0.0.1 >/dev/null 2>&1; then
        exec sh "$0" sessions
    fi
    say "no multicast route here: the lab runs in a network namespace of its own"
    exec unshare -Urn sh "$0" namespace
    ;;
namespace)
    run ip link set lo up multicast on
    run ip route add 239.0.0.0/8 dev lo
    exec sh "$0" sessions
    ;;
sessions)
    say "the first session answers for twenty seconds, the second one pings it"
    "$UMVU" -N -m vunet sh "$0" first &
    first=$!
    "$UMVU" -N -m vunet sh "$0" second
    status=$?
    kill "$first" 2>/dev/null || true
    wait "$first" 2>/dev/null || true
    [ "$status" = 0 ] && say "done: two sessions, one Ethernet"
    exit "$status"
    ;;
first)
    vumount -t vunetioth -o vxvde://,ip=10.9.0.1/24 smoltcp /dev/net/one
    exec sleep 20
    ;;
second)
    run vumount -t vunetioth -o vxvde://,ip=10.9.0.2/24 smoltcp /dev/net/two
    until_ok vustack /dev/net/two ping -c 1 -W 1 10.9.0.1
    run vustack /dev/net/two ping -c 3 -i 0.2 10.9.0.1
    ;;
esac
