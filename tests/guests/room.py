"""Fills the file system of a directory and says how that is told; argument: the directory."""

import errno
import hashlib
import os
import sys

os.chdir(sys.argv[1])


def name_of(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


def free():
    found = os.statvfs(".")
    return found.f_bavail * found.f_frsize


def fill(name, write):
    """Writes until it is refused; what was taken, and the errno."""
    taken = hashlib.sha256()
    fd = os.open(name, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            block = os.urandom(60000)
            try:
                taken.update(block[: write(fd, block)])
            except OSError as error:
                return taken.hexdigest(), errno.errorcode[error.errno]
    finally:
        os.close(fd)


def write_and_sync(fd, block):
    count = os.write(fd, block)
    if os.fstat(fd).st_size % (20 * len(block)) == 0:
        os.fsync(fd)
    return count


before = free()
for name, write in (
    ("write", os.write),
    ("synced", write_and_sync),
    ("writev", lambda fd, block: os.writev(fd, [block[:1000], block[1000:]])),
    ("pwrite", lambda fd, block: os.pwrite(fd, block, os.fstat(fd).st_size)),
):
    said, why = fill(name, write)
    size = os.stat(name).st_size
    with open(name, "rb") as file:
        kept = hashlib.sha256(file.read()).hexdigest()
    print(name, why, kept == said, before * 0.9 < size < before * 1.1, free() < 100000)
    fd = os.open(name, os.O_RDWR)
    print(" over", os.pwrite(fd, b"over", 100), "behind", name_of(lambda: os.pwrite(fd, bytes(99999), size)))
    print(" allocate", name_of(lambda: os.posix_fallocate(fd, 0, before * 2)))
    print(" sparse", name_of(lambda: os.ftruncate(fd, before * 4)), os.fstat(fd).st_size == before * 4)
    os.close(fd)
    os.remove(name)
    print(" again", free() > before * 0.9)

child = os.open("child", os.O_CREAT | os.O_WRONLY)
if os.fork() == 0:
    os.dup2(child, 1)
    os.execlp("sh", "sh", "-c", "exec head -c 2000000000 /dev/zero 2>/dev/null")
print("child", os.waitstatus_to_exitcode(os.wait()[1]), os.fstat(child).st_size > before * 0.9)
os.remove("child")
