"""Bad pointers, lengths and vectors to every socket call; prints one line for each call.

The output must be the same on plain Linux and on a virtual stack.
"""

import ctypes
import errno
import platform
import select
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
if platform.machine() == "x86_64":
    NUMBERS = {
        "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47,
        "bind": 49, "getsockname": 51, "getpeername": 52, "setsockopt": 54, "getsockopt": 55,
        "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "ioctl": 16,
    }
else:
    NUMBERS = {
        "connect": 203, "accept": 202, "sendto": 206, "recvfrom": 207, "sendmsg": 211,
        "recvmsg": 212, "bind": 200, "getsockname": 204, "getpeername": 205, "setsockopt": 208,
        "getsockopt": 209, "accept4": 242, "recvmmsg": 243, "sendmmsg": 269, "ioctl": 29,
    }
BAD = 8
WILD = (1 << 64) - 4096
LO = "127.0.0.1"
keep = []


def call(name, *args):
    values = [ctypes.c_long(arg if arg < 1 << 63 else arg - (1 << 64)) for arg in args]
    value = libc.syscall(ctypes.c_long(NUMBERS[name]), *values)
    return value if value >= 0 else errno.errorcode[ctypes.get_errno()]


def at(data):
    """The address of a copy of some bytes, which can be written."""
    buffer = ctypes.create_string_buffer(bytes(data), max(len(data), 1))
    keep.append(buffer)
    return ctypes.addressof(buffer)


def edge(data):
    """The address of bytes behind which nothing can be read or written."""
    libc.mmap.restype = ctypes.c_void_p
    start = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
    libc.munmap(ctypes.c_void_p(start + 4096), ctypes.c_size_t(4096))
    place = start + 4096 - len(data)
    ctypes.memmove(place, bytes(data), len(data))
    return place


def show(name, *values):
    print(name, *values, flush=True)


def inet(port, host=LO):
    return struct.pack("=H", 2) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def header(name=0, name_len=0, iov=0, iov_len=0, control=0, control_len=0, flags=0):
    return struct.pack("=QI4xQQQQi4x", name, name_len & 0xffffffff, iov, iov_len, control,
                       control_len, flags)


def vector(*entries):
    return at(b"".join(struct.pack("=QQ", base, length & (1 << 64) - 1) for base, length in entries))


def udp():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((LO, 0))
    sock.setblocking(False)
    keep.append(sock)
    return sock


def tcp():
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    keep.extend((listener, client, server))
    return listener, client, server


def filled(sock, text=b"hello"):
    sock.sendto(text, sock.getsockname())
    select.select([sock], [], [], 5)


def names():
    listener, client, _ = tcp()
    datagram = udp()
    for kind, fd in (("tcp", client.fileno()), ("udp", datagram.fileno()),
                     ("listener", listener.fileno())):
        for pointer in (0, BAD, WILD):
            show(kind, "getsockname", call("getsockname", fd, pointer, at(struct.pack("i", 16))),
                 call("getsockname", fd, at(bytes(16)), pointer))
            show(kind, "bind", call("bind", fd, pointer, 16))
        show(kind, "getsockname length", call("getsockname", fd, at(bytes(16)), at(struct.pack("i", -1))))
        room = at(struct.pack("i", 0))
        show(kind, "getsockname nothing", call("getsockname", fd, BAD, room),
             ctypes.c_int.from_address(room).value)
        room = at(struct.pack("i", 5))
        show(kind, "getsockname short", call("getsockname", fd, edge(bytes(5)), room),
             ctypes.c_int.from_address(room).value)
        for length in (-1, 0, 1, 2, 8, 15, 129, 1 << 20, 2**31 - 1):
            show(kind, "bind length", length, call("bind", fd, at(inet(0) + bytes(200)), length))
        show(kind, "bind edge", call("bind", fd, edge(inet(0)[:8]), 16))
    for pointer in (0, BAD, WILD):
        show("getpeername", call("getpeername", client.fileno(), pointer, at(struct.pack("i", 16))),
             call("getpeername", client.fileno(), at(bytes(16)), pointer))


def connects():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        sock = socket.socket(socket.AF_INET, kind)
        for pointer in (0, BAD, WILD):
            show("connect", call("connect", sock.fileno(), pointer, 16))
        for length in (-1, 0, 1, 2, 8, 15, 129, 2**31 - 1):
            show("connect length", length, call("connect", sock.fileno(), at(inet(1) + bytes(200)), length))


def accepts():
    listener, *_ = tcp()
    listener.setblocking(False)
    for name in ("accept", "accept4"):
        extra = (0,) if name == "accept4" else ()
        show(name, "nothing", call(name, listener.fileno(), BAD, BAD, *extra))
        for pointer, length in ((BAD, at(struct.pack("i", 16))), (at(bytes(16)), BAD),
                                (at(bytes(16)), at(struct.pack("i", -1)))):
            keep.append(socket.create_connection(listener.getsockname()))
            select.select([listener], [], [], 5)
            show(name, call(name, listener.fileno(), pointer, length, *extra))
    show("accept4 flags", call("accept4", listener.fileno(), at(bytes(16)), at(struct.pack("i", 16)), 0x7f))


def options():
    _, client, _ = tcp()
    datagram = udp()
    for kind, fd in (("tcp", client.fileno()), ("udp", datagram.fileno())):
        for level, option in ((1, 2), (1, 20), (0, 2), (0, 8)):
            for pointer in (0, BAD, WILD):
                show(kind, level, option, "setsockopt", call("setsockopt", fd, level, option, pointer, 16))
                show(kind, level, option, "getsockopt", call("getsockopt", fd, level, option, pointer, at(struct.pack("i", 4))),
                     call("getsockopt", fd, level, option, at(bytes(16)), pointer))
            for length in (-1, 0, 2):
                show(kind, level, option, "setsockopt length", length, call("setsockopt", fd, level, option, at(bytes(16)), length))
            show(kind, level, option, "getsockopt length", call("getsockopt", fd, level, option, at(bytes(16)), at(struct.pack("i", -1))))
        show(kind, "unknown", call("setsockopt", fd, 1, 9999, BAD, 4), call("setsockopt", fd, 1, 9999, at(bytes(4)), 4),
             call("getsockopt", fd, 1, 9999, at(bytes(4)), at(struct.pack("i", 4))))


def sends():
    sock = udp()
    fd = sock.fileno()
    here = inet(sock.getsockname()[1])
    for pointer in (BAD, WILD):
        show("sendto data", call("sendto", fd, pointer, 4, 0, at(here), 16))
        show("sendto name", call("sendto", fd, at(b"data"), 4, 0, pointer, 16))
    for length in (-1, 0, 1, 8, 129, 2**31 - 1):
        show("sendto name length", length, call("sendto", fd, at(b"data"), 4, 0, at(here + bytes(200)), length))
    show("sendto too long", call("sendto", fd, at(bytes(70000)), 70000, 0, at(here), 16))
    show("sendto huge", call("sendto", fd, at(b"data"), 1 << 40, 0, at(here), 16))
    show("sendto negative", call("sendto", fd, at(b"data"), (1 << 64) - 1, 0, at(here), 16))
    show("sendto edge", call("sendto", fd, edge(b"data"), 8, 0, at(here), 16))
    named = dict(name=at(here), name_len=16)
    data = vector((at(b"data"), 4))
    for pointer in (0, BAD, WILD):
        show("sendmsg", call("sendmsg", fd, pointer, 0))
    for pointer in (BAD, WILD):
        show("sendmsg vector", call("sendmsg", fd, at(header(**named, iov=pointer, iov_len=1)), 0))
        show("sendmsg data", call("sendmsg", fd, at(header(**named, iov=vector((pointer, 4)), iov_len=1)), 0))
        show("sendmsg name", call("sendmsg", fd, at(header(name=pointer, name_len=16, iov=data, iov_len=1)), 0))
        show("sendmsg control", call("sendmsg", fd, at(header(**named, iov=data, iov_len=1, control=pointer, control_len=24)), 0))
    show("sendmsg name length", [call("sendmsg", fd, at(header(name=at(here + bytes(200)), name_len=n, iov=data, iov_len=1)), 0)
                                 for n in (-1, 1, 8, 16, 129, 2**31 - 1)])
    show("sendmsg count", [call("sendmsg", fd, at(header(**named, iov=vector(*[(at(b"x"), 1)] * 1024), iov_len=n)), 0)
                           for n in (1024, 1025, 1 << 31, 1 << 40, (1 << 64) - 1)])
    for size in (1 << 63, (1 << 63) - 1, 1 << 62, (1 << 64) - 1):
        show("sendmsg sum", size, call("sendmsg", fd, at(header(**named, iov=vector(*[(at(b"x"), size)] * 1024), iov_len=1024)), 0))
    show("sendmsg edge", call("sendmsg", fd, edge(header(**named, iov=data, iov_len=1)[:40]), 0))
    many = header(**named, iov=data, iov_len=1) + bytes(8)
    for pointer in (0, BAD, WILD):
        show("sendmmsg", call("sendmmsg", fd, pointer, 2, 0))
    show("sendmmsg one of two", call("sendmmsg", fd, edge(many), 2, 0))
    show("sendmmsg none", call("sendmmsg", fd, BAD, 0, 0))


def controls():
    sock = udp()
    fd = sock.fileno()
    here = inet(sock.getsockname()[1])
    data = vector((at(b"data"), 4))

    def send(control, length=None):
        length = len(control) if length is None else length
        place = at(control)
        return call("sendmsg", fd, at(header(name=at(here), name_len=16, iov=data, iov_len=1,
                                            control=place, control_len=length)), 0)

    def message(length, level, kind, body=b""):
        return struct.pack("=Qii", length & (1 << 64) - 1, level, kind) + body

    show("control sound", send(message(20, 0, 2, struct.pack("i", 7) + bytes(4))))
    for length in (0, 1, 15, 16, 17, 19, 21, 24, 25, 1 << 31, 1 << 63, -1):
        show("control length", length, send(message(length, 0, 2, struct.pack("i", 7) + bytes(4))))
    for size in (1, 8, 15, 16, 19):
        show("control cut", size, send(message(20, 0, 2, struct.pack("i", 7) + bytes(4)), size))
    show("control values", [send(message(20, 0, 2, struct.pack("i", value) + bytes(4))) for value in (0, 1, 255, 256, -1)])
    show("control tos", [send(message(20, 0, 1, struct.pack("i", value) + bytes(4))) for value in (0, 1, 255, 256, -1)])
    show("control packet info", [send(message(16 + n, 0, 8, bytes(24))) for n in (0, 4, 11, 12, 13)])
    show("control unknown", send(message(20, 0, 99, bytes(8))), send(message(20, 77, 1, bytes(8))))
    show("control long", send(bytes(8), 1 << 20), send(bytes(8), 1 << 40), send(bytes(8), (1 << 64) - 1))


def receives():
    sock = udp()
    fd = sock.fileno()
    name, length = at(bytes(16)), at(struct.pack("i", 16))
    for pointer in (BAD, WILD):
        filled(sock)
        show("recvfrom data", call("recvfrom", fd, pointer, 5, 0, name, length))
        filled(sock)
        show("recvfrom name", call("recvfrom", fd, at(bytes(5)), 5, 0, pointer, length))
        filled(sock)
        show("recvfrom length", call("recvfrom", fd, at(bytes(5)), 5, 0, name, pointer))
    filled(sock)
    show("recvfrom negative", call("recvfrom", fd, at(bytes(5)), 5, 0, name, at(struct.pack("i", -1))))
    drain(sock)
    filled(sock)
    show("recvfrom huge", call("recvfrom", fd, at(bytes(5)), 1 << 40, 0, name, length))
    drain(sock)
    data = vector((at(bytes(5)), 5))
    for pointer in (0, BAD, WILD):
        show("recvmsg", call("recvmsg", fd, pointer, 0))
    for pointer in (BAD, WILD):
        filled(sock)
        show("recvmsg vector", call("recvmsg", fd, at(header(iov=pointer, iov_len=1)), 0))
        show("recvmsg data", call("recvmsg", fd, at(header(iov=vector((pointer, 5)), iov_len=1)), 0))
        drain(sock)
        filled(sock)
        show("recvmsg name", call("recvmsg", fd, at(header(name=pointer, name_len=16, iov=data, iov_len=1)), 0))
        drain(sock)
    show("recvmsg count", [call("recvmsg", fd, at(header(iov=vector(*[(at(b"x"), 1)] * 1024), iov_len=n)), 0)
                           for n in (1025, 1 << 40, (1 << 64) - 1)])
    for size in (1 << 63, (1 << 64) - 1):
        show("recvmsg sum", size, call("recvmsg", fd, at(header(iov=vector(*[(at(b"x"), size)] * 1024), iov_len=1024)), 0))
    show("recvmsg name length", call("recvmsg", fd, at(header(name=name, name_len=-1, iov=data, iov_len=1)), 0))
    drain(sock)
    filled(sock)
    many = at(bytes(1024))
    sock.setsockopt(0, 12, 1)
    place = at(header(name=many, name_len=1000, iov=data, iov_len=1, control=many, control_len=7))
    show("recvmsg short control", call("recvmsg", fd, place, 0))
    show("written", [struct.unpack_from("=QI4xQQQQi", (ctypes.c_char * 56).from_address(place))[i] for i in (1, 3, 5, 6)])
    for pointer in (0, BAD, WILD):
        show("recvmmsg", call("recvmmsg", fd, pointer, 1, 0, 0))
    drain(sock)


def drain(sock):
    while True:
        try:
            sock.recv(65536)
        except BlockingIOError:
            return


def requests():
    sock = udp()
    fd = sock.fileno()
    # SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFINDEX, SIOCGIFNAME, SIOCSIFFLAGS, SIOCADDRT, SIOCGARP
    for request in (0x8912, 0x8913, 0x8933, 0x8910, 0x8914, 0x890b, 0x8954):
        show("ioctl", hex(request), [call("ioctl", fd, request, pointer) for pointer in (0, BAD, WILD)])
    # FIONREAD, FIONBIO, SIOCOUTQ, SIOCATMARK, SIOCGSTAMP
    for request in (0x541b, 0x5421, 0x5411):
        show("ioctl", hex(request), [call("ioctl", fd, request, pointer) for pointer in (0, BAD, WILD)])
    show("ioctl list", [call("ioctl", fd, 0x8912, at(struct.pack("=i4xQ", length, pointer)))
                        for length, pointer in ((-1, BAD), (40, BAD), (40, WILD))])
    show("ioctl edge", call("ioctl", fd, 0x8913, edge(b"lo\0")), call("ioctl", fd, 0x8912, edge(bytes(4))))
    show("ioctl name", call("ioctl", fd, 0x8913, at(b"\xff" * 40)), call("ioctl", fd, 0x8913, at(b"x" * 40)))


def netlink():
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sock.settimeout(2)
    fd = sock.fileno()
    for pointer in (0, BAD, WILD):
        show("netlink bind", call("bind", fd, pointer, 12))
        show("netlink send", call("sendto", fd, pointer, 40, 0, at(struct.pack("=HHII", 16, 0, 0, 0)), 12))
        show("netlink name", call("sendto", fd, at(bytes(40)), 40, 0, pointer or BAD, 12))
    for length in (-1, 0, 2, 8, 11, 129):
        show("netlink bind length", length, call("bind", fd, at(struct.pack("=HHII", 16, 0, 0, 0) + bytes(200)), length))
    garbage = [b"x", bytes(15), bytes(16), b"\xff" * 64, struct.pack("=IHHII", 8, 18, 5, 1, 0),
               struct.pack("=IHHII", 0xffffffff, 18, 5, 1, 0), struct.pack("=IHHII", 17, 18, 5, 1, 0)]
    for text in garbage:
        try:
            show("netlink garbage", len(text), sock.send(text))
        except OSError as error:
            show("netlink garbage", len(text), errno.errorcode[error.errno])
    # Errors, not answers: an unknown type, a short header, an attribute that is too long.
    for kind, payload in ((99, bytes(16)), (16, bytes(1)), (20, bytes(8)), (24, bytes(2)),
                          (16, bytes(16) + b"\xff\xff\x03\0"), (28, bytes(4))):
        sock.send(struct.pack("=IHHII", 16 + len(payload), kind, 5, 3, 0) + payload)
        answer = sock.recv(65536)
        show("netlink error", kind, struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0] < 0)
    show("still there", len(sock.getsockname()))


for part in sys.argv[1:] or ("names", "connects", "accepts", "options", "sends", "controls", "receives", "requests", "netlink"):
    globals()[part]()
