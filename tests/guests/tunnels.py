"""What a program sees of /dev/net/tun: the requests, packets, and what ip(8) shows. Prints the same on
plain Linux (in namespaces of its own) and on a smoltcp stack."""

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import subprocess

TUNSETIFF, TUNGETIFF, TUNGETFEATURES = 0x400454CA, 0x800454D2, 0x800454CF
TUNSETPERSIST, TUNSETOWNER = 0x400454CB, 0x400454CC
TUN, TAP, NO_PI = 1, 2, 0x1000


def device():
    return os.open("/dev/net/tun", os.O_RDWR)


def attach(fd, name, flags):
    told = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return told[:16].rstrip(b"\0").decode()


def fails(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def sh(script):
    done = subprocess.run(script, shell=True, text=True, capture_output=True)
    print((done.stdout + done.stderr).strip())


def ready(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    return [events for _, events in poll.poll(0)]


def answer(fd, wanted):
    """Answers so many pings, and gives each packet another one's place in between."""
    while wanted:
        packet = bytearray(os.read(fd, 2000))
        if packet[0] >> 4 != 4 or packet[9] != 1:
            continue
        packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
        packet[20] = 0
        checksum = struct.unpack("!H", packet[22:24])[0] + 0x800
        packet[22:24] = struct.pack("!H", (checksum & 0xFFFF) + (checksum >> 16))
        assert os.write(fd, packet) == len(packet)
        wanted -= 1


SHAPE = "sed 's/^[0-9]*: //;s/ qdisc.*//'"
tun = device()
looks = os.fstat(tun)
print(stat.S_ISCHR(looks.st_mode), os.major(looks.st_rdev), os.minor(looks.st_rdev))
print(os.readlink(f"/proc/self/fd/{tun}"))
print(fails(fcntl.ioctl, tun, TUNGETIFF, bytes(40)))
features = struct.unpack("I", fcntl.ioctl(tun, TUNGETFEATURES, bytes(4)))[0]
print(hex(features & (TUN | TAP | NO_PI)))
print(fails(attach, tun, "a", 0), fails(attach, tun, "lo", TUN))
name = attach(tun, "tun%d", TUN | NO_PI)
print(name, fails(attach, tun, "x", TUN | NO_PI))
other = device()
print(fails(attach, other, name, TUN | NO_PI), fails(attach, other, name, TAP | NO_PI))
told = fcntl.ioctl(tun, TUNGETIFF, bytes(40))
print(told[:16].rstrip(b"\0"), hex(struct.unpack("H", told[16:18])[0]))
sh(f"""ip addr add 10.9.0.1/24 dev {name}; ip link set {name} up
ip link show {name} | {SHAPE}; ip -o -4 addr show {name} | grep -o 'inet.*{name}'
ip route show dev {name}; ip tuntap show""")
ping = subprocess.Popen("ping -q -c 3 -i 0.2 -s 1000 10.9.0.7 | grep -o '.* received'", shell=True)
answer(tun, 3)
ping.wait()
# Messages stay what they are, and more than one waits.
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
os.set_blocking(tun, False)
while fails(os.read, tun, 2000) != "EAGAIN":
    pass
print(ready(tun))
for size in (10, 1400, 100):
    udp.sendto(bytes(size), ("10.9.0.9", 9))
print(ready(tun), [len(os.read(tun, 2000)) for _ in range(3)], ready(tun))
# A larger one comes in fragments; a short buffer cuts a packet.
udp.sendto(bytes(2000), ("10.9.0.9", 9))
print([len(os.read(tun, size)) for size in (100, 2000)])
copy = os.dup(tun)
os.close(tun)
sh(f"ip link show {name} | {SHAPE}")
os.close(copy)
sh(f"ip link show {name}")
tap = device()
print(attach(tap, "mytap", TAP), fcntl.ioctl(tap, TUNSETPERSIST, 1), fcntl.ioctl(tap, TUNSETOWNER, 0))
os.close(tap)
sh(f"""ip tuntap show; ip -d link show mytap | grep -o 'tun type.*user root'
ip link set mytap up; ip link show mytap | {SHAPE} | head -1
cat /sys/class/net/mytap/tun_flags /sys/class/net/mytap/owner""")
tap = device()
print(attach(tap, "mytap", TAP))
sh(f"""ip link show mytap | {SHAPE} | head -1
ip addr add 10.8.0.1/24 dev mytap; ping -c 1 -W 1 10.8.0.9 | grep -o '.* received'""")
while True:
    frame = os.read(tap, 2000)
    if frame[2:4] == b"\x08\x06":
        print("arp", frame[:4], len(frame))
        break
sh("ip tuntap del dev mytap mode tap; ip tuntap show")
os.close(tap)
sh("""ip tuntap del dev mytap mode tap; ip tuntap show
ip tuntap add dev other mode tun user 0 group 0; ip tuntap show
ip link del other; ip tuntap show""")
