"""redis' own tests (the source of Debian's redis) of what has to do with connections, by Debian's
programs: one job for each of its units."""

import os
import re
import shutil

import network
import sources

WHERE = network
PLACES = network.PLACES
PROGRAMS = "redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb".split()
# Without unit/obuf-limits, which fills buffers by small messages and did not end within five minutes on a stack.
UNITS = (
    "unit/auth unit/client-eviction unit/info unit/introspection unit/limits unit/multi unit/networking unit/pause "
    "unit/pendingquerybuf unit/protocol unit/pubsub unit/pubsubshard unit/querybuf unit/quit unit/replybufsize "
    "unit/shutdown unit/tracking unit/wait unit/type/list integration/block-repl integration/logging "
    "integration/redis-benchmark integration/redis-cli integration/replication-2 integration/replication-3 "
    "integration/shutdown"
).split()
QUICK = "unit/networking unit/protocol unit/pubsub".split()
VERDICT = re.compile(r"\[(ok|err|ignore|exception)\]: (.*?)(?: \(\d+ ms\))?$", re.M)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WORDS = {"ok": "pass", "err": "fail", "exception": "fail", "ignore": "skip"}
state = {}


def prepare(work):
    """Unpacks the source, and puts the programs where its tests seek them."""
    programs = [shutil.which(name) for name in PROGRAMS]
    if not all(programs) or not shutil.which("tclsh"):
        return "apt-get install redis-server redis-tools tcl"
    folder = sources.unpack(work, "redis")
    if folder is None:
        return sources.lack("redis")
    for program in programs:
        link = os.path.join(folder, "src", os.path.basename(program))
        if not os.path.lexists(link):
            os.symlink(program, link)
    state["folder"] = folder
    return None


def jobs(quick):
    """One for each unit."""
    for unit in QUICK if quick else UNITS:
        command = ["./runtest", "--clients", "1", "--durable", "--single", unit]
        yield unit, command, 300, state["folder"]


def verdicts(text):
    """Each test and how it ended; several have the same name, and numbers that change."""
    found = {}
    for word, name in VERDICT.findall(COLOUR.sub("", text)):
        name = re.sub(r" in tests/\S+$|\d{3,}", "", name)
        while name in found:
            name += "'"
        found[name] = WORDS[word]
    return found
