# Cables between interfaces of one network, and what bridges make of them: the same on plain Linux and on a stack.
try() {
    echo "\$ $*"
    "$@" 2>&1 | sed 's/ numtxqueues.*//; s/gso_max_size.*//; s/link-netnsid 0//; s/ group default//; s/  *$//'
    echo "= ${PIPESTATUS[0]}"
}
# Without what is there before. The kernel tells of carriers once a second.
links() {
    sleep 1.1
    echo "\$ links $*"
    ip "$@" link show type veth | sed 's/^[0-9]*: //; s/  *$//'
}
try ip link add one type veth peer name two
try ip link add one type veth peer name three
try ip link add three type veth peer name two
try ip link add three type veth peer name three
ip link set one address 02:00:00:00:00:01
ip link set two address 02:00:00:00:00:02
links
try ip link set one up
links
try ip link set two up
links
try ip link set two down
links
try ip link set one down
try ip link set one mtu 65536
try ip link set one mtu 65535
try ip link set two mtu 68
links
try ip link set one name uno
links
try ip link del two
links
try ip link del uno
ip link add type veth
links | grep -o '^veth[^:]*'
ip link del veth0
ip link add a address 02:00:00:00:00:0a mtu 1400 up type veth peer name b address 02:00:00:00:00:0b mtu 1300
links
ip link add c address 02:00:00:00:00:0c type veth peer name d address 02:00:00:00:00:0d
ip link add br type bridge
for port in b d; do ip link set $port master br up; done
for end in a c br; do ip link set $end up; done
ip -o link show master br | sed 's/^[0-9]*: //; s/@.*master/ master/; s/ state.*//'
python3 - <<'P'
import socket
a, c, d = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x1234)) for _ in range(3))
for sock, name in (a, "a"), (c, "c"), (d, "d"):
    sock.bind((name, 0x1234))
    sock.settimeout(5)
def frame(to, source, text):
    return bytes.fromhex("02000000000" + to + "02000000000" + source + "1234") + text.ljust(50, b".")
a.send(frame("c", "a", b"flooded"))
print(c.recv(99)[14:21])
c.send(frame("a", "c", b"known"))
print(a.recvfrom(99)[0][14:19])
P
bridge fdb show br br | grep 02:00:00:00:00:0[ac] | sort | sed 's/ *$//'
ip link del br
try ip -d link show dev a
