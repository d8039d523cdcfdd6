"""Go's own tests of its network packages (Debian's golang-1.19-src): one job for each package."""

import os
import re
import shutil
import subprocess

import network

WHERE = network
PLACES = network.PLACES

PACKAGES = ["net", "net/rpc", "crypto/tls", "net/http"]
SOURCE = "/usr/lib/go-1.19"
VERDICT = re.compile(r"^ *--- (PASS|FAIL|SKIP): (\S+)", re.M)
WORDS = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip"}
state = {}


def prepare(work):
    """Copies Go's tree, so that the tests find their data beside them, and builds them."""
    if not os.path.exists("/usr/share/go-1.19/src/net/net_test.go"):
        return "apt-get install golang-1.19-go golang-1.19-src"
    root = os.path.join(work, "goroot")
    if not os.path.exists(root):
        shutil.copytree(SOURCE, root + ".new")
        os.rename(root + ".new", root)
    # No network, and nothing outside of the work folder.
    env = {"GOROOT": root, "GOCACHE": os.path.join(work, "gocache"), "GOPROXY": "off",
           "PATH": os.path.join(root, "bin") + ":" + os.environ["PATH"]}
    for package in PACKAGES:
        program = os.path.join(root, "src", package, "suite.test")
        if not os.path.exists(program):
            command = ["go", "test", "-c", "-o", program, package]
            subprocess.run(command, env={**os.environ, **env}, check=True)
    state.update(root=root, env=env)
    return None


def jobs(_quick):
    """What `go test -short -v PACKAGE` runs."""
    for package in PACKAGES:
        command = ["./suite.test", "-test.short", "-test.v", "-test.timeout", "8m"]
        cwd = os.path.join(state["root"], "src", package)
        yield package, command, 600, cwd, state["env"]


def verdicts(text):
    """Each test and how it ended."""
    return {name: WORDS[word] for word, name in VERDICT.findall(text)}
