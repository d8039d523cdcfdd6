"""Asks about many paths, often enough that the calls take the short cut; prints what odd ones give."""

import ctypes
import os
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
BUFFER = ctypes.create_string_buffer(4096)
PAGE = os.sysconf("SC_PAGESIZE")
CALLS = {
    "open": lambda path: LIBC.open(path, os.O_RDONLY | os.O_CLOEXEC),
    "access": lambda path: LIBC.access(path, os.R_OK),
    "readlink": lambda path: LIBC.readlink(path, BUFFER, 4096),
    "stat": lambda path: LIBC.stat(path, BUFFER),
    "lstat": lambda path: LIBC.lstat(path, BUFFER),
    "faccessat": lambda path: LIBC.faccessat(-100, path, os.R_OK, 0x200),
    "statx": lambda path: LIBC.statx(-100, path, 0, 0x7FF, BUFFER),
}


def name(call, path):
    """What a call gives: ok, or the errno's text."""
    result = CALLS[call](path)
    if result < 0:
        return os.strerror(ctypes.get_errno())
    if call == "open":
        os.close(result)
    return "ok"


signal.signal(signal.SIGSEGV, lambda *_: print("a signal came in"))
# Two pages, the second one not readable: a path that runs into it faults.
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
edge = LIBC.mmap(None, 2 * PAGE, 3, 0x22, -1, 0)
LIBC.mprotect(ctypes.c_void_p(edge + PAGE), PAGE, 0)


def at_edge(text):
    """A path whose last byte is the last readable one."""
    ctypes.memmove(edge + PAGE - len(text), text, len(text))
    return ctypes.c_void_p(edge + PAGE - len(text))


for call in CALLS:
    for _ in range(100):
        name(call, b"/etc/passwd")
PATHS = {
    "file": b"/etc/passwd",
    "link": b"/proc/self/exe",
    "root": b"/",
    "slashes": b"////etc///passwd",
    "dots": b"/./etc/./passwd",
    "up": b"/usr/../etc/passwd",
    "far up": b"/../../../etc/../etc/passwd",
    "up and down": b"/usr/lib/../../etc/passwd",
    "trailing": b"/etc/passwd/",
    "directory": b"/etc/.",
    "parent": b"/etc/..",
    "dotted": b"/etc/.../..x/...",
    "missing": b"/no/such/file",
    "empty": b"",
    "relative": b"etc/passwd",
    "long": b"/etc/" + b"x" * 300,
    "very long": b"/etc" + b"/." * 3000,
    "null": ctypes.c_void_p(0),
    "nowhere": ctypes.c_void_p(8),
    "kernel": ctypes.c_void_p(2**64 - 4096),
    "edge": at_edge(b"/etc/passwd"),
}
os.chdir("/")
for label, path in PATHS.items():
    print(label, {call: name(call, path) for call in CALLS})
print("ended at the edge", name("access", at_edge(b"/etc/passwd\0")))
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    print("child", {call: name(call, b"/etc/passwd") for call in CALLS}, flush=True)
    os._exit(0)
os.waitpid(pid, 0)

# What the view shows, before and after it changes under our feet.
for path in sys.argv[2:]:
    print(path, os.path.exists(path))
if sys.argv[1] != "-":
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        print("child", [os.path.exists(path) for path in sys.argv[2:]], flush=True)
        os._exit(0)
    os.waitpid(os.spawnvp(os.P_NOWAIT, "sh", ["sh", "-c", sys.argv[1]]), 0)
    for path in sys.argv[2:]:
        print(path, os.path.exists(path), name("stat", path.encode()), name("open", path.encode()))
    sys.stdout.flush()
    os.write(writer, b"x")
    os.waitpid(pid, 0)
