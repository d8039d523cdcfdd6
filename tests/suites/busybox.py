"""busybox's own tests of its applets (the source of Debian's busybox), by Debian's program."""

import os
import re

import files
import sources

WHERE = files
PLACES = [place for place in files.POSIX if place.partition(":")[2] in ("cow", "mem", "ext4")]
PROGRAM = "/usr/bin/busybox"
VERDICT = re.compile(r"^(PASS|FAIL|SKIPPED|UNTESTED|XFAIL): (.*)$", re.M)
WORDS = {"PASS": "pass", "FAIL": "fail", "XFAIL": "fail", "SKIPPED": "skip", "UNTESTED": "skip"}
# Everything is done where it is tested: the tests, the program and its links.
RUN = """mkdir b && cp -a {source}/testsuite {source}/scripts b && cp {program} b/busybox && cp {source}/debian/config/pkg/deb b/.config
         cd b/testsuite && SKIP_INTERNET_TESTS=1 exec ./runtest -v"""
state = {}


def prepare(work):
    """Unpacks the source."""
    if not os.path.exists(PROGRAM):
        return "apt-get install busybox"
    state["source"] = sources.unpack(work, "busybox")
    return None if state["source"] else sources.lack("busybox")


def jobs(_quick):
    """All of its tests."""
    yield "all", ["sh", "-c", RUN.format(source=state["source"], program=PROGRAM)], 900


def verdicts(text):
    """Each test and how it ended; several have the same name."""
    found = {}
    for word, name in VERDICT.findall(text):
        name = re.sub(r"/tmp/\S*", "", name)
        while name in found:
            name += "'"
        found[name] = WORDS[word]
    return found
