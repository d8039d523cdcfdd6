#!/usr/bin/env python3
"""Measures TCP between a smoltcp stack and the kernel's over bad links; prints a table.

    benches/loss.py [--seconds N | --bytes N] [--only TEXT]... [--control NAME]... [--pair A-B]...

Every path is measured in one run: kernel to kernel, and with our stack at either end or both, so
that ratios mean something on any machine. The data's SHA-256 is compared each time. Needs a release
build, root or user namespaces, and ethtool.
"""

import argparse
import fcntl
import hashlib
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import termios
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
UMVU = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "umvu"
# Milliseconds each way, the rest of the link's options, MTU.
PATHS = [
    ("clean 1 ms", 0.5, "", 1500),
    ("clean 50 ms", 25, "", 1500),
    ("loss 1 %, 2 ms", 1, "/loss=1", 1500),
    ("loss 1 %, 50 ms", 25, "/loss=1", 1500),
    ("loss 5 %, 50 ms", 25, "/loss=5", 1500),
    ("reorder 5 %, 10 ms", 5, "/reorder=5", 1500),
    ("dup 2 %, loss 1 %, 10 ms", 5, "/dup=2/loss=1", 1500),
    ("loss 1 %, 10 ms, MTU 576", 5, "/loss=1", 576),
    ("loss 1 %, 10 ms, MTU 9000", 5, "/loss=1/mtu=9018", 9000),
]
PAIRS = [("kernel", "kernel"), ("smoltcp", "kernel"), ("kernel", "smoltcp"), ("smoltcp", "smoltcp")]


def receive(port):
    """Takes one connection; prints its bytes, seconds and hash."""
    with socket.create_server(("", port)) as listener:
        print("ready", flush=True)
        peer, _ = listener.accept()
    digest, total = hashlib.sha256(), 0
    begun = time.perf_counter()
    while data := peer.recv(1 << 18):
        digest.update(data)
        total += len(data)
    print(total, time.perf_counter() - begun, digest.hexdigest(), flush=True)


def send(host, port, seconds, most, control):
    """Sends for a while, or so many bytes; prints the bytes, the hash and, once all is acknowledged,
    what TCP_INFO counts as sent again, in segments of a thousand."""
    peer = socket.socket()
    if control != "default":
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    peer.connect((host, port))
    data = random.randbytes(1 << 16)
    digest, total = hashlib.sha256(), 0
    until = time.perf_counter() + seconds
    while total < most if most else time.perf_counter() < until:
        count = peer.send(data[: most - total] if most else data)
        digest.update(data[:count])
        total += count
    while int.from_bytes(fcntl.ioctl(peer, termios.TIOCOUTQ, bytes(4)), sys.byteorder) > 0:
        time.sleep(0.01)
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    size, again = (int.from_bytes(info[at : at + 4], sys.byteorder) for at in (16, 100))
    again = round(1000 * again * size / total)
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    print(total, digest.hexdigest(), again, flush=True)


def mount(kind, name, address, vnl, mtu):
    """Mounts one stack."""
    if kind == "smoltcp":
        options, what = f"{vnl},ip={address}/24,mtu={mtu}", ["-t", "vunetioth"]
        subprocess.run(["vumount", *what, "-o", options, "smoltcp", f"/dev/net/{name}"], check=True)
        return
    subprocess.run(["vumount", "-t", "vunetvdestack", vnl, f"/dev/net/{name}"], check=True)
    inside = ["vustack", f"/dev/net/{name}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*inside, "ethtool", "-K", "vde0", "tso", "off", "gso", "off", "gro", "off"], **quiet)
    subprocess.run([*inside, "ip", "link", "set", "vde0", "mtu", str(mtu), "up"], check=True)
    subprocess.run([*inside, "ip", "addr", "add", f"{address}/24", "dev", "vde0"], check=True)


def measure(pair, path, control, seconds, most, number):
    """Mbit/s of one pair on one path, and how many of a thousand segments were sent again."""
    _, delay, options, mtu = path
    place = f"switch://{os.environ['WORK']}/s{number}"
    left, right = f"l{number}", f"r{number}"
    mount(pair[0], left, "10.0.0.1", f"wirefilter://[delay={delay}{options}/seed={number}]{{{place}}}", mtu)
    mount(pair[1], right, "10.0.0.2", place, mtu)
    own = [sys.executable, __file__]
    receiver = subprocess.Popen(
        ["vustack", f"/dev/net/{right}", *own, "--receive"], stdout=subprocess.PIPE, text=True)
    receiver.stdout.readline()
    sender = ["vustack", f"/dev/net/{left}", *own, "--send", control, "--seconds", str(seconds),
              "--bytes", str(most)]
    patience = 3600 if most else seconds + 120
    try:
        sent = subprocess.run(sender, capture_output=True, text=True, timeout=patience)
        got = receiver.communicate(timeout=60)[0].split()
    finally:
        receiver.kill()
        for name in (left, right):
            subprocess.run(["vuumount", f"/dev/net/{name}"], check=False)
    sent = sent.stdout.split()
    assert [sent[0], sent[1]] == [got[0], got[2]], f"not the same data: {sent} {got}"
    return int(got[0]) * 8e-6 / float(got[1]), int(sent[2])


def inside(arguments):
    """All measurements, in an umvu of their own."""
    number = 0
    pairs = [pair for pair in PAIRS if not arguments.pair or "-".join(pair) in arguments.pair]
    print(f"{'path':28}{'control':9}" + "".join(f"{a[0]}->{b[0]:<12}" for a, b in pairs), flush=True)
    for path in PATHS:
        if arguments.only and not any(text in path[0] for text in arguments.only):
            continue
        for control in arguments.control or ["cubic"]:
            line, first = f"{path[0]:28}{control:9}", None
            for pair in pairs:
                number += 1
                try:
                    spans = (arguments.seconds, arguments.bytes)
                    rate, again = measure(pair, path, control, *spans, number)
                except (AssertionError, IndexError, ValueError, subprocess.TimeoutExpired) as error:
                    line += f"{type(error).__name__:15}"
                    print(error, file=sys.stderr)
                    continue
                first = first or rate
                line += f"{f'{rate:.1f} {rate / first:.2f} r{again}':15}"
            print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--pair", action="append", help="for example kernel-smoltcp")
    parser.add_argument("--only", action="append")
    parser.add_argument("--control", action="append")
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        receive(5001)
    elif arguments.send:
        send("10.0.0.2", 5001, arguments.seconds, arguments.bytes, arguments.send)
    elif "WORK" in os.environ:
        inside(arguments)
    else:
        with tempfile.TemporaryDirectory(prefix="umvu-loss-") as work:
            command = [UMVU, "-N", "-m", "vunet", sys.executable, __file__, *sys.argv[1:]]
            subprocess.run(command, env={**os.environ, "WORK": work}, check=True)


if __name__ == "__main__":
    main()
