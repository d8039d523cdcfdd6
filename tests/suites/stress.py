"""stress-ng's stressors of file systems, each for a moment: those that succeed on Linux succeed inside.

The sizes are bounded, so that an image of files.py takes what they write.
"""

import re
import shutil

import files

WHERE = files
PLACES = [place for place in files.POSIX if place.partition(":")[2] in ("cow", "mem", "ext4")]
STRESSORS = (
    "access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fcntl fiemap "
    "file-ioctl filename flock fpunch fsize fstat getdent handle hdd inotify io iomix lease link locka lockf "
    "lockofd mknod open rename seek symlink sync-file touch utime xattr"
).split()
QUICK = "chmod dir flock link rename xattr".split()
BOUNDS = {
    "copy-file": "--copy-file-bytes 16M", "fallocate": "--fallocate-bytes 32M", "hdd": "--hdd-bytes 16M",
    "fiemap": "--fiemap-bytes 16M", "iomix": "--iomix-bytes 16M", "sync-file": "--sync-file-bytes 16M",
    "dirdeep": "--dirdeep-inodes 500", "seek": "--seek-size 16M",
}
SECONDS = 2


def prepare(_work):
    """Tells what is missing."""
    return None if shutil.which("stress-ng") else "apt-get install stress-ng"


def jobs(quick):
    """One for each stressor."""
    for name in QUICK if quick else STRESSORS:
        bound = BOUNDS.get(name, "")
        command = f"exec stress-ng --{name} 1 {bound} -t {SECONDS} --verify --temp-path $TMPDIR"
        yield name, ["sh", "-c", command], 120


def verdicts(text):
    """How the stressor ended."""
    name = re.search(r"dispatching hogs: 1 (\S+)", text)
    word = "pass" if " successful run completed" in text else "fail"
    return {name.group(1) if name else "(begins)": "skip" if re.search(r"skipp(ing|ed)", text) else word}
