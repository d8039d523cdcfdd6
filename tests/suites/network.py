"""The places of network suites: plain Linux in a network namespace of its own, and a stack.

All have `lo` and `vde0`, both up, `vde0` with 10.0.0.1/24 and nobody on its wire.
"""

import shlex

import places

PLACES = QUICK = ["notify", "ptrace"]

NATIVE = (
    "ip link set lo up && ip link add vde0 type veth peer name wire && ip link set wire up && "
    "ip addr add 10.0.0.1/24 dev vde0 && ip link set vde0 up && exec {}"
)
INSIDE = (
    "vumount -t vunetioth -o null://,eth,ip=10.0.0.1/24 smoltcp /dev/net/a && "
    "exec vustack /dev/net/a {}"
)


def argv(place, command, _work):
    """The command line that runs a command in a place."""
    command = shlex.join(command)
    if place == "native":
        return ["unshare", "-Urnu", "sh", "-c", NATIVE.format(command)]
    return places.inside(place, "vunet", INSIDE.format(command))


def verdicts(_text):
    """What the place itself says about its end."""
    return {}
