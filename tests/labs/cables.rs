//! `umvu plug` and `umvu dpipe` beside Debian's `vde_plug` and `dpipe`, outside umvu and inside.

use crate::harness::{EVERYWHERE, INSIDE, Place, run, succeed, umvu};

/// Two switches of Debian's at `$W/a` and `$W/b`; `wait_for PATH`, `wait_gone PATH`.
const TWO_SWITCHES: &str = r#"
W=$(mktemp -d); trap 'kill $(cat $W/*.pid) 2>/dev/null; rm -rf $W' EXIT
wait_for() { tries=0; until [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || exit 92; sleep 0.05; done; }
wait_gone() { tries=0; while [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || exit 91; sleep 0.05; done; }
for s in a b; do
    vde_switch -s $W/$s -d -p $W/$s.pid </dev/null >/dev/null 2>&1 || exit 94
    wait_for $W/$s/ctl
    until $UMVU plug vde://$W/$s null:// -d -p $W/probe; do sleep 0.1; done 2>/dev/null # not listening yet
    kill $(cat $W/probe); wait_gone $W/probe
done
"#;

fn with_switches(script: &str) -> String {
    format!("UMVU={}\n{TWO_SWITCHES}{script}", umvu())
}

/// A host on each switch; `ping_across` pings from one to the other.
const HOSTS: &str = r"
vumount -t vunetioth -o vde://$W/a,ip=10.3.0.1/24 smoltcp /dev/net/a || exit 90
vumount -t vunetioth -o vde://$W/b,ip=10.3.0.2/24 smoltcp /dev/net/b || exit 90
ping_across() {
    until vustack /dev/net/a ping -c 1 -W 1 10.3.0.2 >/dev/null; do :; done
    vustack /dev/net/a ping -q -c 3 -i 0.2 10.3.0.2 | grep -o '.* received'
}
";

#[test]
fn all_kinds_of_cables_join_two_switches() {
    for place in INSIDE {
        for cable in [
            "umvu-plug -d -p $W/cable.pid vde://$W/a vde://$W/b",
            "umvu-dpipe -d -p $W/cable.pid umvu-plug $W/a = umvu-plug $W/b",
            "umvu-dpipe -d -p $W/cable.pid vde_plug $W/a = umvu-plug $W/b",
            "dpipe -d -p $W/cable.pid umvu-plug $W/a = vde_plug $W/b",
            "umvu-plug -d -p $W/cable.pid $W/a = umvu-plug $W/b",
        ] {
            // Debian's dpipe does not end its commands; they end with the switches.
            let script = format!("{HOSTS}{cable} || exit 89\nwait_for $W/cable.pid; ping_across");
            let out = succeed(place, &with_switches(&script));
            assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}: {cable}");
        }
    }
}

#[test]
fn a_command_in_the_middle_sees_both_ways() {
    for place in INSIDE {
        let script = format!(
            "{HOSTS}{}",
            r"umvu-dpipe -d -p $W/cable.pid umvu-plug $W/a = wirefilter -d 1 = vde_plug $W/b || exit 89
            ping_across; kill $(cat $W/cable.pid); wait_gone $W/cable.pid"
        );
        let out = succeed(place, &with_switches(&script));
        assert_eq!(out, "3 packets transmitted, 3 received\n", "{place:?}");
    }
}

#[test]
fn a_plug_in_the_background_works_when_the_command_returns_and_removes_its_file() {
    let script = with_switches(
        r"$UMVU plug -d -p $W/cable.pid -D joint $W/a vde://$W/b || exit 89
        kill -0 $(cat $W/cable.pid) && echo runs
        kill $(cat $W/cable.pid); wait_gone $W/cable.pid
        cd $W; $UMVU plug -d -p cable.pid $W/nosuch null:// 2>/dev/null; echo $?; ls cable.pid 2>/dev/null
        $UMVU plug -p cable.pid $W/a null:// & wait_for cable.pid; kill -TERM $!; wait $!; echo $?; ls cable.pid 2>/dev/null
        $UMVU plug $W/a </dev/null; echo $?
        echo text | $UMVU plug $W/a 2>/dev/null; echo $?
        $UMVU plug $W/a = sh -c 'exit 7'; echo $?
        $UMVU plug $W/a = nosuchprogram 2>/dev/null; echo $?
        $UMVU plug -d $W/a 2>/dev/null; echo $?",
    );
    let out = succeed(Place::Native, &script);
    assert_eq!(out, "runs\n1\n143\n0\n1\n7\n127\n1\n");
}

#[test]
fn dpipe_crosses_the_streams_of_commands_everywhere() {
    for place in EVERYWHERE {
        let dpipe = if place == Place::Native { "dpipe" } else { "umvu-dpipe" };
        for (words, wanted) in [
            (r#"sh -c 'echo a; read x; echo $x >&2' = sh -c 'read x; echo ${x}b'"#, "ab\n"),
            (r#"sh -c 'echo a; read x; echo $x >&2' =} sed -u s/$/b/ }= sed -u s/$/c/"#, "abc\n"),
            (
                r#"sh -c 'read x; echo $x >&2' ={ sed -u s/$/b/ {= sh -c 'echo a; cat >/dev/null'"#,
                "ab\n",
            ),
            (
                r#"true = sh -c 'read x <&$ALTERNATE_STDIN; echo $x$ALTERNATE_STDIN$ALTERNATE_STDOUT >&2' = echo e"#,
                "e34\n",
            ),
            ("true = sh -c 'exit 4'; echo $? >&2", "4\n"),
            ("sh -c 'exit 4' = true; echo $? >&2", "0\n"),
        ] {
            let done = run(place, &format!("{dpipe} {words}"));
            assert_eq!(done.err, wanted, "{place:?}: {words}");
        }
    }
}

#[test]
fn dpipe_passes_signals_on_and_removes_its_files() {
    let script = format!(
        r"D='{} dpipe'; W=$(mktemp -d); trap 'rm -rf $W' EXIT; cd $W
        wait_for() {{ until [ -s $1 ]; do sleep 0.05; done; }}
        $D -d -p pid -P group sh -c 'echo $$ >child; exec sleep 100' = sleep 100; echo $?
        [ $(cat group) = -$(cat pid) ] && echo group
        wait_for child; kill $(cat pid); while kill -0 $(cat child) 2>/dev/null; do sleep 0.05; done
        while [ -e pid ]; do sleep 0.05; done; echo ended
        $D sleep 100 = nosuchprogram 2>/dev/null; echo $?
        $D -n -p pid true = sh -c 'until [ -s pid ]; do sleep 0.05; done; [ $(cat pid) = $$ ] && exit 6'; echo $?
        while [ -e pid ]; do sleep 0.05; done
        $D -N -p pid true = true; ls pid
        $D true =; echo $?",
        umvu()
    );
    let done = run(Place::Native, &script);
    assert_eq!(done.out, "0\ngroup\nended\n127\n6\npid\n1\n", "{}", done.err);
}

#[test]
fn a_program_may_have_the_name_of_a_command() {
    let script = format!(
        r#"W=$(mktemp -d); trap 'rm -rf $W' EXIT; cd $W
        printf '#!/bin/sh\necho own $1\n' >plug; chmod +x plug
        {0} -N ./plug a; PATH=$W:$PATH {0} -N -- plug b; PATH=$W:$PATH {0} -- plug c"#,
        umvu()
    );
    assert_eq!(succeed(Place::Native, &script), "own a\nown b\nown c\n");
}
