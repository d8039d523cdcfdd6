#!/bin/sh
# A name server, a web server, and a client that knows only names:
#
#       client 10.3.0.9 ---[ switch ]---+--- ns 10.3.0.53 (dnsmasq)
#                                       +--- www 10.3.0.80 (a web server)
#
# No ip(8) is needed: addresses, and the name server to ask, are options of the mounts.
needs='dnsmasq dig curl python3'
. "$(dirname "$(readlink -f "$0")")/../common.sh"
inside_umvu "$@"

say "three hosts with addresses from the start"
host ns smoltcp "switch://$work/switch,ip=10.3.0.53/24"
host www smoltcp "switch://$work/switch,ip=10.3.0.80/24"
host client smoltcp "switch://$work/switch,ip=10.3.0.9/24,dns=10.3.0.53,domain=lab.example"
on client cat /etc/resolv.conf

say "the name server tells what it is told to tell"
serve ns "$work/ns.log" dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --no-hosts \
    --no-resolv --user= --log-queries --log-facility=- --local=/lab.example/ \
    --host-record=www.lab.example,10.3.0.80 --host-record=ns.lab.example,10.3.0.53 \
    --cname=web.lab.example,www.lab.example --txt-record=lab.example,"names in a lab"
until_ok quietly_on client dig +time=1 +tries=1 www.lab.example
on client dig +noall +answer www.lab.example web.lab.example
on client dig +short -x 10.3.0.80
check "dig finds www" sh -c 'vustack /dev/net/client dig +short www.lab.example | grep -x 10.3.0.80'
check "and its name by its address" sh -c 'vustack /dev/net/client dig +short -x 10.3.0.80 | grep -x www.lab.example.'
check "a name that is not there is not there" sh -c 'vustack /dev/net/client dig nobody.lab.example | grep NXDOMAIN'

say "the web server"
mkdir "$work/www"
seq 1 100000 >"$work/www/numbers"
echo "You have found www.lab.example." >"$work/www/index.html"
serve www "$work/www.log" python3 -m http.server --directory "$work/www" 80
until_ok quietly_on client curl -s http://10.3.0.80/
on client curl -s http://www.lab.example/
on client curl -s http://www/
check "curl finds the server by its name" sh -c 'vustack /dev/net/client curl -s http://www.lab.example/ | grep found'
check "and by its short name, within the domain" sh -c 'vustack /dev/net/client curl -s http://www/ | grep found'
on client curl -s -o "$work/copy" http://web.lab.example/numbers
check "the copy is exact" cmp "$work/www/numbers" "$work/copy"
check "the name server was asked by the client" shows "$work/ns.log" 'query\[A\] web\.lab\.example from 10\.3\.0\.9'
check "the web server saw the client" shows "$work/www.log" '^10\.3\.0\.9 .*GET /numbers'

say "done: names, addresses and pages"
