"""Runs a command on plain Linux or inside umvu.

A place is `native`, or a mode of interception (`notify`, `ptrace`) and, behind a colon, what the
suite sees there: a network stack (network.py) or a file system (files.py).
"""

import os
import signal
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODES = {"notify": [], "ptrace": ["-S"]}


def umvu():
    """The program under test: $UMVU, or the last one that cargo has built."""
    built = [os.path.join(ROOT, "target", kind, "umvu") for kind in ("release", "debug")]
    built = sorted(filter(os.path.exists, built), key=os.path.getmtime)
    program = os.environ.get("UMVU") or (built and built[-1])
    if not program:
        raise SystemExit("run: no umvu: cargo build --release, or UMVU=PATH")
    return program


def inside(mode, modules, script):
    """The command line that runs a script of sh(1) in umvu."""
    return [umvu(), "-N", *MODES[mode], "-m", modules, "sh", "-c", script]


def run(argv, log, timeout, cwd=None, env=None):
    """Runs a command with its output in the file `log`; returns its status, None when it had to be
    ended after `timeout` seconds."""
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
            env=environment, start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
