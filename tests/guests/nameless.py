"""Makes files without a name (`O_TMPFILE`) in the working directory, gives them names, and says what came
of it. Numbers that differ from run to run are compared with each other, not printed."""

import ctypes
import errno
import fcntl
import mmap
import os
import re

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_FOLLOW = 0x400
AT_FDCWD = -100
ELSEWHERE = "/tmp"
libc = ctypes.CDLL(None, use_errno=True)


def ask(what, call, *args, show=True):
    try:
        result = call(*args)
    except OSError as error:
        print(what, errno.errorcode.get(error.errno, error.errno))
        return None
    print(what, result if show else "ok")
    return result


def linkat(at, old, new, flags):
    if libc.linkat(at, old.encode(), AT_FDCWD, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "")


def by_name(fd, new):
    linkat(AT_FDCWD, f"/proc/self/fd/{fd}", new, AT_SYMLINK_FOLLOW)


def by_descriptor(fd, new):
    linkat(fd, "", new, AT_EMPTY_PATH)


def looks(found):
    return (oct(found.st_mode), found.st_nlink, found.st_size, found.st_uid, found.st_gid)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def nameless(flags=os.O_RDWR, mode=0o640, where="."):
    return os.open(where, os.O_TMPFILE | flags, mode)


def shown(fd):
    """The name that procfs shows: the directory, and the number of the file."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    here, ino = os.getcwd(), os.fstat(fd).st_ino
    return re.sub(rf"^{re.escape(here)}/#{ino}", "HERE/#INO", name)


def opening():
    for flags in os.O_RDONLY, os.O_RDWR | os.O_EXCL, os.O_WRONLY, os.O_RDWR | os.O_CREAT:
        fd = ask(f"open {flags:x}", nameless, flags, show=False)
        if fd is not None:
            print(looks(os.fstat(fd)), oct(fcntl.fcntl(fd, fcntl.F_GETFL) & 3), shown(fd))
            os.close(fd)
    ask("in nothing", nameless, os.O_RDWR, 0o600, "nothing")
    open("plain", "w").close()
    ask("in a file", nameless, os.O_RDWR, 0o600, "plain")
    os.unlink("plain")
    old = os.umask(0o077)
    fd = nameless(mode=0o4777)
    print("masked", looks(os.fstat(fd)))
    os.close(fd), os.umask(old)
    fd = nameless(mode=0)
    print("no rights", os.write(fd, b"text"), looks(os.fstat(fd)))
    os.close(fd)
    os.mkdir("group"), os.chown("group", -1, os.getgid()), os.chmod("group", 0o2755)
    fd = nameless(where="group")
    print("group", looks(os.fstat(fd)))
    os.close(fd), os.rmdir("group")


def content():
    fd = nameless()
    print("write", os.write(fd, b"one two"), os.pread(fd, 3, 4), looks(os.fstat(fd)))
    os.ftruncate(fd, 5000)
    with mmap.mmap(fd, 5000) as mapped:
        mapped[0:3] = b"ONE"
    print("mapped", os.pread(fd, 7, 0))
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    print("again", os.pread(again, 3, 0), os.path.samestat(os.fstat(fd), os.fstat(again)))
    fcntl.flock(fd, fcntl.LOCK_EX)
    ask("locked", fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again), os.close(fd)
    print("nothing there", os.listdir("."))


def naming(link):
    fd = nameless()
    os.write(fd, b"content")
    os.fchmod(fd, 0o604), os.utime(fd, (1000, 2000))
    ask("xattr", os.setxattr, fd, "user.one", b"1")
    ask("link", link, fd, "named")
    found, held = os.stat("named"), os.fstat(fd)
    print(looks(found), found.st_mtime, os.path.samestat(found, held), looks(held))
    print(read("named"), os.listxattr("named"))
    ask("onto it", link, fd, "named")
    ask("once more", link, fd, "second")
    print(os.fstat(fd).st_nlink, os.path.samefile("named", "second"))
    print("later", os.write(fd, b" and more"), read("second"))
    os.close(fd)
    print(looks(os.stat("second")), read("named"), sorted(os.listdir(".")))
    os.unlink("named"), os.unlink("second")
    os.mkdir("below")
    fd = nameless()
    os.write(fd, b"below")
    ask("into another directory", link, fd, "below/named")
    os.close(fd)
    print(read("below/named"))
    os.unlink("below/named"), os.rmdir("below")
    fd = nameless()
    ask("into nothing", link, fd, "nothing/named")
    ask("elsewhere", link, fd, f"{ELSEWHERE}/{os.getpid()}.elsewhere")
    os.close(fd)
    fd = nameless(os.O_RDWR | os.O_EXCL)
    ask("never", link, fd, "never")
    os.close(fd)
    fd = nameless(os.O_WRONLY)
    os.write(fd, b"written only")
    ask("write only", link, fd, "written")
    os.close(fd)
    print(read("written"))
    os.unlink("written")


def removed(link):
    fd = os.open("gone", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"gone")
    os.unlink("gone")
    ask("a removed one", link, fd, "back")
    os.close(fd)
    fd = os.open("here", os.O_RDWR | os.O_CREAT, 0o644)
    ask("one that is there", link, fd, "there")
    print(os.fstat(fd).st_nlink, os.path.samefile("here", "there"))
    os.close(fd), os.unlink("here"), os.unlink("there")


def many():
    for number in range(50):
        fd = nameless()
        os.write(fd, str(number).encode() * 1000)
        by_name(fd, f"many{number}")
        os.close(fd)
    print("many", sum(len(read(f"many{number}")) for number in range(50)))
    for number in range(50):
        os.unlink(f"many{number}")
    print(os.listdir("."))


opening()
content()
naming(by_name)
removed(by_name)
if os.geteuid() == 0:
    naming(by_descriptor)
    removed(by_descriptor)
many()
