"""TCP connections: `serve PORT`, `rate HOST PORT COUNT` (a second's worth), `hold HOST PORT COUNT`."""

import socket
import sys
import time

mode, arguments = sys.argv[1], sys.argv[2:]
if mode == "serve":
    listener = socket.create_server(("", int(arguments[0])), backlog=512)
    kept = []
    while True:
        connection, _ = listener.accept()
        # Kept open until the other end closes: only the idle ones stay.
        kept.append(connection)
        if len(kept) > 2000:
            kept = kept[1000:]
else:
    address, count = (arguments[0], int(arguments[1])), int(arguments[2])
    begun = time.perf_counter()
    held = []
    for _ in range(count):
        client = socket.create_connection(address)
        if mode == "hold":
            held.append(client)
        else:
            client.close()
    print(f"{count / (time.perf_counter() - begun):.0f}", flush=True)
    if mode == "hold":
        sys.stdin.readline()
