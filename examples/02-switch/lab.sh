#!/bin/sh
# What a switch learns, and what a third host can hear of a conversation of two others:
#
#       alice 10.0.0.1 ---[ umvu switch ]--- bob 10.0.0.2
#                               |
#                         carol (tcpdump)
#
# The same is done on a hub at the end: there carol hears everything.
needs='tcpdump'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

# What carol hears while a command runs: heard FILE COMMAND...
heard() {
    heard_file=$1
    shift
    serve carol "$heard_file" tcpdump -l -n -e -i vde0
    until_ok shows "$heard_file" 'listening on'
    "$@"
    sleep 0.5
    end "$served"
    printf 'carol heard:\n'
    grep -E '^[0-9]' "$heard_file" | sed 's/^/    /' || true
}

say "a switch with a management socket, and three hosts on its ports 1, 2 and 3"
"$UMVU" switch --sock "$work/switch" --mgmt "$work/mgmt" --nostdin &
lab_servers="$lab_servers $!"
until_ok test -S "$work/mgmt"
host alice smoltcp "vde://$work/switch[1],ip=10.0.0.1/24"
host bob smoltcp "vde://$work/switch[2],ip=10.0.0.2/24"
host carol vdestack "vde://$work/switch[3],eth"
ask() {
    printf 'vde$ %s\n' "$*"
    "$UMVU" switch --ask "$work/mgmt" "$@"
}

say "first words: the question for an address is for everybody, the rest is not"
heard "$work/first" on alice ping -c 2 -i 0.2 10.0.0.2
check "carol heard the question (ARP, to everybody)" shows "$work/first" 'ff:ff:ff:ff:ff:ff.* who-has 10\.0\.0\.2'
check "carol heard no ping" not shows "$work/first" 'ICMP echo'

say "what the switch has learned: which address is behind which port"
ask hash/print
ask hash/print >"$work/table"
for name in alice bob; do
    mac=$(quietly_on "$name" cat /sys/class/net/vde0/address)
    check "the switch knows $name ($mac)" shows "$work/table" "Addr: $mac"
done

say "an address that the switch does not know: its frames go to all ports"
on alice ip neigh replace 10.0.0.77 lladdr 02:00:00:00:00:77 dev vde0
heard "$work/unknown" on alice ping -c 1 -W 1 10.0.0.77 || true
check "carol heard the ping for nobody" shows "$work/unknown" '02:00:00:00:00:77.*ICMP echo request'

say "the same conversation on a hub"
host dave smoltcp "hub://$work/hub,ip=10.0.0.3/24"
host erin smoltcp "hub://$work/hub,ip=10.0.0.4/24"
run vuumount /dev/net/carol
host carol vdestack "hub://$work/hub,eth"
heard "$work/hubbed" on dave ping -c 2 -i 0.2 10.0.0.4
check "carol heard the pings" shows "$work/hubbed" '10\.0\.0\.3 > 10\.0\.0\.4: ICMP echo request'
check "and the answers" shows "$work/hubbed" '10\.0\.0\.4 > 10\.0\.0\.3: ICMP echo reply'

say "done: a switch learns, a hub repeats"
