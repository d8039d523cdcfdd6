"""Enters, lists and leaves directories that only the view has. Prints what each step shows."""

import os
import sys
import threading

TOP = sys.argv[1]


def show(what, function, *arguments):
    """Prints a result, or the errno's name."""
    try:
        print(what, function(*arguments))
    except OSError as error:
        print(what, os.strerror(error.errno))


os.chdir(TOP)
show("top", os.getcwd)
show("list", os.listdir, ".")
os.chdir("net")
show("below", os.getcwd)
show("list", os.listdir, ".")
show("node", os.chdir, TOP + "/net/lab")
show("relative node", os.chdir, "lab")
show("nothing", os.chdir, "none")
show("through", os.listdir, TOP + "/net/../../etc")
show("through, relative", os.listdir, "../../etc/../virtual/net")
show("enter through", os.chdir, TOP + "/net/../../etc")
show("entered", os.getcwd)
os.chdir("../virtual/net")
os.chdir("..")
show("up", os.getcwd)
os.chdir("../etc")
show("out", os.getcwd)
thread = threading.Thread(target=os.chdir, args=(TOP,))
thread.start()
thread.join()
show("by a thread", os.getcwd)
pid = os.fork()
if pid == 0:
    show("child", os.getcwd)
    sys.stdout.flush()
    os.execvp("pwd", ["pwd"])
os.waitpid(pid, 0)
handle = os.open(TOP + "/net", os.O_DIRECTORY)
os.fchdir(handle)
show("by a descriptor", os.getcwd)
show("names", os.listdir, ".")
