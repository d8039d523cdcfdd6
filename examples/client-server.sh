#!/bin/sh
# One command that needs no ip(8): addresses are mount options.
#
#       client 192.168.7.2 ---[ switch ]--- server 192.168.7.1
. "$(dirname "$0")/common.sh"

if [ "${1:-}" != inside ]; then
    prepare
    exec "$UMVU" -N -m vunet sh "$0" inside
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seq 1 100000 >"$work/numbers"

say "two stacks with addresses from the start"
run vumount -t vunetioth -o "switch://$work/switch,ip=192.168.7.1/24" smoltcp /dev/net/server
run vumount -t vunetioth -o "switch://$work/switch,ip=192.168.7.2/24" smoltcp /dev/net/client

say "python3 -m http.server on the one, curl on the other"
(cd "$work" && exec vustack /dev/net/server python3 -m http.server 8000 >"$work/log" 2>&1) &
server=$!
until_ok vustack /dev/net/client curl -s http://192.168.7.1:8000/
run vustack /dev/net/client curl -s -o "$work/copy" http://192.168.7.1:8000/numbers
run cmp "$work/numbers" "$work/copy"
kill "$server"
wait "$server" 2>/dev/null || true
say "done: the copy is exact"
