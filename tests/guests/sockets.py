"""What a program sees of TCP and UDP sockets on loopback; prints one line for each behaviour.

The output must be the same on plain Linux and on a virtual stack.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import threading
import time

LO = "127.0.0.1"


def outcome(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)


def show(name, *values):
    print(name, *values, flush=True)


def mask(sock):
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    bits = dict(poller.poll(0)).get(sock.fileno(), 0)
    names = ("IN", "OUT", "ERR", "HUP", "RDHUP")
    return "|".join(n for n in names if bits & getattr(select, "POLL" + n)) or "-"


def settle(sock, wanted):
    """The poll mask, once it is as wanted or after two seconds."""
    end = time.monotonic() + 2
    while mask(sock) != wanted and time.monotonic() < end:
        time.sleep(0.005)
    return mask(sock)


def fill(sock):
    """Writes until the socket stays full: what is under way to the peer's buffer makes room."""
    sent = 0
    while select.select([], [sock], [], 0.3)[1]:
        try:
            sent += sock.send(bytes(65536))
        except BlockingIOError:
            pass
    return sent


def pair(family=socket.AF_INET, host=LO):
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen()
    client = socket.socket(family)
    client.connect(listener.getsockname())
    server, peer = listener.accept()
    return listener, client, server, peer


def tcp():
    show("fresh", mask(socket.socket()))
    listener, client, server, peer = pair()
    show("names", client.getsockname() == peer, client.getpeername() == listener.getsockname(),
         server.getsockname() == client.getpeername(), server.getpeername() == peer)
    show("established", mask(client), mask(server))
    client.sendall(b"x" * 100000)
    got = b""
    while len(got) < 100000:
        got += server.recv(65536)
    show("bytes", got == b"x" * 100000)
    server.sendall(b"reply")
    show("readable", settle(client, "IN|OUT"), client.recv(2), client.recv(10))
    client.shutdown(socket.SHUT_WR)
    show("half closed", settle(server, "IN|OUT|RDHUP"), server.recv(10), server.send(b"still"))
    show("other half", client.recv(10), outcome(client.send, b"x"))
    server.close()
    show("both closed", settle(client, "IN|OUT|HUP|RDHUP"), client.recv(10))
    show("again", outcome(client.connect, (LO, 1)))


def reset():
    _, client, server, _ = pair()
    client.sendall(b"unread")
    settle(server, "IN|OUT")
    server.close()
    show("reset", settle(client, "IN|OUT|ERR|HUP|RDHUP"), outcome(client.recv, 10))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    show("after reset", outcome(client.recv, 10), outcome(client.send, b"x"))


def refused():
    sock = socket.socket()
    show("refused", outcome(sock.connect, (LO, 1)))
    sock = socket.socket()
    sock.setblocking(False)
    show("nonblocking", outcome(sock.connect, (LO, 1)) in ("EINPROGRESS", "ECONNREFUSED"))
    settle(sock, "IN|OUT|ERR|HUP|RDHUP")
    show("error", errno.errorcode.get(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0),
         sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), mask(sock))


def dead():
    """A name that refuses connections."""
    sock = socket.socket()
    sock.bind((LO, 0))
    return sock.getsockname()


def failed(name):
    sock = socket.socket()
    sock.setblocking(False)
    outcome(sock.connect, name)
    settle(sock, "IN|OUT|ERR|HUP|RDHUP")
    return sock


def exchange(client, listener):
    server, _ = listener.accept()
    client.setblocking(True)
    client.sendall(b"question")
    got = server.recv(100)
    server.sendall(b"answer")
    return got, client.recv(100), client.getpeername() == listener.getsockname()


def once_more():
    """A socket whose connect has failed, or that has listened, can be used again."""
    listener = socket.socket()
    # Linux keeps the port of a listener that stops only when it was asked for by number.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(dead())
    listener.listen()
    name, nobody = listener.getsockname(), dead()
    sock = failed(nobody)
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    number = sock.fileno()
    show("says so once", outcome(sock.connect, name))
    show("connects", outcome(sock.connect, name) in (None, "EINPROGRESS"), settle(sock, "OUT"),
         sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), outcome(sock.connect, name))
    show("same descriptor", number == sock.fileno(), os.get_inheritable(number),
         bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_NONBLOCK))
    show("exchanged", *exchange(sock, listener))
    sock = failed(nobody)
    os.set_inheritable(sock.fileno(), True)
    sock.settimeout(None)
    show("unread error", outcome(sock.connect, name), sock.connect(name))
    show("inheritable", sock.get_inheritable(),
         bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK), *exchange(sock, listener))
    sock = failed(nobody)
    for _ in range(3):
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        again = outcome(sock.connect, nobody), outcome(sock.connect, nobody)
        show("fails again", again[0], again[1] in ("EINPROGRESS", "ECONNREFUSED"),
             settle(sock, "IN|OUT|ERR|HUP|RDHUP"))
    show("listen at once", outcome(sock.listen))
    outcome(sock.connect, nobody)
    show("listens", sock.listen(), socket.create_connection(sock.getsockname()).fileno() > 0,
         settle(sock, "IN"), len(sock.accept()))
    for _ in range(2):
        listener.shutdown(socket.SHUT_RDWR)
        show("stopped", outcome(listener.accept), outcome(socket.socket().connect, name))
        listener.listen()
        client = socket.socket()
        client.settimeout(5)
        client.connect(name)
        show("listens again", listener.getsockname() == name, *exchange(client, listener))
    other = socket.socket()
    other.bind((LO, 0))
    other.listen()
    other.shutdown(socket.SHUT_RD)
    other.connect(name)
    show("connects then", *exchange(other, listener))
    show("dissolved", outcome(dissolve, other), outcome(other.getpeername))
    other.connect(name)
    show("connected once more", *exchange(other, listener))
    other.shutdown(socket.SHUT_RDWR)
    show("over", settle(other, "IN|OUT|HUP|RDHUP"), outcome(other.connect, name), dissolve(other))
    other.connect(name)
    show("after its end", *exchange(other, listener))
    copies = [failed(nobody) for _ in range(50)]
    for sock in copies:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        outcome(sock.connect, name)
        outcome(sock.connect, name)
        listener.accept()[0].sendall(b"welcome")
    show("many", {(settle(sock, "IN|OUT|RDHUP"), sock.recv(100)) for sock in copies})


def dissolve(sock):
    """connect(2) to nobody."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(sock.fileno(), bytes(16), 16) < 0:
        raise OSError(ctypes.get_errno(), "connect")


def event_loop():
    """asyncio's connect, tried until somebody listens."""
    async def run():
        loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.setblocking(False)
        listener.bind((LO, 0))
        client = socket.socket()
        client.setblocking(False)
        for attempt in range(5):
            try:
                await loop.sock_connect(client, listener.getsockname())
                break
            except OSError as error:
                show("attempt", errno.errorcode[error.errno])
            if attempt == 2:
                listener.listen()
        server, _ = await loop.sock_accept(listener)
        await loop.sock_sendall(client, b"question")
        show("asked", await loop.sock_recv(server, 100))
        await loop.sock_sendall(server, b"answer")
        show("answered", await asyncio.wait_for(loop.sock_recv(client, 100), 5))
    asyncio.run(run())


def nonblocking():
    listener = socket.socket()
    listener.setblocking(False)
    listener.bind((LO, 0))
    listener.listen(5)
    show("nothing to accept", outcome(listener.accept), mask(listener))
    client = socket.socket()
    client.setblocking(False)
    show("connect", outcome(client.connect, listener.getsockname()) in (None, "EINPROGRESS"))
    show("connected", settle(client, "OUT"), client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
         settle(listener, "IN"))
    server, _ = listener.accept()
    other = socket.socket()
    other.setblocking(False)
    outcome(other.connect, listener.getsockname())
    select.select([], [other], [], 2)
    show("first write", other.send(bytes(100000)))
    listener.setblocking(True)
    listener.accept()[0].close()
    listener.setblocking(False)
    server.setblocking(False)
    show("empty", outcome(client.recv, 1), outcome(server.recv, 1))
    edge = select.epoll()
    edge.register(client, select.EPOLLIN | select.EPOLLET)
    show("no edge", edge.poll(0))
    server.send(b"1")
    show("edge", len(edge.poll(2)), len(edge.poll(0)))
    sent = fill(server)
    show("full", sent > 65536, mask(server))
    got = 0
    while got < sent + 1:
        select.select([client], [], [], 2)
        got += len(client.recv(1 << 20))
    show("drained", got == sent + 1, settle(server, "OUT"))


def last_words():
    """What is on its way when its sender closes arrives, whatever happens in between."""
    _listener, client, server, _ = pair()
    sent = fill(server)
    taken = socket.socket()
    name = server.getsockname()
    server.close()
    show("taken", outcome(taken.bind, name))
    got = 0
    while data := client.recv(1 << 20):
        got += len(data)
    show("all came", sent > 65536, got == sent)


def options():
    _, client, server, _ = pair()
    for sock in (client, server):
        show("type", sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
             sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN),
             sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL),
             sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    show("set", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
         client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
         client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
    show("unknown", outcome(client.getsockopt, socket.IPPROTO_TCP, 9999))


def errors():
    sock = socket.socket()
    show("not connected", outcome(sock.getpeername), outcome(sock.shutdown, socket.SHUT_WR))
    show("foreign address", outcome(sock.bind, ("192.0.2.1", 0)))
    one, two = socket.socket(), socket.socket()
    one.bind((LO, 0))
    show("in use", outcome(two.bind, one.getsockname()))
    one.close()
    show("free again", two.bind((LO, 0)))
    show("accept without listen", outcome(two.accept))
    show("bind twice", outcome(two.bind, (LO, 0)))


def accept_flags():
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    servers = [listener.accept() for _ in range(20)]
    show("backlog", sorted(peer for _, peer in servers) == sorted(c.getsockname() for c in clients))
    listener.settimeout(0.05)
    show("accept timeout", outcome(listener.accept))


def timeouts():
    kept, client, server, _ = pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
    show("receive timeout", outcome(client.recv, 1))
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind((LO, 0))
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
    show("datagram timeout", outcome(udp.recvfrom, 1))
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen(0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
    show("accept timeout", outcome(listener.accept))
    crowd = [socket.socket() for _ in range(8)]
    for one in crowd:
        one.setblocking(False)
        outcome(one.connect, listener.getsockname())
        time.sleep(0.01)
    late = socket.socket()
    late.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50000))
    show("connect timeout", outcome(late.connect, listener.getsockname()), mask(late),
         outcome(late.connect, listener.getsockname()))


def stopped():
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    seen = []
    waiters = [threading.Thread(target=lambda: seen.append(outcome(listener.accept))),
               threading.Thread(target=lambda: seen.append(outcome(native_accept, listener)))]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.1)
    show("stop sending", outcome(listener.shutdown, socket.SHUT_WR), len(seen))
    show("stop listening", outcome(listener.shutdown, socket.SHUT_RDWR))
    for waiter in waiters:
        waiter.join()
    show("accepts", seen, outcome(listener.accept))
    show("refused then", outcome(socket.socket().connect, listener.getsockname()))


def addressed():
    """TCP ignores the address of sendto(2)."""
    show("unconnected", outcome(socket.socket().sendto, b"x", (LO, 9)))
    kept, client, server, _ = pair()
    show("sent", client.sendto(b"abc", (LO, 9)), server.recv(10))
    data = bytes(range(256)) * 4000
    got = []
    reader = threading.Timer(0.3, lambda: got.append(server.recv(len(data), socket.MSG_WAITALL)))
    reader.start()
    show("all", client.sendto(data, (LO, 9)) == len(data))
    reader.join()
    show("intact", got == [data])
    client.settimeout(0.1)
    show("full", outcome(lambda: [client.sendto(data, (LO, 9)) for _ in range(100)]))
    client.settimeout(None)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100000))
    show("in time", outcome(lambda: [client.sendto(data, (LO, 9)) for _ in range(100)]))


def closed_listener():
    """A closed listener refuses at once, although nobody has told of its end."""
    seen = []
    for _ in range(20):
        listener = socket.socket()
        listener.bind((LO, 0))
        listener.listen()
        name = listener.getsockname()
        listener.close()
        sock = socket.socket()
        seen.append(outcome(sock.connect, name))
    show("refused each time", set(seen))


def small_buffers():
    """Small buffers hold little, and are emptied without waiting for timers."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    listener.bind((LO, 0))
    listener.listen()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    client.setblocking(False)
    held = 0
    try:
        while True:
            held += client.send(bytes(8192))
    except BlockingIOError:
        show("holds little", 0 < held < 300000)
    client.setblocking(True)
    thread = threading.Thread(target=lambda: [client.send(bytes(512)) for _ in range(2000)])
    begun = time.monotonic()
    thread.start()
    while held + 2000 * 512 > 0:
        held -= len(server.recv(65536))
    thread.join()
    show("in good time", time.monotonic() - begun < 3)


def native_accept(listener):
    """accept(2) without an address."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.accept(listener.fileno(), None, None) < 0:
        raise OSError(ctypes.get_errno(), "accept")


def signals():
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind((LO, 0))
    kept, client, server, _ = pair()
    for name, call in (("accept", listener.accept), ("recv", lambda: client.recv(1)),
                       ("recvfrom", lambda: udp.recvfrom(1)), ("recvmsg", lambda: udp.recvmsg(1))):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            call()
            show(name, "returned")
        except KeyboardInterrupt:
            show(name, "interrupted")
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    timer = threading.Timer(0.2, lambda: socket.create_connection(listener.getsockname()))
    timer.start()
    show("accept goes on", listener.accept()[0].fileno() > 0)
    timer.join()


def coinciding():
    """A signal comes in the instant in which a receive times out."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((LO, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20000))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, False)
    ends = set()
    for _ in range(60):
        signal.setitimer(signal.ITIMER_REAL, 0.0203)
        ends.add(outcome(sock.recvfrom, 10))
    signal.setitimer(signal.ITIMER_REAL, 0)
    show("ends", ends)


def udp():
    one, two = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    one.bind((LO, 0))
    two.bind((LO, 0))
    show("idle", mask(one))
    show("sent", two.sendto(b"hello", one.getsockname()), settle(one, "IN|OUT"))
    data, source = one.recvfrom(100)
    show("received", data, source == two.getsockname())
    two.sendto(b"abcdef", one.getsockname())
    show("peek", one.recv(3, socket.MSG_PEEK), one.recvmsg(3)[0:3:2])
    two.sendto(b"", one.getsockname())
    show("empty datagram", one.recvfrom(10)[0])
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    show("connected", one.send(b"ping"), two.recv(10), two.send(b"pong"), one.recvfrom(10)[0])
    show("peer", one.getpeername() == two.getsockname())
    for size in (1, 1472, 1473, 9000, 60000):
        one.send(bytes(size))
        show("size", size, len(two.recv(65536)))
    three = socket.socket(type=socket.SOCK_DGRAM)
    three.sendto(b"stranger", one.getsockname())
    time.sleep(0.05)
    show("filtered", outcome(one.recv, 10, socket.MSG_DONTWAIT))
    many = socket.socket(type=socket.SOCK_DGRAM)
    many.bind((LO, 0))
    for number in range(100):
        three.sendto(b"%d" % number, many.getsockname())
    show("in order", [int(many.recvfrom(10)[0]) for _ in range(100)] == list(range(100)))


def unreachable():
    """Which error a receive without an address gives may differ: AF_UNIX knows only one."""
    gone = socket.socket(type=socket.SOCK_DGRAM)
    gone.bind((LO, 0))
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(gone.getsockname())
    gone.close()
    failed = ("ECONNREFUSED", "ECONNRESET")
    sock.send(b"x")
    show("told by poll", settle(sock, "OUT|ERR"), outcome(sock.recvfrom, 1), mask(sock))
    sock.send(b"x")
    show("blocked receive", outcome(sock.recv, 1) in failed, mask(sock))
    sock.send(b"x")
    settle(sock, "OUT|ERR")
    show("next send", outcome(sock.send, b"x") in failed)
    settle(sock, "OUT|ERR")
    show("SO_ERROR", *(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for _ in range(2)),
         mask(sock))
    back = socket.socket(type=socket.SOCK_DGRAM)
    back.bind(sock.getpeername())
    show("back again", sock.send(b"again"), back.recv(10), back.sendto(b"yes", sock.getsockname()),
         sock.recv(10))


def inheritance():
    _, client, server, _ = pair()
    if os.fork() == 0:
        server.sendall(b"from the child")
        os._exit(0)
    os.wait()
    show("inherited", client.recv(100))
    copy = os.dup(client.fileno())
    client.close()
    again = socket.socket(fileno=copy)
    server.sendall(b"to the copy")
    show("copy", again.recv(100), again.getpeername() == server.getsockname())
    left, right = socket.socketpair()
    socket.send_fds(left, [b"x"], [again.fileno()])
    _, fds, _, _ = socket.recv_fds(right, 1, 1)
    again.close()
    passed = socket.socket(fileno=fds[0])
    server.sendall(b"passed on")
    show("passed", passed.recv(100), passed.getpeername() == server.getsockname())
    passed.close()
    show("gone", settle(server, "IN|OUT|RDHUP"), server.recv(1))


def v6():
    _, client, server, peer = pair(socket.AF_INET6, "::1")
    client.sendall(b"six")
    show("v6", server.recv(10), peer[0], client.getsockname() == peer)
    listener = socket.socket(socket.AF_INET6)
    listener.bind(("::", 0))
    listener.listen()
    four = socket.create_connection((LO, listener.getsockname()[1]))
    server, peer = listener.accept()
    four.sendall(b"mapped")
    show("mapped", peer[0], server.recv(10), server.getsockname()[0])


for part in (tcp, reset, refused, once_more, event_loop, nonblocking, last_words, options, errors,
             accept_flags, timeouts, stopped, addressed, closed_listener, small_buffers, signals,
             coinciding, udp, unreachable, inheritance, v6):
    print(f"[{part.__name__}]", flush=True)
    part()
