//! chroot(2) in the view, into real and virtual directories: as on Linux, where root may do it.

use crate::harness::{INSIDE, Place, run, scratch, succeed};

/// A small system at `$1`, with links that lead out of it where the root is not put before them.
const SYSTEM: &str = r##"
system() (
    mkdir -p $1 && cd $1 && mkdir -p bin lib/x86_64-linux-gnu lib64 etc proc tmp && cp /bin/bash /bin/busybox bin
    for applet in sh ls cat pwd readlink mkdir ln rm mv stat touch chown mknod chroot env; do ln -s busybox bin/$applet; done
    ldd bin/bash bin/busybox | grep -o '/lib[^ ]*' | sort -u | while read lib; do cp $lib .$lib; done
    ln -s /etc/who etc/absolute; ln -s ../../../../../../../etc/who etc/up; ln -s /etc dir; echo inside > etc/who
    printf '#!/bin/sh\necho script $0 $*\n' > bin/script; chmod +x bin/script
)
"##;

/// What is seen and done inside.
const INSIDE_ROOT: &str = r##"
pwd; ls /; cat /etc/absolute /etc/up dir/who /../etc/who ../../etc/who; cd dir; pwd; cat who; cd ..; cd ..; pwd
script a b; bash -c 'echo $BASH_VERSION' | cut -c1; bash -c 'read x < /etc/who; echo $x'
mkdir /new; echo x > /new/f; ln -s /new/f /l; cat /l; ln /new/f /new/g; mv /new/g /new/h; ls /new; rm /l
cd /new; ls /proc/self/../self/root/etc 2>/dev/null; [ -e $HOST ] || echo hidden; readlink -f ../dir/up
chroot /etc /bin/sh; chroot /new/f /bin/sh; chroot /none /bin/sh; cd /; chroot . pwd; rm -r /new
"##;

fn told_in(place: Place, prepare: &str, enter: &str) -> String {
    let work = scratch("root");
    let script = format!(
        "{SYSTEM}PATH=$PATH:/usr/sbin; W={0}; export HOST=$W; cd $W; {prepare}
         cat > in <<'E'\n{INSIDE_ROOT}\nE\n{enter} 2>&1",
        work.display()
    );
    let told = succeed(place, &script);
    std::fs::remove_dir_all(work).expect("scratch goes");
    told
}

const ENTER: &str =
    "chroot r /bin/sh -c \"$(cat in)\"; chroot r/etc/who /bin/sh; chroot none /bin/sh; true";

/// As root of a namespace where the tests are not root's.
fn on_linux() -> Option<String> {
    let possible = run(Place::Native, "unshare -r chroot / true").status == Some(0);
    possible.then(|| {
        let enter = format!("unshare -r sh -c '{}'", ENTER.replace('\'', "'\\''"));
        told_in(Place::Native, "system r", &enter)
    })
}

#[test]
fn a_root_of_its_own_is_as_on_linux() {
    let linux = on_linux();
    let real = "system r; vu_insmod unrealuidgid";
    let memory = "vu_insmod unrealuidgid vufuse; mkdir r; vumount -t vufusemem none r; system r";
    let copy = "vu_insmod unrealuidgid vufs; mkdir up low; system low; system up/x; rm -r up/x
                mkdir r; vumount -t vufs $W/low $W/r; vumount -t vufs -o cow up r";
    for place in INSIDE {
        for prepare in [real, memory, copy] {
            let enter = format!("vusu -c '{}'", ENTER.replace('\'', "'\\''"));
            let told = told_in(place, prepare, &enter);
            assert!(told.starts_with("/\nbin\ndir\netc\n"), "{place:?} {prepare}: {told}");
            if let Some(linux) = &linux {
                assert_eq!(&told, linux, "{place:?}: {prepare}");
            }
        }
    }
}

#[test]
fn who_is_not_root_may_not_change_the_root() {
    const SCRIPT: &str = r#"
import os, sys
for path in ("r", "r/f", "none", "/"):
    try: os.chroot(path); print("ok")
    except OSError as error: print(path, error.strerror)
"#;
    let script = |mount: &str| {
        format!(
            "W=$(mktemp -d); trap 'rm -rf $W' EXIT; chmod 777 $W; cd $W; mkdir r; {mount} touch r/f; who=
             [ $(id -u) != 0 ] || who='setpriv --reuid=1000 --regid=1000 --clear-groups'; $who env PATH=/usr/bin:/bin python3 -c '{SCRIPT}'"
        )
    };
    let linux = succeed(Place::Native, &script(""));
    assert!(linux.contains("Operation not permitted"), "{linux}");
    for place in INSIDE {
        for mount in ["vu_insmod unrealuidgid;", "vu_insmod vufuse; vumount -t vufusemem none r;"] {
            assert_eq!(succeed(place, &script(mount)), linux, "{place:?}");
        }
    }
}

/// What is outside sees where the root is, and procfs that is bound inside tells names from it.
#[test]
fn procfs_tells_where_the_root_is() {
    const SCRIPT: &str = r##"
vu_insmod unrealuidgid vufuse mountreal; mkdir r; vumount -t vufusemem none r; system r
vusu -c 'mount --bind /proc r/proc; chroot r /bin/sh -c "readlink /proc/self/root; readlink /proc/self/exe; cd etc; readlink /proc/self/cwd; exec 5</etc/who; readlink /proc/self/fd/5"
mkfifo f; chroot r /bin/sh -c "read x" < f & exec 6> f; sleep 0.2; readlink /proc/$!/root | sed "s:$HOST:W:"; readlink /proc/self/root; echo go >&6; wait'
"##;
    for place in INSIDE {
        let work = scratch("procfs");
        let script = format!("{SYSTEM}W={0}; export HOST=$W; cd $W; {SCRIPT}", work.display());
        let told = succeed(place, &script);
        assert_eq!(told, "/\n/bin/busybox\n/etc\n/etc/who\nW/r\n/\n", "{place:?}");
        std::fs::remove_dir_all(work).expect("scratch goes");
    }
}
