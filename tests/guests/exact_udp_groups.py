"""Groups, and options of IP, on UDP sockets: exact_udp_groups.py 4|6|mapped [WANTED]."""

from exact_datagrams import *

GROUP = {"4": "224.0.2.1", "6": "ff02::77", "mapped": "::ffff:224.0.2.1"}[WAY]
LEVEL = IPPROTO_IPV6 if WAY == "6" else IPPROTO_IP
EVERY = "0.0.0.0" if WAY == "4" else "::"
JOIN, LEAVE, IF, LOOP = (20, 21, 17, 19) if WAY == "6" else (35, 36, 32, 34)
DROPPED = "nothing"


def membership(index=0, by=None, group=GROUP):
    """struct ipv6_mreq, struct ip_mreq or struct ip_mreqn."""
    if WAY == "6":
        return inet_pton(AF_INET6, group) + struct.pack("I", 1)
    packed = inet_aton(group.removeprefix("::ffff:")) + inet_aton(by or "0.0.0.0")
    return packed + (struct.pack("i", index) if index else b"")


def by_lo():
    return membership(by="127.0.0.1")


def member(request=None):
    sock = socket.socket(FAMILY, SOCK_DGRAM)
    sock.bind((EVERY, 0))
    if request is not None:
        sock.setsockopt(LEVEL, JOIN, request)
    return sock


def sender(how="address"):
    sock = socket.socket(FAMILY, SOCK_DGRAM)
    if WAY == "6":
        sock.setsockopt(LEVEL, IF, 1)
    elif how == "address":
        sock.setsockopt(LEVEL, IF, inet_aton("127.0.0.1"))
    else:
        sock.setsockopt(LEVEL, IF, bytes(8) + struct.pack("i", 1))
    return sock


def group_of(sock):
    return GROUP, sock.getsockname()[1]


def hears(*socks):
    settle()
    return [out(sock.recv, 99, MSG_DONTWAIT) for sock in socks]


@case
def nobody_joined():
    sock = member()
    return out(sender().sendto, b"x", group_of(sock)), hears(sock)


@case
def after_leaving():
    sock = member(by_lo())
    one = sender()
    first = out(one.sendto, b"a", group_of(sock)), hears(sock)
    left = [out(sock.setsockopt, LEVEL, LEAVE, by_lo()) for _ in range(2)]
    return first, left, out(one.sendto, b"b", group_of(sock)), hears(sock)


@case
def after_the_member_is_closed():
    sock, other = member(), member(by_lo())
    first = out(sender().sendto, b"a", group_of(sock)), hears(sock) if WAY != "mapped" else None
    other.close()
    return first, out(sender().sendto, b"b", group_of(sock)), hears(sock)


@case
def by_connection():
    results = []
    for how in "address", "index":
        sock, one = member(by_lo()), sender(how)
        done = out(one.connect, group_of(sock)), one.getsockname()[0], out(one.getpeername)
        sent = out(one.send, b"x") if done[0] is None else None
        results.append((done[:2], sent, hears(sock)))
    return results


@case
def source_of_what_is_sent():
    results = []
    for how in "address", "index":
        sock, one = member(by_lo()), sender(how)
        one.sendto(b"x", group_of(sock))
        settle()
        results.append((sock.recvfrom(9)[1][0], one.getsockname()[0]))
    return results


@case
def without_an_interface():
    sock, bound, free = member(by_lo()), datagram(), datagram(False)
    return (
        out(bound.sendto, b"x", group_of(sock)),
        hears(sock),
        out(free.sendto, b"x", group_of(sock)),
        hears(sock),
        out(free.connect, group_of(sock)),
    )


@case
def leaving_by_another_name():
    if WAY == "6":
        return None
    results = []
    for joined, left in (
        (membership(1), by_lo()),
        (by_lo(), membership(1)),
        (by_lo(), membership(1)[:8]),
        (membership(1, "10.1.1.1"), membership(by="10.1.1.1")),
        (by_lo(), membership(by="10.1.1.1")),
    ):
        sock = member(joined)
        results.append(out(sock.setsockopt, LEVEL, LEAVE, left))
    return results


def source_request(source, group=GROUP):
    """struct group_source_req."""
    group, source = (
        (("!H", AF_INET6), 4, inet_pton(AF_INET6, a)) if WAY == "6" else (("!H", AF_INET), 0, inet_aton(a))
        for a in (group.removeprefix("::ffff:"), source)
    )

    def storage(part):
        (_, family), gap, ip = part
        return (struct.pack("=HH", family, 0) + bytes(gap) + ip).ljust(128, b"\0")

    return struct.pack("=II", 1, 0) + storage(group) + storage(source)


@case
def sources():
    mine, other = ("::1", "2001:db8::9") if WAY == "6" else ("127.0.0.1", "127.0.0.9")
    sock = member()
    block, unblock, join, leave, join_source, leave_source = 43, 44, 42, 45, 46, 47

    def ask(name, source=mine):
        request = source_request(source)
        return out(sock.setsockopt, LEVEL, name, request if name in (43, 44, 46, 47) else request[:136])

    errors = [ask(name) for name in (block, join, block, block, unblock, unblock, join_source, leave)]
    errors += [ask(name) for name in (leave, join_source, join_source, leave_source, leave_source)]
    heard = []
    one = sender()
    for steps in (
        [(join_source, other)],
        [(join_source, mine)],
        [(leave_source, mine)],
        [(leave_source, other), (join, mine)],
        [(block, mine)],
        [(unblock, mine)],
    ):
        done = [ask(name, source) for name, source in steps]
        one.sendto(b"x", group_of(sock))
        heard.append((done, hears(sock)))
    many = [ask(block, f"2001:db8::{n}" if WAY == "6" else f"10.0.0.{n}") for n in range(1, 70)]
    return errors, heard, many.count(None), many[-1], out(sock.setsockopt, LEVEL, 46, bytes(100))


@case
def members_of_streams():
    sock = stream()
    return out(sock.setsockopt, LEVEL, JOIN, by_lo()), out(sock.setsockopt, LEVEL, LEAVE, by_lo())


@case
def everybody_or_members_only():
    sock, other = member(), member(by_lo())
    name = IPPROTO_IPV6, 29
    if WAY != "6":
        name = IPPROTO_IP, 49
    got = [number(sock, *name)]
    for value in 1, 0:
        sock.setsockopt(*name, value)
        sender().sendto(b"x", group_of(sock))
        got.append(hears(sock))
    return got


@case
def small_reads_of_numbers():
    if WAY == "6":
        return None
    sock = datagram(False)
    names = (1, 2, 6, 10, 12, 13, 15, 19, 21, 32, 33, 34, 49)
    return [[option(sock, IPPROTO_IP, name, size) for size in (1, 2, 3, 4, 8)] for name in names]


@case
def options_of_ip():
    sock = datagram(False)
    got = []
    for name in 3, 5, 19:
        got += [(out(sock.setsockopt, IPPROTO_IP, name, v), number(sock, IPPROTO_IP, name)) for v in (1, 0)]
    got += [out(sock.setsockopt, IPPROTO_IP, 50, struct.pack("!I", v)) for v in (1, 0, 99)]
    got += [out(sock.setsockopt, IPPROTO_IP, name, v) for name in (15, 19, 50) for v in (b"", b"\x01", b"ab")]
    return got


@case
def options_of_ipv6():
    if not SIX:
        return None
    sock = datagram(False)
    got = []
    for name in 22, 24, 27, 30, 32, 50, 54, 55, 57, 59, 67, 70, 72, 75, 78:
        for value in (1, 0, -1, 2, 3, 256, 1280, b"a"):
            got.append((name, out(sock.setsockopt, IPPROTO_IPV6, name, value), option(sock, IPPROTO_IPV6, name)))
    got += [out(sock.setsockopt, IPPROTO_IPV6, 76, struct.pack("!I", v)) for v in (1, 0, 99)]
    return got


@case
def transparent():
    if WAY == "mapped":
        return None
    sock = datagram(False)
    name = ("2001:db8::5", 0) if SIX else ("192.0.2.5", 0)
    first = out(sock.bind, name)
    sock.setsockopt(IPPROTO_IP if not SIX else IPPROTO_IPV6, 75 if SIX else 19, 1)
    return first, out(sock.bind, name), sock.getsockname()[0]


@case
def interfaces_that_are_not_there():
    sock, peer = datagram(False), datagram()
    if WAY == "6":
        info = lambda ip, index: [(41, 50, inet_pton(AF_INET6, ip) + struct.pack("I", index))]
        wishes = [("::", 1), ("::", 99), ("2001:db8::7", 0)]
    else:
        info = lambda ip, index: [(0, 8, struct.pack("I", index) + inet_aton(ip) + bytes(4))]
        wishes = [("0.0.0.0", 1), ("0.0.0.0", 99), ("10.9.9.9", 0), ("127.0.0.7", 0)]
    return [out(sock.sendmsg, [b"x"], info(*wish), 0, peer.getsockname()) for wish in wishes]


@case
def mapped_wildcards():
    sock, peer = datagram(False), datagram()
    sock.bind((ANY, 0))
    port = sock.getsockname()[1]
    got = [sock.getsockname()[0]]
    sock.connect(peer.getsockname())
    got.append(sock.getsockname()[0])
    raw(libc.connect(sock.fileno(), UNSPEC, 28))
    return got, sock.getsockname()[0], sock.getsockname()[1] == port


@case
def out_of_band():
    one, other = linked()
    sent = out(one.sendto, b"x", MSG_OOB, other.getsockname()), out(one.sendmsg, [b"y"], [], MSG_OOB)
    settle()
    got = [out(other.recv, 9, MSG_OOB | MSG_DONTWAIT) for _ in range(3)]
    return sent, got


@case
def far_too_long():
    return [out(datagram(False).sendto, bytes(size), (LO, 0)) for size in (65535, 65536, 100000)]


@case
def at_once():
    one, other = linked()
    got = []
    for size in 1, 2, 3:
        one.send(bytes(size))
        got.append(len(other.recv(99, MSG_DONTWAIT)))
    for _ in range(40):
        datagram(False).sendto(b"x", other.getsockname())
        one.sendto(b"y", other.getsockname())
    count = 0
    while isinstance(out(other.recv, 9, MSG_DONTWAIT), bytes):
        count += 1
    return got, count


@case
def sent_before_it_was_dissolved():
    one, other = datagram(False), datagram()
    one.connect(other.getsockname())
    one.send(b"x")
    raw(libc.connect(one.fileno(), UNSPEC, 28))
    return hears(other), one.getsockname()[1], out(one.getpeername)


@case
def errors_of_mapped_addresses():
    sock = refused()
    sock.setsockopt(IP, RECVERR, 1)
    if WAY == "mapped":
        sock.setsockopt(IPPROTO_IP, 11, 1)
    sock.send(b"x")
    settle()
    data, control, flags, _ = sock.recvmsg(9, 200, MSG_ERRQUEUE)
    return [(l, k, v.hex()) for l, k, v in control], flags


run()
