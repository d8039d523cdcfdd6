//! Virtual ids, capabilities and owners: root where nobody is, as fakeroot(1) and Linux have it.

use std::fs;

use crate::harness::{Done, Place, run, scratch, succeed, umvu};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests");
const MODES: [&str; 2] = ["", "-S"];

/// Words that run a command as somebody without rights, even where the tests are root's.
const NOBODY: &str = r#"
nobody() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid 12345 --regid 12345 --clear-groups --no-new-privs env HOME=/tmp "$@"
    else
        "$@"
    fi
}
PATH=$PATH:/usr/sbin:/sbin
"#;

/// Runs a script with a copy of umvu that anybody can run, at `$UMVU`, in a folder for anybody, `$W`.
fn as_nobody(script: &str) -> Done {
    let work = format!(
        "W=$(mktemp -d); trap 'rm -rf $W' EXIT; chmod 777 $W; UMVU=$W/umvu
         install -m755 {} $UMVU; cp {GUESTS}/ids.sh {GUESTS}/ids.py $W; {NOBODY}{script}",
        umvu()
    );
    run(Place::Native, &work)
}

#[track_caller]
fn told_by(script: &str) -> String {
    let done = as_nobody(script);
    assert_eq!(done.status, Some(0), "{script}\n{}{}", done.out, done.err);
    format!("{}{}", done.out, done.err)
}

#[test]
fn owners_and_modes_are_those_of_fakeroot() {
    let prepare = "mkdir -m 777 $W/t $W/t/x";
    let expected = told_by(&format!("{prepare}; nobody fakeroot bash $W/ids.sh $W/t/x 2>&1"));
    assert!(expected.contains("33 44 0\n") && expected.contains("www-data"), "{expected}");
    for mode in MODES {
        let told = told_by(&format!(
            "{prepare}; nobody $UMVU -N {mode} -m unrealuidgid vusu -s /bin/bash -c \
             'bash $0/ids.sh $0/t/x' root $W 2>&1"
        ));
        assert_eq!(told, expected, "{mode}");
    }
}

/// The same program where it is root by a user namespace of the kernel.
#[test]
fn ids_change_as_on_linux() {
    const RANGE: &str = "unshare -U --map-users=0,0,65536 --map-groups=0,0,65536";
    let linux = run(Place::Native, &format!("{RANGE} python3 {GUESTS}/ids.py"));
    for mode in MODES {
        let told = told_by(&format!(
            "nobody $UMVU -N {mode} -m unrealuidgid vusu -c 'python3 $0/ids.py' root $W"
        ));
        assert!(told.ends_with("(1000, 1000, 1000) (7, 8, 8) [4, 5]\n"), "{told}");
        // Only root can be root so; what it had before is cleared first.
        if linux.status == Some(0) && nix::unistd::geteuid().is_root() {
            let groups = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(groups(&told), groups(&linux.out), "{mode}");
        }
    }
}

#[test]
fn su_of_the_view_is_anybody() {
    for mode in MODES {
        let told = told_by(&format!(
            r#"nobody $UMVU -N {mode} -m unrealuidgid bash -c '
                cd $0; id -u; vusu -c "id -un; echo \$HOME \$0 \$1" root a
                vusu www-data -s /bin/sh -c "id; whoami; touch mine; stat -c %U mine; vusu -c \"id -u\""
                vusu - www-data -s /bin/sh -c "pwd; echo \$USER \$PATH" 2>&1 | sed s,/[^:]*/bin:,OURS:,
                vusu nosuch; echo $?; vusu -c "exit 7"; echo $?
                vusu -c "getfacl --version >/dev/null 2>&1; capsh --print 2>/dev/null | head -1"
                python3 -c "import os; os.setuid(0); print(os.getuid(), os.stat(\"mine\").st_uid)"
                kill -0 1 && echo killed; cat /etc/shadow; true' $W 2>&1"#
        ));
        let lines: Vec<&str> = told.lines().collect();
        assert!(
            lines.starts_with(&[
                "12345",
                "root",
                "/root a",
                "uid=33(www-data) gid=33(www-data) groups=33(www-data)",
                "www-data",
                "www-data",
                "0"
            ]) || !nix::unistd::geteuid().is_root(),
            "{told}"
        );
        assert!(told.contains("vusu: user nosuch does not exist\n1\n7\n"), "{told}");
        assert!(
            told.contains("/var/www\nwww-data ") || told.contains("cannot change directory"),
            "{told}"
        );
        assert!(told.contains("\n0 0\n") && told.contains("Permission denied"), "{told}");
        assert!(!told.contains("killed"), "{told}");
    }
}

/// What was loaded later, or into running programs, is seen by them all the same.
#[test]
fn ids_are_virtual_in_programs_that_run_already() {
    for mode in MODES {
        let told = told_by(&format!(
            r#"nobody $UMVU -N {mode} -m vunet python3 -c '
import os, subprocess, sys, threading
def root(): os.setuid(0); print(os.getuid(), os.stat(sys.argv[1] + "/x").st_uid)
open(sys.argv[1] + "/x", "w")
os.getuid(); os.stat(sys.argv[1])
subprocess.run(["vu_insmod", "unrealuidgid"], check=True)
t = threading.Thread(target=root); t.start(); t.join()
subprocess.run(["vu_rmmod", "unrealuidgid"], check=True)
print(os.getuid() == os.stat(sys.argv[1] + "/x").st_uid != 0)' $W"#
        ));
        assert_eq!(told, "0 0\nTrue\n", "{mode}");
    }
}

/// A directory of the host is the same at another place.
#[test]
fn owners_and_modes_are_virtual_behind_a_bind_mount() {
    for mode in MODES {
        let told = told_by(&format!(
            r#"mkdir -m 777 $W/a $W/b; cd $W; nobody $UMVU -N {mode} -m unrealuidgid -m mountreal vusu -s /bin/bash -c '
                cd $0; mount --bind a b; touch b/f b/own; mkdir b/d; ln -s f b/l; chown 3:4 b/f b/d; chown -h 5 b/l; chmod 4755 b/f
                chmod 0 b/own; mknod -m 600 b/n c 1 3; mknod b/p p; stat -c "%n %U %G %a %F %t" b/*; ls -ln b | grep -v total | cut -c1-10 | sort
                for name in f d l own n p; do [ "$(stat -c "%u %g %a %F %t" a/$name)" = "$(stat -c "%u %g %a %F %t" b/$name)" ] || echo $name; done
                vusu daemon -s /bin/sh -c "chown 7 b/f; chmod 7 b/f; mknod b/m c 1 3"; tar c b | tar tv --numeric-owner | grep /f$ | cut -c1-14' root $W 2>&1"#
        ));
        assert_eq!(
            told,
            "b/d sys adm 755 directory 0\nb/f sys adm 4755 regular empty file 0\nb/l games root 777 symbolic link 0\n\
             b/n root root 600 character special file 1\nb/own root root 0 regular empty file 0\nb/p root root 644 fifo 0\n\
             ----------\n-rwsr-xr-x\ncrw-------\ndrwxr-xr-x\nlrwxrwxrwx\nprw-r--r--\n\
             chown: changing ownership of 'b/f': Operation not permitted\nchmod: changing permissions of 'b/f': Operation not permitted\n\
             mknod: b/m: Operation not permitted\n-rwsr-xr-x 3/4\n",
            "{mode}"
        );
    }
}

#[test]
fn mounted_file_systems_see_the_virtual_ids() {
    for mode in MODES {
        let work = scratch("ids");
        let told = succeed(
            Place::Native,
            &format!(
                "{} -N {mode} -m unrealuidgid -m vufuse bash -c '
                 vumount -t vufusemem none {1} && cd {1} && vusu -c \"touch r; chown 3:4 r; mknod n c 1 3; chmod 600 r\"
                 stat -c \"%u %g %a %F\" r n; vusu daemon -s /bin/sh -c \"cat r; chown 5 r; touch /mnt/x\"; true' 2>&1",
                umvu(),
                work.display()
            ),
        );
        assert!(
            told.starts_with("3 4 600 regular empty file\n0 0 644 character special file\n"),
            "{told}"
        );
        assert!(
            told.contains("cat: r: Permission denied") && told.contains("not permitted"),
            "{told}"
        );
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

#[test]
fn capabilities_are_what_was_set() {
    const SCRIPT: &str = r"
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
header = struct.pack('II', 0x20080522, 0)
def get():
    data = ctypes.create_string_buffer(24); libc.capget(header, data); return struct.unpack('6I', data.raw)
print(libc.capset(header, struct.pack('6I', 1, 3, 0, 0, 0, 0)), get(), libc.prctl(23, 7), libc.prctl(23, 99))
print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm'))])
";
    for mode in MODES {
        let script = format!(
            "cat > $W/c.py <<'E'\n{SCRIPT}\nE\nnobody $UMVU -N {mode} -m unrealcap python3 $W/c.py"
        );
        let told = told_by(&script);
        assert_eq!(
            told, "0 (1, 3, 0, 0, 0, 0) 1 -1\n['0000000000000003', '0000000000000001']\n",
            "{mode}"
        );
    }
}
