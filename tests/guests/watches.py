"""Watches files and directories below the directory that it is given, does all kinds of things to them,
also by other processes, and says what inotify(7) has told; without what directories are read, with the
word `contents`."""

import ctypes
import errno
import itertools
import os
import select
import struct
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
NAMES = {
    0x1: "ACCESS", 0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x10: "CLOSE_NOWRITE",
    0x20: "OPEN", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE",
    0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x2000: "UNMOUNT", 0x4000: "Q_OVERFLOW",
    0x8000: "IGNORED", 0x40000000: "ISDIR",
}
ALL = 0xFFF
MARKS = itertools.count()
ONLYDIR, DONT_FOLLOW, MASK_CREATE = 0x01000000, 0x02000000, 0x10000000


class Watcher:
    def __init__(self):
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.labels = {}
        self.cookies = {}
        self.add("marks", 0x100)

    def add(self, path, mask=ALL, label=None):
        wd = libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask))
        if wd < 0:
            return errno.errorcode[ctypes.get_errno()]
        again = wd in self.labels
        self.labels[wd] = label or os.path.basename(path)
        return "again" if again else "ok"

    def remove(self, label):
        [wd] = [wd for wd, name in self.labels.items() if name == label]
        return libc.inotify_rm_watch(self.fd, wd)

    def read(self):
        """All that was told until now: what is told of a mark that is made now comes behind it."""
        mark = f"mark{next(MARKS)}"
        os.close(os.open(f"marks/{mark}", os.O_CREAT))
        found = []
        while True:
            select.select([self.fd], [], [])
            data = os.read(self.fd, 65536)
            while data:
                wd, mask, cookie, length = struct.unpack("iIII", data[:16])
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                data = data[16 + length :]
                if name == mark:
                    return found
                words = "|".join(word for bit, word in sorted(NAMES.items()) if mask & bit)
                number = self.cookies.setdefault(cookie, len(self.cookies)) if cookie else "-"
                found.append((self.labels.get(wd, "?"), words, name, str(number)))


CONTENTS = "contents" in sys.argv[2:]


def say(title, events, only=None):
    print(f"== {title}")
    for label, words, name, cookie in events:
        word, is_directory = words.split("|")[0], "ISDIR" in words
        if CONTENTS and is_directory and word in ("OPEN", "ACCESS", "CLOSE_NOWRITE"):
            continue
        if only is None or word in only:
            print(" ", label, words, name or ".", cookie)


def sh(script):
    subprocess.run(["/bin/sh", "-c", script], check=False)


os.chdir(sys.argv[1])
os.makedirs("d/sub")
os.makedirs("other")
os.makedirs("marks")
for name in ["d/old", "d/kept", "other/out"]:
    with open(name, "w") as file:
        file.write("some words\n")
os.symlink("old", "d/link")

watcher = Watcher()
print("add", watcher.add("d"), watcher.add("d"), watcher.add("missing"))
print("flags", watcher.add("d/old", ALL | ONLYDIR), watcher.add("d", ALL | MASK_CREATE))
print("bad", watcher.add("d/old", 0))
say("quiet", watcher.read())

with open("d/new", "w") as file:
    say("created", watcher.read())
    file.write("one")
    file.flush()
    say("written", watcher.read())
say("closed", watcher.read())
with open("d/old") as file:
    file.read(4)
say("read", watcher.read())
with open("d/old", "w"):
    pass
# Which of the two comes first depends on the kernel.
say("emptied", sorted(watcher.read()))
with open("d/kept", "a") as file:
    file.write("more")
say("appended", watcher.read())
os.truncate("d/old", 100)
os.chmod("d/old", 0o600)
os.utime("d/old", (1, 2))
say("changed", watcher.read())
os.mkdir("d/made")
os.symlink("x", "d/symbolic")
os.link("d/old", "d/linked")
os.mkfifo("d/fifo")
say("made", watcher.read())
os.rename("d/new", "d/renamed")
os.rename("d/renamed", "other/away")
os.rename("other/out", "d/in")
os.rename("d/in", "d/kept")
os.rename("d/made", "d/moved")
say("renamed", watcher.read())
with open("d/kept", "a") as file:
    file.write("after")
say("renamed and appended", watcher.read())
os.unlink("d/symbolic")
os.unlink("d/linked")
os.unlink("d/fifo")
os.rmdir("d/moved")
say("removed", watcher.read())
os.listdir("d")
os.listdir("d/sub")
say("listed", watcher.read())

# By other processes.
sh("echo hello >d/theirs; cat d/theirs >/dev/null; mv d/theirs d/theirs2; rm d/theirs2; touch d/old; mkdir -p d/a/b; rm -r d/a")
say("others", watcher.read())

print("removed", watcher.remove("d"))
say("ignored", watcher.read())
with open("d/old", "a") as file:
    file.write("x")
say("not watched", watcher.read())

# Files.
for name in ["d/old", "d/kept", "d/sub", "d"]:
    print("add", name, watcher.add(name))
print("link", watcher.add("d/link", ALL | DONT_FOLLOW), watcher.add("d/link", label="old"))
with open("d/old", "a") as file:
    file.write("x")
say("file", watcher.read())
os.link("d/old", "d/second")
os.unlink("d/second")
links = watcher.read()
if not CONTENTS:
    say("links", [event for event in links if event[0] == "old"])
os.rename("d/old", "d/older")
say("moved", watcher.read())
held = open("d/older")
os.unlink("d/older")
say("unlinked", [event for event in watcher.read() if event[0] == "old"], {"ATTRIB"})
held.close()
say("closed", [event for event in watcher.read() if event[0] == "old"])
os.rename("other/away", "d/kept")
say("replaced", [event for event in watcher.read() if event[0] == "kept"], {"DELETE_SELF", "IGNORED", "ATTRIB"})
os.rmdir("d/sub")
say("directory removed", [event for event in watcher.read() if event[0] == "sub"])

# One thing only, once only.
other = Watcher()
print("one", other.add("d", 0x100))
sh("cd d; touch one two; mkdir three; rm one")
say("creations", other.read())
sh("rm -r d other")
say("all gone", watcher.read(), {"DELETE_SELF", "IGNORED"})
sh("rm -r marks")
