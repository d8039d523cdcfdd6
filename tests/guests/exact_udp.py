"""Corners of UDP sockets: exact_udp.py 4|6 [WANTED]."""

from exact_datagrams import *


@case
def creation():
    return [
        (
            raw(libc.socket(FAMILY, kind, protocol))
            if kind == SOCK_STREAM
            else out(socket.socket, FAMILY, kind, protocol).close()
        )
        for kind, protocol in ((SOCK_DGRAM, 17), (SOCK_DGRAM, 0), (SOCK_STREAM, 17))
    ]


@case
def names():
    sock = datagram(False)
    fresh = sock.getsockname()
    sock.bind((LO, 0))
    peer = datagram(False)
    none = out(peer.getpeername)
    peer.connect(sock.getsockname())
    return (
        fresh,
        sock.getsockname()[0],
        none,
        peer.getpeername() == sock.getsockname(),
        peer.getsockname()[0],
        peer.getsockname()[1] > 0,
    )


@case
def not_connected():
    sock, peer = datagram(False), datagram()
    first = out(sock.sendmsg, [b"x"])
    sent = sock.sendto(bytes(512), peer.getsockname()), sock.getsockname()[1] > 0, sock.getsockname()[0]
    return first, sent, out(datagram(False).recv, 9, MSG_DONTWAIT), out(sock.getpeername)


@case
def binding():
    sock = datagram()
    name = sock.getsockname()
    again = out(sock.bind, name), sock.getsockname() == name, out(datagram(False).bind, name)
    peer = datagram(False)
    peer.connect(name)
    return again, out(peer.bind, (ANY if WAY != "mapped" else "::", 0))


@case
def to_nobody():
    sock = refused()
    name = sock.getpeername()
    sent = out(sock.sendto, b"x", name)
    error = number(sock, SOL, SO_ERROR)
    sent2 = out(sock.send, b"x")
    mask_ = want(sock, select.POLLERR, 1000)
    failed = out(sock.send, b"x")
    sent3 = out(sock.send, b"x")
    mask2 = want(sock, select.POLLERR, 1000)
    return sent, error, sent2, mask_, failed, sent3, mask2, out(sock.send, b"x")


@case
def to_nobody_by_each_call():
    calls = [
        lambda s: out(s.recv, 9),
        lambda s: out(s.recv, 9, MSG_DONTWAIT),
        lambda s: out(s.recv, 9, MSG_PEEK),
        lambda s: out(os.read, s.fileno(), 9),
        lambda s: out(os.write, s.fileno(), b"x"),
        lambda s: out(s.recvfrom, 9),
        lambda s: out(s.recvmsg, 9),
        lambda s: out(s.sendmsg, [b"x"]),
        lambda s: out(os.writev, s.fileno(), [b"x"]),
        lambda s: out(os.readv, s.fileno(), [bytearray(2)]),
        lambda s: number(s, SOL, SO_ERROR),
        lambda s: out(s.sendto, b"x", s.getpeername()),
        lambda s: out(s.connect, s.getpeername()),
        lambda s: out(s.getpeername)[0],
        lambda s: out(s.shutdown, SHUT_RD),
        lambda s: ioctl(s, 0x541B),
        lambda s: raw(libc.connect(s.fileno(), UNSPEC, 28)),
    ]
    results = []
    for call in calls:
        sock = refused()
        sock.send(b"x")
        first = want(sock, BOTH, 1000)
        results.append((first, call(sock), mask(sock), number(sock, SOL, SO_ERROR), mask(sock)))
    return results


@case
def blocked_reader_is_told():
    results = []
    for call in (
        (lambda s: out(s.recv, 9)),
        (lambda s: out(s.recvfrom, 9)),
        (lambda s: out(os.read, s.fileno(), 9)),
    ):
        sock = refused()
        got = []
        reader = started(lambda: got.append(call(sock)))
        settle()
        sock.send(b"x")
        reader.join(5)
        results.append(got)
    return results


@case
def errors_of_unconnected():
    gone = datagram()
    name = gone.getsockname()
    gone.close()
    sock = datagram()
    sock.sendto(b"x", name)
    settle()
    plain = mask(sock), number(sock, SOL, SO_ERROR)
    sock.setsockopt(IP, RECVERR, 1)
    sock.sendto(b"x", name)
    settle()
    return plain, mask(sock), out(sock.sendto, b"y", name), out(sock.recvmsg, 9, 200, MSG_ERRQUEUE)[0]


@case
def sending_and_receiving():
    one, other = datagram(), datagram(False)
    peer = datagram()
    other.connect(one.getsockname())
    got = other.sendto(bytes(512), one.getsockname()), len(one.recv(999))
    results = []
    for _ in range(2):
        other.connect(one.getsockname())
        one.sendto(bytes(512), other.getsockname())
        results.append((len(other.recv(999)), raw(libc.connect(other.fileno(), UNSPEC, 2))))
    other.connect(peer.getsockname())
    first = other.getpeername() == peer.getsockname()
    other.connect(one.getsockname())
    elsewhere = other.sendto(b"x", peer.getsockname()), peer.recv(9)
    return got, results, first, elsewhere


@case
def connecting_to_any():
    sock = datagram(False)
    done = out(sock.connect, (ANY, 0)), out(sock.getpeername), sock.getsockname()[0]
    done += (raw(libc.connect(sock.fileno(), UNSPEC, 28)), sock.getsockname())
    bound = socket.socket(FAMILY, SOCK_DGRAM)
    bound.bind((ANY, 0))
    bound.connect((ANY, bound.getsockname()[1]))
    name = bound.getpeername()[0], bound.getsockname()[0], bound.getpeername()[1] == bound.getsockname()[1]
    return (
        done,
        name,
        raw(libc.connect(bound.fileno(), UNSPEC, 28)),
        bound.getsockname()[0],
        out(bound.getpeername),
    )


@case
def dissolving():
    one, other = neighbours()
    other.bind(port_after(one))
    other.connect(one.getsockname())
    done = (
        raw(libc.connect(other.fileno(), UNSPEC, 2)),
        other.getsockname() == (LO, one.getsockname()[1] + 1, *other.getsockname()[2:]),
        out(other.getpeername),
    )
    free = datagram(False)
    free.bind((ANY, 0))
    port = free.getsockname()[1]
    for _ in range(2):
        free.connect(one.getsockname())
        done += (
            free.getsockname()[0],
            free.getpeername() == one.getsockname(),
            raw(libc.connect(free.fileno(), UNSPEC, 2)),
            out(free.getpeername),
            free.getsockname()[0],
            free.getsockname()[1] == port,
        )
    fresh = datagram(False)
    fresh.connect(one.getsockname())
    done += (raw(libc.connect(fresh.fileno(), UNSPEC, 2)), fresh.getsockname())
    return (
        done,
        raw(libc.connect(fresh.fileno(), UNSPEC, 1)),
        raw(libc.connect(fresh.fileno(), name_of(LO, 9), 2)),
        out(datagram(False).sendto, b"x", (ANY, one.getsockname()[1])),
        one.recv(9),
    )


@case
def only_from_the_peer():
    one, other = neighbours()
    other.bind(port_after(one, 1))
    peer = datagram()
    peer.sendto(b"before", one.getsockname())
    settle()
    one.connect(other.getsockname())
    peer.sendto(b"after", one.getsockname())
    settle()
    got = out(one.recv, 99, MSG_DONTWAIT), out(one.recv, 99, MSG_DONTWAIT)
    other.sendto(b"x", one.getsockname())
    settle()
    return got, one.recvfrom(9)[1] == other.getsockname()


@case
def before_connecting_by_recvfrom():
    one, other, third = datagram(), datagram(), datagram()
    third.sendto(b"third", one.getsockname())
    other.sendto(b"other", one.getsockname())
    settle()
    one.connect(other.getsockname())
    got = [out(one.recvfrom, 99, MSG_DONTWAIT) for _ in range(3)]
    return [
        (g[0], g[1] == third.getsockname(), g[1] == other.getsockname()) if isinstance(g, tuple) else g
        for g in got
    ]


@case
def listening():
    sock = datagram()
    return (
        out(sock.listen, 5),
        out(sock.accept),
        out(datagram(False).listen, 0),
        raw(libc.accept4(sock.fileno(), None, None, 0x7)),
    )


@case
def zero_lengths():
    one, other = linked()
    sent = os.write(one.fileno(), b""), want(other, select.POLLIN), os.read(other.fileno(), 3)
    one.send(b"")
    settle()
    other.setblocking(False)
    got = out(other.recvfrom, 3)
    return (
        sent,
        got[0],
        out(other.recv, 3),
        one.sendto(b"", other.getsockname()),
        one.sendmsg([]),
        settle(),
        out(other.recv, 3),
        out(other.recv, 3),
    )


@case
def shut_nonblocking():
    third, fourth = linked()
    third.setblocking(False)
    fourth.send(b"abc")
    settle()
    third.shutdown(SHUT_RD)
    return out(third.recv, 2), out(third.recv, 1), out(third.recv, 1, MSG_PEEK)


@case
def shut_by_another_thread():
    results = []
    for call in (lambda s: out(s.recv, 9)), (lambda s: out(s.recvfrom, 9)), (lambda s: out(s.recvmsg, 9)):
        one, other = linked()
        later(lambda: other.shutdown(SHUT_RD))
        results.append((call(other), call(other)))
    one = datagram()
    later(lambda: out(one.shutdown, SHUT_RD))
    one.settimeout(1)
    return results, out(one.recv, 9)


@case
def boundaries():
    one, other = linked()
    for piece in b"a" * 100, b"b" * 100, b"c" * 100:
        one.send(piece)
    got = [len(other.recv(300)) for _ in range(3)]
    os.writev(one.fileno(), [b"a" * 50, b"b" * 50])
    rooms = [bytearray(40), bytearray(40), bytearray(40)]
    got.append((os.readv(other.fileno(), rooms), bytes(rooms[1]).count(b"a"), bytes(rooms[2])[:21]))
    one.sendmsg([b"ab", b"cd"])
    rooms = [bytearray(3), bytearray(3)]
    return got, other.recvmsg_into(rooms)[0], rooms


@case
def zero_ports():
    sock = datagram(False)
    return out(sock.sendto, b"x", (LO, 0)), out(sock.sendto, b"x", (LO, 1234)), sock.getsockname()[1] > 0


@case
def to_nowhere():
    name = ("2001:db8::1", 9) if WAY == "6" else ("192.0.2.1", 9) if WAY == "4" else ("::ffff:192.0.2.1", 9)
    sock = datagram(False)
    return (
        out(sock.sendto, b"x", name),
        out(sock.connect, name),
        out(datagram().sendto, b"x", name),
        out(datagram().connect, name),
        sock.getsockname()[1] > 0,
    )


@case
def waiting_with_timeouts():
    sock = datagram()
    sock.setsockopt(SOL, SO_RCVTIMEO, struct.pack("ll", 0, 100000))
    room = ctypes.create_string_buffer(9)
    return (
        raw(libc.recv(sock.fileno(), room, 9, 0)),
        raw(libc.recvfrom(sock.fileno(), room, 9, 0, room, ctypes.byref(ctypes.c_int(9)))),
        out(os.read, sock.fileno(), 9),
    )


@case
def spliced():
    one, other = linked()
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    moved = out(os.splice, reader, one.fileno(), 5)
    settle()
    return (
        moved,
        out(other.recv, 9, MSG_DONTWAIT),
        out(os.splice, datagram().fileno(), writer, 5, None, None, 2),
    )


@case
def duplicated():
    one, other = linked()
    copy = other.dup()
    name = other.getsockname()
    other.close()
    one.send(b"x")
    got = copy.recv(9), copy.getsockname() == name
    copy.close()
    settle()
    one.send(b"x")
    return got, want(one, select.POLLERR, 1000), out(one.recv, 9), out(datagram(False).bind, name)


run()
