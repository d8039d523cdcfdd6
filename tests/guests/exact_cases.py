"""What the programs of exact cases share: FILE.py 4|6|mapped [WANTED [CASE...]].

Each case prints one line. Some of what happens takes its time; a case whose line is not in the
file WANTED is tried again with longer pauses.
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

WAY = sys.argv[1]
SIX = WAY != "4"
FAMILY = socket.AF_INET6 if SIX else socket.AF_INET
LO = {"4": "127.0.0.1", "6": "::1", "mapped": "::ffff:127.0.0.1"}[WAY]
ANY = {"4": "0.0.0.0", "6": "::", "mapped": "::ffff:0.0.0.0"}[WAY]
LENGTH = 28 if SIX else 16
libc = ctypes.CDLL(None, use_errno=True)
CASES = []
_pause = [0.0]


def case(function):
    CASES.append(function)
    return function


def settle(times=1):
    time.sleep(_pause[0] * times)


def out(call, *args):
    """What a call returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)


def raw(result):
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def name_of(address, port, family=None, length=LENGTH):
    """The bytes of a sockaddr."""
    if SIX:
        body = struct.pack("=H", FAMILY if family is None else family) + struct.pack("!HI", port, 0)
        body += socket.inet_pton(socket.AF_INET6, address) + bytes(4)
    else:
        body = struct.pack("=H", FAMILY if family is None else family) + struct.pack("!H", port)
        body += socket.inet_aton(address) + bytes(8)
    return (body + bytes(128))[:length]


def stream(flags=0):
    return socket.socket(FAMILY, socket.SOCK_STREAM | flags)


def datagram(bound=True):
    sock = socket.socket(FAMILY, socket.SOCK_DGRAM)
    if bound:
        sock.bind((LO, 0))
    return sock


def listener(backlog=5, address=LO):
    sock = stream()
    sock.bind((address, 0))
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


def linked():
    """Two datagram sockets connected to each other."""
    one, other = datagram(), datagram()
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


def refused():
    """A datagram socket connected to where nobody is."""
    gone = datagram()
    name = gone.getsockname()
    gone.close()
    sock = datagram(False)
    sock.connect(name)
    return sock


def mask(sock, wait=0):
    poll = select.poll()
    # Without POLLWRBAND, which AF_UNIX has.
    poll.register(sock, 0x7DFF)
    return hex(dict(poll.poll(wait)).get(sock.fileno(), 0))


def want(sock, bits, wait=2000):
    poll = select.poll()
    poll.register(sock, bits)
    return hex(dict(poll.poll(wait)).get(sock.fileno(), 0))


def option(sock, level, name, length=4):
    """What getsockopt(2) gives: its bytes as hexadecimal digits, or the name of its error."""
    got = out(sock.getsockopt, level, name, length)
    return got.hex() if isinstance(got, bytes) else got


def number(sock, level, name):
    return out(sock.getsockopt, level, name)


def ioctl(sock, request, size=4):
    try:
        return int.from_bytes(fcntl.ioctl(sock, request, bytes(size)), sys.byteorder)
    except OSError as error:
        return errno.errorcode[error.errno]


def state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def fill(sock):
    """Writes until nothing more fits."""
    sock.setblocking(False)
    sent, quiet = 0, 0
    while quiet < 3:
        try:
            sent += sock.send(bytes(1 << 16))
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.02 + _pause[0])
    sock.setblocking(True)
    return sent


def drain(sock, count):
    got = b""
    while len(got) < count:
        piece = sock.recv(1 << 16)
        if not piece:
            break
        got += piece
    return len(got)


def started(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def later(function):
    def waiting():
        settle(2)
        function()

    return started(waiting)


def run():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    wanted = open(sys.argv[2]).read().splitlines() if sys.argv[2:] and sys.argv[2] else None
    only = set(sys.argv[3:])
    for function in CASES:
        if only and function.__name__ not in only:
            continue
        line = ""
        for pause in 0.02, 0.3, 1.5:
            _pause[0] = pause
            done = []

            def attempt(function=function):
                try:
                    done.append(function())
                except Exception as error:
                    done.append(f"{type(error).__name__} {error}")

            started(attempt).join(30)
            line = f"{function.__name__} {done[0] if done else 'HANGS'}"
            if wanted is None and pause > 0.02 or wanted and line in wanted:
                break
        print(line, flush=True)
    sys.stdout.flush()
    os._exit(0)
