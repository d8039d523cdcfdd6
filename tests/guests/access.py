"""Says when the times of access of files in the working directory change, and what times they can have."""

import ctypes
import errno
import mmap
import os
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
OLD, NOW = 1_000_000_000, time.time()


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanos", ctypes.c_long)]


def utimensat(name, atime, mtime, flags=0):
    times = (Timespec * 2)(Timespec(0, atime), Timespec(0, mtime))
    if libc.utimensat(-100, name.encode(), ctypes.byref(times), flags) != 0:
        raise OSError(ctypes.get_errno(), "")


def accessed(name):
    return os.lstat(name).st_atime_ns


def says(what, name, action):
    before = accessed(name)
    # The clock of files has a coarse tick.
    time.sleep(0.03)
    action()
    print(what, "read" if accessed(name) != before else "unchanged", flush=True)


def read(name, flags=0):
    fd = os.open(name, os.O_RDONLY | flags)
    os.read(fd, 10)
    os.close(fd)


def nothing(name):
    os.close(os.open(name, os.O_RDONLY))


def at_end(name):
    fd = os.open(name, os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_END)
    os.read(fd, 10)
    os.close(fd)


def mapped(name):
    with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        return memory[:2]


def write(name, flags=os.O_WRONLY):
    fd = os.open(name, flags | os.O_CREAT, 0o755)
    os.write(fd, b"#!/bin/true\n")
    os.close(fd)


def old(name):
    os.utime(name, (OLD, OLD + 1), follow_symlinks=False)


def files():
    write("f")
    says("made and read", "f", lambda: read("f"))
    says("read again", "f", lambda: read("f"))
    write("f")
    says("written and read", "f", lambda: read("f"))
    says("and again", "f", lambda: read("f"))
    for what, action in [
        ("opened", nothing), ("unasked", lambda name: read(name, os.O_NOATIME)), ("at its end", at_end),
        ("mapped", mapped), ("executed", lambda name: os.system(f"./{name}")), ("written", write),
        ("copied", lambda name: os.system(f"cat {name} >copy; cp {name} copy")),
    ]:
        old("f")
        says(what, "f", lambda: action("f"))
    old("f")
    fd = os.open("f", os.O_RDWR)
    says("by a descriptor", "f", lambda: os.read(fd, 5))
    print("fstat", os.fstat(fd).st_atime_ns == accessed("f"), os.fstat(fd).st_atime > OLD + 1)
    os.utime(fd, (OLD, OLD))
    print("set back", os.fstat(fd).st_atime_ns == accessed("f") == OLD * 10**9)
    os.pread(fd, 1, 0)
    os.fsync(fd)
    print("after fsync", accessed("f") > OLD * 10**9, os.fstat(fd).st_mtime_ns == OLD * 10**9)
    os.close(fd)
    print("after close", accessed("f") > OLD * 10**9)
    changed = os.stat("f").st_ctime_ns
    old("f")
    made = os.stat("f").st_ctime_ns
    read("f")
    print("no other time", os.stat("f").st_ctime_ns == made, os.stat("f").st_mtime == OLD + 1, made > changed)


def others():
    os.mkdir("d"), write("d/in")
    old("d")
    says("directory opened", "d", lambda: nothing("d"))
    says("directory looked up", "d", lambda: os.stat("d/in"))
    says("directory listed", "d", lambda: os.listdir("d"))
    says("listed again", "d", lambda: os.listdir("d"))
    os.symlink("f", "link")
    old("link")
    says("link looked at", "link", lambda: os.lstat("link"))
    says("link read", "link", lambda: os.readlink("link"))
    old("link")
    says("link followed", "link", lambda: os.stat("link"))


def times():
    for atime, mtime in (UTIME_OMIT, UTIME_OMIT), (UTIME_NOW, UTIME_OMIT), (UTIME_OMIT, UTIME_NOW), (5, 7), (UTIME_NOW, 9):
        old("f")
        utimensat("f", atime, mtime)
        found = os.stat("f")
        told = ["now" if abs(shown - NOW) < 3600 else shown for shown in (found.st_atime, found.st_mtime)]
        print(*told)
    for nanos in (10**9, -1, UTIME_NOW + 1):
        try:
            utimensat("f", nanos, 0)
            print("set")
        except OSError as error:
            print(errno.errorcode[error.errno])
    far = [-1, -(2**31), -(2**31) - 1, 2**31 - 1, 2**31, 2**32 + 5, 3 * 2**32 - 7, 15032385535, 15032385536, 2**40]
    for seconds in far:
        nanos = seconds * 10**9 + 123456789
        os.utime("f", ns=(nanos, nanos))
        print(seconds, os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns)


def keep():
    """What a later look finds."""
    for number, seconds in enumerate([-5, 2**31 + 5, 2**32 + 5]):
        write(f"kept{number}")
        os.utime(f"kept{number}", ns=(seconds * 10**9 + 111, seconds * 10**9 + 222))
    write("kept"), old("kept"), read("kept")
    os.sync()


def kept():
    for number in range(3):
        found = os.stat(f"kept{number}")
        print(found.st_atime_ns, found.st_mtime_ns)
    print("kept", os.stat("kept").st_atime > OLD + 1, os.stat("kept").st_mtime == OLD + 1)


if sys.argv[1:] == ["kept"]:
    kept()
else:
    if sys.argv[1:] != ["times"]:
        files()
        others()
    write("f")
    times()
    keep()
