"""Corners of raw and packet sockets: exact_raw.py 4|6 [WANTED]."""

from exact_datagrams import *

ICMP = IPPROTO_ICMPV6 if SIX else IPPROTO_ICMP
HDRINCL = (IPPROTO_IPV6, 36) if SIX else (IPPROTO_IP, 3)


def raw_socket(protocol=IPPROTO_UDP):
    return socket.socket(FAMILY, SOCK_RAW, protocol)


@case
def headers_included():
    got = []
    for protocol in IPPROTO_UDP, IPPROTO_RAW:
        sock = raw_socket(protocol)
        got.append(number(sock, *HDRINCL))
        for value in 0, 1:
            got += [out(sock.setsockopt, *HDRINCL, value), number(sock, *HDRINCL)]
    return got


@case
def options_of_the_other_version():
    sock = raw_socket()
    return [
        (out(sock.setsockopt, level, name, 1), number(sock, level, name))
        for level, name in ((IPPROTO_IP, 1), (IPPROTO_IP, 2), (IPPROTO_IPV6, 67), (IPPROTO_IPV6, 26))
    ]


@case
def checksums():
    got = []
    for protocol in IPPROTO_UDP, ICMP:
        sock = raw_socket(protocol)
        got.append(number(sock, IPPROTO_IPV6, 7))
        for value in 2, 3, -1:
            got += [out(sock.setsockopt, IPPROTO_IPV6, 7, value), number(sock, IPPROTO_IPV6, 7)]
    return got if SIX else None


@case
def filters():
    if SIX:
        return None
    sock, other = raw_socket(ICMP), raw_socket()
    got = [out(sock.setsockopt, 255, 1, value) for value in (1, b"\x03\x00", b"")]
    got.append(option(sock, 255, 1))
    return got, out(other.setsockopt, 255, 1, 1), option(other, 255, 1)


@case
def peers():
    sock = raw_socket()
    got = [out(sock.getpeername), out(sock.connect, (LO, 0)), out(sock.getpeername), sock.getsockname()[0]]
    sock.connect((LO, 7))
    got.append(out(sock.getpeername))
    return got, raw(libc.connect(sock.fileno(), UNSPEC, 28)), out(sock.getpeername)


@case
def checksums_that_are_wrong():
    sock, receiver, sender = raw_socket(), datagram(), datagram()
    got = []
    for checksum in 0, 0x1234:
        packet = struct.pack("!HHHH", sender.getsockname()[1], receiver.getsockname()[1], 12, checksum) + b"abcd"
        got.append(out(sock.sendto, packet, (LO, 0)))
        settle()
        got.append(out(receiver.recv, 99, MSG_DONTWAIT))
    return got


@case
def packet_names():
    if SIX:
        return None
    sock = socket.socket(AF_PACKET, SOCK_RAW, 0)
    room, length = ctypes.create_string_buffer(32), ctypes.c_int(32)
    got = [raw(libc.getsockname(sock.fileno(), room, ctypes.byref(length))), length.value]
    sock.bind(("lo", 0x800))
    length.value = 32
    got += [raw(libc.getsockname(sock.fileno(), room, ctypes.byref(length))), length.value, room.raw[:18].hex()]
    return got, out(sock.getpeername), out(sock.shutdown, SHUT_RD), out(sock.listen, 1), out(sock.accept)


run()
