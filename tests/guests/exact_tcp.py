"""Corners of TCP connections: exact_tcp.py 4|6 [WANTED]."""

from socket import *

from exact_cases import *

SOL = SOL_SOCKET


@case
def names():
    server = listener()
    client = connect(server)
    accepted, peer = server.accept()
    return (
        client.getpeername() == accepted.getsockname(),
        client.getsockname() == accepted.getpeername(),
        peer == client.getsockname(),
        accepted.getsockname() == server.getsockname(),
    )


@case
def connecting_again():
    client, server = pair()
    name = (LO, 0)
    return out(client.connect, name), out(server.connect, name), client.connect_ex(client.getpeername())


@case
def shutting_again():
    client, server = pair()
    one = out(server.shutdown, SHUT_WR), out(client.shutdown, SHUT_RDWR)
    settle(3)
    one += (out(server.shutdown, SHUT_WR), out(client.shutdown, SHUT_RD), out(server.shutdown, SHUT_RD))
    client, server = pair()
    two = out(server.shutdown, SHUT_WR), out(server.shutdown, SHUT_WR)
    settle(3)
    return one, two, out(server.shutdown, SHUT_WR), out(server.shutdown, SHUT_RD)


@case
def pieces_join():
    client, server = pair()
    client.send(b"ab")
    client.send(b"cd")
    settle()
    return server.recv(10)


@case
def large_writes():
    client, server = pair()
    size = 3 * client.getsockopt(SOL, SO_SNDBUF)
    got = []
    reader = started(lambda: got.append(drain(server, size)))
    client.sendall(bytes(size))
    client.close()
    reader.join()
    client, server = pair()
    size = 3 * client.getsockopt(SOL, SO_SNDBUF)
    part = client.send(bytes(size), MSG_DONTWAIT)
    client.setblocking(False)
    client2, server2 = pair()
    client2.setblocking(False)
    part2 = os.write(client2.fileno(), bytes(size))
    return got == [size], 0 < part < size, 0 < part2 < size


@case
def full_buffers():
    client, server = pair()
    server.setsockopt(SOL, SO_RCVBUF, 1 << 18)
    client.setsockopt(SOL, SO_SNDBUF, 1 << 18)
    fill(client)
    masks = want(client, select.POLLOUT, 10), mask(client), mask(server)
    client.setsockopt(SOL, SO_SNDTIMEO, struct.pack("ll", 0, 200000))
    start = time.monotonic()
    timed = out(client.send, b"x")
    return masks, timed, time.monotonic() - start > 0.19, out(client.send, b"x", MSG_DONTWAIT)


@case
def closed_while_blocked():
    client, server = pair()
    client.setsockopt(SOL, SO_RCVTIMEO, struct.pack("ll", 0, 500000))
    got = []
    fd = client.detach()
    reader = started(lambda: got.append(out(os.read, fd, 1)))
    settle(3)
    os.close(fd)
    reader.join()
    client, server = pair()
    fill(client)
    client.setsockopt(SOL, SO_SNDTIMEO, struct.pack("ll", 0, 500000))
    fd = client.detach()
    writer = started(lambda: got.append(out(os.write, fd, b"x")))
    settle(3)
    os.close(fd)
    writer.join()
    return got


@case
def time_wait_hangs_up():
    client, server = pair()
    client.shutdown(SHUT_RDWR)
    masks = []
    waiter = started(lambda: masks.append(want(client, select.POLLHUP)))
    settle()
    server.shutdown(SHUT_RDWR)
    waiter.join()
    return masks, want(client, select.POLLHUP), mask(client), mask(server)


@case
def a_full_pair_breaks():
    client, server = pair()
    client.setsockopt(SOL, SO_SNDBUF, 2500)
    server.setsockopt(SOL, SO_RCVBUF, 2500)
    sizes = client.getsockopt(SOL, SO_SNDBUF), server.getsockopt(SOL, SO_RCVBUF)
    got = []
    writer = started(lambda: got.append(out(os.writev, client.fileno(), [bytes(2500)] * 1024)))
    server.recv(1)
    settle(3)
    server.close()
    writer.join()
    return sizes, isinstance(got[0], int) and 1 < got[0] < 2500 * 1024


@case
def both_shut():
    client, server = pair()
    client.shutdown(SHUT_WR)
    server.shutdown(SHUT_WR)
    return want(client, select.POLLIN | select.POLLERR | select.POLLHUP), want(server, select.POLLIN)


@case
def refused_then_heard():
    sock = stream()
    sock.bind((LO, 0))
    client = stream()
    first = out(client.connect, sock.getsockname())
    name = out(client.getsockname)[1] > 0, mask(client)
    sock.listen(5)
    second = out(client.connect, sock.getsockname())
    return first, name, second, isinstance(sock.accept(), tuple)


def refused_without_waiting():
    gone = stream()
    gone.bind((LO, 0))
    client = stream()
    client.setblocking(False)
    first = out(client.connect, gone.getsockname())
    return client, gone.getsockname(), first, want(client, select.POLLERR)


@case
def refused_and_asked():
    client, name, *first = refused_without_waiting()
    told = client.getsockopt(SOL, SO_ERROR), out(client.recv, 1)
    client.setblocking(True)
    return first, told, out(client.connect, name), out(client.connect, name)


@case
def refused_and_peeked():
    client, name, *first = refused_without_waiting()
    return out(client.recv, 1, MSG_PEEK), out(client.recv, 1, MSG_PEEK), out(client.connect, name)


@case
def refused_and_written():
    client, name, *first = refused_without_waiting()
    return out(client.send, b"x"), out(client.send, b"x"), out(client.recv, 1), out(client.connect, name)


@case
def refused_and_connected():
    client, name, *first = refused_without_waiting()
    again = [out(client.connect, name)]
    want(client, select.POLLERR)
    return again, client.getsockopt(SOL, SO_ERROR), out(client.getpeername), client.getsockname()[1] > 0


@case
def to_itself():
    sock = stream()
    sock.bind((LO, 0))
    sock.connect(sock.getsockname())
    got = []
    reader = started(lambda: got.append(drain(sock, 1 << 21)))
    sock.sendall(bytes(1 << 20))
    sock.shutdown(SHUT_WR)
    reader.join()
    return got == [1 << 20], state(sock)


@case
def to_itself_at_once():
    sock = stream()
    sock.setsockopt(IPPROTO_TCP, TCP_MAXSEG, 256)
    sock.bind((LO, 0))
    sock.connect(sock.getsockname())
    sock.setsockopt(SOL, SO_SNDBUF, 512 << 10)
    return sock.send(bytes(512 << 10)), sock.shutdown(SHUT_WR)


@case
def to_itself_and_shut():
    sock = stream()
    sock.bind((LO, 0))
    sock.connect(sock.getsockname())
    later(lambda: sock.shutdown(SHUT_WR))
    return out(sock.sendall, bytes(24 << 20))


@case
def reading_nothing():
    client, server = pair()
    start = time.monotonic()
    later(lambda: client.shutdown(SHUT_RD))
    return out(client.recv, 0), out(client.recv, 1), out(client.recv, 0, MSG_DONTWAIT)


@case
def not_waiting():
    results = []
    for bits in select.POLLOUT, select.POLLWRNORM, select.POLLOUT | select.POLLWRNORM:
        server, client = listener(), stream()
        client.setblocking(False)
        first = out(client.connect, server.getsockname())
        accepted = server.accept()[0]
        results.append((first, want(client, bits), client.getsockopt(SOL, SO_ERROR)))
    server, client = listener(), stream()
    client.setblocking(False)
    out(client.connect, server.getsockname())
    server.accept()[0].close()
    results.append(want(client, select.POLLOUT))
    return results, [out(client.connect, server.getsockname()) for _ in range(2)]


@case
def cleaned_after_refusal():
    gone, client = stream(), stream()
    gone.bind((LO, 0))
    client.bind((LO, 0))
    name = client.getsockname()
    first = out(client.connect, gone.getsockname())
    fresh = stream()
    return first, out(fresh.bind, name), out(client.connect, gone.getsockname())


@case
def closing_with_linger():
    sock = stream()
    sock.setsockopt(SOL, SO_LINGER, struct.pack("ii", 1, 10))
    start = time.monotonic()
    masks = want(sock, select.POLLHUP, 0)
    sock.close()
    quick = time.monotonic() - start < 5
    client, server = pair()
    client.setsockopt(SOL, SO_LINGER, struct.pack("ii", 1, 10))
    client.send(b"x" * 100000)
    start = time.monotonic()
    client.close()
    soon = time.monotonic() - start < 5
    return masks, quick, soon, drain(server, 100000), server.recv(1)


@case
def one_at_a_time():
    masks = set()
    for _ in range(20):
        server = listener(0)
        first = connect(server)
        client = stream()
        client.setblocking(False)
        out(client.connect, server.getsockname())
        masks.add(want(client, select.POLLOUT, 10))
    return masks


@case
def growing_unblocks():
    client, server = pair()
    client.setsockopt(SOL, SO_SNDBUF, 1 << 30)
    most = client.getsockopt(SOL, SO_SNDBUF)
    client.setsockopt(SOL, SO_SNDBUF, most >> 2)
    fill(client)
    got = []
    writer = started(lambda: got.append(out(client.send, b"x")))
    settle(2)
    waits = list(got)
    client.setsockopt(SOL, SO_SNDBUF, most >> 1)
    writer.join(20)
    return waits, got


@case
def fast_open_connect():
    server = listener()
    client = stream()
    client.setsockopt(IPPROTO_TCP, 30, 1)
    done = out(client.connect, server.getsockname()), mask(client), state(client)
    sent = out(client.send, b"hi")
    accepted = server.accept()[0]
    return done, sent, accepted.recv(9), client.getpeername() == server.getsockname()


@case
def reset_by_unread():
    client, server = pair()
    server.send(b"x")
    settle()
    client.close()
    settle()
    return mask(server), number(server, SOL, SO_ERROR), out(server.recv, 1), out(server.send, b"x")


@case
def connect_unspecified():
    sock = stream()
    client, server = pair()
    gone = (
        raw(libc.connect(client.fileno(), bytes(28), 28)),
        out(client.getpeername),
        client.getsockname()[1] == 0,
    )
    late = listener()
    again = out(client.connect, late.getsockname())
    return raw(libc.connect(sock.fileno(), bytes(28), 28)), gone, again, out(server.recv, 1)


@case
def duplicates():
    client, server = pair()
    copy = client.dup()
    client.close()
    settle()
    first = mask(server), copy.send(b"x"), server.recv(1)
    copy.close()
    settle()
    return first, mask(server), server.recv(1)


@case
def spliced():
    client, server = pair()
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    moved = out(os.splice, reader, client.fileno(), 5)
    back = out(os.splice, server.fileno(), writer, 9)
    return (
        moved,
        back,
        os.read(reader, 9),
        out(os.splice, reader, stream().fileno(), 5) if os.write(writer, b"x") else None,
        out(os.splice, stream().fileno(), writer, 5),
    )


@case
def sent_files():
    client, server = pair()
    with open("/proc/self/exe", "rb") as file:
        sent = out(os.sendfile, client.fileno(), file.fileno(), 0, 70000)
        none = out(os.sendfile, stream().fileno(), file.fileno(), 0, 10)
    return sent, drain(server, sent) == sent, none


@case
def edges():
    client, server = pair()
    epoll = select.epoll()
    epoll.register(server, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
    got = [epoll.poll(0.2)[0][1]]
    got.append(epoll.poll(0))
    client.send(b"ab")
    got.append([events for _, events in epoll.poll(2)])
    got.append([events for _, events in epoll.poll(0)])
    server.recv(1)
    got.append([events for _, events in epoll.poll(0)])
    client.shutdown(SHUT_WR)
    settle()
    got.append([events for _, events in epoll.poll(2)])
    client.close()
    return got


@case
def dissolved_listener():
    server = listener()
    client = connect(server)
    settle()
    done = raw(libc.connect(server.fileno(), bytes(28), 28))
    settle()
    return (
        done,
        state(server),
        out(client.recv, 1),
        mask(client),
        server.getsockname()[1] > 0,
        number(server, SOL, SO_ACCEPTCONN),
    )



def moving_data(sock):
    """What every call says that moves data."""
    fd, buffer = sock.fileno(), bytearray(1)
    said = [out(call, *args) for call, args in (
        (sock.send, (b"x",)), (sock.send, (b"",)), (sock.send, (b"x", MSG_NOSIGNAL)), (os.write, (fd, b"x")),
        (os.writev, (fd, [b"x", b"y"])), (sock.sendmsg, ([b"x"],)), (sock.sendto, (b"x", (LO, 9))),
        (sock.recv, (1,)), (sock.recv, (0,)), (sock.recv, (1, MSG_PEEK | MSG_DONTWAIT)), (sock.recv, (1, MSG_OOB)),
        (os.read, (fd, 1)), (os.readv, (fd, [buffer])), (sock.recvmsg, (1,)), (sock.recvfrom, (1,)),
    )]
    return said


@case
def fresh_sockets():
    sock = stream()
    return moving_data(sock), mask(sock)


@case
def bound_sockets():
    sock = stream()
    sock.bind((LO, 0))
    return moving_data(sock), mask(sock)


@case
def sockets_that_listen():
    sock = stream()
    sock.bind((LO, 0))
    refused = moving_data(sock)
    sock.listen()
    sent = out(sock.sendmsg, [b"x"]), out(sock.recvmsg, 1), out(sock.recvfrom, 1)
    return refused, sent, mask(sock)


@case
def many_fresh_sockets():
    return {str([out(sock.send, b"x"), out(sock.recv, 1)]) for sock in (stream() for _ in range(9))}


@case
def reset_before_anybody_looks():
    results = []
    for data in b"", b"abc":
        server = listener()
        client = connect(server)
        accepted = server.accept()[0]
        if data:
            client.send(data)
            want(accepted, select.POLLIN)
        reset(client)
        settle(2)
        results.append((mask(accepted), [out(accepted.recv, 9) for _ in range(3)], out(accepted.getpeername)))
    return results


@case
def over_before_anybody_looks():
    server = listener()
    client = connect(server)
    fd = libc.accept(server.fileno(), None, None)
    client.shutdown(SHUT_WR)
    settle()
    sock = socket.socket(fileno=fd)
    os.close(os.dup(fd))
    closed = sock.recv(1)
    libc.shutdown(client.fileno(), SHUT_RDWR)
    return closed, sock.family == FAMILY, out(sock.getsockopt, SOL, SO_ERROR)



@case
def listeners_hand_on():
    told = []
    brief, other = struct.pack("ll", 0, 200_000), struct.pack("ll", 3, 500_000)
    for late in False, True:
        server = stream()
        server.bind((LO, 0))
        if late:
            server.listen()
        server.setsockopt(SOL, SO_RCVTIMEO, brief)
        server.setsockopt(SOL, SO_SNDTIMEO, other)
        server.setsockopt(SOL, SO_OOBINLINE, 1)
        server.listen()
        for way in "accept", "accept4", "with a name":
            client = connect(server)
            if way == "accept":
                accepted = socket.socket(fileno=libc.accept(server.fileno(), None, None))
            elif way == "accept4":
                accepted = socket.socket(fileno=libc.accept4(server.fileno(), None, None, SOCK_CLOEXEC))
            else:
                accepted = server.accept()[0]
            begun = time.monotonic()
            late_read = out(os.read, accepted.fileno(), 1), time.monotonic() - begun >= 0.2
            client.send(b"X", MSG_OOB)
            want(accepted, select.POLLPRI)
            urgent = out(accepted.recv, 1, MSG_OOB), accepted.recv(1)
            told.append((way, late_read, urgent, option(accepted, SOL, SO_SNDTIMEO, 16)))
        told.append(raw(libc.accept(server.fileno(), None, None)))
    return told



def lingering(seconds):
    client, server = pair()
    client.setsockopt(SOL, SO_LINGER, struct.pack("ii", 1, seconds))
    return client, server


def closed_after(sock, least):
    begun = time.monotonic()
    sock.close()
    return time.monotonic() - begun >= least


@case
def closing_waits_for_a_while():
    client, server = lingering(1)
    fill(client)
    told = [closed_after(client, 1)]
    client, server = lingering(1)
    fill(client)
    client.setblocking(False)
    other = client.dup()
    told.append((closed_after(client, 1), closed_after(other, 1)))
    return told


@case
def closing_waits_for_the_peer():
    client, server = lingering(600)
    sent = fill(client)
    got = []
    reader = started(lambda: (settle(), got.append(drain(server, sent)), got.append(server.recv(1))))
    client.close()
    reader.join()
    return got[0] == sent, got[1]


@case
def closing_does_not_wait():
    idle, _peer = lingering(600)
    idle.close()
    client, server = lingering(600)
    server.send(b"not read")
    want(client, select.POLLIN)
    fill(client)
    client.close()
    settle()
    fresh = stream()
    fresh.setsockopt(SOL, SO_LINGER, struct.pack("ii", 1, 600))
    fresh.close()
    shut, reader = lingering(600)
    shut.shutdown(SHUT_RDWR)
    shut.close()
    return drain(server, 1) > 0, reader.recv(1)



def reset_by_the_peer(data):
    """A connection that the peer has reset after it has sent this."""
    client, server = pair()
    if data:
        server.send(data)
        want(client, select.POLLIN)
    reset(server)
    want(client, select.POLLHUP)
    return client


@case
def a_reset_is_told_once():
    told = []
    for data in b"", b"abc":
        for calls in "ssr", "rrs", "mrs":
            sock = reset_by_the_peer(data)
            ways = {"s": lambda: out(sock.send, b"x"), "r": lambda: out(sock.recv, 9),
                    "m": lambda: out(sock.sendmsg, [b"x"])}
            told.append((calls, [ways[call]() for call in calls], number(sock, SOL, SO_ERROR)))
    return told


run()
