"""What the programs of exact cases of UDP share."""

from socket import *

from exact_cases import *

SOL = SOL_SOCKET
IP = IPPROTO_IPV6 if SIX else IPPROTO_IP
RECVERR = 25 if SIX else 11
BOTH = select.POLLIN | select.POLLERR
UNSPEC = bytes(28)


def port_after(sock, by=1):
    return LO, sock.getsockname()[1] + by


def neighbours():
    """A bound socket and a free socket, with the port after it free."""
    while True:
        one, other = datagram(), datagram(False)
        probe = datagram(False)
        if out(probe.bind, port_after(one)) is None:
            probe.close()
            return one, other
