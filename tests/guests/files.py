"""Does all kinds of things with files in the working directory and says what came of it: the same
on any file system. Numbers that differ from run to run are compared with each other, not printed."""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.getcwd()
# Where the files are for the kernel, when they are the kernel's.
REAL = sys.argv[1] if len(sys.argv) > 1 else HERE
libc = ctypes.CDLL(None, use_errno=True)


def ask(what, call, *args, show=True, **kwargs):
    try:
        result = call(*args, **kwargs)
    except OSError as error:
        print(what, errno.errorcode.get(error.errno, error.errno))
        return None
    print(what, result if show else "ok")
    return result


def write(name, text, how="w"):
    with open(name, how) as file:
        file.write(text)


def read(name):
    with open(name) as file:
        return file.read()


def looks(found):
    return (oct(found.st_mode), found.st_nlink, found.st_size, found.st_uid, found.st_gid)


def same(one, other):
    return os.path.samestat(one, other)


def renameat2(old, new, flags):
    at = -100
    if libc.renameat2(at, old.encode(), at, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "")


def content():
    write("a", "hello\n")
    ask("read", read, "a")
    write("a", "more\n", "a")
    ask("appended", read, "a")
    with open("a", "r+") as file:
        file.seek(2)
        file.write("LL")
    ask("overwritten", read, "a")
    write("a", "short")
    ask("truncated", read, "a")
    os.truncate("a", 8)
    ask("longer", lambda: open("a", "rb").read())
    os.truncate("a", 2)
    ask("shorter", read, "a")
    with open("hole", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    found = os.stat("hole")
    print("hole", found.st_size, found.st_blocks < 100)
    fd = os.open("hole", os.O_RDWR)
    print("data at", os.lseek(fd, 0, os.SEEK_DATA), "hole at", os.lseek(fd, 0, os.SEEK_HOLE))
    ask("behind the end", os.lseek, fd, 1 << 21, os.SEEK_DATA)
    ask("before the begin", os.posix_fallocate, fd, -1, 5)
    ask("no room", os.posix_fallocate, fd, 0, 0)
    print("pread", os.pread(fd, 10, (1 << 20) - 3))
    os.posix_fallocate(fd, 0, 1 << 21)
    print("allocated", os.fstat(fd).st_size, os.stat("hole").st_size)
    os.close(fd)
    with open("grown", "wb") as file:
        file.truncate(1 << 20)
        file.flush()
        os.pwrite(file.fileno(), b"more", 1 << 20)
    print("grown", os.stat("grown").st_size, open("grown", "rb").read()[-5:])
    big = bytes(range(256)) * 4096
    with open("big", "wb") as file:
        file.write(big)
    with open("big", "rb") as file:
        print("big", file.read() == big)
    shutil.copyfile("big", "copy")
    with open("copy", "rb") as file:
        print("copied", file.read() == big)
    with open("far", "wb") as file:
        file.truncate(700 << 20)
    with open("far", "r+b", 0) as file:
        file.truncate(600 << 20), print("far", file.seek(0, 2))
        print("further", file.write(b"end"), file.seek(0, 2), os.stat("far").st_size)
    os.unlink("far")
    one, other = os.open("big", os.O_RDONLY), os.open("copy2", os.O_RDWR | os.O_CREAT, 0o600)
    print("copy_file_range", os.copy_file_range(one, other, 100000, 5), os.pread(other, 3, 0))
    print("sendfile", os.sendfile(other, one, 0, 1000), os.fstat(other).st_size)
    os.close(one), os.close(other)


def sharing():
    one = os.open("shared", os.O_RDWR | os.O_CREAT, 0o644)
    other = os.open("shared", os.O_RDWR)
    os.write(one, b"0123456789")
    print("seen", os.read(other, 4), os.stat("shared").st_size)
    print("same", same(os.fstat(one), os.stat("shared")))
    third = os.dup(other)
    print("dup", os.read(third, 2), os.lseek(other, 0, os.SEEK_CUR))
    pid = os.fork()
    if pid == 0:
        os.read(third, 2)
        os.write(one, b"child")
        os._exit(0)
    os.waitpid(pid, 0)
    print("after the child", os.read(other, 9), os.fstat(one).st_size)
    memory = mmap.mmap(one, 10)
    memory[0:2] = b"MM"
    print("mapped", os.pread(other, 4, 0))
    os.pwrite(other, b"WW", 4)
    print("written", memory[4:6])
    memory.close()
    private = mmap.mmap(one, 10, mmap.MAP_PRIVATE)
    private[0:2] = b"PP"
    print("private", os.pread(other, 2, 0))
    private.close()
    os.ftruncate(one, 3)
    print("cut", os.fstat(other).st_size, os.stat("shared").st_size)
    fcntl.flock(one, fcntl.LOCK_EX)
    ask("locked", fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(one, fcntl.LOCK_UN)
    ask("unlocked", fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    socket.send_fds(left, [b"x"], [one])
    _, fds, _, _ = socket.recv_fds(right, 1, 1)
    print("passed", os.pread(fds[0], 9, 0), same(os.fstat(fds[0]), os.fstat(one)))
    again = os.open(f"/proc/self/fd/{one}", os.O_RDONLY)
    print("again", os.read(again, 9), os.readlink(f"/proc/self/fd/{one}") in (HERE + "/shared", REAL + "/shared"))
    print("by proc", same(os.stat(f"/proc/self/fd/{one}"), os.stat("shared")))
    os.unlink("shared")
    print("unlinked", os.fstat(one).st_nlink, os.pread(one, 9, 0), os.path.exists("shared"))
    os.write(one, b"still")
    print("alive", os.fstat(other).st_size)
    for fd in [one, other, third, again, *fds]:
        os.close(fd)
    append = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    second = os.open("log", os.O_WRONLY | os.O_APPEND)
    for turn in range(3):
        os.write(append, b"a"), os.write(second, b"b")
    print("log", read("log"))
    ask("read of a writer", os.read, append, 1)
    os.close(append), os.close(second)


def names():
    os.makedirs("d/e/f")
    write("d/x", "x")
    ask("mkdir", os.mkdir, "d")
    ask("mkdir below nothing", os.mkdir, "no/d")
    ask("mkdir below a file", os.mkdir, "d/x/y")
    ask("rmdir of a full one", os.rmdir, "d")
    ask("rmdir of a file", os.rmdir, "d/x")
    ask("unlink of a directory", os.unlink, "d/e")
    ask("unlink of nothing", os.unlink, "d/no")
    ask("slash", os.stat, "d/x/")
    ask("dots", lambda: looks(os.stat("d/./e/../x"))[2])
    os.link("d/x", "d/y")
    print("linked", same(os.stat("d/x"), os.stat("d/y")), os.stat("d/y").st_nlink)
    ask("link of a directory", os.link, "d/e", "d/z")
    ask("link onto", os.link, "d/x", "d/y")
    os.rename("d/y", "d/z")
    print("renamed", sorted(os.listdir("d")), os.stat("d/x").st_nlink)
    ask("rename below itself", os.rename, "d", "d/e/g")
    ask("file onto directory", os.rename, "d/x", "d/e")
    ask("directory onto file", os.rename, "d/e", "d/x")
    ask("rename of nothing", os.rename, "d/no", "d/x")
    write("one", "1"), write("two", "2")
    ask("noreplace", renameat2, "one", "two", 1)
    ask("exchange", renameat2, "one", "two", 2)
    print("exchanged", read("one"), read("two"))
    os.replace("one", "two")
    print("replaced", read("two"), os.path.exists("one"))
    os.mkdir("empty"), os.mkdir("other")
    ask("directory onto empty", os.rename, "empty", "other")
    ask("long", os.mkdir, "n" * 256)
    ask("just right", os.mkdir, "n" * 255)
    os.symlink("d/e", "link")
    print("link", os.readlink("link"), looks(os.lstat("link"))[:3], os.listdir("link"))
    os.symlink("../x", "d/e/up")
    print("up", read("link/up"))
    os.symlink("loop", "loop")
    ask("loop", os.stat, "loop")
    os.symlink("nowhere", "dangling")
    os.utime("dangling", (1_960_000_000, 1_970_000_000), follow_symlinks=False)
    os.lstat("dangling"), os.lstat("d/../dangling")
    print("looking at a link is no access", os.lstat("dangling").st_atime)
    ask("dangling", os.stat, "dangling")
    write("dangling", "made")
    print("made", read("nowhere"))
    os.symlink(HERE + "/d/x", "absolute")
    print("absolute", read("absolute"))
    ask("nofollow", os.open, "absolute", os.O_RDONLY | os.O_NOFOLLOW)
    ask("exclusive", os.open, "dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    ask("directory", os.open, "d/x", os.O_RDONLY | os.O_DIRECTORY)
    ask("write to a directory", os.open, "d", os.O_WRONLY)
    ask("readlink of a file", os.readlink, "d/x")
    ask("symlink onto", os.symlink, "x", "d")
    ask("access", lambda: [os.access("d/x", how) for how in (os.F_OK, os.R_OK, os.X_OK)])
    ask("no access", os.access, "d/no", os.F_OK)


def keeps_its_time():
    """Whether a time that was set stays, when what was written before gets to the disk after it."""
    fd = os.open("timed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open("timed", "ab") as other:
        other.write(b"more than that")
    time.sleep(0.001)
    os.truncate("timed", 6)
    os.utime("timed", (1, 2))
    time.sleep(0.001)
    os.fsync(fd)
    kept = os.stat("timed").st_mtime == 2
    os.close(fd)
    os.unlink("timed")
    return kept


def attributes():
    os.umask(0o027)
    write("m", "x")
    os.mkdir("md")
    print("masked", oct(os.stat("m").st_mode), oct(os.stat("md").st_mode))
    os.umask(0o022)
    os.chmod("m", 0o4755)
    print("chmod", oct(os.stat("m").st_mode))
    fd = os.open("m", os.O_RDWR)
    os.fchmod(fd, 0o600)
    print("fchmod", oct(os.stat("m").st_mode), looks(os.fstat(fd)) == looks(os.stat("m")))
    os.utime("m", ns=(1_000_000_001, 2_000_000_002))
    found = os.stat("m")
    print("utime", found.st_atime_ns, found.st_mtime_ns)
    os.utime(fd, ns=(3_000_000_003, 4_000_000_004))
    print("futime", os.stat("m").st_mtime_ns, os.fstat(fd).st_mtime_ns)
    os.write(fd, b"y")
    print("touched", os.stat("m").st_mtime_ns > 4_000_000_004)
    os.close(fd)
    print("kept", all(keeps_its_time() for _ in range(50)))
    os.utime("m")
    print("now", os.stat("m").st_mtime > 1e9)
    if os.getuid() == 0:
        os.chown("m", 1234, 5678)
        print("chown", looks(os.stat("m"))[3:])
        os.chown("m", -1, 99)
        print("group", looks(os.stat("m"))[3:])
        others()
    ask("setxattr", os.setxattr, "m", "user.one", b"1")
    ask("create again", os.setxattr, "m", "user.one", b"1", os.XATTR_CREATE)
    ask("getxattr", os.getxattr, "m", "user.one")
    ask("listxattr", os.listxattr, "m")
    fd = os.open("m", os.O_RDONLY)
    ask("fgetxattr", os.getxattr, fd, "user.one")
    os.close(fd)
    ask("removexattr", os.removexattr, "m", "user.one")
    ask("gone", os.getxattr, "m", "user.one")
    ask("unknown namespace", os.setxattr, "m", "what.one", b"1")
    os.mkfifo("fifo")
    print("fifo", stat.S_ISFIFO(os.stat("fifo").st_mode))
    reader = subprocess.Popen(["cat", "fifo"], stdout=subprocess.PIPE)
    write("fifo", "through")
    print("fifo", reader.communicate()[0])
    # Who has handed the reader its end may still be about to close its own.
    for _ in range(100):
        try:
            os.close(os.open("fifo", os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.02)
        except OSError:
            break
    ask("nobody reads", os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)
    print("statvfs", os.statvfs(".").f_namemax)


def others():
    """What another user may do."""
    os.mkdir("sticky"), os.chmod("sticky", 0o1777)
    os.mkdir("closed", 0o700)
    write("sticky/root", "x"), write("closed/in", "x"), write("private", "x")
    os.chmod("private", 0o600)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.setgroups([]), os.setgid(1234), os.setuid(1234)
        ask("read private", read, "private")
        ask("look at private", lambda: looks(os.stat("private")))
        ask("into closed", os.stat, "closed/in")
        ask("list closed", os.listdir, "closed")
        ask("unlink in sticky", os.unlink, "sticky/root")
        ask("write to root's", write, "sticky/root", "y")
        ask("own", write, "sticky/own", "y")
        ask("chown own", os.chown, "sticky/own", 0, 0)
        ask("chmod root's", os.chmod, "sticky/root", 0o777)
        ask("utime root's", os.utime, "sticky/root", (1, 1))
        ask("access", lambda: [os.access("private", how) for how in (os.F_OK, os.R_OK)])
        ask("remove own", os.unlink, "sticky/own")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)


def directories():
    os.mkdir("many")
    for number in range(1500):
        write(f"many/{number:04}", "")
    os.mkdir("many/dir"), os.symlink("x", "many/link")
    entries = list(os.scandir("many"))
    print("many", len(entries), len({entry.name for entry in entries}))
    kinds = {entry.name: (entry.is_dir(), entry.is_symlink()) for entry in entries}
    print("kinds", kinds["dir"], kinds["link"], kinds["0001"])
    print("numbers", all(entry.inode() == entry.stat(follow_symlinks=False).st_ino for entry in entries))
    removed = 0
    for entry in os.scandir("many"):
        if entry.name.isdigit():
            os.unlink(entry.path)
            removed += 1
    print("removed", removed, sorted(os.listdir("many")))
    fd = os.open("many", os.O_RDONLY)
    print("by descriptor", sorted(os.listdir(fd)), stat.S_ISDIR(os.fstat(fd).st_mode))
    write_at = os.open("inside", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.close(write_at)
    print("openat", os.path.exists("many/inside"), os.stat("inside", dir_fd=fd).st_size)
    os.mkdir("below", dir_fd=fd)
    os.rename("inside", "below/inside", src_dir_fd=fd, dst_dir_fd=fd)
    print("renameat", os.listdir("many/below"))
    ask("enotdir", os.stat, "x/y", dir_fd=os.open("many/below/inside", os.O_RDONLY))
    os.fchdir(fd)
    print("fchdir", os.getcwd() == HERE + "/many", sorted(os.listdir(".")))
    print("cwd", os.readlink("/proc/self/cwd") == HERE + "/many")
    os.chdir("below")
    print("up", os.path.basename(os.path.abspath("..")), sorted(os.listdir("..")))
    os.rename("../../many", "../../moved")
    print("moved", os.getcwd() == HERE + "/moved/below", os.listdir("."))
    os.chdir(HERE)
    os.close(fd)
    path = os.open("moved", os.O_PATH | os.O_DIRECTORY)
    print("O_PATH", os.stat("below/inside", dir_fd=path).st_size, stat.S_ISDIR(os.fstat(path).st_mode))
    ask("read of O_PATH", os.listdir, path)
    os.close(path)
    gone = os.path.join(HERE, "gone")
    os.mkdir(gone), os.chdir(gone), os.rmdir(gone)
    ask("getcwd of nothing", os.getcwd)
    ask("make in nothing", write, "x", "y")
    os.chdir(HERE)
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(b"nameless"), file.flush()
        print("nameless", os.fstat(file.fileno()).st_nlink, os.fstat(file.fileno()).st_size)
    shutil.rmtree("moved")
    print("rmtree", os.path.exists("moved"))


def programs():
    shutil.copy("/bin/echo", "program")
    ask("program", subprocess.check_output, ["./program", "said"])
    ask("by its path", subprocess.check_output, [HERE + "/program", "said"])
    write("script", "#!/bin/sh -e\necho $0 $1; readlink /proc/self/cwd >/dev/null\n")
    ask("not executable", subprocess.check_output, ["./script"])
    os.chmod("script", 0o755)
    ask("script", subprocess.check_output, ["./script", "one"])
    shutil.copy("/bin/sh", "shell")
    write("own", f"#!{HERE}/shell\necho own\n")
    os.chmod("own", 0o755)
    ask("own interpreter", subprocess.check_output, ["./own"])
    write("bad", "#!/no/such/shell\n"), os.chmod("bad", 0o755)
    ask("bad interpreter", subprocess.check_output, ["./bad"])
    write("text", "what?\n"), os.chmod("text", 0o755)
    ask("no format", subprocess.check_output, ["./text"])
    ask("directory", subprocess.check_output, ["./d"])
    ask("nothing", subprocess.check_output, ["./nothing"])
    shutil.copy("/usr/bin/readlink", "tell")
    told = subprocess.check_output(["./tell", "/proc/self/exe"]).decode().strip()
    print("exe", told in (HERE + "/tell", REAL + "/tell"))
    name = subprocess.check_output(["./shell", "-c", "read line < /proc/$$/comm; echo $line"])
    print("comm", name)
    write("named", "#!/bin/sh\nread line < /proc/$$/comm; echo $line\n"), os.chmod("named", 0o755)
    os.symlink("named", "called"), os.symlink("tell", "linked"), os.symlink("/bin/busybox", "cat")
    write("deeper", f"#!{HERE}/shell\nread line < /proc/$$/comm; echo $line\n"), os.chmod("deeper", 0o755)
    print("comm of scripts", [subprocess.check_output([HERE + "/" + n]) for n in ("named", "called", "deeper")])
    print("comm of links", subprocess.check_output(["./cat", "/proc/self/comm"]))
    print("exe of a link", subprocess.check_output(["./linked", "/proc/self/exe"])[-6:])
    source = "int main(void) { return 42; }\n"
    write("p.c", source)
    subprocess.check_call(["cc", "-o", "p", "p.c"])
    print("compiled", subprocess.call(["./p"]))


for part in [content, sharing, names, attributes, directories, programs]:
    print("--", part.__name__)
    part()
    sys.stdout.flush()
