"""Netlink sockets themselves: names, options, the parts of dumps: exact_netlink.py 4 [WANTED]."""

from socket import *

from exact_cases import *

ROUTE = 0


def route_socket(bound=True):
    sock = socket.socket(AF_NETLINK, SOCK_RAW, ROUTE)
    if bound:
        sock.bind((0, 0))
    return sock


def dump(kind, payload):
    return struct.pack("=IHHII", 16 + len(payload), kind, 0x301, 77, 0) + payload


def messages(data):
    found = []
    while len(data) >= 16:
        length, kind, flags, sequence, port = struct.unpack_from("=IHHII", data)
        found.append((kind, flags, sequence, port))
        data = data[(length + 3) & ~3 :]
    return found


@case
def ports():
    unbound = route_socket(False)
    fresh = unbound.getsockname()
    sock = route_socket()
    own = sock.getsockname() == (os.getpid(), 0)
    other = route_socket()
    third = route_socket(False)
    got = [
        out(sock.bind, (0, 0)),
        out(sock.bind, (os.getpid(), 3)),
        sock.getsockname()[1],
        out(sock.bind, (os.getpid() + 1, 0)),
        other.getsockname()[0] >> 31,
        out(third.bind, (os.getpid(), 0)),
        out(third.bind, (123456, 0)),
        third.getsockname(),
        third.getpeername(),
    ]
    sock.close()
    again = route_socket().getsockname()[0] == os.getpid()
    return fresh, own, got, again, third.connect((0, 0)), third.getpeername()


@case
def sending_binds():
    sock = route_socket(False)
    sock.send(dump(18, bytes(16)))
    return sock.getsockname()[0] == os.getpid(), {port == os.getpid() for *_, port in messages(sock.recv(65536))}


@case
def parts_of_dumps():
    results = []
    for kind, length in (18, 16), (22, 8), (26, 12), (30, 12), (34, 12), (38, 20), (82, 4):
        for family in AF_UNSPEC, AF_INET, AF_INET6:
            if kind == 34 and family == AF_UNSPEC:
                # The kernel has rules of multicast routing, too.
                continue
            sock = route_socket()
            sock.settimeout(5)
            sock.send(dump(kind, bytes([family]) + bytes(length - 1)))
            parts = []
            while not parts or parts[-1][-1] != 3:
                kinds = [kind for kind, *_ in messages(sock.recv(65536))]
                parts.append(list(dict.fromkeys(kinds)))
            results.append((kind, family, parts))
    return results


@case
def peeking_and_cutting():
    sock = route_socket()
    sock.send(dump(22, bytes(8)))
    got = []
    for _ in range(2):
        peeked = sock.recvmsg_into([], 0, MSG_PEEK | MSG_TRUNC)[:3:2]
        data, _, flags, source = sock.recvmsg(peeked[0])
        got.append((peeked[0] == len(data), peeked[1], flags, source))
    sock.send(dump(22, bytes(8)))
    cut = [sock.recvmsg_into([], 0, MSG_TRUNC) for _ in range(2)]
    return got, [length > 0 for length, *_ in cut], [flags for _, _, flags, _ in cut]


@case
def options():
    sock = route_socket()
    results = []
    for name in 2, 5, 6, 9, 10, 11, 12, 29, 36:
        got = [number(sock, SOL_SOCKET, name)]
        for value in 1, 0, 5:
            got += [out(sock.setsockopt, SOL_SOCKET, name, value), number(sock, SOL_SOCKET, name)]
        results.append((name, got, out(sock.setsockopt, SOL_SOCKET, name, b"")))
    results.append((16, out(sock.setsockopt, SOL_SOCKET, 16, 1), number(sock, SOL_SOCKET, 16)))
    for name in 7, 8:
        for value in 0, 1, 3000, 50000:
            results.append((name, value, out(sock.setsockopt, SOL_SOCKET, name, value), number(sock, SOL_SOCKET, name)))
    return results


@case
def memberships():
    sock = route_socket()
    got = [option(sock, 270, 9, 16)]
    for name, group in (1, 5), (1, 33), (2, 5), (1, 99), (1, 0), (2, 33):
        got += [out(sock.setsockopt, 270, name, group), option(sock, 270, 9, 16)]
    return got


run()
