"""Packet sockets: options, filters, rings. One process captures, another on the other host sends.

    packets.py capture FOLDER
    packets.py send FOLDER
"""

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
import sys
import time

KIND = 0x88B5  # an EtherType for experiments
SOL_PACKET = 263
ADD_MEMBERSHIP, DROP_MEMBERSHIP, RX_RING, STATISTICS = 1, 2, 5, 6
AUXDATA, ORIGDEV, VERSION, HDRLEN, RESERVE, IGNORE_OUTGOING = 8, 9, 10, 11, 12, 23
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_LOCK_FILTER, SO_BPF_EXTENSIONS = 26, 27, 44, 48
PAGE = 4096


def outcome(action, *arguments):
    try:
        return action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def packet_socket(protocol=KIND, kind=socket.SOCK_RAW):
    sock = socket.socket(socket.AF_PACKET, kind, 0)
    sock.bind(("vde0", protocol))
    return sock


def attach(sock, *instructions):
    code = b"".join(struct.pack("HBBI", *one) for one in instructions)
    memory = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(instructions), ctypes.addressof(memory))
    return outcome(sock.setsockopt, socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def options():
    sock = packet_socket()
    put = lambda name, value: outcome(sock.setsockopt, SOL_PACKET, name, value)
    get = lambda name, size=4: outcome(sock.getsockopt, SOL_PACKET, name, size)
    index = socket.if_nametoindex("vde0")
    wish = lambda index, kind, length=0: struct.pack("iHH8s", index, kind, length, b"\1\0\x5e")
    for name in ADD_MEMBERSHIP, DROP_MEMBERSHIP:
        wishes = wish(index, 1), wish(9999, 1), wish(index, 0, 6), wish(index, 0, 7), b"short"
        print("membership", name, *(put(name, one) for one in wishes))
    for name in AUXDATA, ORIGDEV, IGNORE_OUTGOING:
        print("flag", name, get(name), put(name, 1), get(name), put(name, b"\1"), put(name, 5))
    for version in 0, 1, 2, 3, -1:
        header = struct.pack("i", version)
        print("version", version, put(VERSION, version), get(VERSION))
        length = ctypes.create_string_buffer(header)
        room = ctypes.c_uint32(4)
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.getsockopt(sock.fileno(), SOL_PACKET, HDRLEN, length, ctypes.byref(room))
        print("header", done, struct.unpack("i", length.raw[:4])[0] if done == 0 else "refused")
    print("reserve", put(RESERVE, 4), get(RESERVE), put(RESERVE, -1), put(RESERVE, b"xy"))
    print("statistics", get(STATISTICS, 12), get(STATISTICS, 8))
    print("strange", put(99, 1), get(99), outcome(sock.connect, ("vde0", KIND)))


def filters():
    sock = packet_socket()
    accept = (0x06, 0, 0, 0xFFFF)
    put = lambda name, value: outcome(sock.setsockopt, socket.SOL_SOCKET, name, value)
    print("detach none", put(SO_DETACH_FILTER, 0))
    print("extensions", outcome(sock.getsockopt, socket.SOL_SOCKET, SO_BPF_EXTENSIONS))
    print("attach", attach(sock, accept), attach(sock), attach(sock, (0x05, 0, 0, 7), accept))
    print("attach", attach(sock, (0x20, 0, 0, 0xFFFFF001), accept), attach(sock, (0x00, 0, 0, 1)))
    print("attach", put(SO_ATTACH_FILTER, b"short"))
    print("get", outcome(sock.getsockopt, socket.SOL_SOCKET, SO_ATTACH_FILTER, 1).hex())
    print("detach", put(SO_DETACH_FILTER, 0))
    print("lock", put(SO_LOCK_FILTER, 1), attach(sock, accept), put(SO_DETACH_FILTER, 0), put(SO_LOCK_FILTER, 0))


def request(version, block, blocks, frame, frames, timeout=100, private=0):
    first = struct.pack("IIII", block, blocks, frame, frames)
    return first + struct.pack("III", timeout, private, 0) if version == 2 else first


def requests():
    for version in 0, 1, 2:
        answers = []
        for numbers in [
            (PAGE, 2, PAGE, 2), (PAGE, 2, 2048, 4), (PAGE, 2, 2048, 5), (PAGE, 2, 64, 128),
            (PAGE, 2, 100, 80), (PAGE + 8, 2, 1024, 8), (0, 2, 1024, 8), (PAGE, 0, 0, 0),
            (PAGE, 0, 0, 1), (0x80000000, 1, 2048, 1), (PAGE, 2, 0, 0), (PAGE, 2, 0xFFFFFFF0, 1),
            (PAGE, 0xFFFFFFFF, PAGE, 0xFFFFFFFF), (PAGE, 2, 8192, 1),
        ]:
            sock = packet_socket()
            sock.setsockopt(SOL_PACKET, VERSION, version)
            answers.append(outcome(sock.setsockopt, SOL_PACKET, RX_RING, request(version, *numbers)))
        # How much is too much is a matter of memory.
        print("requests", version, *(a if a != "ENOMEM" else "EINVAL" for a in answers))
        sock = packet_socket()
        sock.setsockopt(SOL_PACKET, VERSION, version)
        ring = request(version, PAGE, 4, 2048, 8)
        put = lambda name, value: outcome(sock.setsockopt, SOL_PACKET, name, value)
        print("short", put(RX_RING, ring[:12]))
        def mapping(length, offset=0):
            found = outcome(lambda: mmap.mmap(sock.fileno(), length, offset=offset))
            return found if isinstance(found, str) else "mapped"
        print("unmapped", mapping(4 * PAGE))
        print("ring", put(RX_RING, ring), put(RX_RING, ring), put(VERSION, 0), put(RESERVE, 4))
        print("map", mapping(4 * PAGE), mapping(3 * PAGE), mapping(4 * PAGE, PAGE), mapping(4 * PAGE - 5))
    sock = packet_socket()
    sock.setsockopt(SOL_PACKET, VERSION, 2)
    print("private", *(outcome(sock.setsockopt, SOL_PACKET, RX_RING,
        request(2, PAGE, 2, 2048, 4, 100, private)) for private in (0xFFFFFFFF, PAGE, 3980)))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    print("other", outcome(lambda: mmap.mmap(udp.fileno(), PAGE)))


def status_of(status):
    """Without what depends on the link: checksums, time stamps."""
    return status & ~(0x80 | 8 | 1 << 29)


def tell(ring, at, version):
    if version == 0:
        status, length, kept, mac, net, sec, fraction = struct.unpack_from("LIIHHII", ring, at)
        tag, fraction, header = (), fraction * 1000, 32
    elif version == 1:
        status, length, kept, mac, net, sec, fraction, tci, tpid = struct.unpack_from("IIIHHIIHH", ring, at)
        tag, header = (tci, tpid), 32
    else:
        _, sec, fraction, kept, length, status, mac, net, _, tci, tpid = struct.unpack_from("IIIIIIHHIIH", ring, at)
        tag, header = (tci, tpid), 48
    family, kind, _, hatype, pkttype, halen = struct.unpack_from("=H2sIHBB", ring, at + header)
    recent = abs(sec + fraction / 1e9 - time.time()) < 60
    data = bytes(ring[at + mac : at + mac + kept])
    print("frame", status_of(status), length, kept, mac, net, tag, recent, family, kind.hex(),
        hatype, pkttype, halen, data[12:24].hex(), len(data), data[-2:].hex())


def polled(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    waiting = select.epoll()
    waiting.register(sock, select.EPOLLIN)
    answers = len(poll.poll(0)), len(select.select([sock], [], [], 0)[0]), len(waiting.poll(0))
    waiting.close()
    return answers


def slots(version, kind, reserve, ready, sent):
    sock = packet_socket(kind=kind)
    sock.setsockopt(SOL_PACKET, VERSION, version)
    sock.setsockopt(SOL_PACKET, RESERVE, reserve)
    # 4 slots of 512 bytes, two to a page-sized block.
    sock.setsockopt(SOL_PACKET, RX_RING, request(version, PAGE, 2, 2048, 4))
    ring = mmap.mmap(sock.fileno(), 2 * PAGE)
    print("idle", polled(sock), outcome(sock.recv, 10, socket.MSG_DONTWAIT))
    ready()
    at = 0
    for number in range(6):
        # Two more have been sent than there are slots.
        while struct.unpack_from("I", ring, at * 2048)[0] == 0:
            select.select([sock], [], [], 5)
        if number == 0:
            sent()
        tell(ring, at * 2048, version)
        struct.pack_into("I", ring, at * 2048, 0)
        if number == 2:
            print("some left", polled(sock))
        at = (at + 1) % 4
        if number == 3:
            break
    print("all given back", polled(sock))
    print("statistics", struct.unpack("II", sock.getsockopt(SOL_PACKET, STATISTICS, 8)))
    print("statistics", struct.unpack("II", sock.getsockopt(SOL_PACKET, STATISTICS, 8)))


def blocks(reserve, ready, sent):
    sock = packet_socket()
    sock.setsockopt(SOL_PACKET, VERSION, 2)
    sock.setsockopt(SOL_PACKET, RESERVE, reserve)
    sock.setsockopt(SOL_PACKET, RX_RING, request(2, PAGE, 4, 2048, 8, 1000, 13))
    ring = mmap.mmap(sock.fileno(), 4 * PAGE)
    print("idle", polled(sock))
    ready()
    seen = at = 0
    while seen < 6:
        status = struct.unpack_from("I", ring, at * PAGE + 8)[0]
        if status & 1 == 0:
            select.select([sock], [], [], 5)
            continue
        version, private, status, count, first, length, number = struct.unpack_from("IIIIIIQ", ring, at * PAGE)
        print("block", version, private, status, count, first, length, number)
        offset = at * PAGE + first
        for _ in range(count):
            tell(ring, offset, 2)
            after = struct.unpack_from("I", ring, offset)[0]
            print("next", after)
            offset += after
        seen += count
        struct.pack_into("I", ring, at * PAGE + 8, 0)
        at = (at + 1) % 4
    print("all given back", polled(sock))
    print("statistics", struct.unpack("III", sock.getsockopt(SOL_PACKET, STATISTICS, 12)))


def queue(ready, sent):
    sock = packet_socket()
    cooked = packet_socket(kind=socket.SOCK_DGRAM)
    short = packet_socket()
    sock.setsockopt(SOL_PACKET, AUXDATA, 1)
    print("filter", attach(short, (0x30, 0, 0, 14), (0x15, 0, 1, 3), (0x06, 0, 0, 20), (0x06, 0, 0, 0)))
    ready()
    for number in range(6):
        if number == 1:
            # By a native call, between trapped ones.
            print("read", len(os.read(sock.fileno(), 9000)))
            continue
        flags = socket.MSG_TRUNC if number == 5 else 0
        data, ancillary, _, name = sock.recvmsg(100, 256, flags)
        status, length, kept, mac, net, tci, tpid = struct.unpack("IIIHHHH", ancillary[0][2])
        print("message", len(data), status_of(status), length, kept, mac, net, tci, tpid, name[0], name[1:4], len(name[4]), data[12:16].hex())
        if number == 0:
            peeked = [sock.recvfrom(60, socket.MSG_PEEK) for _ in range(2)]
            print("peeked", [(len(data), name[2], data[14]) for data, name in peeked])
    for _ in range(6):
        data, name = cooked.recvfrom(100)
        print("cooked", len(data), data[:2].hex(), name[:4])
    print("short", len(short.recv(100)), outcome(short.recv, 100, socket.MSG_DONTWAIT))
    print("statistics", struct.unpack("II", short.getsockopt(SOL_PACKET, STATISTICS, 8)))


def outgoing():
    seeing = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    ignoring = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    ignoring.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    only_ours = (0x28, 0, 0, 12), (0x15, 0, 1, KIND), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
    for sock in seeing, ignoring:
        attach(sock, *only_ours)
        sock.bind(("vde0", 3))
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    attach(sender, *only_ours)
    sender.bind(("vde0", 3))
    frame = b"\xff" * 6 + b"\2\0\0\0\0\7" + struct.pack("!H", KIND) + b"own" * 20
    print("sent", sender.send(frame))
    data, name = seeing.recvfrom(100)
    print("outgoing", data == frame, name[:4])
    print("sender", outcome(sender.recv, 100, socket.MSG_DONTWAIT))
    print("ignoring", outcome(ignoring.recv, 100, socket.MSG_DONTWAIT))


def edges():
    """Each frame is an event for who waits for edges, taken or not; sizes that do not fit."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, VERSION, 1)
    sock.setsockopt(SOL_PACKET, RX_RING, request(1, PAGE, 4, 2048, 8))
    ring = mmap.mmap(sock.fileno(), 4 * PAGE)
    attach(sock, (0x28, 0, 0, 12), (0x15, 0, 1, KIND), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))
    sock.bind(("vde0", 3))
    waiting = select.epoll()
    waiting.register(sock, select.EPOLLIN | select.EPOLLET)
    sender = packet_socket()
    frame = b"\xff" * 6 + b"\2\0\0\0\0\7" + struct.pack("!H", KIND) + b"own" * 20
    told = [len(waiting.poll(0))]
    for _ in range(3):
        sender.send(frame)
        told += len(waiting.poll(5)), len(waiting.poll(0))
    print("edges", told, struct.unpack_from("I", ring, 3 * 2048)[0])
    tagged = frame[:12] + struct.pack("!HH", 0x8100, 5) + frame[12:]
    for start, size in (frame, 1514), (frame, 1515), (tagged, 1518), (tagged, 1519):
        print("size", size, outcome(sender.sendto, start.ljust(size, b"x"), ("vde0", 0)))


def datagrams():
    """Filters on UDP and raw sockets."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    # The first byte of the data behind UDP's header: 'k' is kept whole, 'c' cut, all else dropped.
    print(attach(one, (0x30, 0, 0, 8), (0x15, 0, 1, ord("k")), (0x06, 0, 0, 0xFFFF),
        (0x15, 0, 1, ord("c")), (0x06, 0, 0, 12), (0x06, 0, 0, 0)))
    for data in b"drop", b"keep it", b"cut this", b"drop too", b"k":
        one.sendto(data, one.getsockname())
    print([one.recv(100) for _ in range(3)], outcome(one.recv, 100, socket.MSG_DONTWAIT))
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    # Echo requests only: the type is the first byte behind IP's header.
    print(attach(raw, (0xB1, 0, 0, 0), (0x50, 0, 0, 0), (0x15, 0, 1, 8), (0x06, 0, 0, 22), (0x06, 0, 0, 0)))
    ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    request = struct.pack("!BBHHH", 8, 0, 0xF7FF - 7 - 9, 7, 9)
    ping.sendto(request, ("127.0.0.1", 0))
    got = raw.recv(100)
    print(len(got), got[20:22].hex(), outcome(raw.recv, 100, socket.MSG_DONTWAIT))


def frames():
    """One with a tag, and one that is longer than a slot."""
    head = b"\xff" * 6 + b"\2\0\0\0\0\x09"
    kind = struct.pack("!H", KIND)
    for number in range(6):
        tag = struct.pack("!HH", 0x8100, 0x2005) if number == 2 else b""
        size = 1400 if number == 4 else 60
        yield head + tag + kind + bytes([number]) * size


def await_file(path):
    while not os.path.exists(path):
        time.sleep(0.02)
    # What has been sent has arrived a moment later.
    time.sleep(0.1)


def named_devices():
    """SOCK_PACKET, whose addresses are names of interfaces: struct sockaddr_pkt."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = lambda name, *rest: (
        done if (done := getattr(libc, name)(*rest)) >= 0 else errno.errorcode[ctypes.get_errno()]
    )
    device = lambda name, kind=b"": struct.pack("=H14s", 0, name) + kind
    kind = socket.htons(KIND)
    frame = b"\xff" * 6 + b"\2\0\0\0\0\1" + KIND.to_bytes(2, "big") + b"by name"
    for domain in (socket.AF_INET, socket.AF_PACKET):
        fd = call("socket", domain, 10, kind)
        sock = socket.socket(fileno=fd)
        level = socket.SOL_SOCKET
        print(sock.type, *(sock.getsockopt(level, one) for one in (socket.SO_DOMAIN, socket.SO_PROTOCOL)))
        buffer, length = ctypes.create_string_buffer(64), ctypes.c_int(64)
        name = lambda: (
            call("getsockname", fd, buffer, ctypes.byref(length)), length.value, buffer.raw[:length.value]
        )
        print(name(), call("getpeername", fd, buffer, ctypes.byref(length)))
        for size, of in ((14, b"lo"), (18, b"lo"), (16, b"none"), (16, b"lo")):
            print(call("bind", fd, device(of, b"\0\3"), size), name())
        print(call("connect", fd, device(b"lo"), 16))
        send = lambda data, of, size=16: call("sendto", fd, data, len(data), 0, device(of, b"\x88\xb5"), size)
        print(send(frame, b"none"), send(frame, b"lo", 15), send(bytes(70000), b"lo"))
        for size in (16, 18):
            print(send(frame, b"lo", size))
            room, length = ctypes.create_string_buffer(100), ctypes.c_int(64)
            print(call("recvfrom", fd, room, 100, 0, buffer, ctypes.byref(length)), room.raw[:21])
            print(length.value, buffer.raw[:length.value])
        sock.close()


def main(role, folder):
    turns = [
        lambda *signs: slots(0, socket.SOCK_RAW, 0, *signs),
        lambda *signs: slots(1, socket.SOCK_RAW, 4, *signs),
        lambda *signs: slots(1, socket.SOCK_DGRAM, 0, *signs),
        lambda *signs: blocks(0, *signs),
        lambda *signs: blocks(20, *signs),
        queue,
    ]
    if role == "send":
        sock = packet_socket(3)
        for turn in range(len(turns)):
            await_file(f"{folder}/ready{turn}")
            for frame in frames():
                sock.send(frame)
            open(f"{folder}/sent{turn}", "w").close()
        return
    options()
    filters()
    requests()
    outgoing()
    edges()
    datagrams()
    named_devices()
    for number, turn in enumerate(turns):
        print("turn", number)
        ready = lambda: open(f"{folder}/ready{number}", "w").close()
        turn(ready, lambda: await_file(f"{folder}/sent{number}"))


main(*sys.argv[1:])
