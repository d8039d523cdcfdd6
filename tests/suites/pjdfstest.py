"""pjdfstest (the crate): what POSIX says of calls about files. As root only: it makes other users' calls."""

import grp
import os
import pwd
import re

import crates
import files

WHERE = files
PLACES = files.PLACES
VERDICT = re.compile(r"^(\w+::\S+)\s+(ok|FAILED|skipped|expected failure)$", re.M)
WORDS = {"ok": "pass", "FAILED": "fail", "expected failure": "fail", "skipped": "skip"}
CONFIGURATION = """
[features]
posix_fallocate = {}
utimensat = {}
utime_now = {}
rename_ctime = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = ["""
state = {}


def prepare(work):
    """Builds it, and writes its configuration: features of Linux, and two users with groups."""
    if os.getuid():
        return "root is needed"
    users = [(name, grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name) for name in ("nobody", "www-data")]
    state["configuration"] = os.path.join(work, "pjdfstest.toml")
    with open(state["configuration"], "w", encoding="utf-8") as out:
        out.write(CONFIGURATION + ", ".join(f'["{user}", "{group}"]' for user, group in users) + "]\n")
    state["program"] = crates.install(work, "pjdfstest", "0.2.2")
    return None


def jobs(_quick):
    """All of its tests; another file system is where it wants one."""
    command = f"exec {state['program']} -c {state['configuration']} -s /dev/shm -p $TMPDIR"
    yield "all", ["sh", "-c", command], 900


def verdicts(text):
    """Each test and how it ended."""
    return {name: WORDS[word] for name, word in VERDICT.findall(text)}
