//! Programs run with the dynamic linker and the libraries of their view.

use crate::{
    harness::{EVERYWHERE, INSIDE, scratch, succeed},
    patchwork::as_user,
};

/// A dynamic linker that can be told from the host's by what it says about a library that is missing.
const OTHER: &str = r#"
linker=$(readlink -f "$(readelf -l /bin/sh | grep -o '/[^]]*ld[^]]*')")
other() { sed 's/cannot be preloaded/CANNOT be preloaded/' $linker > $1 && chmod 755 $1; }
says() { LD_PRELOAD=/none.so "$@" 2>&1 >/dev/null | grep -io 'cannot be pre' | uniq; }
"#;

/// As after an upgrade of the C library in a copy of the system.
#[test]
fn an_upgraded_linker_is_the_one_that_runs() {
    const SCRIPT: &str = r#"
        vu_insmod vufs; mkdir over
        vumount -t vufs -o cow,except=/proc,except=/sys,except=/dev,except=$W/over $W/over / || exit 1
        says cat /dev/null; other new && mv new $linker
        says cat /dev/null; cp /bin/cat mine; says ./mine /dev/null; printf '#!/bin/cat\n' > script; chmod +x script; says ./script
        /bin/sh -c 'grep -c "$0" /proc/self/maps' $linker; ls -l /proc/self/exe | grep -o '[^/]*$'
        python3 -c 'import ctypes, threading, sys; t = threading.Thread(target=print, args=("threads",)); t.start(); t.join()'
        sh -c 'exec sh -c "exec cat /proc/self/comm"'; env -i /bin/echo no environment
        cd over; vuumount /; says cat /dev/null
    "#;
    let expected = "cannot be pre\nCANNOT be pre\nCANNOT be pre\nCANNOT be pre\n0\nls\nthreads\ncat\n\
                    no environment\ncannot be pre\n";
    for place in INSIDE {
        assert_eq!(as_user(place, &format!("{OTHER}{SCRIPT}")), expected, "{place:?}");
    }
}

/// In a root of its own, and where the host has no dynamic linker of that name.
#[test]
fn another_root_has_a_linker_of_its_own() {
    const SCRIPT: &str = r##"
        vu_insmod vufuse unrealuidgid; mkdir r; vumount -t vufusemem none r
        name=$(readelf -l /bin/sh | grep -o '/[^]]*ld[^]]*'); mkdir -p bin r/bin r/lib r${name%/*} r/etc; other r$name; other r/lib/ld-umvu.so.1
        for program in cat sh grep; do cp -L $(command -v $program) r/bin; done
        ldd r/bin/* | grep -o '/[^ ]*\.so[^ ]*' | sort -u | grep -v ld-linux | while read lib; do mkdir -p r${lib%/*}; cp -L $lib r$lib; done
        echo 'int puts(const char *); int main(int n, char **a) { puts(a[0]); return puts(n > 1 ? a[1] : "none") < 0; }' > p.c
        cc -o r/bin/foreign p.c -Wl,--dynamic-linker=/lib/ld-umvu.so.1 && cp r/bin/foreign .
        echo 'echo script' > r/bin/script; sed -i '1i #!/bin/foreign' r/bin/script; chmod +x r/bin/script
        says vusu -c 'chroot r /bin/cat /etc/none'; vusu -c "chroot r /bin/sh -c 'foreign word; exec /bin/script'"
        env ./foreign 2>&1 | grep -o 'No such.*'; mkdir empty; vusu -c 'chroot empty /bin/sh' 2>&1 | grep -o 'No such.*'
        rm r$name; vusu -c 'chroot r /bin/cat' 2>&1 | grep -o 'No such.*'
    "##;
    let expected = "cannot be pre\nCANNOT be pre\nforeign\nword\n/bin/foreign\n/bin/script\nNo such file or directory\n\
                    No such file or directory\nNo such file or directory\n";
    for place in INSIDE {
        let work = scratch("linker");
        let told = succeed(place, &format!("cd {}; {OTHER}{SCRIPT}", work.display()));
        assert_eq!(told, expected, "{place:?}");
        std::fs::remove_dir_all(work).expect("scratch goes");
    }
}

/// What is no file is executed by nobody, and holds up nobody.
#[test]
fn a_pipe_is_no_program() {
    let script = "W=$(mktemp -d); trap 'rm -r $W' EXIT; cd $W; mkfifo f; chmod +x f; ln -s f g
        for name in f g .; do python3 -c '
import os, sys
try: os.execv(\"./\" + sys.argv[1], [\"x\"])
except OSError as error: print(error.strerror)' $name; done";
    for place in EVERYWHERE {
        let mounted = "vu_insmod vufuse; mkdir /tmp/umvu-pipe-$$; \
                       vumount -t vufusemem none /tmp/umvu-pipe-$$;";
        let begin = if INSIDE.contains(&place) { mounted } else { "" };
        let end = "cd /; vuumount /tmp/umvu-pipe-$$; rmdir /tmp/umvu-pipe-$$";
        let end = if INSIDE.contains(&place) { end } else { "" };
        let out = succeed(place, &format!("{begin} {script}\n{end}"));
        assert_eq!(out, "Permission denied\n".repeat(3), "{place:?}");
    }
}
