"""Goes down into directories until their path is longer than any call takes, and works there."""

import errno
import os
import shutil


def ask(name, call, *arguments):
    try:
        print(name, call(*arguments))
    except OSError as error:
        print(name, errno.errorcode[error.errno])


top = os.open(".", os.O_RDONLY)
names = [chr(97 + depth % 26) * 200 for depth in range(21)]
for name in names:
    os.mkdir(name)
    os.chdir(name)
open("f", "w").write("deep")
ask("read", lambda: open("f").read())
ask("stat", lambda: os.stat("f").st_size)
ask("cwd", lambda: len(os.getcwd()) > 4096)
os.mkdir("d"), os.symlink("f", "l"), os.link("f", "h")
ask("link", lambda: (os.readlink("l"), os.stat("l").st_nlink, os.lstat("l").st_size))
os.rename("f", "d/g"), os.chmod("d", 0o711), os.utime("d/g", (1, 2)), os.truncate("d/g", 2)
ask("list", lambda: sorted(os.listdir(".")))
ask("descriptor", lambda: os.path.samestat(os.stat("..", dir_fd=os.open("d", os.O_RDONLY)), os.stat(".")))
ask("up", lambda: os.listdir("..") == names[-1:])
ask("program", lambda: os.system("cat d/g; ls -l d | cut -c1-10; pwd | wc -c | grep -c '^4'"))
os.fchdir(top)
ask("rmtree", shutil.rmtree, names[0])
ask("empty", os.listdir)
