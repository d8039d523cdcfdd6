"""Says what procfs tells about open, mapped and executed files of the working directory, also of those
that have lost their names. With the word `host`, no more than what is promised about files of the host
behind a mount."""

import mmap
import os
import re
import shutil
import subprocess
import sys

HERE = os.getcwd()
HOST = "host" in sys.argv
PID = os.getpid()


def attempt(call):
    try:
        return call()
    except OSError as error:
        return error.strerror


def name(text):
    text = str(text).replace(HERE, "HERE").replace(str(PID), "PID")
    return re.sub(r"#\d+", "#N", text)


def read(path):
    with open(path) as file:
        return file.read()


def link(path):
    return name(os.readlink(path))


def say(what, *results):
    print(what, *[name(attempt(result) if callable(result) else result) for result in results])


def child(script):
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


def opened():
    with open("a", "w") as file:
        file.write("hello\n")
    fd = os.open("a", os.O_RDWR)
    path = f"/proc/self/fd/{fd}"
    for state in "named", "removed":
        say(state, link(path))
        say("read", lambda: read(path))
        say("same file", lambda: os.stat(path).st_ino == os.fstat(fd).st_ino)
        say("lstat", oct(os.lstat(path).st_mode))
        say("links", lambda: os.stat(path).st_nlink)
        for other in f"/dev/fd/{fd}", f"/proc/{PID}/fd/{fd}", f"/proc/self/task/{PID}/fd/{fd}":
            say("by " + name(other), lambda: read(other))
        say("statvfs", lambda: os.statvfs(path).f_bsize > 0)
        say("attributes", lambda: os.listxattr(path))
        say("access", os.access(path, os.W_OK))
        other = f"/proc/{PID}/fd/{fd}"
        say("child", child(f"cat {other}; readlink {other}; stat -L -c %s {other}; test -f {other}; echo $?"))
        more = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(more, b"more\n")
        os.close(more)
        say("appended", os.pread(fd, 100, 0))
        say("truncate", lambda: os.truncate(path, 6), lambda: os.fstat(fd).st_size)
        say("utime", lambda: os.utime(path, (1, 2)), lambda: os.stat(path).st_mtime)
        if state == "named":
            os.unlink("a")
    say("unlink", lambda: os.unlink(path))
    say("exclusive", lambda: os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    say("not a directory", lambda: os.open(path + "/", os.O_RDONLY))
    say("below", lambda: os.open(path + "/x", os.O_RDONLY))


def renamed():
    with open("b", "w") as file:
        file.write("b")
    fd = os.open("b", os.O_RDONLY)
    os.rename("b", "c")
    say("renamed", link(f"/proc/self/fd/{fd}"))
    os.symlink("c", "l")
    fd = os.open("l", os.O_PATH | os.O_NOFOLLOW)
    say("link", link(f"/proc/self/fd/{fd}"), lambda: read(f"/proc/self/fd/{fd}"))
    fd = os.open("c", os.O_PATH)
    say("handle", link(f"/proc/self/fd/{fd}"), lambda: read(f"/proc/self/fd/{fd}"))


def directories():
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    path = f"/proc/self/fd/{fd}"
    with open(path + "/inside", "w") as file:
        file.write("inside\n")
    say("inside", lambda: read("d/inside"), sorted(os.listdir(path)), link(path))
    say("above", sorted(os.listdir(path + "/..")) == sorted(os.listdir(".")))
    os.unlink("d/inside")
    os.rename("d", "e")
    say("moved", link(path))
    os.rmdir("e")
    say("gone", link(path), lambda: os.open(path + "/x", os.O_CREAT | os.O_RDWR))
    os.mkdir("cwd")
    os.chdir("cwd")
    say("cwd", link("/proc/self/cwd"))
    os.rmdir("../cwd")
    say("cwd", link("/proc/self/cwd"), os.getcwd, lambda: os.open("x", os.O_CREAT | os.O_RDWR))
    os.chdir("..")
    say("up", os.getcwd)


def nameless():
    fd = attempt(lambda: os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644))
    if isinstance(fd, int):
        os.write(fd, b"nameless")
        path = f"/proc/self/fd/{fd}"
        say("nameless", link(path), lambda: read(path))
    fd = os.memfd_create("mine")
    say("memfd", link(f"/proc/self/fd/{fd}"))
    with open("/proc/self/mountinfo") as file:
        say("generated", link(f"/proc/self/fd/{file.fileno()}"))


def mapped():
    fd = os.open("m", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 8192)
    looks = os.fstat(fd)
    held = mmap.mmap(fd, 8192)
    for _ in range(2):
        for line in read("/proc/self/maps").splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith(HERE + "/m"):
                device = f"{os.major(looks.st_dev):02x}:{os.minor(looks.st_dev):02x}"
                same = (fields[3], fields[4]) == (device, str(looks.st_ino))
                say("mapped", fields[5], line.index("/"), fields[1], fields[2], same)
        for file in "smaps", "numa_maps":
            lines = [line for line in read("/proc/self/" + file).splitlines() if HERE in line]
            say(file, [re.search(r"(file=)?/\S*( \(deleted\))?", line)[0] for line in lines])
        links = {attempt(lambda: link("/proc/self/map_files/" + entry)) for entry in os.listdir("/proc/self/map_files")}
        say("map_files", [entry for entry in links if "HERE" in entry])
        if os.path.exists("m"):
            os.unlink("m")
    held.close()


def executed():
    shutil.copy("/bin/cat", "mycat")
    cat = subprocess.Popen(["./mycat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    cat.stdin.write(b"x")
    cat.stdin.flush()
    cat.stdout.read(1)
    path = f"/proc/{cat.pid}"
    for state in "there", "removed":
        say("exe", link(path + "/exe"), link(path + "/cwd"), link(path + "/root"))
        lines = [line.split(None, 5) for line in read(path + "/maps").splitlines() if "mycat" in line]
        say("its maps", {fields[5] for fields in lines})
        say("program", subprocess.run(["cmp", path + "/exe", "/bin/cat"]).returncode)
        if state == "there":
            os.unlink("mycat")
    cat.stdin.close()
    cat.wait()


def programs():
    """What lsof(8) and fuser(1) find."""
    fd = os.open("held", os.O_CREAT | os.O_RDWR)
    gone = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.unlink("gone")
    say("lsof", sorted(line for line in child(f"lsof -a -p {PID} -d {fd},{gone},cwd -Fn").splitlines() if HERE in line))
    say("fuser", child("fuser held 2>/dev/null").split())


opened()
renamed()
directories()
executed()
if not HOST:
    nameless()
    mapped()
    programs()
