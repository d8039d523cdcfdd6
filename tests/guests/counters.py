"""Does a little of everything on loopback; prints what the protocols' counters say of it."""

import socket
import subprocess
import time

NAMES = {
    "Ip": ["InReceives", "InDelivers", "OutRequests"],
    "Icmp": ["InMsgs", "InEchos", "InEchoReps", "InDestUnreachs", "OutMsgs", "OutEchoReps",
             "OutDestUnreachs"],
    "Tcp": ["ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets", "CurrEstab",
            "RetransSegs", "OutRsts"],
    "Udp": ["InDatagrams", "NoPorts", "OutDatagrams"],
}


def counters():
    """The values by group and name."""
    with open("/proc/net/snmp", encoding="ascii") as file:
        lines = [line.split() for line in file]
    found = {}
    for names, values in zip(lines[::2], lines[1::2]):
        found[names[0][:-1]] = dict(zip(names[1:], map(int, values[1:])))
    return found


before = counters()
subprocess.run(["ping", "-q", "-c", "3", "-i", "0.01", "127.0.0.1"], check=True,
               stdout=subprocess.DEVNULL)
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    sender.sendto(b"x", receiver.getsockname())
    receiver.recv(9)
sender.sendto(b"x", ("127.0.0.1", 9))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(b"hello")
server.recv(9)
try:
    socket.create_connection(("127.0.0.1", 9))
except ConnectionRefusedError:
    pass
time.sleep(0.2)
after = counters()
for group, names in NAMES.items():
    for name in names:
        # How many segments acknowledge on their own is up to the stack.
        if group == "Ip":
            print(group, name, after[group][name] > before[group][name])
        else:
            print(group, name, after[group][name] - before[group][name])
