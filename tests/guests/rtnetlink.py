"""What rtnetlink(7) answers, the same on plain Linux and on a stack; lo and vde0 are down at first."""

import socket
import struct

from netlink_requests import *

A4, B4 = attr(1, ip("10.1.0.1")), attr(2, ip("10.1.0.1"))
IFNAME = 3
nl = Netlink()
ask = nl.ask

# Links.
case("dump of links", only(ask(GETLINK, DUMP, ifinfo()), "766465300", "6c6f00"))
case("dump by rtgenmsg", len(only(ask(GETLINK, DUMP, b"\0"), "NEWLINK")) >= 2)
case("a link by index", ask(GETLINK, 0, ifinfo("vde0")))
case("a link by name", ask(GETLINK, 0, ifinfo() + attr(IFNAME, b"lo\0")))
case("a link with ACK", ask(GETLINK, ACK, ifinfo("lo")))
case("no such index", ask(GETLINK, 0, ifinfo(number=9999)))
case("no such name", ask(GETLINK, 0, ifinfo() + attr(IFNAME, b"none\0")))
case("neither", ask(GETLINK, 0, ifinfo()))
case("negative index", ask(GETLINK, 0, ifinfo(number=-1)))
case("short header", ask(GETLINK, 0, b"\0\0"))
case("set up", ask(SETLINK, ACK, ifinfo("lo", 1, 1)))
case("set up by NEWLINK", ask(NEWLINK, ACK, ifinfo("vde0", 1, 1)))
case("set of no such index", ask(SETLINK, ACK, ifinfo(number=9999)))
case("mtu", ask(SETLINK, ACK, ifinfo("vde0") + attr(4, 1400)))
case("mtu too small", ask(SETLINK, ACK, ifinfo("vde0") + attr(4, 10)))
case("mtu of 2 bytes", ask(SETLINK, ACK, ifinfo("vde0") + attr(4, b"\1\2")))
case("name in use", ask(SETLINK, ACK, ifinfo("lo") + attr(IFNAME, b"vde0\0")))
case("name too long", ask(SETLINK, ACK, ifinfo("lo") + attr(IFNAME, b"a" * 20 + b"\0")))
case("name of nothing", ask(SETLINK, ACK, ifinfo("lo") + attr(IFNAME, b"\0")))
case("new by a name that is", ask(NEWLINK, ACK | CREATE | EXCL, ifinfo() + attr(IFNAME, b"lo\0")))
case("new without CREATE", ask(NEWLINK, ACK, ifinfo() + attr(IFNAME, b"new0\0")))
unknown = attr(18 | NLA_F_NESTED, attr(1, b"nosuchkind\0"))
case("new of unknown kind", ask(NEWLINK, ACK | CREATE, ifinfo() + attr(IFNAME, b"new0\0") + unknown))
case("delete lo", ask(DELLINK, ACK, ifinfo("lo")))
case("delete none", ask(DELLINK, ACK, ifinfo(number=9999)))
case("delete nothing", ask(DELLINK, ACK, ifinfo()))

# Addresses.
case("address of lo", only(ask(GETADDR, DUMP, ifaddr(2, 0, "none")), " lo "))
case("new address", ask(NEWADDR, ACK | CREATE | EXCL, ifaddr(2, 24, "vde0") + A4 + B4))
case("again", ask(NEWADDR, ACK | CREATE | EXCL, ifaddr(2, 24, "vde0") + A4 + B4))
case("again, replaced", ask(NEWADDR, ACK | CREATE | REPLACE, ifaddr(2, 24, "vde0") + A4 + B4))
case("with a label", ask(NEWADDR, ACK | CREATE, ifaddr(2, 24, "vde0") + attr(2, ip("10.1.0.2")) + attr(3, b"vde0:1\0")))
case("with broadcast", ask(NEWADDR, ACK | CREATE, ifaddr(2, 16, "vde0", 253) + attr(2, ip("10.3.0.1")) + attr(4, ip("10.3.255.255"))))
case("peer", ask(NEWADDR, ACK | CREATE, ifaddr(2, 32, "vde0") + attr(1, ip("10.4.0.2")) + attr(2, ip("10.4.0.1"))))
case("without IFA_LOCAL", ask(NEWADDR, ACK | CREATE, ifaddr(2, 24, "vde0") + A4))
case("prefix too long", ask(NEWADDR, ACK | CREATE, ifaddr(2, 33, "vde0") + A4 + B4))
case("no interface", ask(NEWADDR, ACK | CREATE, struct.pack("=BBBBI", 2, 24, 0, 0, 9999) + A4 + B4))
case("address of 3 bytes", ask(NEWADDR, ACK | CREATE, ifaddr(2, 24, "vde0") + attr(2, b"abc")))
case("v6", ask(NEWADDR, ACK | CREATE, ifaddr(10, 64, "vde0", flags=2) + attr(1, ip("fd01::1"))))
case("v6 again", ask(NEWADDR, ACK | CREATE | EXCL, ifaddr(10, 64, "vde0") + attr(1, ip("fd01::1"))))
case("v6 multicast", ask(NEWADDR, ACK | CREATE, ifaddr(10, 64, "vde0") + attr(1, ip("ff02::1:2"))))
case("v6 prefix", ask(NEWADDR, ACK | CREATE, ifaddr(10, 129, "vde0") + attr(1, ip("fd01::2"))))
case("family of neither", ask(NEWADDR, ACK | CREATE, ifaddr(99, 24, "vde0") + A4))
case("addresses of v4", ask(GETADDR, DUMP, ifaddr(2, 0, "none")))
case("addresses of v6", only(ask(GETADDR, DUMP, ifaddr(10, 0, "none")), "fd01", " lo "))
case("one address of v4", ask(GETADDR, ACK, ifaddr(2, 24, "vde0") + A4))
case("one address of v6", ask(GETADDR, 0, ifaddr(10, 64, "vde0") + attr(1, ip("fd01::1"))))
case("none of v6", ask(GETADDR, 0, ifaddr(10, 64, "vde0") + attr(1, ip("fd01::9"))))
case("delete another prefix", ask(DELADDR, ACK, ifaddr(2, 25, "vde0") + B4))
case("delete what is not", ask(DELADDR, ACK, ifaddr(2, 24, "vde0") + attr(2, ip("10.9.9.9"))))
case("delete", ask(DELADDR, ACK, ifaddr(2, 16, "vde0") + attr(2, ip("10.3.0.1"))))
case("delete v6 that is not", ask(DELADDR, ACK, ifaddr(10, 64, "vde0") + attr(1, ip("fd01::7"))))

# Routes.
def to(text, name=None, via=None, *more):
    found = [attr(1, ip(text))] if text else []
    found += [attr(5, ip(via))] if via else []
    found += [attr(4, index(name))] if name else []
    return b"".join(found) + b"".join(more)


case("new route", ask(NEWROUTE, ACK | CREATE | EXCL, route(2, 24) + to("10.5.0.0", "vde0", "10.1.0.9")))
case("again", ask(NEWROUTE, ACK | CREATE | EXCL, route(2, 24) + to("10.5.0.0", "vde0", "10.1.0.9")))
case("replaced", ask(NEWROUTE, ACK | CREATE | REPLACE, route(2, 24) + to("10.5.0.0", "vde0", "10.1.0.8")))
case("replaced, which is not", ask(NEWROUTE, ACK | REPLACE, route(2, 24) + to("10.6.0.0", "vde0", "10.1.0.8")))
case("without CREATE", ask(NEWROUTE, ACK, route(2, 24) + to("10.6.0.0", "vde0", "10.1.0.8")))
case("appended", ask(NEWROUTE, ACK | CREATE | APPEND, route(2, 24) + to("10.5.0.0", "vde0", "10.1.0.7", attr(6, 7))))
case("to a place on the wire", ask(NEWROUTE, ACK | CREATE, route(2, 32, scope=253) + to("10.7.0.1", "vde0")))
case("no way to the gateway", ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.0", None, "172.16.0.1")))
case("bits behind the prefix", ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.1", "vde0")))
case("prefix too long", ask(NEWROUTE, ACK | CREATE, route(2, 40) + to("10.6.0.0", "vde0")))
case("prefix without an address", ask(NEWROUTE, ACK | CREATE, route(2, 24) + to(None, "vde0")))
case("no such interface", ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.0", None, None, attr(4, 9999))))
case("unreachable", ask(NEWROUTE, ACK | CREATE, route(2, 24, kind=7) + to("10.8.0.0")))
case("unknown type", ask(NEWROUTE, ACK | CREATE, route(2, 24, kind=20) + to("10.8.1.0")))
case("default", ask(NEWROUTE, ACK | CREATE, route(2, 0) + to(None, None, "10.1.0.254")))
case("source that is not ours", ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.0", "vde0", None, attr(7, ip("10.77.0.1")))))
case("another table", ask(NEWROUTE, ACK | CREATE, route(2, 24, table=100) + to("10.9.0.0", "vde0")))
case("the main table", only(ask(GETROUTE, DUMP, route(2, 0)), "02180000fe", "02000000fe", "02200000fe"))
case("get", ask(GETROUTE, 0, route(2, 32) + to("10.5.0.77")))
case("get from lo", ask(GETROUTE, 0, route(2, 32) + to("127.0.0.1")))
case("get unreachable", ask(GETROUTE, 0, route(2, 32) + to("10.8.0.1")))
case("get by an interface", ask(GETROUTE, 0, route(2, 32) + to("10.1.0.77", "vde0")))
case("get by none", ask(GETROUTE, 0, route(2, 32) + to("10.1.0.77", None, None, attr(4, 9999))))
case("get what matches", ask(GETROUTE, 0, route(2, 32, flags=0x2000) + to("10.5.0.77")))
case("delete", ask(DELROUTE, ACK, route(2, 24, scope=255, protocol=0, kind=0) + to("10.5.0.0", None, "10.1.0.8")))
case("delete what is not", ask(DELROUTE, ACK, route(2, 24, scope=255, protocol=0, kind=0) + to("10.55.0.0")))
case("v6 route", ask(NEWROUTE, ACK | CREATE, route(10, 64) + to("fd05::", "vde0", "fd01::9")))
case("v6 again", ask(NEWROUTE, ACK | CREATE | EXCL, route(10, 64) + to("fd05::", "vde0", "fd01::9")))
case("v6 get", ask(GETROUTE, 0, route(10, 128) + to("fd01::77")))
case("v6 no way", ask(GETROUTE, 0, route(10, 128) + to("2001:db8::1")))
case("v6 delete", ask(DELROUTE, ACK, route(10, 64) + to("fd05::", "vde0")))
case("v6 delete what is not", ask(DELROUTE, ACK, route(10, 64) + to("fd05::", "vde0")))

# Neighbours.
MAC = attr(2, bytes([2, 0, 0, 0, 0, 9]))
case("new neighbour", ask(NEWNEIGH, ACK | CREATE | EXCL, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.9")) + MAC))
case("again", ask(NEWNEIGH, ACK | CREATE | EXCL, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.9")) + MAC))
case("replaced", ask(NEWNEIGH, ACK | REPLACE, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.9")) + attr(2, bytes([2, 0, 0, 0, 0, 8]))))
case("replaced, which is not", ask(NEWNEIGH, ACK | REPLACE, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.10")) + MAC))
case("hardware address of 3 bytes", ask(NEWNEIGH, ACK | CREATE, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.10")) + attr(2, b"abc")))
case("without an address", ask(NEWNEIGH, ACK | CREATE, neigh(2, "vde0", 0x80) + MAC))
case("without an interface", ask(NEWNEIGH, ACK | CREATE, neigh(2, None, 0x80) + attr(1, ip("10.1.0.10")) + MAC))
case("v6 neighbour", ask(NEWNEIGH, ACK | CREATE, neigh(10, "vde0", 0x80) + attr(1, ip("fd01::9")) + MAC))
case("neighbours", only(ask(GETNEIGH, DUMP, neigh(0, None)), "vde0"))
case("one neighbour", ask(GETNEIGH, 0, neigh(2, "vde0") + attr(1, ip("10.1.0.9"))))
case("no neighbour", ask(GETNEIGH, 0, neigh(2, "vde0") + attr(1, ip("10.1.0.99"))))
case("delete", ask(DELNEIGH, ACK, neigh(2, "vde0") + attr(1, ip("10.1.0.9"))))
case("delete again", ask(DELNEIGH, ACK, neigh(2, "vde0") + attr(1, ip("10.1.0.9"))))

# Rules, and requests that are none.
case("rules of v4", ask(GETRULE, DUMP, rule(2)))
case("rules of v6", ask(GETRULE, DUMP, rule(10)))
case("beyond all types", ask(2000, ACK, b"\0" * 16))
case("NOOP", ask(1, ACK, b""))
case("DONE", ask(3, ACK, b"\0" * 4))
case("DUMP of what has none", ask(SETLINK, DUMP | ACK, ifinfo("lo")))
case("without REQUEST", (nl.send(GETLINK, 0, ifinfo("lo")), attempt(nl.receive))[1:] and "silence")
case("without REQUEST, with ACK", (nl.send(GETLINK, ACK, ifinfo("lo")), "sent")[1])
case("length beyond the data", ask(GETLINK, ACK, ifinfo("lo"), length=100))
case("length of 4", ask(GETLINK, ACK, ifinfo("lo"), length=4))

# Options of the sockets.
def no_groups(texts):
    """Without what Linux keeps of groups that it has sent something to."""
    return [text for text in texts if "1=ff02" not in text]


extended = Netlink(EXT_ACK)
case("told why: route", extended.ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.0", None, "172.16.0.1")))
case("told why: prefix", extended.ask(NEWROUTE, ACK | CREATE, route(2, 40) + to("10.6.0.0", "vde0")))
case("told why: interface", extended.ask(NEWROUTE, ACK | CREATE, route(2, 24) + to("10.6.0.0", None, None, attr(4, 9999))))
case("told why: address", extended.ask(NEWADDR, ACK | CREATE, ifaddr(2, 24, "vde0") + attr(2, b"abc")))
case("told why: mtu", extended.ask(SETLINK, ACK, ifinfo("vde0") + attr(4, 10)))
case("told why: kind", extended.ask(NEWLINK, ACK | CREATE, ifinfo() + attr(IFNAME, b"new0\0") + unknown))
case("told why: no such device", extended.ask(GETLINK, 0, ifinfo(number=9999)))
case("told why: neighbour", extended.ask(NEWNEIGH, ACK | CREATE, neigh(2, "vde0", 0x80) + MAC))
case("acknowledged", extended.ask(SETLINK, ACK, ifinfo("lo", 1, 1)))
capped = Netlink(CAP_ACK)
case("capped", capped.ask(SETLINK, ACK, ifinfo(number=9999)))
case("capped and acknowledged", capped.ask(SETLINK, ACK, ifinfo("lo", 1, 1)))
both = Netlink(CAP_ACK, EXT_ACK)
case("capped and told", both.ask(NEWROUTE, ACK | CREATE, route(2, 40) + to("10.6.0.0", "vde0")))
strict = Netlink(STRICT, EXT_ACK)
case("strict links", only(strict.ask(GETLINK, DUMP, ifinfo()), "766465300", "6c6f00"))
case("strict links, flags", strict.ask(GETLINK, DUMP, ifinfo(None, 1)))
case("strict links, short", strict.ask(GETLINK, DUMP, b"\0"))
case("strict links, index", strict.ask(GETLINK, DUMP, ifinfo("lo")))
case("strict addresses of one", strict.ask(GETADDR, DUMP, ifaddr(2, 0, "vde0")))
case("strict addresses, prefix", strict.ask(GETADDR, DUMP, ifaddr(2, 24, "none")))
case("strict addresses, short", strict.ask(GETADDR, DUMP, b"\2"))
case("strict addresses of none", strict.ask(GETADDR, DUMP, struct.pack("=BBBBI", 2, 0, 0, 0, 9999)))
case("strict addresses, attribute", strict.ask(GETADDR, DUMP, ifaddr(2, 0, "none") + A4))
case("strict routes of a table", strict.ask(GETROUTE, DUMP, route(2, 0, table=100, protocol=0, kind=0)))
case("strict routes of no table", strict.ask(GETROUTE, DUMP, route(2, 0, table=99, protocol=0, kind=0)))
case("strict routes, scope", strict.ask(GETROUTE, DUMP, route(2, 0, table=0, protocol=0, kind=0, scope=5)))
case("strict routes by type", strict.ask(GETROUTE, DUMP, route(2, 0, table=0, protocol=0, kind=7)))
case("strict routes, prefix", strict.ask(GETROUTE, DUMP, route(2, 24, table=0, protocol=0, kind=0)))
case("strict neighbours", no_groups(strict.ask(GETNEIGH, DUMP, neigh(10, None))))
case("strict neighbours, state", strict.ask(GETNEIGH, DUMP, neigh(10, None, 2)))
case("strict neighbours of one", no_groups(strict.ask(GETNEIGH, DUMP, neigh(10, None) + attr(8, index("vde0")))))
case("strict rules", strict.ask(GETRULE, DUMP, rule(2, action=0)))
case("strict rules, action", strict.ask(GETRULE, DUMP, rule(2, action=1)))
for option in (ADD_MEMBERSHIP, PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, LIST_MEMBERSHIPS, CAP_ACK, EXT_ACK, STRICT, 77):
    case(f"option {option}", [attempt(strict.sock.getsockopt, SOL_NETLINK, option, 4), attempt(strict.sock.getsockopt, SOL_NETLINK, option, 2)])
for group in (0, 1, 64, 2000):
    case(f"join {group}", attempt(Netlink().sock.setsockopt, SOL_NETLINK, ADD_MEMBERSHIP, group))
    case(f"leave {group}", attempt(Netlink().sock.setsockopt, SOL_NETLINK, DROP_MEMBERSHIP, group))

# Names.
fresh = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
case("unbound", fresh.getsockname())
case("peer of none", fresh.getpeername())
fresh.send(struct.pack("=IHHII", 32, GETLINK, REQUEST, 1, 0) + ifinfo("lo"))
case("bound by sending", fresh.getsockname()[0] != 0)
case("bound again", attempt(fresh.bind, (fresh.getsockname()[0], 3)))
case("its groups", fresh.getsockname()[1])
case("bound to another", attempt(fresh.bind, (77, 0)))
pids = Netlink()
case("a port in use", attempt(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind, (pids.pid(), 0)))
case("port of the process", attempt(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0).bind, (123456, 0)))
case("connected", [attempt(pids.sock.connect, (0, 0)), pids.sock.getpeername()])
case("to nobody", attempt(pids.sock.sendto, b"\0" * 16, (424242, 0)))
case("unknown protocol", attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 31))
case("stream", attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_STREAM, 0))

# What does not fit, and peeking.
small = Netlink()
small.send(GETLINK, REQUEST, ifinfo("lo"))
peeked = small.sock.recv(1 << 16, socket.MSG_PEEK)
case("peek and truncate", small.sock.recv_into(bytearray(16), 0, socket.MSG_PEEK | socket.MSG_TRUNC) == len(peeked))
data, _, flags, source = small.sock.recvmsg(20)
case("truncated", [len(data), flags & socket.MSG_TRUNC, source])
case("nothing is left", attempt(small.sock.recv, 10, socket.MSG_DONTWAIT))
case("error of what is truncated", (small.send(SETLINK, REQUEST | ACK, ifinfo(number=9999)), len(small.sock.recv(1000)))[1])

# Notifications.
heard = Netlink(groups=1 | 4 | 0x10 | 0x40 | 0x100 | 0x400)


def news(name, *request):
    ask(*request)
    found = []
    while True:
        try:
            for message in heard.receive():
                kind, flags, seq, pid, body = message
                who = "me" if pid == nl.pid() else pid and "other"
                found.append(f"{NAMES.get(kind)} {flags:#x} {who} {content(kind, flags, body)}")
        except TimeoutError:
            break
    # The kernel tells of its own work in between: addresses of links that come up, and groups.
    case("heard: " + name, [f for f in found if "ff0" not in f and "fe80" not in f])


news("address", NEWADDR, ACK | CREATE, ifaddr(2, 24, "vde0") + attr(2, ip("10.11.0.1")))
news("address gone", DELADDR, ACK, ifaddr(2, 24, "vde0") + attr(2, ip("10.11.0.1")))
news("route", NEWROUTE, ACK | CREATE, route(2, 24) + to("10.12.0.0", "vde0"))
news("route gone", DELROUTE, ACK, route(2, 24) + to("10.12.0.0", "vde0"))
news("neighbour", NEWNEIGH, ACK | CREATE, neigh(2, "vde0", 0x80) + attr(1, ip("10.1.0.33")) + MAC)
news("neighbour gone", DELNEIGH, ACK, neigh(2, "vde0") + attr(1, ip("10.1.0.33")))
news("mtu", SETLINK, ACK, ifinfo("vde0") + attr(4, 1300))
news("refused", SETLINK, ACK, ifinfo("vde0") + attr(4, 10))
case("echo", ask(NEWROUTE, ACK | CREATE | ECHO, route(2, 24) + to("10.13.0.0", "vde0")))

# Who answers.
for passed in 0, 1:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, passed)
    sock.sendto(struct.pack("=IHHIIB3x", 20, GETADDR, 0x301, 1, 0, 0), (0, 0))
    control = sock.recvmsg(9999, 100)[1]
    case(f"credentials {passed}", [(level, kind, data[:4].hex()) for level, kind, data in control])
