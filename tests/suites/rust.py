"""The network tests that tokio, polling and async-io bring in their crates (cargo's).

mio's crate has none; tokio's stand on it.
"""

import os
import re
import subprocess

import crates
import network

WHERE = network
PLACES = network.PLACES
# Version, features, and which programs: those with sockets, pipes or descriptors in them.
CRATES = {
    "tokio": ("1.54.1", ["full"], r"tcp_|udp|uds_|unix_|net_[^n]|io_driver|io_async_fd|rt_common|rt_threaded"),
    "polling": ("3.11.0", [], r"(?!windows)"),
    "async-io": ("2.6.0", [], ""),
}
# Those that do not end where they fail, each in a job of its own.
ENDLESS = {
    "tokio/io_async_fd": ["await_error_readiness_timestamping", "priority_event_on_oob_data"],
}
QUICK = re.compile(r"^(tcp_|udp)")
VERDICT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", re.M)
WORDS = {"ok": "pass", "FAILED": "fail", "ignored": "skip"}
state = {}


def prepare(work):
    """Fetches and builds the tests."""
    for crate, (version, features, wanted) in CRATES.items():
        folder = crates.unpack(work, crate, version)
        if folder is None:
            return f"cargo, and {crate} {version} of cargo's registry"
        names = [name[:-3] for name in os.listdir(os.path.join(folder, "tests")) if name.endswith(".rs")]
        names = sorted(name for name in names if re.match(wanted, name))
        try:
            state[crate] = folder, crates.tests(folder, names, features)
        except subprocess.CalledProcessError:
            return f"a cargo that builds {crate} {version}"
    return None


def jobs(quick):
    """One for each program of tests."""
    for crate, (folder, programs) in state.items():
        for name, path in sorted(programs.items()):
            if quick and not QUICK.match(name):
                continue
            alone = ENDLESS.get(f"{crate}/{name}", [])
            skipped = [word for test in alone for word in ("--skip", test)]
            # Their order and their number at a time are no part of what is compared.
            yield f"{crate}/{name}", [path, "--test-threads=2", *skipped], 240, folder
            for test in alone:
                yield f"{crate}/{name}/{test}", [path, "--exact", test], 20, folder


def verdicts(text):
    """Each test and how it ended."""
    return {name: WORDS[word] for name, word in VERDICT.findall(text)}
