"""Binds UNIX sockets in the directory that it is given, by absolute and relative paths, and says what all
the calls that tell an address tell."""

import ctypes
import errno
import os
import socket
import struct
import sys

TOP = sys.argv[1]
os.chdir(TOP)
TOP = os.getcwd()
libc = ctypes.CDLL(None, use_errno=True)


def say(title, *work):
    """What calls return, or why not; the directory's name is left out."""
    told = []
    for one in work:
        try:
            result = one()
        except OSError as error:
            result = errno.errorcode[error.errno]
        told.append(str(result).replace(TOP, "TOP"))
    print(title, *told)


def unix(kind=socket.SOCK_STREAM):
    return socket.socket(socket.AF_UNIX, kind)


def raw_name(sock, room):
    """getsockname(2) with little room: the length, and what fits."""
    buffer, length = ctypes.create_string_buffer(b"\xff" * 128, 128), ctypes.c_uint32(room)
    result = libc.getsockname(sock.fileno(), buffer, ctypes.byref(length))
    path = buffer.raw[2 : max(room, 2)].split(b"\xff")[0].split(b"\0")[0]
    return result, length.value - len(TOP), path.decode().replace(TOP, "TOP")


for path in [f"{TOP}/server", "relative"]:
    server = unix()
    say("bind", lambda: server.bind(path), server.getsockname)
    say("again", lambda: unix().bind(path), lambda: server.bind(path + "2"), lambda: os.path.exists(path + "2"))
    server.listen()
    print("kind", oct(os.stat(path).st_mode & 0o170000))
    client = unix()
    client.bind(f"{TOP}/client")
    client.connect(path)
    accepted, peer = server.accept()
    say("accept", lambda: peer, accepted.getsockname, accepted.getpeername, client.getsockname, client.getpeername)
    client.send(b"stream")
    say("stream", lambda: accepted.recvfrom(10))
    os.rename(path, path + "-moved")
    other = unix()
    say("renamed", lambda: unix().connect(path), lambda: other.connect(path + "-moved"), other.getpeername, other.getsockname)
    say("unnamed", lambda: server.accept()[1])
    os.unlink(path + "-moved")
    say("unlinked", lambda: unix().connect(path + "-moved"), server.getsockname, client.getpeername)
    os.unlink("client")
    say("bind anew", lambda: unix().bind(path), lambda: os.unlink(path))

one, two = unix(socket.SOCK_DGRAM), unix(socket.SOCK_DGRAM)
one.bind(f"{TOP}/one")
two.bind("two")
say("sendto", lambda: one.sendto(b"to two", f"{TOP}/two"), lambda: two.recvfrom(10))
say("back", lambda: two.sendto(b"to one", "one"), lambda: one.recvmsg(10))
say("nowhere", lambda: one.sendto(b"x", f"{TOP}/none"), lambda: one.connect(f"{TOP}/none"))


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("room", ctypes.c_uint32), ("vector", ctypes.c_void_p), ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controls", ctypes.c_size_t), ("flags", ctypes.c_int),
    ]


class Message(ctypes.Structure):
    _fields_ = [("header", Header), ("sent", ctypes.c_uint32)]


def send_all(sock, messages):
    """sendmmsg(2) until all are sent: what it has said, one by one."""
    all, kept = (Message * len(messages))(), []
    for message, (data, path) in zip(all, messages):
        vector = Vector(data, len(data))
        address = ctypes.create_string_buffer(struct.pack("H", socket.AF_UNIX) + path.encode() + b"\0")
        kept += [vector, address]
        message.header.name, message.header.room = ctypes.addressof(address), len(address) - 1
        message.header.vector, message.header.count = ctypes.addressof(vector), 1
    done = 0
    while done < len(messages):
        sent = libc.sendmmsg(sock.fileno(), ctypes.byref(all[done]), len(messages) - done, 0)
        if sent < 0:
            return done, errno.errorcode[ctypes.get_errno()]
        done += sent
    return done, [message.sent for message in all]


say("sendmsg", lambda: one.sendmsg([b"to ", b"two"], [], 0, f"{TOP}/two"), lambda: two.recvmsg(10))
say("to one", lambda: two.sendmsg([b"x"], [], 0, "one"), lambda: one.recvfrom(10))
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0))]
say("with a descriptor", lambda: one.sendmsg([b"fd"], rights, 0, "two"), lambda: len(two.recvmsg(10, 100)[1]))
say("sendmsg nowhere", lambda: one.sendmsg([b"x"], [], 0, f"{TOP}/none"), lambda: one.sendmsg([b"x"], [], 0, "missing/x"))
say("sendmmsg", lambda: send_all(one, [(b"a", "two"), (b"bc", f"{TOP}/two"), (b"def", "two")]), lambda: [two.recv(9) for _ in range(3)])
say("sendmmsg nowhere", lambda: send_all(one, [(b"a", "two"), (b"bc", "none")]), lambda: two.recv(9))
one.connect(f"{TOP}/two")
say("connected", one.getpeername, lambda: one.send(b"more"), lambda: two.recvmsg(10, 0, socket.MSG_PEEK)[::3], lambda: two.recv(10))
open("file", "w").close()
say("file", lambda: unix().bind(f"{TOP}/file"), lambda: unix().connect(f"{TOP}/file"))
say("room", lambda: [raw_name(one, room)[1:] for room in (110, 2, 0)])
automatic, abstract = unix(), unix()
automatic.bind("")
abstract.bind("\0umvu test " + str(os.getpid()))
say("others", lambda: len(automatic.getsockname()), lambda: abstract.getsockname()[:10])
say("missing", lambda: unix().bind("missing/x"))

# What a wait for an address does in a thread that a signal interrupts.
import signal
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.2)
server = unix()
server.bind(f"{TOP}/late")
server.listen()
if os.fork() == 0:
    import time
    time.sleep(0.6)
    late = unix()
    late.bind(f"{TOP}/child")
    late.connect("late")
    os._exit(0)
say("late", lambda: server.accept()[1])
os.wait()
