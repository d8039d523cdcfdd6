"""What sendmmsg(2) and recvmmsg(2) do with several messages; one line for each behaviour.

The output must be the same on plain Linux and on a virtual stack.
"""

import ctypes
import errno
import socket
import struct
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MSG_WAITFORONE = 0x10000
SIZE = 100


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint),
                ("vectors", ctypes.POINTER(Vector)), ("count", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Message(ctypes.Structure):
    _fields_ = [("header", Header), ("length", ctypes.c_uint)]


def messages(texts, named):
    buffers = [ctypes.create_string_buffer(text, SIZE) for text in texts]
    lengths = [len(text) or SIZE for text in texts]
    vectors = [Vector(ctypes.cast(b, ctypes.c_void_p), n) for b, n in zip(buffers, lengths)]
    names = [ctypes.create_string_buffer(32) if named else None for _ in texts]
    array = (Message * len(texts))()
    for one, vector, name in zip(array, vectors, names):
        at = ctypes.cast(name, ctypes.c_void_p) if named else None
        one.header = Header(at, 32 if named else 0, ctypes.pointer(vector), 1, None, 0, 0)
    return array, (buffers, vectors, names)


def receive(sock, count, flags=0, timeout=None):
    array, kept = messages([b""] * count, True)
    until = struct.pack("ll", *timeout) if timeout else None
    got = LIBC.recvmmsg(sock.fileno(), array, count, flags, until)
    if got < 0:
        return errno.errorcode[ctypes.get_errno()]
    return [(kept[0][i].raw[:array[i].length], array[i].header.name_length) for i in range(got)]


def show(name, *values):
    print(name, *values, flush=True)


sink = socket.socket(type=socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 0))
source = socket.socket(type=socket.SOCK_DGRAM)


def send(count):
    for number in range(count):
        source.sendto(b"m%d" % number, sink.getsockname())
    time.sleep(0.1)


def later(count):
    timer = threading.Timer(0.2, send, (count,))
    timer.start()


send(3)
show("as many as there are", receive(sink, 3))
send(3)
show("more than there are", receive(sink, 5, socket.MSG_DONTWAIT))
show("none", receive(sink, 5, socket.MSG_DONTWAIT), receive(sink, 0))
send(2)
show("one is enough", receive(sink, 5, MSG_WAITFORONE))
send(2)
later(3)
show("waits for all", receive(sink, 5))
time.sleep(0.2)
later(1)
show("waits for one", receive(sink, 5, MSG_WAITFORONE))
time.sleep(0.2)
later(1)
send(1)
show("until then", receive(sink, 5, timeout=(0, 20_000_000)))
time.sleep(0.2)
sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100000))
send(2)
show("some in time", receive(sink, 5))
show("none in time", receive(sink, 5))
source.connect(sink.getsockname())
array, kept = messages([b"a", b"bc", b"def", b"ghij"], False)
show("sent", LIBC.sendmmsg(source.fileno(), array, 4, 0), [one.length for one in array])
show("received", receive(sink, 4))
