"""fsx (the crate): random reads, writes, maps and truncations of one file, each read verified."""

import os
import re

import crates
import files

WHERE = files
PLACES = files.PLACES
SEEDS = range(1, 4)
OPERATIONS = 4000
# The operations that every file system has, all of Linux, and what goes beyond a few pages.
KINDS = {
    "plain": "flen = 300000\n[weights]\nclose_open = 0.2\ninvalidate = 0.2\nfsync = 0.1\nsendfile = 1.0\n",
    "all": "flen = 300000\n[weights]\nclose_open = 0.2\ninvalidate = 0.2\nfsync = 0.1\nfdatasync = 0.1\n"
    "posix_fallocate = 0.5\npunch_hole = 1.0\nsendfile = 1.0\nposix_fadvise = 0.2\ncopy_file_range = 1.0\n",
    "big": "flen = 30000000\n[opsize]\nmax = 900000\n[weights]\nclose_open = 0.1\nsendfile = 1.0\n",
}
state = {}


def prepare(work):
    """Builds it, and writes its configurations."""
    for kind, text in KINDS.items():
        with open(os.path.join(work, kind + ".toml"), "w", encoding="utf-8") as out:
            out.write(text)
    state.update(work=work, program=crates.install(work, "fsx", "0.3.2"))
    return None


def jobs(quick):
    """Each kind with each seed."""
    for kind in KINDS:
        for seed in SEEDS:
            operations = OPERATIONS // (8 if quick or kind == "big" else 1)
            configuration = os.path.join(state["work"], kind + ".toml")
            command = [state["program"], "-f", configuration, "-N", str(operations), "-S", str(seed), "x"]
            yield f"{kind}-{seed}", command, 300


def verdicts(text):
    """How it ended."""
    good = re.search(r"^All operations completed A-OK!", text, re.M)
    return {"(all operations)": "pass" if good else "fail"}
