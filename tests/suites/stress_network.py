"""stress-ng's class of network stressors, each for a moment: those that succeed on Linux succeed inside."""

import re
import subprocess

import network
import stress

WHERE = network
PLACES = network.PLACES
QUICK = "epoll sock udp sockdiag".split()
SECONDS = 3

verdicts = stress.verdicts
state = {}


def prepare(work):
    """Tells what is missing."""
    state["work"] = work
    return stress.prepare(work)


def jobs(quick):
    """One for each stressor of the class."""
    asked = ["stress-ng", "--class", "network?"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    names = re.search(r"stressors: (.*)", told.stdout + told.stderr).group(1).split()
    for name in QUICK if quick else names:
        command = f"exec stress-ng --{name} 1 -t {SECONDS} --verify --temp-path {state['work']}"
        yield name, ["sh", "-c", command], 60
