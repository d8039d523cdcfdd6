//! A view's own host name, as a namespace of the kernel (`unshare -u`) has it.

use crate::harness::{Place, run, succeed, umvu};

/// Changes the names by all ways and tells them by all ways.
const STORY: &str = r#"
hostname lab.one; hostname; uname -n; cat /proc/sys/kernel/hostname
echo two > /proc/sys/kernel/hostname; uname -n; sysctl -n kernel.hostname
sysctl -qw kernel.hostname=three; hostname
python3 -c 'import ctypes; print(ctypes.CDLL(None).setdomainname(b"nis", 3))'; cat /proc/sys/kernel/domainname
bash -c 'echo $HOSTNAME'; bash --norc -c 'PS1="\h>"; echo ${PS1@P}'
python3 -c 'import socket, platform; print(socket.gethostname(), platform.node())
for name in ("x" * 64, "x" * 65, ""):
    try: socket.sethostname(name); print(socket.gethostname())
    except OSError as error: print(error.strerror)'
"#;

#[test]
fn names_are_changed_as_in_a_namespace() {
    let linux =
        run(Place::Native, &format!("unshare -Uru bash -c '{}'", STORY.replace('\'', "'\\''")));
    for mode in ["", "-S"] {
        let told = succeed(
            Place::Native,
            &format!("{} -N {mode} -m vumisc bash -c '{}'", umvu(), STORY.replace('\'', "'\\''")),
        );
        assert!(
            told.starts_with("lab.one\nlab.one\nlab.one\ntwo\ntwo\nthree\n0\nnis\nthree\n"),
            "{told}"
        );
        // Where the kernel gives namespaces, and files of /proc/sys in them, to anybody.
        if linux.status == Some(0) && linux.err.is_empty() {
            assert_eq!(told, linux.out, "{mode}");
        }
    }
}

/// Programs that run already see it; files show it; without the module it is the host's again.
#[test]
fn the_name_is_the_views_for_as_long_as_the_module_is_loaded() {
    for mode in ["", "-S"] {
        let script = format!(
            r#"{} -N {mode} -m vunet bash -c '
            D=$(mktemp -d); before=$(uname -n); python3 -c "
import os, socket, subprocess
socket.gethostname()
subprocess.run([\"vu_insmod\", \"vumisc\"], check=True)
socket.sethostname(\"new\"); print(socket.gethostname())"
            vuname -n; vumount -t vumiscuname none $D && cat $D/nodename && echo other > $D/nodename
            uname -n; [ "$(cat $D/release)" = "$(uname -r)" ] && echo same
            vu_rmmod vumisc 2>/dev/null || echo busy; vuumount $D; vu_rmmod vumisc; rmdir $D
            [ "$(uname -n)" = "$before" ] && [ "$(cat /proc/sys/kernel/hostname)" = "$before" ] && echo back'"#,
            umvu()
        );
        assert_eq!(
            succeed(Place::Native, &script),
            "new\nnew\nnew\nother\nsame\nbusy\nback\n",
            "{mode}"
        );
    }
}
