"""Where a suite runs: plain Linux in a network namespace of its own, and inside umvu on a stack.

All have `lo` and `vde0`, both up, `vde0` with 10.0.0.1/24 and nobody on its wire.
"""

import os
import shlex
import signal
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

NATIVE = (
    "ip link set lo up && ip link add vde0 type veth peer name wire && ip link set wire up && "
    "ip addr add 10.0.0.1/24 dev vde0 && ip link set vde0 up && exec {}"
)
INSIDE = (
    "vumount -t vunetioth -o null://,eth,ip=10.0.0.1/24 smoltcp /dev/net/a && "
    "exec vustack /dev/net/a {}"
)


def umvu():
    """The program under test: $UMVU, or the last one that cargo has built."""
    built = [os.path.join(ROOT, "target", kind, "umvu") for kind in ("release", "debug")]
    built = sorted(filter(os.path.exists, built), key=os.path.getmtime)
    program = os.environ.get("UMVU") or (built and built[-1])
    if not program:
        raise SystemExit("run: no umvu: cargo build --release, or UMVU=PATH")
    return program


def argv(place, command):
    """The command line that runs a command in a place."""
    command = shlex.join(command)
    if place == "native":
        return ["unshare", "-Urnu", "sh", "-c", NATIVE.format(command)]
    mode = {"notify": [], "ptrace": ["-S"]}[place]
    return [umvu(), "-N", *mode, "-m", "vunet", "sh", "-c", INSIDE.format(command)]


def run(place, command, log, timeout, cwd=None, env=None):
    """Runs a command in a place with its output in the file `log`; returns its status, None when
    it had to be ended after `timeout` seconds."""
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            argv(place, command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
            env=environment, start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
