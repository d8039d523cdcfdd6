//! `vufuseext2`: images of mkfs.ext2, mkfs.ext3 and mkfs.ext4, judged by e2fsck(8) and by what plain Linux
//! says to the same script.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use crate::harness::{INSIDE, Place, run, scratch, succeed, umvu};

/// What mkfs is called with: every layout that is written to.
const LAYOUTS: &[&str] = &[
    "ext4",
    "ext3",
    "ext2",
    "ext4 -b1024 -O^64bit,^metadata_csum,^has_journal -I128",
    "ext4 -Obigalloc",
    "ext4 -Oinline_data",
    "ext4 -Oorphan_file,metadata_csum_seed",
    "ext2 -b4096 -I128",
];

/// What programs do in a directory; it says the same wherever that is.
const WORK: &str = r#"
    echo hello > a; mkdir -m 2750 d; mkdir d/e; ln a d/hard; ln -s ../a d/sym; cat d/sym; mkfifo fifo
    L=$(printf '%0200d' 7); ln -s $L long; readlink long | md5sum; stat -c '%A %h %s %F' a d/hard d/sym fifo long
    seq 200000 > seq; md5sum < seq; printf x | dd of=seq bs=1 seek=777 conv=notrunc status=none
    seq 9 >> seq; md5sum < seq; truncate -s 5000 seq; truncate -s 9000 seq; md5sum < seq; stat -c %s seq
    printf end | dd of=hole bs=1 seek=3000000 status=none; md5sum < hole; stat -c %s hole
    mv a d/e/moved; mv d/e e; cat e/moved; ls -R; stat -c %h . d e
    mkdir full; (cd full; for i in $(seq 700); do echo $i > a_rather_long_name_for_a_file_$i; done
        ls | md5sum; rm *1*; cat * | md5sum; ls | wc -l)
    rmdir full 2>&1 | grep -o 'not empty'; exec 3>open 4<open; echo data >&3; rm open; echo more >&3; cat <&4; exec 3>&- 4<&-
    touch -d '2100-02-03 04:05:06.123456789 UTC' e/moved; TZ=UTC stat -c '%y %A' e/moved
    chmod 4711 seq; stat -c %A seq; mkdir over; mv -T over d/over; mkdir over; mv -T over d/over; ls d
    python3 - <<'P'
import ctypes, errno, os, mmap
libc = ctypes.CDLL(None, use_errno=True)
def rename(one, two, flags):
    done = libc.renameat2(-100, one.encode(), -100, two.encode(), flags)
    return errno.errorcode[ctypes.get_errno()] if done else 'done'
open('one', 'w').write('1'); os.mkdir('two'); open('two/in', 'w').write('2')
print(rename('one', 'two', 1), rename('one', 'two', 2), open('two').read(), os.listdir('one'))
print(rename('one', 'd/one', 2), rename('one', 'd/one', 1), os.stat('d').st_nlink, os.stat('.').st_nlink)
for name in ('user.small', 'user.big'):
    os.setxattr('two', name, name.encode() * 40)
    print(len(os.getxattr('two', name)))
os.removexattr('two', 'user.small'); print(os.listxattr('two'))
fd = os.open('d', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'nameless')
print(libc.linkat(-100, b'/proc/self/fd/%d' % fd, -100, b'd/named', 0x400), open('d/named').read())
with open('mapped', 'w+b') as f:
    f.truncate(70000); m = mmap.mmap(f.fileno(), 0); m[65000:65003] = b'abc'; m.flush(); m.close()
with open('big', 'wb') as f: f.seek(5 << 30); f.write(b'far'); f.truncate(); os.fsync(f.fileno())
print(os.stat('big').st_size, open('mapped', 'rb').read()[64999:65004])
P
    rm big; sync
"#;

/// The end of a session with an image: it is whole.
const CHECK: &str = "e2fsck -fn i >log 2>&1 || { cat log; exit 8; }";

fn begin(work: &Path, layout: &str) -> String {
    format!(
        "set -e; export PATH=$PATH:/sbin:/usr/sbin; cd {}; rm -rf i m; mkdir m; vu_insmod vufuse; \
         truncate -s 64M i; mkfs.{layout} -q i >/dev/null; chmod 666 i; vumount -t vufuseext2 -o rw+ i m; cd m; \
         rmdir lost+found; ",
        work.display()
    )
}

#[test]
fn files_are_as_on_plain_linux_in_every_layout() {
    let work = scratch("ext-native");
    let native = succeed(Place::Native, &format!("set -e; cd {}; {WORK}", work.display()));
    fs::remove_dir_all(work).expect("scratch goes");
    for (number, layout) in LAYOUTS.iter().enumerate() {
        let place = INSIDE[number % INSIDE.len()];
        let work = scratch("ext");
        let begin = begin(&work, layout);
        let again = "vumount -t vufuseext2 -o ro i m; cd m; find . -type f | sort | xargs md5sum > ../two; \
                     touch x 2>&1 | grep -q Read-only; cd ..; vuumount m; cmp one two";
        let script = format!(
            "{begin} {WORK} find . -type f | sort | xargs md5sum > ../one; cd ..; vuumount m; {CHECK}; {again}"
        );
        let told = succeed(place, &script);
        // An inode of 128 bytes has seconds in 32 bits.
        let most = "2038-01-19 03:14:07.000000000";
        let wanted = if layout.contains("-I128") {
            native.replace("2100-02-03 04:05:06.123456789", most)
        } else {
            native.clone()
        };
        assert_eq!(told, wanted, "{place:?} {layout}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

#[test]
fn the_session_of_the_readme() {
    let script = r#"
        set -e; export PATH=$PATH:/sbin:/usr/sbin; cd $(mktemp -d); W=$PWD; mkdir mnt
        vu_insmod vudev vufuse; truncate -s 1G disk
        vumount -t vudevpartx disk /dev/hda 2>/dev/null
        printf '%s\n' n '' '' +200M '' n '' '' '' '' w Y | gdisk /dev/hda >/dev/null
        mkfs.ext4 -q /dev/hda1 2>/dev/null; vumount -t vufuseext2 -o rw+ /dev/hda1 mnt
        echo ciao > mnt/hello; ls mnt; cat mnt/hello
        vumount -t vufuseext2 -o ro /dev/hda1 /tmp 2>&1 | grep -o 'in use by another mount'
        vuumount /dev/hda 2>&1 | grep -o 'in use'; vuumount mnt; ls mnt; e2fsck -fn /dev/hda1 >/dev/null 2>&1
        vumount -t vufuseext2 /dev/hda1 mnt 2>&1; cat mnt/hello; echo no 2>/dev/null > mnt/no || echo refused
        vuumount mnt; vuumount /dev/hda; cd /; rm -r $W"#;
    for place in INSIDE {
        let told = succeed(place, script);
        let wanted = "hello\nlost+found\nciao\nin use by another mount\nin use\n\
                      vufuseext2: mounted read-only; to write, mount with -o rw+\nciao\nrefused\n";
        assert_eq!(told, wanted, "{place:?}");
    }
}

#[test]
fn what_is_no_image_of_it_is_refused_with_a_line() {
    let work = scratch("ext-none");
    let script = format!(
        "cd {}; export PATH=$PATH:/sbin:/usr/sbin; vu_insmod vufuse; mkdir m; seq 9999 > text
         mount() {{ vumount -t vufuseext2 \"$@\" 2>&1; }}
         mount -o ro text m; truncate -s 9M i; mkfs.ext4 -q -O quota i; mount -o rw+ i m; mount -o ro none m
         mount -o ro,what i m; mkfs.ext4 -qF i; truncate -s 5M i; mount -o ro i m; ls m",
        work.display()
    );
    for place in INSIDE {
        let done = run(place, &script);
        let wanted = "vumount: text: is no ext2, ext3 or ext4 file system\n\
            vumount: i: not written to because of quotas (tune2fs -O ^quota); mount with -o ro\n\
            vumount: none: No such file or directory\n\
            vumount: vufuseext2: what: unknown option\n\
            vumount: i: the file system is damaged or cut off; run e2fsck\n";
        assert_eq!(done.out, wanted, "{place:?}");
        fs::remove_dir(work.join("m")).expect("nothing is mounted");
    }
    fs::remove_dir_all(work).expect("scratch goes");
}

/// Names are made, moved and taken away until somebody ends it.
const CHURN: &str = r"j=0; while :; do j=$((j + 1)); mkdir d$j; for i in $(seq 40); do echo $i > d$j/f$i
    seq $i 900 > d$j/g$i; done; rm d$j/g*; mv d$j e$j; ln -s x e$j/l; exec 5> e$j/open; rm e$j/open
    sync e$j/f1; [ $j -gt 6 ] && rm -r e$((j - 6)); : > ../going; done";

#[test]
fn a_session_that_is_killed_leaves_what_the_journal_brings_back() {
    for (number, signal) in ["KILL", "KILL", "TERM"].into_iter().enumerate() {
        let (place, work) = (INSIDE[number % INSIDE.len()], scratch("ext-killed"));
        let script = format!("{} {CHURN}", begin(&work, "ext4"));
        let mut words = place.prefix().to_vec();
        words.extend(["bash", "-c", &script]);
        let mut session = Command::new(words[0]).args(&words[1..]).spawn().expect("umvu runs");
        while !work.join("going").exists() {
            thread::sleep(Duration::from_millis(20));
            assert!(session.try_wait().expect("our child").is_none(), "it goes on");
        }
        thread::sleep(Duration::from_millis(300));
        let kill = ["-s", signal, &session.id().to_string()].map(str::to_owned);
        assert!(Command::new("kill").args(kill).status().expect("kill(1) runs").success());
        session.wait().expect("our child");
        let hash = "(cd m; find . -type f | sort | xargs md5sum | md5sum)";
        let mount = "vumount -t vufuseext2 -o";
        let told = succeed(
            place,
            &format!(
                "set -e; export PATH=$PATH:/sbin:/usr/sbin; cd {}; vu_insmod vufuse; cp i j
                 {mount} ro i m; {hash} > ro; vuumount m; cmp i j; {mount} rw+ i m; {hash} > rw; vuumount m
                 {CHECK}; e2fsck -p j >log || [ $? = 1 ]; e2fsck -fn j >log 2>&1; {mount} ro j m; {hash} > fsck
                 vuumount m; cmp ro rw; cmp rw fsck; grep -c needs_recovery <<< \"$(dumpe2fs -h i 2>&1)\" || true",
                work.display()
            ),
        );
        assert_eq!(told, "0\n", "{place:?} {signal}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

#[test]
fn a_full_image_says_so_and_stays_whole() {
    let work = scratch("ext-full");
    for (layout, place) in [("ext4", INSIDE[0]), ("ext2", INSIDE[1])] {
        let begin = begin(&work, &format!("{layout} -N 64"));
        let script = format!(
            "{begin} python3 - <<'P'
import errno, os
def code(act):
    try: act()
    except OSError as error: return errno.errorcode[error.errno]
def fill():
    for number in range(100):
        fd = os.open('f%d' % number, os.O_CREAT | os.O_WRONLY); os.close(fd)
print(code(fill), len(os.listdir('.')) > 40)
for name in os.listdir('.'): os.unlink(name)
open('again', 'w').write('again')
P
            cat again; cd ..; vuumount m; {CHECK}"
        );
        assert_eq!(succeed(place, &script), "ENOSPC True\nagain", "{place:?} {layout}");
    }
    fs::remove_dir_all(work).expect("scratch goes");
}

#[test]
fn programs_are_built_and_kept_under_version_control_in_an_image() {
    let script = r#"
        export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a \
            GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000'
        git init -q r; cd r
        for i in $(seq 30); do
            echo "int f$i(void) { return $i; }" > f$i.c; echo "int f$i(void);" >> all.h; S="$S + f$i()"
        done
        printf '#include "all.h"\n#include <stdio.h>\nint main(void) { printf("%%d\\n", 0%s); }\n' "$S" > main.c
        printf 'p: $(patsubst %%.c,%%.o,$(wildcard *.c))\n\tcc -o $@ $^\n' > Makefile
        make -s -j2; ./p; echo '*.o' > .gitignore; git add -A; git commit -qm one; git status --short | wc -l
        echo 'int more;' >> f7.c; git status --short; make -s; ./p; git stash -q; git diff | wc -l; git stash pop -q
        git commit -qam two; git gc -q; git fsck 2>&1 | wc -l; git log --format=%h; git clone -q . ../clone
        diff -r --exclude=.git --exclude='*.o' --exclude=p . ../clone 2>&1 | wc -l; cd ..
        (tar cf - r | tar xf - -C clone); diff -r r clone/r && echo same; find . -type f | wc -l; rm -rf clone r"#;
    let work = scratch("ext-native");
    let native = succeed(Place::Native, &format!("set -e; cd {}; {script}", work.display()));
    for (place, layout) in INSIDE.into_iter().zip(["ext4", "ext2"]) {
        let begin = begin(&work, layout);
        let told = succeed(place, &format!("{begin} {script}; cd ..; vuumount m; {CHECK}"));
        assert_eq!(told, native, "{place:?} {layout}");
    }
    fs::remove_dir_all(work).expect("scratch goes");
}

#[test]
fn who_mounts_an_image_may_change_what_is_in_it() {
    let user: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let may_run = Command::new("timeout").arg("5").args(user).args([umvu(), "--version"]).output();
    let prefix = if may_run.is_ok_and(|it| it.status.success()) { user } else { &[] };
    let script = "set -e; export PATH=$PATH:/sbin:/usr/sbin HOME=/tmp; cd $(mktemp -d); mkdir m; vu_insmod vufuse
        truncate -s 20M i; mkfs.ext4 -q -E root_owner=0:0 i; vumount -t vufuseext2 -o rw+ i m; stat -c %u m
        echo ciao > m/hello; cat m/hello; chmod 600 m/hello; rmdir m/lost+found; chmod 700 m; stat -c %a m
        vuumount m; e2fsck -fn i >/dev/null 2>&1; rm -r $PWD";
    for place in INSIDE {
        let mut command = Command::new("timeout");
        command.arg("60").args(prefix).args(place.prefix()).args(["bash", "-c", script]);
        let done = command.output().expect("timeout(1) runs");
        let told = String::from_utf8_lossy(&done.stdout);
        assert_eq!(
            (told.as_ref(), done.status.code()),
            ("0\nciao\n700\n", Some(0)),
            "{place:?} {done:?}"
        );
    }
}
