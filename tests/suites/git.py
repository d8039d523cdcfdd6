"""git's own tests (the source of Debian's git), with a git that is built once: a part of its scripts."""

import os
import re
import subprocess

import files
import sources

WHERE = files
PLACES = [place for place in files.POSIX if place.partition(":")[2] in ("cow", "mem", "ext4")]
SCRIPTS = (
    "t0000 t0001 t0003 t0010 t0020 t0021 t0027 t0050 t0060 t0061 t0066 t0211 t0300 t0410 t0610 "
    "t1000 t1001 t1004 t1006 t1050 t1051 t1300 t1301 t1400 t1410 t1430 t1450 t1500 t1501 t1509 t1510 "
    "t2000 t2003 t2007 t2012 t2021 t2070 t2200 t2203 t2400 t2401 "
    "t3000 t3001 t3010 t3200 t3300 t3400 t3404 t3501 t3600 t3700 t3903 t3910"
).split()
QUICK = "t0001 t1050 t1301 t2012".split()
OPTIONS = [f"NO_{what}=1" for what in "CURL EXPAT GETTEXT TCLTK OPENSSL PYTHON PERL".split()]
VERDICT = re.compile(r"^(not )?ok (\d+) - (.*?)(?: # (skip|TODO).*)?$", re.M | re.I)
state = {}


def prepare(work):
    """Unpacks the source, and builds what the scripts call."""
    source = sources.unpack(work, "git")
    if not source:
        return sources.lack("git")
    if not os.path.exists(os.path.join(source, "t/helper/test-tool")):
        command = ["make", "-s", "-C", source, f"-j{os.cpu_count()}", "CFLAGS=-O1", *OPTIONS, "all"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    state["source"] = source
    return None


def jobs(quick):
    """One for each script; all that it makes is where it is tested."""
    folder = os.path.join(state["source"], "t")
    for name in QUICK if quick else SCRIPTS:
        script = next((file for file in sorted(os.listdir(folder)) if file.startswith(name + "-")), None)
        if script:
            yield name, ["sh", "-c", f"cd {folder} && exec ./{script} --root=$TMPDIR"], 900


def verdicts(text):
    """Each test and how it ended."""
    found = {}
    for failed, number, name, note in VERDICT.findall(text):
        word = "skip" if note.lower() == "skip" else "fail" if failed else "pass"
        # Some names tell where it is.
        found[number + " " + re.sub(r"/\S*/at\.[\w-]+(/m)?", "", name)] = word
    return found
