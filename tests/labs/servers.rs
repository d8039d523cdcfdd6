//! Servers of the distribution on one host, their clients on another.

use crate::harness::{INSIDE, on_two_hosts, with_hosts};

/// Waits for a server, by a command of the client's.
const READY: &str = r#"
ready() { for i in $(seq 100); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; echo "never ready: $*"; }
"#;

#[track_caller]
fn same_everywhere(script: &str, wanted: &str) {
    for place in with_hosts() {
        assert_eq!(on_two_hosts(place, &format!("{READY}{script}")), wanted, "{place:?}");
    }
}

#[test]
fn nginx_serves_both_versions_of_http() {
    let script = r#"
        cd $W; chmod 755 $W; mkdir www; head -c 3000000 /dev/urandom >www/big; echo hello >www/index.html
        cat >conf <<C
daemon off; pid $W/pid; error_log $W/errors; user root; master_process off;
events { worker_connections 512; }
http { access_log off; sendfile on; root $W/www;
       server { listen 80; listen 8080 reuseport; } server { listen [::]:81 http2; }
       client_body_temp_path $W/t1; proxy_temp_path $W/t2; fastcgi_temp_path $W/t3;
       uwsgi_temp_path $W/t4; scgi_temp_path $W/t5; }
C
        $B /usr/sbin/nginx -e $W/errors -c $W/conf & server=$!
        ready $A curl -sf 10.0.0.2
        on_a curl -s -w '%{http_version} %{http_code}\n' 10.0.0.2
        on_a curl -s -w '%{http_version} %{http_code}\n' --http2-prior-knowledge 'http://[fd00::2]:81/'
        on_a curl -s -w '%{http_code}\n' -o /dev/null 10.0.0.2:8080/none
        for i in 1 2 3 4 5 6; do on_a curl -s 10.0.0.2/big | cmp - www/big || echo wrong; done & many=$!
        on_a curl -s 10.0.0.2:8080/big | cmp - www/big && echo whole; wait $many
        on_a wrk -t 1 -c 50 -d 1 http://10.0.0.2/ | grep -ci 'socket errors\|non-2xx'
        kill $server; wait $server; grep -v 'No such file' errors || true"#;
    same_everywhere(script, "hello\n1.1 200\nhello\n2 200\n404\nwhole\n0\n");
}

#[test]
fn redis_answers_many_at_once() {
    let script = r#"
        cd $W; $B redis-server --bind 10.0.0.2 fd00::2 --save '' --dir $W --protected-mode no >log & server=$!
        ready $A redis-cli -h 10.0.0.2 ping
        on_a redis-cli -h fd00::2 set key value; on_a redis-cli -h 10.0.0.2 get key
        on_a redis-benchmark -h 10.0.0.2 -n 2000 -c 50 -t set,get -q 2>&1 | tr '\r' '\n' | grep -c requests.per.second,
        $A redis-cli -h 10.0.0.2 subscribe news >heard & listener=$!
        ready sh -c "$A redis-cli -h 10.0.0.2 pubsub numsub news | grep -q 1"
        on_a redis-cli -h 10.0.0.2 publish news now; ready grep -q now heard
        kill $listener; kill $server; wait $server; grep -c 'ready to exit' log"#;
    same_everywhere(script, "OK\nvalue\n2\n1\n1\n");
}

#[test]
fn git_is_cloned_by_http_and_its_own_protocol() {
    let script = r#"
        cd $W; export HOME=$W; git config --global safe.directory '*'; mkdir src; head -c 1000000 /dev/urandom >src/f
        git init -q repo 2>/dev/null; (cd repo; git config user.email a@b; git config user.name c; cp ../src/f .; git add f; git commit -qm one; git update-server-info)
        $B python3 -m http.server 80 --bind 10.0.0.2 >/dev/null 2>&1 & web=$!
        $B git daemon --base-path=$W --export-all --listen=10.0.0.2 --reuseaddr >/dev/null 2>&1 & daemon=$!
        ready $A curl -sf 10.0.0.2; ready $A git ls-remote git://10.0.0.2/repo
        on_a git clone -q http://10.0.0.2/repo/.git by-http && cmp by-http/f src/f && echo http
        on_a git clone -q git://10.0.0.2/repo by-git && cmp by-git/f src/f && echo git
        kill $web $daemon; wait"#;
    same_everywhere(script, "http\ngit\n");
}

#[test]
fn netcat_and_socat_serve_one_after_the_other() {
    let script = r#"
        cd $W; $B nc -l -k 10.0.0.2 5000 >heard & server=$!
        ready sh -c "$B ss -Hltn | grep -q :5000"
        for i in 1 2 3; do echo $i | on_a nc -N 10.0.0.2 5000; done; ready grep -q 3 heard; cat heard; kill $server
        $B socat TCP6-LISTEN:5001,fork,reuseaddr EXEC:'tr a-z A-Z' & server=$!
        ready sh -c "$B ss -Hltn | grep -q :5001"
        for i in one two three; do echo $i | $A socat -t 5 - 'TCP6:[fd00::2]:5001' & clients="$clients $!"; wait $!; done
        kill $server
        on_a bash -c 'exec 3<>/dev/tcp/10.0.0.2/5000' 2>&1 | grep -o 'Connection refused' | head -n 1"#;
    same_everywhere(script, "1\n2\n3\nONE\nTWO\nTHREE\nConnection refused\n");
}

/// These change users, which a namespace of an ordinary user does not let them.
#[test]
fn ssh_rsync_and_postgres_serve_as_other_users() {
    let script = r#"
        cd $W; chmod 755 $W; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key
        cp key.pub allowed; options="-i $W/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        mkdir -p /run/sshd
        $B /usr/sbin/sshd -D -e -p 22 -h $W/host -o AuthorizedKeysFile=$W/allowed -o StrictModes=no \
            -o UsePAM=no -o PidFile=none 2>log & server=$!
        ready $A ssh $options 10.0.0.2 true
        on_a ssh $options 10.0.0.2 'echo $SSH_CONNECTION | cut -d" " -f1,3,4'
        on_a ssh $options fd00::2 'head -c 1000000 /dev/zero' | cksum
        mkdir src; head -c 1000000 /dev/urandom >src/f; ln -s f src/l
        on_a rsync -a -e "ssh $options" src/ 10.0.0.2:$W/sent/ && diff -r src sent && echo sent
        printf '[all]\npath = %s\nuse chroot = no\nmunge symlinks = no\nread only = no\nuid = %s\ngid = %s\n' $W $(id -u) $(id -g) >rsyncd
        $B rsync --daemon --no-detach --address=fd00::2 --config=$W/rsyncd >/dev/null 2>&1 & copies=$!
        ready $A rsync 'rsync://[fd00::2]/'
        on_a rsync -a src/ 'rsync://[fd00::2]/all/there/' && diff -r src there && echo there
        echo more >>there/f; on_a rsync -a 'rsync://[fd00::2]/all/there/' back/ && diff -r there back && echo back
        kill $copies; export HOME=$W; git init -q repo 2>/dev/null
        (cd repo; git config user.email a@b; git config user.name c; echo 1 >f; git add f; git commit -qm one)
        GIT_SSH_COMMAND="ssh $options" $A git clone -q 10.0.0.2:$W/repo copy && cat copy/f
        kill $server; wait $server
        bin=$(ls -d /usr/lib/postgresql/*/bin); mkdir -m 777 db
        other='setpriv --reuid 65534 --regid 65534 --clear-groups'
        $other $bin/initdb -D $W/db/data -U postgres -A trust >/dev/null 2>&1
        echo 'host all all samenet trust' >>db/data/pg_hba.conf
        $other $B $bin/postgres -D $W/db/data -h 10.0.0.2,fd00::2 -k $W/db >db.log 2>&1 & server=$!
        ready $A psql -h 10.0.0.2 -U postgres -c 'select 1'
        on_a psql -h 10.0.0.2 -U postgres -Atqc 'create table t as select generate_series(1, 1000) n;
            select sum(n), inet_client_addr(), inet_server_addr() from t'
        on_a psql -h fd00::2 -U postgres -Atc 'select count(*) from t'
        kill -INT $server; wait $server; tail -n 1 db.log | grep -o 'is shut down'"#;
    let wanted = "10.0.0.1 10.0.0.2 22\n1345294785 1000000\nsent\nthere\nback\n1\n500500|10.0.0.1|10.0.0.2\n1000\nis shut down\n";
    if nix::unistd::geteuid().is_root() {
        for place in INSIDE {
            let told = on_two_hosts(place, &format!("{READY}{script}"));
            assert_eq!(told, wanted, "{place:?}");
        }
    }
}
