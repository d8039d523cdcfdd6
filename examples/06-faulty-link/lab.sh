#!/bin/sh
# A link that is slow and loses packets, and what ping, UDP and TCP make of it:
#
#       near 10.4.0.1 ---{ delay, loss, duplicates }---[ switch ]--- far 10.4.0.2
#
# The faults are drawn from a seed: each run of the lab loses the same packets.
needs='curl python3'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

host far smoltcp "switch://$work/switch,ip=10.4.0.2/24"

# Plugs near in through a link with faults: link FAULTS
link() {
    [ ! -e /dev/net/near ] || run vuumount /dev/net/near
    host near smoltcp "wirefilter://[$1/seed=7]{switch://$work/switch},ip=10.4.0.1/24"
}

# What a line of ping's says: of_ping FILE WHAT
loss_of() { sed -n 's/.* \([0-9.]*\)% packet loss.*/\1/p' "$1"; }
mean_of() { sed -n 's|^rtt [^=]*= [0-9.]*/\([0-9.]*\)/.*|\1|p' "$1"; }
between() { awk -v value="$1" -v least="$2" -v most="$3" 'BEGIN { exit !(value >= least && value <= most) }'; }

say "a good link"
link delay=0
on near ping -q -c 20 -i 0.05 10.4.0.2 | tee "$work/good"
check "no packet is lost" between "$(loss_of "$work/good")" 0 0

say "twenty milliseconds each way"
link delay=20
on near ping -q -c 20 -i 0.05 10.4.0.2 | tee "$work/slow"
check "a round trip takes forty" between "$(mean_of "$work/slow")" 40 60

say "one packet in ten is lost, each way"
link delay=5/loss=10
on near ping -q -c 200 -i 0.01 10.4.0.2 | tee "$work/lossy" || true
check "about a fifth of the pings has no answer" between "$(loss_of "$work/lossy")" 10 30

say "TCP does not mind: it sends again what was lost"
link delay=5/loss=3
head -c 300000 /dev/urandom >"$work/data"
serve far "$work/log" python3 -m http.server --directory "$work" 80
until_ok quietly_on near curl -s -m 5 -o /dev/null http://10.4.0.2/
on near curl -s -o "$work/copy" -w '%{size_download} bytes in %{time_total} s\n' http://10.4.0.2/data
check "the copy is exact" cmp "$work/data" "$work/copy"
resent=$(quietly_on far awk '/^Tcp: [0-9]/ { print $13 }' /proc/net/snmp)
echo "far has sent $resent segments again"
check "some segments were sent again" test "$resent" -gt 0

say "packets that come twice"
link dup=20
on near ping -c 10 -i 0.05 10.4.0.2 | tee "$work/twice"
check "ping marks them" shows "$work/twice" 'DUP!'

say "done: the network fails, TCP does not"
