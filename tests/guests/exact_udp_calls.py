"""Options, control messages and flags of UDP sockets: exact_udp_calls.py 4|6 [WANTED]."""

from exact_datagrams import *


@case
def error_queue():
    sock = refused()
    sock.setsockopt(IP, RECVERR, 1)
    name = sock.getpeername()
    sock.send(b"x" * 300)
    settle()
    first = mask(sock)
    data, control, flags, source = sock.recvmsg(300, 200, MSG_ERRQUEUE)
    told = (
        data == b"x" * 300,
        [(l, k, v[:16].hex(), v[16:18].hex(), v[20:24].hex(), len(v)) for l, k, v in control],
        hex(flags),
        source == name,
    )
    after = (
        number(sock, SOL, SO_ERROR),
        mask(sock),
        out(sock.recvmsg, 9, 99, MSG_ERRQUEUE),
        out(sock.recv, 9, MSG_ERRQUEUE),
    )
    sock.send(b"abc")
    settle()
    return first, told, after, out(sock.recv, 9), out(sock.recvmsg, 2, 10, MSG_ERRQUEUE)[::2], mask(sock)


@case
def how_much_waits():
    one, other = linked()
    got = [ioctl(other, 0x541B)]
    for size in 100, 100, 50, 0:
        one.send(bytes(size))
        settle()
        got.append(ioctl(other, 0x541B))
    for _ in range(4):
        other.recv(10)
        got.append(ioctl(other, 0x541B))
    one.send(b"")
    settle()
    got += [
        ioctl(other, 0x541B),
        ioctl(datagram(False), 0x541B),
        ioctl(one, 0x5411),
        ioctl(one, 0x894B),
        ioctl(one, 0x8905),
    ]
    to_itself = datagram()
    to_itself.connect(to_itself.getsockname())
    to_itself.send(b"abc")
    settle()
    got.append(ioctl(to_itself, 0x541B))
    to_itself.shutdown(SHUT_RD)
    return got, ioctl(to_itself, 0x541B)


@case
def truncating():
    one, other = linked()
    got = []
    for call, flags in (
        ((lambda f: other.recv(4, f)), 0),
        ((lambda f: other.recv_into(bytearray(4), 4, f)), MSG_TRUNC),
        ((lambda f: other.recvmsg(4, 0, f)[::2]), 0),
        ((lambda f: other.recvmsg(4, 0, f)[::2]), MSG_TRUNC),
        ((lambda f: libc.recv(other.fileno(), ctypes.create_string_buffer(4), 4, MSG_TRUNC)), 0),
        ((lambda f: libc.recv(other.fileno(), None, 0, MSG_TRUNC)), 0),
        ((lambda f: libc.recv(other.fileno(), None, 0, 0)), 0),
        (
            (
                lambda f: libc.recvfrom(
                    other.fileno(), ctypes.create_string_buffer(4), 4, MSG_TRUNC, None, None
                )
            ),
            0,
        ),
    ):
        one.send(b"abcdefgh")
        settle()
        peeked = libc.recv(other.fileno(), ctypes.create_string_buffer(4), 4, MSG_PEEK | MSG_TRUNC)
        got.append((peeked, out(call, flags), out(other.recv, 99, MSG_DONTWAIT)))
    return got


@case
def no_checksums():
    sock = datagram(False)
    got = [option(sock, SOL, 11)]
    for value in 1, 0, 5:
        got += [out(sock.setsockopt, SOL, 11, value), option(sock, SOL, 11)]
    one, other = linked()
    one.setsockopt(SOL, 11, 1)
    one.send(b"x")
    return got, out(other.recv, 9)


@case
def stamps():
    one, other = linked()
    got = [option(other, SOL, 29), ioctl(other, 0x8906, 16), ioctl(other, 0x8907, 16)]
    one.send(b"abc")
    settle()
    got += [other.recvmsg(9, 100)[1:3], ioctl(other, 0x8906, 16) not in (0, "ENOENT")]
    kept = ioctl(other, 0x8906, 16)
    other.setsockopt(SOL, 29, 1)
    got.append(option(other, SOL, 29))
    one.send(b"")
    settle()
    data, control, flags, _ = other.recvmsg(9, 100)
    got += [[(l, k, len(v)) for l, k, v in control], flags, ioctl(other, 0x8906, 16) == kept]
    fresh, peer = linked()
    fresh.setsockopt(SOL, 29, 1)
    peer.send(b"x")
    settle()
    got += [len(fresh.recvmsg(9, 100)[1]), ioctl(fresh, 0x8906, 16)]
    fresh.setsockopt(SOL, 35, 1)
    got += [option(fresh, SOL, 29), option(fresh, SOL, 35)]
    peer.send(b"x")
    settle()
    got += [[(l, k, len(v)) for l, k, v in fresh.recvmsg(9, 100)[1]]]
    fresh.setsockopt(SOL, 29, 0)
    return got, option(fresh, SOL, 29), option(fresh, SOL, 35)


@case
def packet_information():
    one, other = datagram(), socket.socket(FAMILY, SOCK_DGRAM)
    other.bind((ANY if WAY != "mapped" else "::", 0))
    name = LO, other.getsockname()[1]
    receive, kind = (49, 50) if SIX else (8, 8)
    other.setsockopt(IP, receive, 1)
    one.sendto(b"x", name)
    settle()
    data, control, flags, _ = other.recvmsg(9, 100)
    got = [(l, k, v.hex()) for l, k, v in control], flags
    one.sendto(b"x", name)
    settle()
    short = other.recvmsg(9, 20)[1:3]
    one.sendto(b"x", name)
    settle()
    none = other.recvmsg(9, 0)[1:3]
    return got, [(l, k, v.hex()) for l, k, v in short[0]], short[1], none


@case
def original_destination():
    one, other = datagram(), socket.socket(FAMILY, SOCK_DGRAM)
    other.bind((ANY if WAY != "mapped" else "::", 0))
    kind = 74 if SIX else 20
    got = [option(other, IP, kind)]
    got += [out(other.setsockopt, IP, kind, 1), option(other, IP, kind)]
    if WAY == "mapped":
        got.append(out(other.setsockopt, IPPROTO_IP, 20, 1))
    one.sendto(b"x", (LO, other.getsockname()[1]))
    settle()
    data, control, flags, _ = other.recvmsg(9, 100)
    port = struct.pack("!H", other.getsockname()[1])
    return got, [(l, k, v.replace(port, b"PP").hex()) for l, k, v in control], flags


@case
def received_together():
    one, other = linked()
    if SIX:
        wants = (49, 51, 66)
    else:
        wants = (6, 7, 8, 12, 13)
    for kind in wants:
        other.setsockopt(IP, kind, 1)
    other.setsockopt(SOL, 29, 1)
    one.send(b"x")
    settle()
    data, control, flags, _ = other.recvmsg(9, 300)
    return [(l, k, v.hex() if k != 29 else len(v)) for l, k, v in control], flags


@case
def corked():
    one, other = linked()
    results = []
    one.setsockopt(IPPROTO_UDP, 1, 1)
    results.append(number(one, IPPROTO_UDP, 1))
    one.send(b"ab")
    one.send(b"cd")
    settle()
    results.append(out(other.recv, 9, MSG_DONTWAIT))
    one.setsockopt(IPPROTO_UDP, 1, 0)
    settle()
    results.append(out(other.recv, 9, MSG_DONTWAIT))
    one.send(b"ab", MSG_MORE)
    one.send(b"cd", MSG_MORE)
    settle()
    results.append(out(other.recv, 9, MSG_DONTWAIT))
    one.send(b"ef")
    settle()
    results.append(out(other.recv, 9, MSG_DONTWAIT))
    third = datagram()
    fourth = datagram(False)
    fourth.sendto(b"gh", MSG_MORE, third.getsockname())
    settle()
    results.append(out(third.recv, 9, MSG_DONTWAIT))
    fourth.sendto(b"ij", third.getsockname())
    settle()
    results.append(out(third.recv, 9, MSG_DONTWAIT))
    return (
        results,
        [
            (out(one.setsockopt, IPPROTO_UDP, name, 1), number(one, IPPROTO_UDP, name))
            for name in (1, 100, 101, 102, 103, 104, 2, 0)
        ],
        out(one.send, bytes(65000), MSG_MORE),
        out(one.send, bytes(1000)),
        out(one.send, b"x"),
    )


@case
def reused_addresses():
    results = []
    for first, second in (
        ((), ()),
        ((SO_REUSEADDR,), ()),
        ((SO_REUSEADDR,), (SO_REUSEADDR,)),
        ((SO_REUSEPORT,), (SO_REUSEPORT,)),
        ((SO_REUSEPORT,), (SO_REUSEADDR,)),
        ((SO_REUSEADDR, SO_REUSEPORT), (SO_REUSEADDR,)),
    ):
        one, other = datagram(False), datagram(False)
        for name in first:
            one.setsockopt(SOL, name, 1)
        for name in second:
            other.setsockopt(SOL, name, 1)
        one.bind((LO, 0))
        results.append(out(other.bind, one.getsockname()))
        if results[-1] is None:
            sender = datagram(False)
            for _ in range(6):
                sender.sendto(b"x", one.getsockname())
            settle()
            counts = []
            for sock in one, other:
                count = 0
                while isinstance(out(sock.recv, 9, MSG_DONTWAIT), bytes):
                    count += 1
                counts.append(count)
            results.append(counts if SO_REUSEPORT not in second else sum(counts))
    return results


@case
def broadcast():
    if WAY != "4":
        return None
    sock = datagram(False)
    refused_ = (
        out(sock.sendto, b"x", ("255.255.255.255", 9)),
        out(sock.connect, ("255.255.255.255", 9)),
        out(sock.sendto, b"x", ("127.255.255.255", 9)),
        out(sock.connect, ("127.255.255.255", 9)),
    )
    sock.setsockopt(SOL, SO_BROADCAST, 1)
    peer = datagram(False)
    peer.bind(("", 0))
    return (
        refused_,
        out(sock.sendto, b"x", ("255.255.255.255", 9)),
        out(sock.sendto, b"y", ("127.255.255.255", peer.getsockname()[1])),
        out(sock.connect, ("255.255.255.255", 9)),
        out(datagram(False).bind, ("127.255.255.255", 0)),
        out(datagram(False).bind, ("255.255.255.255", 0)),
    )


@case
def multicast():
    sock = datagram(False)
    if WAY == "6":
        group, bind_to = "ff02::1:77", ("::", 0)
        join, leave = 20, 21
        request = inet_pton(AF_INET6, group) + struct.pack("i", 1)
        bad = [
            inet_pton(AF_INET6, "::1") + struct.pack("i", 1),
            request[:16] + struct.pack("i", 99),
            request[:8],
            b"",
        ]
    else:
        group, bind_to = "224.0.0.77", ("" if WAY == "4" else "::", 0)
        join, leave = 35, 36
        request = inet_aton(group) + inet_aton("127.0.0.1") + bytes(4)
        bad = [
            inet_aton("10.1.1.1") + bytes(8),
            inet_aton(group) + inet_aton("10.9.9.9"),
            request[:4],
            b"",
            inet_aton(group) + bytes(8),
            inet_aton(group) + bytes(4) + struct.pack("i", 99),
        ]
    level = IPPROTO_IPV6 if WAY == "6" else IPPROTO_IP
    sock.bind(bind_to)
    got = [
        out(sock.setsockopt, level, leave, request),
        out(sock.setsockopt, level, join, request),
        out(sock.setsockopt, level, join, request),
    ]
    got += [[out(sock.setsockopt, level, join, one) for one in bad]]
    got += [out(sock.setsockopt, level, leave, request), out(sock.setsockopt, level, leave, request)]
    got += [out(sock.setsockopt, level, 42, bytes(8))]
    got += [out(sock.setsockopt, level, join, request)]
    sender = datagram(False)
    if WAY == "6":
        got += [out(sender.setsockopt, level, 17, value) for value in (1, 99, -1, 0, 1)]
    else:
        got += [
            out(sender.setsockopt, level, 32, value)
            for value in (
                inet_aton("127.0.0.1"),
                inet_aton("10.9.9.9"),
                bytes(8) + struct.pack("i", 99),
                b"ab",
                bytes(8) + struct.pack("i", 1),
            )
        ]
    to = (group, sock.getsockname()[1]) if WAY != "mapped" else ("::ffff:" + group, sock.getsockname()[1])
    got.append(out(sender.sendto, b"hi", to))
    settle()
    got.append(out(sock.recv, 9, MSG_DONTWAIT))
    loop = 19 if WAY == "6" else 34
    got += [
        (out(sender.setsockopt, level, loop, value), option(sender, level, loop))
        for value in (0, 1, 5, b"\x01", b"")
    ]
    sender.setsockopt(level, loop, 0)
    got.append(out(sender.sendto, b"hi", to))
    settle()
    got.append(out(sock.recv, 9, MSG_DONTWAIT))
    hops = 18 if WAY == "6" else 33
    got += [
        (out(sender.setsockopt, level, hops, value), option(sender, level, hops))
        for value in (0, 1, 255, 256, -1, b"\x07", -2)
    ]
    return got


@case
def devices():
    results = []
    for name in b"lo", b"lo\0", b"none", b"", b"l" * 16, b"l" * 15, b"lo\0junk":
        sock = datagram(False)
        results.append(
            (
                out(sock.setsockopt, SOL, SO_BINDTODEVICE, name),
                [option(sock, SOL, SO_BINDTODEVICE, size) for size in (0, 1, 15, 16, 20)],
            )
        )
    sock = datagram(False)
    sock.setsockopt(SOL, SO_BINDTODEVICE, b"lo")
    peer = datagram()
    results += [
        out(sock.sendto, b"x", peer.getsockname()),
        peer.recv(9),
        number(sock, SOL, 62),
        out(sock.setsockopt, SOL, 62, 0),
        number(sock, SOL, 62),
        out(sock.setsockopt, SOL, 62, 99),
        out(sock.setsockopt, SOL, 62, -1),
    ]
    return results


@case
def flags_of_sends():
    one, other = linked()
    got = []
    for flags in (
        MSG_CONFIRM,
        MSG_DONTROUTE,
        MSG_DONTWAIT,
        MSG_NOSIGNAL,
        MSG_EOR,
        0x10000000,
    ):
        got.append(
            (
                out(one.send, b"x", flags),
                out(one.sendto, b"x", flags, other.getsockname()),
                out(one.sendmsg, [b"x"], [], flags),
            )
        )
    settle()
    count = 0
    while isinstance(out(other.recv, 9, MSG_DONTWAIT), bytes):
        count += 1
    return got, count


@case
def many_messages():
    one, other = linked()

    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]

    class Header(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_void_p),
            ("namelen", ctypes.c_int),
            ("iov", ctypes.POINTER(Iovec)),
            ("iovlen", ctypes.c_size_t),
            ("control", ctypes.c_void_p),
            ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int),
        ]

    class Many(ctypes.Structure):
        _fields_ = [("header", Header), ("length", ctypes.c_uint)]

    def make(buffers):
        many = (Many * len(buffers))()
        for item, buffer in zip(many, buffers):
            item.header.iov = ctypes.pointer(Iovec(ctypes.cast(buffer, ctypes.c_char_p), len(buffer)))
            item.header.iovlen = 1
        return many

    sends = make([ctypes.create_string_buffer(b"x" * n, n or 1) for n in (3, 5, 7)])
    got = [raw(libc.sendmmsg(one.fileno(), sends, 3, 0)), [item.length for item in sends]]
    settle()
    rooms = make([ctypes.create_string_buffer(4) for _ in range(5)])
    got += [
        raw(libc.recvmmsg(other.fileno(), rooms, 5, MSG_DONTWAIT, None)),
        [(item.length, hex(item.header.flags)) for item in rooms],
    ]
    got += [raw(libc.recvmmsg(other.fileno(), rooms, 5, MSG_DONTWAIT, None))]
    for _ in range(2):
        one.send(b"ab")
    settle()
    got += [raw(libc.recvmmsg(other.fileno(), rooms, 5, 0x10000, None))]
    timeout = (ctypes.c_long * 2)(0, 50000000)
    later(lambda: one.send(b"late"))
    got += [raw(libc.recvmmsg(other.fileno(), rooms, 1, 0, timeout))]
    sock = refused()
    sock.send(b"x")
    settle()
    got += [raw(libc.sendmmsg(sock.fileno(), sends, 3, 0))]
    return got


def waiting_in(sock):
    count = 0
    while isinstance(out(sock.recv, 9, MSG_DONTWAIT), bytes):
        count += 1
    return count


@case
def as_many_as_the_buffer_holds():
    counts = []
    for size in 0, 1, 100, 197, 198, 640, 650, 1000, 1670, 2304, 3720, 8000, 15000, 20000, 60000:
        sock, sender = datagram(), datagram(False)
        sender.setsockopt(SOL, SO_SNDBUF, 400000)
        sock.setsockopt(SOL, SO_RCVBUF, 40000)
        for _ in range(200):
            sender.sendto(bytes(size), sock.getsockname())
        settle()
        counts.append((size, waiting_in(sock)))
    one, other = linked()
    both = []
    for call in (lambda: one.send(bytes(100))), (lambda: one.sendto(bytes(100), other.getsockname())):
        for _ in range(3):
            for _ in range(400):
                call()
            settle(2)
            both.append(waiting_in(other))
    other.setblocking(False)
    read = 0
    for _ in range(60):
        for _ in range(10):
            one.sendto(bytes(1000), other.getsockname())
        while isinstance(out(os.read, other.fileno(), 9999), bytes):
            read += 1
    return counts, both, read


@case
def queues_of_ports():
    sock = datagram(False)
    sock.setsockopt(IPPROTO_IP, 24, 1)
    done = out(sock.bind, (LO, 0)), sock.getsockname()[1] > 0
    return (
        done,
        number(sock, IPPROTO_IP, 24),
        number(sock, IPPROTO_IP, 51),
        out(sock.setsockopt, IPPROTO_IP, 51, struct.pack("I", (40010 << 16) | 40000)),
        number(sock, IPPROTO_IP, 51),
    )


run()
