#!/usr/bin/env python3
"""Makes many connections and moves many bytes between two stacks of one session, and tells whether
umvu grows: its memory, descriptors, threads, and the files of its private directory.

    benches/soak.py [--connections N] [--bytes N] [--rounds N] [--pure]

Defaults are small; a day's equivalent is `--connections 1000000 --bytes 100e9`. Each round makes its
share of short connections, 64 at a time, and of the bytes, each way; with `--pure` under `umvu -S`.
What holds after a quarter of the rounds is compared with the end; ends with 1 when something has
grown. Needs a release build, cc and iperf3.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
UMVU = os.environ.get("UMVU") or pathlib.Path(
    os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "umvu"
# A round begins with a line on the standard input, and ends with one on the standard output.
GUEST = """
vumount -t vunetioth -o switch://{work}/sw,ip=10.0.0.1/24 smoltcp /dev/net/a || exit 9
vumount -t vunetioth -o switch://{work}/sw,ip=10.0.0.2/24 smoltcp /dev/net/b || exit 9
vustack /dev/net/b {work}/connections serve 7000 &
vustack /dev/net/b iperf3 -s >/dev/null &
trap 'kill $(jobs -p)' EXIT
until [ $(vustack /dev/net/b ss -Hltn | wc -l) -eq 2 ]; do sleep 0.1; done
while read -r connections bytes; do
    rate=$(vustack /dev/net/a {work}/connections rate 10.0.0.2 7000 $connections 64) || exit 8
    for way in '' -R; do
        vustack /dev/net/a iperf3 -c 10.0.0.2 -n $((bytes / 2)) $way >/dev/null || exit 7
    done
    echo $rate
done
"""
# What memory may differ by without being growth: one in so many, and bytes.
SLACK = 10, 16 << 20


def state(pid):
    """What umvu holds: bytes, descriptors, threads, files of its own."""
    process = pathlib.Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    private = [path for path in pathlib.Path("/dev/shm").glob(f"umvu-*/{pid}.*")]
    files = sum(len(names) for path in private for _, _, names in os.walk(path))
    count = lambda name: len(list((process / name).iterdir()))  # noqa: E731
    return pages * os.sysconf("SC_PAGE_SIZE"), count("fd"), count("task"), files


def grown(before, after):
    """The names of what has grown."""
    share, bytes_ = SLACK
    limits = [before[0] + before[0] // share + bytes_, *(number + 8 for number in before[1:])]
    names = ["memory", "descriptors", "threads", "files"]
    return [name for name, now, limit in zip(names, after, limits) if now > limit]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connections", type=lambda text: int(float(text)), default=20_000)
    parser.add_argument("--bytes", type=lambda text: int(float(text)), default=2_000_000_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pure", action="store_true")
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="umvu-soak-"))
    subprocess.run(["cc", "-O2", "-o", work / "connections", ROOT / "benches" / "connections.c"], check=True)
    mode = ["-S"] if options.pure else []
    guest = subprocess.Popen([UMVU, "-N", *mode, "-m", "vunet", "bash", "-c", GUEST.format(work=work)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    share = options.connections // options.rounds, options.bytes // options.rounds
    states = []
    begun = time.monotonic()
    print("| connections | GB | seconds | connections/s | MiB | descriptors | threads | files |")
    print("|---" * 8 + "|")
    try:
        for number in range(1, options.rounds + 1):
            guest.stdin.write("{} {}\n".format(*share))
            guest.stdin.flush()
            rate = guest.stdout.readline().strip()
            if not rate:
                raise SystemExit("soak: the guest has ended")
            # What has just ended is collected.
            time.sleep(1)
            states.append(state(guest.pid))
            memory, *others = states[-1]
            print(f"| {number * share[0]} | {number * share[1] / 1e9:.1f} | "
                  f"{time.monotonic() - begun:.0f} | {rate} | {memory / (1 << 20):.1f} | "
                  + " | ".join(map(str, others)) + " |", flush=True)
    finally:
        guest.stdin.close()
        guest.wait(20)
        shutil.rmtree(work, ignore_errors=True)
    names = grown(states[options.rounds // 4], states[-1])
    print("growth: " + (", ".join(names) or "none"))
    sys.exit(bool(names))


main()
