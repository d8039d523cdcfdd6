# Policy rules as ip(8) shows, adds, deletes and follows them: the same on plain Linux and on a stack.
try() {
    echo "\$ $*"
    "$@" 2>&1
    echo "= $?"
}
ip link set lo up
ip link add one type veth peer name eno
ip link add two type veth peer name owt
for link in eno owt; do
    ip link set $link up
done
for link in one two; do
    ip link set $link address 02:00:00:00:00:0${#link} up
done
ip addr add 10.1.0.1/24 dev one
ip addr add 10.2.0.1/24 dev two
ip addr add fd01::1/64 dev one nodad
ip addr add fd02::1/64 dev two nodad
ip route add default via 10.1.0.2
ip route add default via 10.2.0.2 table 100
ip route add 192.0.2.0/24 via 10.2.0.3 table 101
ip route add throw 198.51.100.0/24 table 100
ip -6 route add default via fd01::2
ip -6 route add default via fd02::2 table 100
try ip rule
try ip -6 rule
where() {
    for to in 192.0.2.9 198.51.100.9 10.1.0.7; do
        try ip route get $to "$@"
    done
}
for rule in "from 10.2.0.0/16 table 100" "to 192.0.2.0/24 table 101" "fwmark 7 table 100" \
    "fwmark 0x10/0xf0 table 100 priority 77" "not from 10.2.0.1 table 100" "iif lo table 101" \
    "iif two table 100" "oif two table 101" "blackhole to 192.0.2.9" "unreachable from 10.2.0.1" \
    "prohibit fwmark 3" "table 100 suppress_prefixlength 0" "table main suppress_prefixlength 0" \
    "goto 32766 priority 9" "from 10.2.0.1 lookup 100 protocol static" "nop priority 3" "table 70000"; do
    try ip rule add $rule
    try ip rule add $rule
    try ip rule
    where
    where from 10.2.0.1
    where mark 7
    try ip route get 192.0.2.9 mark 0x17
    try ip route get 192.0.2.9 mark 3
    try ip route get 192.0.2.9 oif two
    try ip rule del $rule
    try ip rule del $rule
done
try ip rule add goto 3 priority 9
try ip rule add goto 40000 priority 9
try ip rule
try ip route get 192.0.2.9
try ip rule del priority 9
try ip rule del priority 0
try ip rule add from 1.2.3.4/99 table 5
try ip rule del table 4711
for rule in "from fd02::/16 table 100" "to 2001:db8::/32 table 100" "fwmark 7 table 100" "prohibit to 2001:db8::9"; do
    try ip -6 rule add $rule
    try ip -6 rule add $rule
    try ip -6 rule
    try ip -6 route get 2001:db8::9
    try ip -6 route get 2001:db8::9 from fd02::1
    try ip -6 route get 2001:db8::9 mark 7
    try ip -6 rule del $rule
    try ip -6 rule del $rule
done
try ip -j rule
try ip -d rule
ip rule add from 10.9.0.0/16 table 5
ip rule add to 10.9.0.0/16 table 5
try ip rule show table 5
try ip rule show from 10.9.0.0/16
try ip rule flush
try ip rule
try ip rule del table local
try ip route get 192.0.2.9
try ip rule add table main
try ip route get 192.0.2.9
