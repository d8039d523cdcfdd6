"""Which interfaces and scopes sockets take for groups and frames; lo is up, alone."""

import ctypes
import errno
import socket
import struct
from socket import (
    AF_INET, AF_INET6, IP_MULTICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_MULTICAST_IF,
    SO_BINDTODEVICE, SOCK_DGRAM, SOL_SOCKET, if_nametoindex, inet_aton,
)

LO = if_nametoindex("lo")
NONE, ANY = inet_aton("10.9.9.9"), bytes(4)
OWN = inet_aton("127.0.0.1")


def attempt(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def udp(family=AF_INET6):
    return socket.socket(family, SOCK_DGRAM)


for name, value in {
    "address": OWN, "no such address": NONE, "any": ANY, "too short": b"ab", "empty": b"",
    "mreq": inet_aton("224.0.0.1") + OWN, "mreq of none": inet_aton("224.0.0.1") + NONE,
    "mreqn": ANY + ANY + struct.pack("i", LO), "mreqn of none": ANY + ANY + struct.pack("i", 9999),
}.items():
    sock = udp(AF_INET)
    print(name, attempt(sock.setsockopt, IPPROTO_IP, IP_MULTICAST_IF, value),
          sock.getsockopt(IPPROTO_IP, IP_MULTICAST_IF, 16))
print("tcp", attempt(socket.socket().setsockopt, IPPROTO_IP, IP_MULTICAST_IF, OWN))
for index in (0, LO, 9999, -1):
    sock = udp()
    print("index", attempt(sock.setsockopt, IPPROTO_IPV6, IPV6_MULTICAST_IF, index),
          sock.getsockopt(IPPROTO_IPV6, IPV6_MULTICAST_IF))
sock = udp()
sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"lo\0")
print("bound", attempt(sock.setsockopt, IPPROTO_IPV6, IPV6_MULTICAST_IF, 9999),
      attempt(sock.setsockopt, IPPROTO_IPV6, IPV6_MULTICAST_IF, LO))
sock = socket.socket(AF_INET6)
print("tcp", attempt(sock.setsockopt, IPPROTO_IPV6, IPV6_MULTICAST_IF, LO))
for group in ("ff02::1", "ff01::1", "ff05::1", "fe80::1"):
    print(group, attempt(udp().bind, (group, 0)), attempt(udp().connect, (group, 9)))
for group in ("ff02::1", "ff01::1", "ff05::1"):
    sock = udp()
    print(group, attempt(sock.bind, (group, 0, 0, LO)), sock.getsockname()[3] == LO)
print("tcp", attempt(socket.socket(AF_INET6).connect, ("ff02::1", 9)))

# sendto(2) of a packet socket does not look at the family of its address.
libc = ctypes.CDLL(None, use_errno=True)
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
frame = bytes(12) + b"\x88\xb5" + bytes(50)
to = struct.pack("=HHiHBB8s", 0, 0, LO, 0, 0, 6, bytes(8))
print("packet", libc.sendto(sock.fileno(), frame, len(frame), 0, to, len(to)))
