#!/bin/sh
# Three stacks that have nothing in common but the wire:
#
#       rusty 10.8.0.1 (smoltcp) ---[ switch ]--- penguin 10.8.0.2 (vdestack: Linux)
#                                       |
#                      guest 10.8.0.3 (LWIPv6, a plugin of libioth in C)
needs='cc /usr/include/lwipv6.h curl python3'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

say "the plugin is compiled, and put where stacks are looked for: ~/.ioth"
HOME=$work
export HOME
mkdir "$HOME/.ioth"
run cc -O1 -shared -fPIC -o "$HOME/.ioth/ioth_lwipv6.so" "$lab_root/tests/plugins/ioth_lwipv6.c" \
    -llwipv6 -lpthread

say "a host of each kind"
host rusty smoltcp "switch://$work/switch,ip=10.8.0.1/24"
host penguin vdestack "switch://$work/switch,ip=10.8.0.2/24"
host guest lwipv6 "eth0:vde://$work/switch,ip=10.8.0.3/24"
for name in rusty penguin guest; do
    on "$name" ip addr 2>/dev/null | grep -w -e inet -e mtu
done

say "everybody reaches everybody"
for from in rusty penguin guest; do
    for to in rusty:1 penguin:2 guest:3; do
        [ "$from" = "${to%:*}" ] && continue
        until_ok quietly_on "$from" ping -n -c 1 -W 1 "10.8.0.${to#*:}"
        check "$from reaches ${to%:*}" quietly_on "$from" ping -n -c 2 -i 0.2 -W 2 "10.8.0.${to#*:}"
    done
done

say "each serves a file, the two others fetch it"
seq 1 40000 >"$work/numbers"
for server in rusty:1 penguin:2 guest:3; do
    name=${server%:*} address=10.8.0.${server#*:}
    serve "$name" "$work/$name.log" python3 -m http.server --bind "$address" --directory "$work" 80
    for client in rusty penguin guest; do
        [ "$client" = "$name" ] && continue
        until_ok quietly_on "$client" curl -s -m 20 -o "$work/copy" "http://$address/numbers"
        check "$client has fetched from $name" cmp "$work/copy" "$work/numbers"
        rm "$work/copy"
    done
    end "$served"
done

say "done: three stacks, one wire"
