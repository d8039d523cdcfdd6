"""Descriptors that reach a process by other ways than opening: each must work as on plain Linux."""

import array
import ctypes
import os
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD, EXECVEAT = 434, 438, 322

listener = socket.create_server(("127.0.0.1", 0))
address = listener.getsockname()


def pair():
    """A connected pair of TCP sockets."""
    client = socket.create_connection(address)
    return client, listener.accept()[0]


def use(name, given, far):
    """Uses a socket that has come to this process."""
    same = given.getpeername() == far.getsockname()
    given.sendall(b"hello")
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    nodelay = given.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    print(name, same, far.recv(9), nodelay, given.family.name, flush=True)


# By SCM_RIGHTS, to a process that has closed the original.
ours, theirs = socket.socketpair()
client, far = pair()
if os.fork() == 0:
    client.close()
    _, control, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
    number = array.array("i", control[0][2])[0]
    use("SCM_RIGHTS", socket.socket(fileno=number), far)
    os._exit(0)
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
os.wait()
client.close()
print("then", far.recv(9), flush=True)

# By fork and exec.
client, far = pair()
code = "import socket,sys; s=socket.socket(fileno=int(sys.argv[1])); print(s.getpeername()[0], s.type.name); s.send(b'child')"
os.set_inheritable(client.fileno(), True)
subprocess.run([sys.executable, "-c", code, str(client.fileno())], close_fds=False, check=True)
print("exec", far.recv(9), flush=True)

# By pidfd_getfd(2), out of a child.
client, far = pair()
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
number = client.fileno()
client.close()
pidfd = LIBC.syscall(PIDFD_OPEN, child, 0)
got = LIBC.syscall(PIDFD_GETFD, pidfd, number, 0)
use("pidfd_getfd", socket.socket(fileno=got), far)
os.write(go[1], b"x")
os.wait()

# By /proc/PID/fd: a socket cannot be opened, a file can.
client, far = pair()
try:
    os.open(f"/proc/self/fd/{client.fileno()}", os.O_RDWR)
except OSError as error:
    print("reopened socket:", os.strerror(error.errno))
with open("/proc/net/dev", encoding="ascii") as generated:
    again = os.open(f"/proc/self/fd/{generated.fileno()}", os.O_RDONLY)
    print("reopened file:", os.read(again, 6))
    print("by name:", os.readlink(f"/proc/self/fd/{client.fileno()}").split(":")[0], flush=True)

# A program without a path: memfd_create(2), execveat(2).
with open("/bin/echo", "rb") as program:
    memory = os.memfd_create("program")
    os.write(memory, program.read())
if os.fork() == 0:
    arguments = (ctypes.c_char_p * 3)(b"echo", b"from memory", None)
    environment = (ctypes.c_char_p * 1)(None)
    LIBC.syscall(EXECVEAT, memory, b"", arguments, environment, 0x1000)
    os._exit(1)
os.wait()

# Duplicates, and a close of one of them.
client, far = pair()
copy = os.dup(client.fileno())
client.close()
use("dup", socket.socket(fileno=copy), far)
client, far = pair()
os.dup2(client.fileno(), 200)
client.close()
use("dup2", socket.socket(fileno=200), far)
