"""Arguments, options and filters of TCP sockets: exact_tcp_calls.py 4|6 [WANTED]."""

from socket import *

from exact_cases import *

SOL = SOL_SOCKET


@case
def zero_vectors():
    client, server = pair()
    return (
        os.writev(client.fileno(), [b"a", b""]),
        server.recv(1),
        out(os.write, client.fileno(), b""),
        out(client.send, b""),
        out(server.recv, 3, MSG_DONTWAIT),
        out(client.sendmsg, []),
    )


@case
def truncating():
    client, server = pair()
    results = []
    for length, flags in (
        (256, MSG_TRUNC),
        (256, MSG_TRUNC | MSG_CTRUNC),
        (256, MSG_CTRUNC),
        (1024, MSG_TRUNC),
    ):
        client.send(b"x" * 512)
        settle()
        room = bytearray(1024)
        results.append(
            (
                out(server.recv_into, room, length, flags),
                bytes(room).count(b"x"),
                len(out(server.recv, 2048, MSG_DONTWAIT)),
            )
        )
    client.send(b"x" * 512)
    settle()
    room = bytearray(1024)
    return (
        results,
        server.recv_into(room, 256, MSG_TRUNC | MSG_PEEK),
        bytes(room).count(b"x"),
        len(server.recv(1024)),
    )


@case
def no_delay():
    client, server = pair()
    got = [number(client, IPPROTO_TCP, TCP_NODELAY)]
    for value in 1, 0, 77, -1:
        client.setsockopt(IPPROTO_TCP, TCP_NODELAY, value)
        got.append(number(client, IPPROTO_TCP, TCP_NODELAY))
    return got


@case
def how_much_is_left():
    client, server = pair()
    got = [number(server, IPPROTO_TCP, 36)]
    for value in 2, 1, 0, 1:
        got += [out(server.setsockopt, IPPROTO_TCP, 36, value), number(server, IPPROTO_TCP, 36)]
    for _ in range(4):
        client.send(bytes(256))
    settle(2)
    messages = []
    for _ in range(2):
        data, control, flags, _ = server.recvmsg(512, CMSG_SPACE(4))
        messages.append((len(data), [(level, kind, value.hex()) for level, kind, value in control], flags))
    return got, messages


@case
def refusals_by_port_zero():
    sock = stream()
    sock.setblocking(False)
    first = out(sock.connect, (LO, 0))
    return (
        out(stream().connect, (LO, 0)),
        first,
        want(sock, 0),
        out(stream().connect, (ANY, 0)),
        out(stream().connect, (ANY, 1)),
    )


@case
def congestion():
    sock = stream()
    got = []
    for name in b"reno", b"cubic", b"cubic\0", b"invalid_ca_name_x", b"", b"bb", b"reno" + bytes(30):
        got.append(
            (
                out(sock.setsockopt, IPPROTO_TCP, TCP_CONGESTION, name),
                option(sock, IPPROTO_TCP, TCP_CONGESTION, 16),
            )
        )
    sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"cubic")
    return got, [option(sock, IPPROTO_TCP, TCP_CONGESTION, size) for size in (1, 5, 6, 21)]


@case
def numbers_of_tcp():
    got = []
    values = (-1, 0, 1, 2, 3, 5, 20, 100, 127, 128, 255, 256, 32767, 32768, 75000, 1 << 30)
    for name in (4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 18, 23, 25, 27, 30, 34, 37):
        sock = stream()
        line = [number(sock, IPPROTO_TCP, name)]
        for value in values:
            line.append((out(sock.setsockopt, IPPROTO_TCP, name, value), number(sock, IPPROTO_TCP, name)))
        got.append((name, line))
    return got


@case
def filters():
    results = []
    code = struct.pack("HBBI", 6, 0, 0, 0x40000)
    room = ctypes.create_string_buffer(code)
    for sock in stream(), datagram(False):
        none = out(sock.setsockopt, SOL, 27, 0), option(sock, SOL, 27), option(sock, SOL, 26, 0)
        program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(room))
        done = out(sock.setsockopt, SOL, 26, program), out(sock.setsockopt, SOL, 27, 0)
        bad = [
            out(sock.setsockopt, SOL, 26, struct.pack("HxxxxxxQ", n, ctypes.addressof(room)))
            for n in (0, 5000)
        ]
        results.append(
            (
                none,
                done,
                bad,
                out(sock.setsockopt, SOL, 26, b"abc"),
                out(sock.setsockopt, SOL, 26, struct.pack("HxxxxxxQ", 1, 16)),
            )
        )
    return results


@case
def filtered():
    code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    client, server = pair()
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
    done = out(server.setsockopt, SOL, 26, program)
    client.send(b"x")
    settle(2)
    lost = out(server.recv, 1, MSG_DONTWAIT)
    back = out(server.setsockopt, SOL, 27, 0)
    return done, lost, back, want(server, select.POLLIN), server.recv(2)


@case
def accepting_state():
    server = listener()
    client = connect(server)
    got = [number(sock, SOL, SO_ACCEPTCONN) for sock in (server, client, server.accept()[0], stream())]
    shut = out(server.shutdown, SHUT_RD), number(server, SOL, SO_ACCEPTCONN), state(server)
    return got, shut, out(server.accept), out(server.listen, 1), number(server, SOL, SO_ACCEPTCONN)


@case
def lengths_of_options():
    sock = stream()
    results = []
    for level, name in (
        (SOL, SO_REUSEADDR),
        (SOL, SO_LINGER),
        (SOL, SO_RCVTIMEO),
        (SOL, SO_ERROR),
        (SOL, SO_TYPE),
        (SOL, SO_KEEPALIVE),
        (SOL, 25),
        (IPPROTO_TCP, TCP_NODELAY),
        (IPPROTO_TCP, TCP_KEEPIDLE),
        (IPPROTO_TCP, TCP_INFO),
        (IPPROTO_TCP, 9),
        (IPPROTO_TCP, 18),
    ):
        line = []
        for size in 0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 100, -1:
            room, length = ctypes.create_string_buffer(b"\xaa" * 128), ctypes.c_int(size)
            done = raw(libc.getsockopt(sock.fileno(), level, name, room, ctypes.byref(length)))
            line.append((done, length.value, room.raw[:8].hex() if name != TCP_INFO else None))
        for size in 0, 1, 2, 3, 4, 5, 8, 15, 16, 17, -1:
            done = raw(libc.setsockopt(sock.fileno(), level, name, bytes(32), size))
            line.append((size, done))
        results.append((level, name, line))
    return results


@case
def options_inherited():
    server = stream()
    server.bind((LO, 0))
    sets = [
        (SOL, SO_KEEPALIVE, 1),
        (SOL, SO_LINGER, struct.pack("ii", 1, 5)),
        (IPPROTO_TCP, TCP_NODELAY, 1),
        (IPPROTO_TCP, TCP_KEEPIDLE, 77),
        (IPPROTO_TCP, TCP_KEEPINTVL, 7),
        (IPPROTO_TCP, TCP_KEEPCNT, 3),
        (IPPROTO_TCP, TCP_USER_TIMEOUT, 9000),
        (SOL, SO_RCVBUF, 50000),
        (SOL, SO_SNDBUF, 60000),
        (SOL, SO_REUSEADDR, 1),
        (SOL, SO_RCVTIMEO, struct.pack("ll", 3, 0)),
        (SOL, SO_PRIORITY, 3),
        (SOL, SO_RCVLOWAT, 3),
        (SOL, SO_OOBINLINE, 1),
        (IPPROTO_TCP, TCP_CONGESTION, b"reno"),
        (IPPROTO_TCP, TCP_CORK, 1),
        (IPPROTO_TCP, TCP_QUICKACK, 0),
        (IPPROTO_TCP, TCP_LINGER2, 9),
        (SOL, SO_REUSEPORT, 1),
        (SOL, 29, 1),
        (IPPROTO_IP, IP_TOS, 16),
        (IPPROTO_IP, IP_TTL, 33),
    ]
    for level, name, value in sets:
        server.setsockopt(level, name, value)
    server.listen(5)
    client = connect(server)
    accepted = server.accept()[0]
    return [(level, name, option(accepted, level, name, 16)) for level, name, _ in sets]


@case
def accept_names():
    server = listener()
    connect(server)
    connect(server)
    connect(server)
    results = []
    for size in 0, 4, 200:
        room, length = ctypes.create_string_buffer(b"\xaa" * 200), ctypes.c_int(size)
        fd = libc.accept(server.fileno(), room, ctypes.byref(length))
        results.append((fd >= 0, length.value, room.raw[:2].hex(), room.raw[4:8].hex()))
        os.close(fd)
    connect(server)
    bad = ctypes.c_int(-1)
    room = ctypes.create_string_buffer(200)
    results.append(raw(libc.accept(server.fileno(), room, ctypes.byref(bad))))
    connect(server)
    results.append(raw(libc.accept4(server.fileno(), None, None, 0x7)))
    results.append(raw(libc.accept(server.fileno(), ctypes.c_void_p(1), ctypes.c_void_p(1))))
    return results


@case
def names_of_lengths():
    client, server = pair()
    results = []
    for call in libc.getsockname, libc.getpeername:
        for size in 0, 1, 2, 8, 16, 28, 100, -1:
            room, length = ctypes.create_string_buffer(b"\xaa" * 128), ctypes.c_int(size)
            results.append(
                (raw(call(client.fileno(), room, ctypes.byref(length))), length.value, room.raw[:2].hex())
            )
        results.append(raw(call(client.fileno(), None, None)))
    return results


@case
def bad_listens():
    client, server = pair()
    sock = stream()
    got = (
        out(client.listen, 5),
        out(sock.listen, -1),
        sock.getsockname()[1] > 0,
        raw(libc.listen(sock.fileno(), 1 << 30)),
    )
    return got, out(connect, sock) is not None


@case
def broadcast_and_multicast():
    names = ("ff02::1", "ff0e::1") if SIX else ("255.255.255.255", "224.0.0.1")
    return [
        (
            out(stream().connect, (name, 9)),
            out(stream().bind, (name, 0)),
            out(datagram(False).bind, (name, 0)),
            out(datagram(False).connect, (name, 9)) if WAY != "6" else None,
        )
        for name in names
    ]


@case
def kinds_of_sockets():
    results = []
    for kind, protocol in (
        (SOCK_STREAM, 17),
        (SOCK_DGRAM, 6),
        (SOCK_STREAM, 132),
        (SOCK_STREAM, 99),
        (SOCK_SEQPACKET, 0),
        (SOCK_RDM, 0),
        (SOCK_STREAM, 1 << 20),
        (9, 0),
        (0, 0),
        (SOCK_STREAM, -1),
        (SOCK_STREAM | 0x100000, 0),
    ):
        fd = libc.socket(FAMILY, kind, protocol)
        results.append(raw(fd) if fd < 0 else "made")
        if fd >= 0:
            os.close(fd)
    return results, raw(libc.socketpair(FAMILY, SOCK_STREAM, 0, (ctypes.c_int * 2)()))


run()
