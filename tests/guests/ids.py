"""Who a process is, as programs ask and change it; prints one line for each step."""
import ctypes, os, sys, threading

libc = ctypes.CDLL(None, use_errno=True)

def tell(step):
    names = ("Uid", "Gid", "Groups", "CapEff")
    lines = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    print(step, os.getresuid(), os.getresgid(), os.getgroups(), [lines[name].split() for name in names])

def attempt(step, call, *args):
    try:
        call(*args)
    except PermissionError as error:
        print(step, error.strerror)
    tell(step)

tell("root")
attempt("groups", os.setgroups, [5, 4])
attempt("regid", os.setregid, 7, 8)
attempt("aside", os.seteuid, 1000)
attempt("groups", os.setgroups, [])
attempt("other", os.setuid, 1001)
attempt("back", os.seteuid, 0)
attempt("fs", lambda: print(libc.setfsuid(77), libc.setfsuid(-1)))
thread = threading.Thread(target=tell, args=("thread",))
thread.start(), thread.join()
if os.fork() == 0:
    attempt("child", os.setresuid, 1, 2, 3)
    os._exit(0)
os.wait()
attempt("drop", os.setuid, 1000)
attempt("drop", os.setuid, 0)
attempt("drop", os.setresuid, 0, 0, 0)
sys.stdout.flush()
os.execvp("python3", ["python3", "-c", "import ctypes, os; print([ctypes.CDLL(None).getauxval(n) for n in (11, 12, 13, 14)], os.getresuid(), os.getresgid(), os.getgroups())"])
