"""Guests that mean harm to their hypervisor; each part prints what became of it.

Parts that look at the hypervisor find it as their tracer; on plain Linux there is none.
"""

import ctypes
import errno
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time

LO = "127.0.0.1"
libc = ctypes.CDLL(None, use_errno=True)


def show(*values):
    print(*values, flush=True)


def outcome(call, *args):
    try:
        call(*args)
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)


def tracer():
    """The hypervisor's pid; 0 on plain Linux."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("TracerPid"))


def held():
    """How many descriptors the hypervisor has."""
    return len(os.listdir(f"/proc/{tracer()}/fd")) if tracer() else 0


def memory():
    """The hypervisor's resident memory, in MiB."""
    if not tracer():
        return 0
    with open(f"/proc/{tracer()}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) >> 10


def settled(base, slack=8):
    """Whether the hypervisor holds no more descriptors than before, within some seconds."""
    end = time.monotonic() + 30
    while held() > base + slack and time.monotonic() < end:
        time.sleep(0.05)
    return held() <= base + slack or held() - base


def works():
    """A connection and a datagram over loopback."""
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    client = socket.create_connection(listener.getsockname(), timeout=10)
    server, peer = listener.accept()
    client.sendall(b"stream")
    got = server.recv(100) == b"stream" and peer == client.getsockname()
    one, other = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    other.bind((LO, 0))
    other.settimeout(10)
    one.sendto(b"datagram", other.getsockname())
    return got and other.recvfrom(100)[0] == b"datagram"


def child(work):
    """Forks a process that does `work` and never comes back."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def wait_all(pids):
    for pid in pids:
        os.waitpid(pid, 0)


def leak():
    """20,000 sockets, opened by processes that are then killed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    works()
    base, before = held(), memory()
    reader, writer = os.pipe()
    each = min(5000, hard - 100)
    kinds = [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM),
             (socket.AF_INET6, socket.SOCK_DGRAM), (socket.AF_NETLINK, socket.SOCK_RAW)]

    def hoard(kind):
        sockets = [socket.socket(*kind) for _ in range(each)]
        if kind[0] == socket.AF_INET:
            for one in sockets:
                one.bind((LO, 0))
        os.write(writer, b".")
        time.sleep(1000)

    hoarders = [child(lambda kind=kind: hoard(kind)) for kind in kinds]
    opened = sum(len(os.read(reader, 1)) for _ in hoarders)
    for pid in hoarders:
        os.kill(pid, signal.SIGKILL)
    wait_all(hoarders)
    show("leaked", opened, "returned", settled(base), "works", works())
    growth = memory() - before
    show("memory", growth if growth > 100 else "bounded")


def forks():
    """300 processes with a connected socket each; half of them are killed."""
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen(400)
    works()
    base = held()
    release, hold = os.pipe()

    def connect():
        os.close(hold)
        one = socket.create_connection(listener.getsockname(), timeout=60)
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        datagram.bind((LO, 0))
        one.sendall(b"x")
        os.read(release, 1)
        os._exit(0)

    pids = [child(connect) for _ in range(300)]
    servers = [listener.accept()[0] for _ in pids]
    show("connected", sum(server.recv(1) == b"x" for server in servers))
    for pid in pids[::2]:
        os.kill(pid, signal.SIGKILL)
    os.close(hold)
    wait_all(pids)
    show("ended", sum(server.recv(1) == b"" for server in servers))
    for server in servers:
        server.close()
    show("returned", settled(base), "works", works())


def killed():
    """SIGKILL in the midst of calls that wait."""
    works()
    base = held()
    random.seed(7)
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    datagram = socket.socket(type=socket.SOCK_DGRAM)
    datagram.bind((LO, 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()

    def churn():
        while True:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            one.close()

    def opens():
        while True:
            socket.socket(type=socket.SOCK_DGRAM).bind((LO, 0))

    calls = {
        "connect": lambda: socket.create_connection(("10.0.0.77", 1)),
        "accept": listener.accept,
        "recvfrom": lambda: datagram.recvfrom(100),
        "recvmsg": lambda: datagram.recvmsg(100),
        "recv": lambda: server.recv(100),
        "send": lambda: [server.sendall(bytes(1 << 20)) for _ in range(1000)],
        "churn": churn,
        "opens": opens,
        "ioctl": lambda: [socket.if_nameindex() for _ in range(100000)],
    }
    for name, call in calls.items():
        ended = 0
        for _ in range(20):
            pid = child(call)
            time.sleep(random.random() * 0.015)
            os.kill(pid, signal.SIGKILL)
            ended += os.waitpid(pid, 0)[1] == signal.SIGKILL
            if name == "accept":
                drained(listener)
        show(name, ended == 20 or name == "connect")
        drained(listener)
        if name == "send":
            server.close()
            client.close()
    listener.close()
    show("returned", settled(base), "works", works())


def drained(listener):
    listener.setblocking(False)
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            break
    listener.setblocking(True)


def scarce():
    """Processes that use up the descriptors of the hypervisor."""
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen(100)
    reader, writer = os.pipe()
    allowed = {"EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"}
    release, hold = os.pipe()

    def fill():
        os.close(hold)
        kept, failures = [], set()
        for _ in range(30):
            one = None
            try:
                one = socket.socket()
                one.setblocking(False)
                one.connect(listener.getsockname())
            except BlockingIOError:
                pass
            except OSError as error:
                failures.add(errno.errorcode[error.errno])
            kept.append(one)
            try:
                other = socket.socket(type=socket.SOCK_DGRAM)
                other.connect((LO, 9))
                kept.append(other)
            except OSError as error:
                failures.add(errno.errorcode[error.errno])
        os.write(writer, b"." if failures <= allowed else repr(failures).encode())
        if failures:
            os.write(writer, b"!")
        os.read(release, 1)
        os._exit(0)

    pids = [child(fill) for _ in range(6)]
    said = b""
    while said.count(b".") < len(pids):
        if not select.select([reader], [], [], 30)[0]:
            break
        said += os.read(reader, 100)
    time.sleep(0.2)
    if select.select([reader], [], [], 0)[0]:
        said += os.read(reader, 100)
    show("answers", set(said.decode()) - {"!"}, "refused", b"!" in said)
    os.close(hold)
    wait_all(pids)
    listener.close()
    end = time.monotonic() + 20
    while outcome(works) != "done" and time.monotonic() < end:
        time.sleep(0.1)
    show("works", works())


def attacks():
    """A guest that traces and signals its hypervisor."""
    target = tracer()
    ptrace = [outcome(traced, request, target) for request in (16, 0x4206)]
    show("ptrace", *(["EPERM", "EPERM"] if not target else ptrace))
    for number in ("USR1", "USR2", "CHLD", "INT", "QUIT", "PIPE", "WINCH", "CONT", "URG", "TTIN", "TTOU"):
        for _ in range(50):
            if target:
                os.kill(target, getattr(signal, "SIG" + number))
        show(number, works())


def traced(request, pid):
    if libc.ptrace(request, pid, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")


def unreadable():
    """A guest that forbids others to look at it, as programs with privileges do."""
    path = f"/tmp/unreadable.{os.getpid()}"
    show("dumpable", libc.prctl(3), libc.prctl(4, 0), libc.prctl(3))
    show("works", works())
    with open(path, "w") as file:
        file.write("text")
    show("file", os.stat(path).st_size, open(path).read())
    os.unlink(path)
    pid = child(lambda: os._exit(0 if works() else 1))
    show("child", os.waitpid(pid, 0)[1])
    show("again", libc.prctl(4, 1), libc.prctl(3), works())
    show("wrong", libc.prctl(4, 7), errno.errorcode[ctypes.get_errno()])


def filters():
    """Guests with filters of their own."""
    def install(statements):
        code = b"".join(struct.pack("=HBBI", *one) for one in statements)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("=H6xQ", len(statements), ctypes.addressof(buffer))
        libc.prctl(38, 1, 0, 0, 0)
        return libc.prctl(22, 2, ctypes.create_string_buffer(program, len(program)), 0, 0)

    load, allow, refuse = (0x20, 0, 0, 0), (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | errno.EACCES)

    def only(numbers, action):
        tests = [(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
        return [load, *tests, action, allow]

    def all_but(numbers):
        tests = [(0x15, 0, 1, number) for number in numbers]
        return [load, *(step for test in tests for step in (test, refuse)), allow]

    def run(work):
        pid = child(work)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    numbers = {"getsockname": 51, "bind": 49, "socket": 41} if os.uname().machine == "x86_64" \
        else {"getsockname": 204, "bind": 200, "socket": 198}

    def refused():
        assert install(all_but([numbers["bind"]])) == 0
        one = socket.socket()
        os._exit(0 if outcome(one.bind, (LO, 0)) == "EACCES" and one.getsockname()[1] == 0 else 1)

    def stacked():
        for _ in range(10):
            assert install([load, allow]) == 0
        os._exit(0 if works() else 1)

    def trace():
        assert install([load, (0x15, 0, 1, numbers["getsockname"]), (0x06, 0, 0, 0x7ff00000), allow]) == 0
        one = socket.socket()
        one.getsockname()
        os._exit(0)

    def strict():
        libc.prctl(22, 1, 0, 0, 0)
        os.write(1, b"strict\n")
        libc.syscall(39)

    def deadly():
        one = socket.socket()
        assert install([load, (0x15, 0, 1, numbers["bind"]), (0x06, 0, 0, 0x80000000), allow]) == 0
        one.bind((LO, 0))

    show("refused", run(refused))
    show("stacked", run(stacked))
    show("strict", run(strict) != 0)
    show("deadly", run(deadly))
    show("works", works())


def calls():
    """Calls with any arguments, by processes that are killed at last. Never on plain Linux."""
    assert tracer(), "only on a stack of its own"
    numbers = {  # x86_64, aarch64
        "connect": (42, 203), "accept": (43, 202), "sendto": (44, 206), "recvfrom": (45, 207),
        "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210), "bind": (49, 200),
        "listen": (50, 201), "getsockname": (51, 204), "getpeername": (52, 205),
        "setsockopt": (54, 208), "getsockopt": (55, 209), "accept4": (288, 242),
        "recvmmsg": (299, 243), "sendmmsg": (307, 269), "ioctl": (16, 29), "socket": (41, 198),
        "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
        "statx": (332, 291), "getcwd": (79, 17), "chdir": (80, 49), "statfs": (137, 43),
        "prctl": (157, 167), "insmod": (-1, -1), "lsmod": (-3, -3), "vuctl": (-4, -4),
        "msocket": (-5, -5), "beyond": (-6, -6), "far": (-(1 << 40), -(1 << 40)),
    }
    numbers = {name: pair[os.uname().machine != "x86_64"] for name, pair in numbers.items()}
    libc.syscall.restype = ctypes.c_long
    works()
    base = held()

    def chaos(seed):
        pick = random.Random(seed)
        # Pointers lead to its first 64 KiB; there is room behind for what is written there.
        room = mmap.mmap(-1, 1 << 21)
        start = ctypes.addressof(ctypes.c_char.from_buffer(room))
        sockets = []
        for kind in ((2, 1), (2, 1), (2, 2), (10, 1), (10, 2), (16, 3)):
            try:
                sockets.append(socket.socket(*kind))
            except OSError:
                continue
        for one in sockets:
            one.setblocking(False)
        fds = [one.fileno() for one in sockets] + [0, -1, 999, -100]
        texts = [b"/proc/net/tcp", b"/dev/net/a", b"/dev/net", b"/proc/sys/net/ipv4/ip_forward",
                 b"x" * 5000, b"", b"/dev/net/../net/./a/", b"vunet", b"\xff\xfe"]
        heads = [struct.pack("=HH4s8x", 2, 0x5000, bytes([127, 0, 0, 1])), struct.pack("=HHI", 10, 0x5000, 0),
                 struct.pack("=HHII", 16, 0, 0, 0), struct.pack("=QI4xQQQQ", start, 16, start + 64, 3, start + 128, 40),
                 struct.pack("=IHHII", 20, 18, 0x305, 7, 0), b"lo\0", b"vde0\0", struct.pack("=Qii", 20, 0, 2)]
        numbers_of = [0, 1, 2, 3, 4, 8, 16, 20, 28, 40, 56, 100, 128, 4096, 65535, 1 << 20, 1 << 31, 1 << 32,
                      1 << 40, 1 << 63, -1, -2, -4096, 0x7fffffff]
        names = list(numbers)
        while True:
            text = pick.choice(texts if pick.random() < 0.3 else heads)
            at = pick.choice((0, 0, 0, 64, 128, 1000, (1 << 16) - len(text)))
            at = max(0, min(at, (1 << 16) - len(text)))
            ctypes.memmove(start + at, text, len(text))
            pointers = [start, start + 64, start + 128, start + 1000, start + (1 << 16) - 3, 0, 8, -4096, 1 << 47]
            name = pick.choice(names)
            args = [pick.choice(pointers if pick.random() < 0.5 else numbers_of) for _ in range(6)]
            if pick.random() < 0.8 and name not in ("socket", "prctl", "chdir"):
                args[0] = pick.choice(fds)
            if name == "prctl":
                args[0] = pick.choice((3, 4, 15, 16))
            if name == "ioctl":
                # Those that only ask: SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, ...
                args[1] = pick.choice((0x8905, 0x8906, 0x8910, 0x8912, 0x8913, 0x8915, 0x8917, 0x8919, 0x891b,
                                       0x891d, 0x8921, 0x8927, 0x8933, 0x8942, 0x8954, 0x8970, 0x541b))
            value = libc.syscall(ctypes.c_long(numbers[name]), *(ctypes.c_long(ctypes.c_int64(arg & (1 << 64) - 1).value) for arg in args))
            if name in ("socket", "accept", "accept4", "msocket") and value > 2:
                libc.close(int(value))

    pids = [child(lambda seed=seed: chaos(seed)) for seed in range(4)]
    time.sleep(4)
    alive = sum(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in pids)
    for pid in pids:
        outcome(os.kill, pid, signal.SIGKILL)
        outcome(os.waitpid, pid, 0)
    show("still at it", alive, "returned", settled(base, 16), "works", works())


def floods():
    """Much that nobody reads; the hypervisor's memory stays bounded."""
    works()
    before = memory()
    most = 0
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    netlink.setblocking(False)
    dump = struct.pack("=IHHII", 20, 18, 0x305, 7, 0) + bytes(4)
    wrong = struct.pack("=IHHII", 60000, 99, 5, 7, 0) + bytes(60000 - 16)
    for request in (dump, wrong):
        for _ in range(3000):
            outcome(netlink.send, request)
        most = max(most, memory() - before)
    receiver = socket.socket(type=socket.SOCK_DGRAM)
    receiver.bind((LO, 0))
    sender = socket.socket(type=socket.SOCK_DGRAM)
    sender.setblocking(False)
    for _ in range(5000):
        outcome(sender.sendto, bytes(60000), receiver.getsockname())
    most = max(most, memory() - before)
    listener = socket.socket()
    listener.bind((LO, 0))
    listener.listen()
    streams = []
    for _ in range(50):
        client = socket.create_connection(listener.getsockname())
        client.setblocking(False)
        streams += [client, listener.accept()[0]]
        while select.select([], [client], [], 0.02)[1]:
            outcome(client.send, bytes(1 << 20))
    most = max(most, memory() - before)
    show("memory", most if most > 150 else "bounded", "works", works())


SOL_PACKET, RX_RING, PACKET_VERSION, ATTACH_FILTER = 263, 5, 10, 26


def ring(version, block, blocks, protocol=3):
    """A packet socket on lo and its mapped ring, if it can be had."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_VERSION, version)
    wish = struct.pack("IIII", block, blocks, 2048, block // 2048 * blocks)
    sock.setsockopt(SOL_PACKET, RX_RING, wish + (struct.pack("III", 20, 0, 0) if version == 2 else b""))
    memory = mmap.mmap(sock.fileno(), block * blocks)
    sock.bind(("lo", protocol))
    return sock, memory


def rings():
    """Rings that are scribbled on, too large, abandoned; filters of any bytes."""
    works()
    base, before = held(), memory()
    dice = random.Random(7)
    sender = socket.socket(type=socket.SOCK_DGRAM)
    sender.connect((LO, 9))
    sender.setblocking(False)
    for version in (0, 1, 2):
        sock, memory_ = ring(version, 4096, 8)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        for _ in range(400):
            outcome(sender.send, dice.randbytes(dice.randrange(3000)))
            for _ in range(20):
                at = dice.randrange(len(memory_) - 8)
                memory_[at : at + 8] = dice.randbytes(8)
            poll.poll(0)
            outcome(sock.recv, 100, socket.MSG_DONTWAIT)
        # The memory outlives the socket, and what others do with it concerns nobody.
        sock.close()
        memory_[:] = bytes(len(memory_))
        child(lambda: memory_.write(bytes(len(memory_))))
        os.wait()
    show("scribbled", "works", works())
    taken = []
    for _ in range(40):
        try:
            taken.append(ring(2, 1 << 22, 16))
        except OSError as error:
            show("enough", error.errno in (errno.ENOMEM, errno.EINVAL))
            break
    show("rings", len(taken) < 40, "small", memory() - before < 100)
    taken.clear()
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    for length in (0, 1, 4095, 1 << 40, 1 << 63):
        libc.mmap.restype = ctypes.c_void_p
        at = libc.mmap(None, ctypes.c_size_t(length), 3, mmap.MAP_SHARED, sock.fileno(), ctypes.c_long(0))
        assert at == ctypes.c_void_p(-1).value, length
    for _ in range(2000):
        code = dice.randbytes(8 * dice.randrange(1, 20))
        at = ctypes.create_string_buffer(code)
        for pointer in (ctypes.addressof(at), 8, dice.getrandbits(64)):
            program = struct.pack("HQ", dice.choice([len(code) // 8, 0, 65535]), pointer)[:16]
            outcome(sock.setsockopt, socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("H6xQ", *struct.unpack("HQ", program)))
    sock.close()
    show("filters", "works", works())
    # Dying with a ring, in the midst of a wait for it.
    pids = []
    for _ in range(10):
        def wait():
            sock, memory_ = ring(2, 4096, 4)
            select.select([sock], [], [])
        pids.append(child(wait))
    time.sleep(0.3)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    sender.close()
    show("returned", settled(base), "works", works())


for part in sys.argv[1:]:
    globals()[part]()
