"""Sources of Debian's packages, which bring the tests of their programs."""

import glob
import os
import subprocess


def unpack(work, package):
    """The folder of a package's source; None when `apt-get source` cannot have it."""
    found = glob.glob(os.path.join(work, package + "-[0-9]*", ""))
    if not found:
        command = ["apt-get", "source", "-qq", package]
        done = subprocess.run(command, cwd=work, stdout=subprocess.DEVNULL, check=False)
        found = glob.glob(os.path.join(work, package + "-[0-9]*", ""))
        if done.returncode or not found:
            return None
    return found[0]


def lack(package):
    """What to do when there is none."""
    return f"a deb-src line in /etc/apt/sources.list.d, apt-get update, apt-get source {package}"
