"""Changes a tree at random and tells after each step what came of it: patchwork.py DIR SEED STEPS.

What it prints is the same wherever the directory is, on the kernel's own file systems and on ours.
"""

import os
import random
import shutil
import stat
import sys

top, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice = random.Random(seed)
names = ["a", "b", "c", "d", "e", "sub", "x" * 250, "\x7f", "a\x7f" if seed % 2 else "f"]


def path():
    return "/".join(dice.choice(names) for _ in range(dice.choice([1, 1, 2, 2, 3])))


def write(name, mode):
    with open(name, mode) as file:
        file.write("w" * dice.randrange(5000))


def patch(name, at):
    with open(name, "r+") as file:
        file.seek(at)
        file.write("patched")


def through_descriptor(name, mode):
    fd = os.open(name, os.O_RDONLY)
    try:
        os.fchmod(fd, mode)
        print("fstat", oct(os.fstat(fd).st_mode), os.fstat(fd).st_ino == os.stat(name).st_ino)
    finally:
        os.close(fd)


def nameless(name):
    fd = os.open(os.path.dirname(name) or ".", os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        os.write(fd, b"nameless")
        root = os.open("/", os.O_PATH)
        # With a directory it is linkat(2), which can follow.
        os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=root, follow_symlinks=True)
        os.close(root)
    finally:
        os.close(fd)


def unlinked_while_open(name):
    with open(name, "r+") as file:
        os.unlink(name)
        file.write("still here")
        file.flush()
        print("open", os.fstat(file.fileno()).st_nlink, os.path.exists(name))


def xattr(name, value):
    os.setxattr(name, "user.color", value)
    print("xattr", os.getxattr(name, "user.color"), sorted(os.listxattr(name)))


DEEDS = [
    lambda: write(path(), "w"),
    lambda: write(path(), "w"),
    lambda: write(path(), "a"),
    lambda: write(path(), "x"),
    lambda: patch(path(), dice.randrange(3000)),
    lambda: os.truncate(path(), dice.randrange(6000)),
    lambda: os.unlink(path()),
    lambda: os.unlink(path()),
    lambda: unlinked_while_open(path()),
    lambda: os.mkdir(path(), dice.choice([0o755, 0o700])),
    lambda: os.mkdir(path()),
    lambda: os.rmdir(path()),
    lambda: shutil.rmtree(path()),
    lambda: os.rename(path(), path()),
    lambda: os.rename(path(), path()),
    lambda: os.rename(path(), path()),
    lambda: shutil.move(path(), path()),
    lambda: os.symlink(path(), path()),
    lambda: os.link(path(), path(), follow_symlinks=False),
    lambda: os.chmod(path(), dice.choice([0o644, 0o600, 0o755, 0o4755])),
    lambda: through_descriptor(path(), dice.choice([0o644, 0o600, 0o711])),
    lambda: os.utime(path(), (dice.randrange(10**9), dice.randrange(10**9))),
    lambda: xattr(path(), str(dice.random()).encode()),
    lambda: nameless(path()),
    lambda: os.mkfifo(path() + ".fifo"),
    lambda: print(sorted(os.listdir(path()))),
    lambda: print(repr(open(path()).read()[:20])),
    lambda: print(os.access(path(), os.W_OK)),
]


def look(directory):
    """Prints all that is in a directory, as it looks."""
    for name in sorted(os.listdir(directory)):
        whole = os.path.join(directory, name)
        found = os.lstat(whole)
        kind = stat.S_IFMT(found.st_mode)
        links = found.st_nlink if kind != stat.S_IFDIR else ""
        print(repr(whole), oct(found.st_mode), found.st_uid, links, end=" ")
        if kind == stat.S_IFREG:
            with open(whole) as file:
                print(found.st_size, repr(file.read()[-9:]))
                assert os.fstat(file.fileno()).st_ino == found.st_ino, whole
        elif kind == stat.S_IFLNK:
            print(os.readlink(whole))
        else:
            print()
        if kind == stat.S_IFDIR:
            look(whole)


os.chdir(top)
for step in range(steps):
    state = dice.getstate()
    deed = dice.choice(DEEDS)
    try:
        deed()
        print(step, "done")
    except shutil.Error as error:
        print(step, "shutil", str(error).split(":")[0])
    except OSError as error:
        print(step, error.strerror, error.filename)
    if step % 20 == 19:
        look(".")
