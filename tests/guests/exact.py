"""Corners of TCP and UDP sockets, one line for each: exact.py 4|6 [WANTED].

The lines must be the same on plain Linux and on a virtual stack. Some of what happens takes its
time; a case whose line is not in the file WANTED is tried again with longer pauses.
"""

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from socket import (
    MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, SHUT_RD, SHUT_RDWR, SHUT_WR,
    SO_ERROR, SO_LINGER, SO_RCVTIMEO, SO_REUSEADDR, SOL_SOCKET,
)

CASES = []
SIX = sys.argv[1] == "6"
FAMILY = socket.AF_INET6 if SIX else socket.AF_INET
LO = "::1" if SIX else "127.0.0.1"
RESET = struct.pack("ii", 1, 0)
BRIEF = struct.pack("ll", 0, 100000)
UNSPEC = struct.pack("=H26x", socket.AF_UNSPEC)
libc = ctypes.CDLL(None, use_errno=True)
pause = 0.0


def case(function):
    CASES.append(function)


def out(call, *args):
    """What a call returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)


def raw(result):
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def settle():
    time.sleep(pause)


def stream():
    return socket.socket(FAMILY, socket.SOCK_STREAM)


def listener(backlog=5):
    sock = stream()
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.bind((LO, 0))
    sock.listen(backlog)
    return sock


def connect(to):
    sock = stream()
    sock.connect(to.getsockname())
    return sock


def pair():
    server = listener()
    client = connect(server)
    return client, server.accept()[0]


def mask(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLRDHUP)
    return hex(dict(poll.poll(0)).get(sock.fileno(), 0))


def state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def reset(sock):
    sock.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
    sock.close()


@case
def binding():
    sock, server = stream(), listener()
    sock.bind((LO, 0))
    taken, shared = stream(), stream()
    shared.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    foreign = "fd99::99" if SIX else "10.99.99.99"
    return (
        out(sock.bind, (LO, 0)),
        [out(one.bind, server.getsockname()) for one in (taken, shared)],
        out(stream().bind, (foreign, 0)),
    )


@case
def sharing_a_port():
    one, other, third = stream(), stream(), stream()
    for sock in one, other, third:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    one.bind((LO, 0))
    port = one.getsockname()
    return out(other.bind, port), out(one.listen, 1), out(other.listen, 1), out(third.bind, port)


@case
def sharing_listeners():
    one, other = stream(), stream()
    one.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind((LO, 0))
    one.listen(9)
    refused = out(other.bind, one.getsockname())
    other.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made = out(other.bind, one.getsockname()), out(other.listen, 9)
    clients = [connect(one) for _ in range(5)]
    settle()
    accepted = 0
    for sock in one, other:
        sock.setblocking(False)
        while isinstance(out(sock.accept), tuple):
            accepted += 1
    return refused, made, accepted, len(clients)


@case
def ports_of_connections():
    server = listener()
    name, client = server.getsockname(), connect(server)
    accepted = server.accept()[0]
    server.close()
    plain, shared = stream(), stream()
    shared.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    under_way = out(plain.bind, name), out(shared.bind, name), out(shared.listen, 1)
    shared.close()
    accepted.close()
    settle()
    client.close()
    settle()
    plain, shared = stream(), stream()
    shared.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    return under_way, out(plain.bind, name), out(shared.bind, name), out(shared.listen, 1)


@case
def refusals():
    any_address, broadcast, multicast, nowhere = (
        ("::", "ff02::1", "ff05::1", "2001:db8::1") if SIX else
        ("0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1")
    )
    server = listener()
    sock = stream()
    return (
        out(sock.connect, (any_address, server.getsockname()[1])), sock.getpeername()[0],
        [out(stream().connect, (to, 9)) for to in (broadcast, multicast, nowhere)],
        out(stream().connect, (LO, 0)), out(server.connect, server.getsockname()),
    )


@case
def not_waiting():
    sock, server = stream(), listener()
    sock.setblocking(False)
    first = out(sock.connect, server.getsockname())
    settle()
    well = first, mask(sock), [out(sock.connect, server.getsockname()) for _ in range(2)]
    sock = stream()
    sock.setblocking(False)
    first = out(sock.connect, (LO, 1))
    settle()
    told = mask(sock), sock.getsockopt(SOL_SOCKET, SO_ERROR), sock.getsockopt(SOL_SOCKET, SO_ERROR)
    return well, first, told, mask(sock)


@case
def to_itself():
    sock = stream()
    sock.bind((LO, 0))
    name = sock.getsockname()
    return out(sock.connect, name), sock.getpeername() == name, sock.send(b"hi"), sock.recv(9)


@case
def dissolving():
    client, server = pair()
    done = raw(libc.connect(client.fileno(), UNSPEC, 28))
    settle()
    lost = out(client.getpeername), out(server.recv, 1), state(client)
    sock = listener()
    return done, lost, raw(libc.connect(sock.fileno(), UNSPEC, 28)), state(sock)


@case
def the_peer_closes():
    client, server = pair()
    server.close()
    settle()
    return mask(client), client.recv(1), state(client), out(client.send, b"x")


@case
def the_peer_closes_twice():
    client, server = pair()
    server.close()
    settle()
    client.send(b"x")
    settle()
    return out(client.send, b"x"), out(client.send, b"x"), out(client.recv, 1), state(client)


@case
def the_peer_has_not_read():
    client, server = pair()
    client.send(b"abc")
    settle()
    server.close()
    settle()
    return mask(client), out(client.recv, 1), out(client.recv, 1), out(client.send, b"x")


@case
def the_peer_resets():
    client, server = pair()
    server.send(b"data")
    settle()
    reset(server)
    settle()
    return mask(client), out(client.recv, 9), out(client.recv, 9), out(client.recv, 9)


@case
def the_error_is_asked_for():
    client, server = pair()
    reset(server)
    settle()
    errors = [client.getsockopt(SOL_SOCKET, SO_ERROR) for _ in range(2)]
    return errors, out(client.recv, 1), out(client.getpeername)


@case
def half_closed():
    client, server = pair()
    client.shutdown(SHUT_WR)
    settle()
    masks = mask(client), mask(server), state(client), state(server)
    return masks, out(client.send, b"x"), server.recv(1), server.send(b"y"), client.recv(1)


@case
def closed_by_shutdown():
    client, server = pair()
    twice = [out(client.shutdown, how) for how in (7, SHUT_WR, SHUT_WR, SHUT_RDWR)]
    settle()
    masks = mask(client), mask(server)
    rest = out(client.recv, 1), out(client.send, b"x"), out(server.recv, 1)
    server.shutdown(SHUT_WR)
    settle()
    over = mask(client), mask(server), out(client.getpeername), out(client.shutdown, SHUT_WR)
    return twice, masks, rest, over


@case
def waking():
    client, server = pair()
    got = []
    reader = threading.Thread(target=lambda: got.append(out(client.recv, 1)))
    reader.start()
    settle()
    client.shutdown(SHUT_RD)
    reader.join(5)
    client, server = pair()
    reader = threading.Thread(target=lambda: got.append(out(client.recv, 1)))
    reader.start()
    settle()
    reset(server)
    reader.join(5)
    return got


@case
def accepting():
    server = listener()
    server.setblocking(False)
    empty = out(server.accept), mask(server), out(listener().connect, (LO, 1))
    client = connect(server)
    client.send(b"hi")
    client.close()
    settle()
    accepted = server.accept()[0]
    flags = fcntl.fcntl(accepted, fcntl.F_GETFL) & os.O_NONBLOCK
    sock = stream()
    sock.bind((LO, 0))
    return empty, flags, accepted.recv(9), accepted.recv(9), mask(accepted), out(sock.accept)


@case
def full_listeners():
    masks = []
    for backlog in 1, 0:
        server, clients = listener(backlog), [stream() for _ in range(5)]
        for client in clients:
            client.setblocking(False)
            out(client.connect, server.getsockname())
            settle()
        masks.append([mask(client) for client in clients])
        server.accept()
    return masks


@case
def closed_listeners():
    server = listener()
    client = connect(server)
    settle()
    server.close()
    settle()
    half = listener()
    half.setblocking(False)
    shut = out(half.shutdown, SHUT_WR), mask(half), out(half.accept), state(half)
    return mask(client), out(client.recv, 1), out(client.send, b"x"), shut


@case
def looking_ahead():
    client, server = pair()
    client.send(b"hello")
    settle()
    looks = server.recv(3, MSG_PEEK), server.recv(9, MSG_PEEK), server.recv(2)
    thrown = server.recv_into(bytearray(9), 2, MSG_TRUNC), server.recv(9)
    nothing = out(server.recv, 1, MSG_DONTWAIT), out(server.recv, 1, MSG_ERRQUEUE)
    return looks, thrown, nothing


@case
def waiting_for_all():
    client, server = pair()

    def pieces():
        for _ in range(3):
            client.send(b"ab")
            settle()

    thread = threading.Thread(target=pieces)
    thread.start()
    whole = server.recv(6, MSG_WAITALL)
    thread.join()
    client.send(b"abc")
    settle()
    some = server.recvfrom(6, MSG_WAITALL | MSG_DONTWAIT)[0]
    client.send(b"abc")
    server.setsockopt(SOL_SOCKET, SO_RCVTIMEO, BRIEF)
    late = server.recv(6, MSG_WAITALL), out(server.recv, 6)
    client.send(b"abc")
    client.close()
    return whole, some, late, server.recv(6, MSG_WAITALL)


@case
def no_source():
    client, server = pair()
    client.send(b"abcdef")
    settle()
    got = server.recvfrom(2), server.recvmsg(2, 100)
    room, length = ctypes.create_string_buffer(b"\xaa" * 28), ctypes.c_int(28)
    data = ctypes.create_string_buffer(9)
    count = raw(libc.recvfrom(server.fileno(), data, 9, 0, room, ctypes.byref(length)))
    thread = threading.Timer(pause, lambda: client.send(b"late"))
    thread.start()
    late = server.recvfrom(9)
    thread.join()
    client.close()
    return got, count, data.value, length.value, room.raw[:2], late, server.recvfrom(9)


@case
def a_destination_is_ignored():
    client, server = pair()
    sent = out(client.sendto, b"x", (LO, 1)), out(client.sendto, b"y", server.getsockname())
    settle()
    return sent, server.recv(9)


@case
def urgent_data_is_not_lost():
    client, server = pair()
    server.setsockopt(SOL_SOCKET, socket.SO_OOBINLINE, 1)
    client.send(b"abc")
    client.send(b"d", socket.MSG_OOB)
    client.send(b"e")
    client.close()
    data = b""
    while piece := server.recv(9):
        data += piece
    return data


@case
def pipes_break():
    hits = []
    signal.signal(signal.SIGPIPE, lambda *_: hits.append(1))
    client, _server = pair()
    client.shutdown(SHUT_WR)
    quiet = out(client.send, b"x", socket.MSG_NOSIGNAL), len(hits)
    loud = out(client.send, b"x"), len(hits)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return quiet, loud


def datagram(bound=True):
    sock = socket.socket(FAMILY, socket.SOCK_DGRAM)
    if bound:
        sock.bind((LO, 0))
    return sock


@case
def addresses_of_all_lengths():
    results = []
    for family in 0, 1, 2, 10, 99:
        for length in 0, 1, 2, 8, 16, 24, 28, 129:
            name = struct.pack("=HH", family, 0x0900) + bytes(140)
            for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
                sock = socket.socket(FAMILY, kind)
                results.append(raw(libc.bind(sock.fileno(), name, length)))
                sock = socket.socket(FAMILY, kind)
                # The kernel's loopback refuses by itself; elsewhere it takes a moment.
                sock.setblocking(False)
                results.append(raw(libc.connect(sock.fileno(), name, length)))
            # A socket of IPv6 that is told nothing asks for a destination, after its own checks.
            if not (SIX and family == 0):
                sock = datagram(False)
                results.append(raw(libc.sendto(sock.fileno(), b"x", 1, 0, name, length)))
    return results


@case
def associations():
    sock, peer, nobody = datagram(False), datagram(), datagram(False)
    sock.connect(peer.getsockname())
    chosen = sock.getsockname()[0], sock.getsockname()[1] > 0
    done = raw(libc.connect(sock.fileno(), UNSPEC, 28)), sock.getsockname()
    return chosen, done, out(nobody.connect, (LO, 0)), out(nobody.getpeername)


@case
def many_wait():
    sock = datagram()
    for number in range(100):
        datagram().sendto(b"%d" % number, sock.getsockname())
    settle()
    sock.setblocking(False)
    got = []
    while isinstance(message := out(sock.recvfrom, 9), tuple):
        got.append(int(message[0]))
    return got == list(range(100))


@case
def mapped_without_saying_so():
    if not SIX:
        return None
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    name = struct.pack("=H", socket.AF_INET) + struct.pack("!H", peer.getsockname()[1])
    name += socket.inet_aton("127.0.0.1") + bytes(8)
    sock = datagram(False)
    sent = raw(libc.sendto(sock.fileno(), b"x", 1, 0, name, 16)), peer.recvfrom(9)[1][0]
    return sent, raw(libc.connect(sock.fileno(), name, 16)), sock.getpeername()[0]


# Options that older kernels have too; left out is what a host or its user decides.
HOST = {(1, n) for n in (1, 7, 8, 16, 18, 26, 27, 28, 32, 33, 34, 36, 49, 50, 51, 52, 55, 56, 57)}
HOST |= {(6, n) for n in (10, 11, 13, 14, 19, 20, 21, 22, 24, 26, 28, 29, 31, 32, 33, 35)}
HOST |= {(0, n) for n in (3, 4, 5, 16, 17, 19, *range(32, 50))} - {(0, 33), (0, 34), (0, 49)}
OPTIONS = [(1, n) for n in range(1, 61)] + [(6, n) for n in range(1, 37)]
OF_DATAGRAMS = [(0, n) for n in range(1, 50)]


def shown(value):
    return value.hex() if isinstance(value, bytes) else value


def having(level):
    return datagram(False) if level == 0 else stream()


def asked(level, name):
    return shown(out(having(level).getsockopt, level, name, 16))


def set_to(level, name, value):
    sock = having(level)
    done = out(sock.setsockopt, level, name, value)
    return done or shown(out(sock.getsockopt, level, name, 4))


for level, name in OPTIONS + ([] if SIX else OF_DATAGRAMS):
    if (level, name) in HOST:
        continue

    def options(level=level, name=name):
        values = (0, 1, 5, b"") if (level, name) != (1, 25) else ()
        values += (-1, 300) if level == 0 else ()
        return (level, name), asked(level, name), [set_to(level, name, value) for value in values]

    case(options)


signal.signal(signal.SIGPIPE, signal.SIG_IGN)
wanted = open(sys.argv[2]).read().splitlines() if sys.argv[2:] else None
for function in CASES:
    for pause in 0.02, 0.1, 0.5, 2.0:
        signal.alarm(60)
        line = f"{function.__name__} {function()}"
        if wanted is None and pause > 0.02 or wanted and line in wanted:
            break
    print(line, flush=True)
