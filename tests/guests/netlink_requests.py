"""Requests of rtnetlink(7) as bytes, and what comes back as text, for rtnetlink.py.

Ports, sequence numbers and indices show as names, so that the text is the same on every host.
"""

import errno
import socket
import struct

AF_INET, AF_INET6, AF_UNSPEC = socket.AF_INET, socket.AF_INET6, 0
SOL_NETLINK = 270
ADD_MEMBERSHIP, DROP_MEMBERSHIP, PKTINFO, BROADCAST_ERROR, NO_ENOBUFS = 1, 2, 3, 4, 5
LIST_MEMBERSHIPS, CAP_ACK, EXT_ACK, STRICT = 9, 10, 11, 12
REQUEST, MULTI, ACK, ECHO = 1, 2, 4, 8
ROOT, MATCH, DUMP = 0x100, 0x200, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
CAPPED, TLVS = 0x100, 0x200
NAMES = {2: "ERROR", 3: "DONE"}
for base, name in [(16, "LINK"), (20, "ADDR"), (24, "ROUTE"), (28, "NEIGH"), (32, "RULE")]:
    NAMES.update({base: "NEW" + name, base + 1: "DEL" + name, base + 2: "GET" + name})
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWRULE, DELRULE, GETRULE = 32, 33, 34
NLA_F_NESTED = 0x8000
# Attributes of links that do not depend on the driver.
LINK_PLAIN = {3: "name", 4: "mtu", 17: "mode", 27: "group"}


def pad(data):
    return data + bytes(-len(data) % 4)


def attr(kind, value):
    if isinstance(value, int):
        value = struct.pack("=I", value)
    return pad(struct.pack("=HH", 4 + len(value), kind) + value)


def ip(text):
    return socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)


def index(name):
    if name is None:
        return 0
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def ifinfo(name=None, flags=0, change=0, family=0, number=None):
    number = number if number is not None else index(name) if name else 0
    return struct.pack("=BxHiII", family, 0, number, flags, change)


def ifaddr(family, prefix, name, scope=0, flags=0):
    return struct.pack("=BBBBI", family, prefix, flags, scope, index(name))


def route(family, bits, table=254, protocol=3, scope=0, kind=1, tos=0, source=0, flags=0):
    return struct.pack("=BBBBBBBBI", family, bits, source, tos, table, protocol, scope, kind, flags)


def neigh(family, name, state=0, flags=0, kind=0):
    return struct.pack("=BxHiHBB", family, 0, index(name), state, flags, kind)


def rule(family, action=1, table=0, bits=(0, 0)):
    return struct.pack("=BBBBBBBBI", family, *bits, 0, table, 0, 0, action, 0)


class Netlink:
    """A socket, and the requests made on it."""

    def __init__(self, *options, groups=0, pid=0):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.sock.bind((pid, groups))
        self.sock.settimeout(0.7)
        for option in options:
            self.sock.setsockopt(SOL_NETLINK, option, 1)
        self.seq = 100

    def pid(self):
        return self.sock.getsockname()[0]

    def send(self, kind, flags, body, seq=None, length=None):
        self.seq += 1
        seq = self.seq if seq is None else seq
        length = 16 + len(body) if length is None else length
        self.sock.send(struct.pack("=IHHII", length, kind, flags, seq, 0) + body)

    def receive(self):
        """The messages of one datagram."""
        data = self.sock.recv(1 << 16)
        found = []
        while len(data) >= 16:
            length, kind, flags, seq, pid = struct.unpack_from("=IHHII", data)
            found.append((kind, flags, seq, pid, data[16:length]))
            data = data[(length + 3) & ~3:]
        return found

    def ask(self, kind, flags, body, **more):
        """The answers to a request, as texts."""
        try:
            self.send(kind, flags | REQUEST, body, **more)
        except OSError as error:
            return [errno.errorcode[error.errno]]
        texts = []
        while True:
            try:
                messages = self.receive()
            except TimeoutError:
                texts.append("silence")
                return texts
            except OSError as error:
                texts.append(errno.errorcode[error.errno])
                return texts
            for message in messages:
                texts.append(self.text(message))
                multi = message[1] & MULTI and message[0] != 3
                if not multi and (message[0] in (2, 3) or not flags & (ACK | DUMP)):
                    return texts

    def text(self, message):
        kind, flags, seq, pid, body = message
        who = "me" if pid == self.pid() else pid and "other"
        when = "seq" if seq == self.seq else seq
        return f"{NAMES.get(kind, kind)} {flags:#x} {when} {who} {content(kind, flags, body)}"


def attributes(data):
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4 or length > len(data):
            found.append(("bad", data))
            break
        found.append((kind, data[4:length]))
        data = data[(length + 3) & ~3:]
    return found


def show(found, indices=(), hidden=()):
    parts = []
    for kind, value in found:
        if kind in hidden:
            continue
        if kind in indices:
            value = interface(struct.unpack("=I", value)[0])
        else:
            value = value.hex()
        parts.append(f"{kind}={value}")
    return " ".join(parts)


def interface(number):
    for name in ("lo", "vde0", "new0"):
        if index(name) == number:
            return name
    return f"#{number}" if number in (0, 9999) else "gone"


def content(kind, flags, body):
    if kind == 3:
        return body.hex()
    if kind == 2:
        error, length, about, about_flags = struct.unpack_from("=iIHH", body)
        rest = body[20:] if flags & CAPPED else body[4 + ((length + 3) & ~3):]
        words = [value.rstrip(b"\0").decode() for kind, value in attributes(rest) if kind == 1]
        words = words if flags & TLVS else []
        return f"{errno.errorcode.get(-error, error)} {length} {about} {about_flags:#x} {words}"
    if kind in (16, 17):
        family, hardware, number, ifflags, change = struct.unpack_from("=BxHiII", body)
        found = [(LINK_PLAIN[k], v) for k, v in attributes(body[16:]) if k in LINK_PLAIN]
        return f"{family} {hardware} {interface(number)} {ifflags:#x} {change:#x} {show(sorted(found))}"
    if kind in (20, 21):
        family, prefix, ifflags, scope, number = struct.unpack_from("=BBBBI", body)
        found = [(k, v) for k, v in attributes(body[8:])]
        return f"{family}/{prefix} {ifflags:#x} {scope} {interface(number)} {show(found, hidden=(6, 11))}"
    if kind in (24, 25):
        head = body[:12].hex()
        return f"{head} {show(attributes(body[12:]), indices=(3, 4), hidden=(12, 20))}"
    if kind in (28, 29):
        family, number, state, ndm, sort = struct.unpack_from("=B3xiHBB", body)
        return f"{family} {interface(number)} {state:#x} {ndm:#x} {sort} {show(attributes(body[12:]), hidden=(3,))}"
    return f"{body[:12].hex()} {show(attributes(body[12:]))}"


def case(name, answers):
    print(f"{name}:")
    for answer in answers if isinstance(answers, list) else [answers]:
        print(f"    {answer}".rstrip())


def attempt(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def only(texts, *words):
    """Those of a dump that say one of the words, and what is no entry."""
    return [t for t in texts if not t.startswith("NEW") or any(w in t for w in words)]

