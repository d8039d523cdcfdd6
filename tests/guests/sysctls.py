"""Writes right and wrong values to sysctls of a network, and says what came of it."""

import errno
import os

FILES = ["ip_default_ttl", "ip_forward", "conf/lo/forwarding", "conf/all/rp_filter", "tcp_rmem",
         "ip_local_port_range", "tcp_congestion_control", "tcp_available_congestion_control", "missing"]
VALUES = ["x", "1\n", "300", "-1", "", "0x10", "010", " 64", "64x", "64,65", "99999999999"]


def write(path, value):
    """One write(2) of a value: the result or the error, and what is there then."""
    try:
        fd = os.open(path, os.O_WRONLY)
        try:
            result = os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        result = errno.errorcode[error.errno]
    return result


def read(path):
    with open(path) as file:
        return file.read()


for name in FILES:
    path = f"/proc/sys/net/ipv4/{name}"
    for value in VALUES:
        before = read(path) if name != "missing" else ""
        result = write(path, value)
        # Which congestion controls there are and how much memory is the kernel's.
        after = read(path).split()[:2] if "congestion" not in name and before else ""
        print(name, repr(value), result, after)
        if isinstance(result, int) and before:
            write(path, before)
