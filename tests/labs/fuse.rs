//! FUSE programs of Debian, unmodified, on the virtual `/dev/fuse`: as the user of the tests, and as an
//! ordinary one when that is root; in both interception modes.

use std::process::Command;

use crate::harness::{Done, INSIDE, Place, umvu};

/// What every script begins with: a folder `$W` with some files in `src` and a mount point `m`.
const BEGIN: &str = r#"
set -e; cd "$W"; export HOME=$W PATH=$PATH:/sbin:/usr/sbin
mkdir m src src/d; seq 100000 > src/seq; cp /usr/include/stdio.h src/a.h; ln -s ../a.h src/d/l
vu_insmod fuse
writes() {
    echo hello > m/new; cat m/new; mkdir m/nd; mv m/new m/nd/x; echo more >> m/nd/x; cat m/nd/x
    cp src/seq m/copy; cmp m/copy src/seq; rm m/copy m/nd/x; rmdir m/nd; ls m/nd 2>&1 | grep -c 'No such'
}
same() { cmp m/seq src/seq; cmp m/d/l src/a.h; ls m; }
"#;

/// What `same` and `writes` say.
const SAME: &str = "a.h\nd\nseq\n";
const WRITES: &str = "hello\nhello\nmore\n1\n";

/// Runs a script inside umvu, as root or not; a script that hangs is ended.
pub(crate) fn run_as(prefix: &[&str], place: Place, script: &str) -> Done {
    let folder = tempfile();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120"]).args(prefix).args(place.prefix());
    command.args(["bash", "-c", script]);
    let done =
        command.env("LC_ALL", "C").env("W", &folder).output().expect("timeout(1) runs").into();
    let _ = std::fs::remove_dir_all(folder);
    done
}

/// A folder that any user may write to.
fn tempfile() -> String {
    let made = Command::new("mktemp").args(["-d", "/tmp/umvu-fuse-XXXXXX"]).output();
    let path = String::from_utf8(made.expect("mktemp(1) runs").stdout).expect("a path of letters");
    let path = path.trim_end().to_owned();
    let status = Command::new("chmod").args(["777", &path]).status().expect("chmod(1) runs");
    assert!(status.success());
    path
}

/// A script says the same in both modes, for an ordinary user and, if the tests are run by root, for root.
#[track_caller]
fn says(script: &str, wanted: &str) {
    says_alone(&format!("{BEGIN}{script}"), wanted);
}

/// The same of a script that has a beginning of its own.
#[track_caller]
pub(crate) fn says_alone(script: &str, wanted: &str) {
    let user: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let may_read = Command::new("timeout").arg("5").args(user).args([umvu(), "--version"]).output();
    let others: &[&[&str]] =
        if may_read.is_ok_and(|it| it.status.success()) { &[&[], user] } else { &[&[]] };
    for prefix in others {
        for place in INSIDE {
            let done = run_as(prefix, place, script);
            assert_eq!(done.status, Some(0), "{prefix:?} {place:?}: {}{}", done.out, done.err);
            assert_eq!(done.out, wanted, "{prefix:?} {place:?}: {}", done.err);
        }
    }
}

#[test]
fn the_session_of_the_readme() {
    let script = r"
        truncate -s 100M linux.img; mkfs.ext4 -q -d src linux.img; ls m
        fuse2fs -o ro linux.img m 2>/dev/null; ls m; cmp m/seq src/seq
        grep -c ' fuse.ext4 rw,nosuid,nodev,relatime,user_id=' /proc/mounts
        vuumount m; ls m; ls -l /dev/fuse | cut -c1-10
        while ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q $W/linux.img; do sleep 0.05; done
        fuse2fs -o fakeroot linux.img m 2>/dev/null; writes; cp -a src m/src; diff -r src m/src
        tar c -C m src | tar t | sort | tr '\n' ' '; find m/src -type l; vuumount m
        e2fsck -fn linux.img >/dev/null 2>&1; debugfs -R 'stat src/d/l' linux.img 2>/dev/null | grep -c symlink";
    let wanted = format!(
        "a.h\nd\nlost+found\nseq\n1\ncrw-rw-rw-\n{WRITES}\
         src/ src/a.h src/d/ src/d/l src/seq m/src/d/l\n1\n"
    );
    says(script, &wanted);
}

#[test]
fn programs_that_show_other_files() {
    let script = r"
        mksquashfs src s.img -quiet -no-progress >/dev/null; squashfuse s.img m; same; vuumount m
        bindfs src m; same; writes; fusermount3 -u m
        tar cf a.tar -C src .; archivemount -o readonly a.tar m; same; fusermount -u m
        mkdir up; unionfs -o cow up=RW:src=RO m; same; writes; rm m/a.h; ls m; umount m; ls src";
    let once = format!("{SAME}{SAME}{WRITES}{SAME}{SAME}{WRITES}d\nseq\n{SAME}");
    says(script, &once);
}

#[test]
fn programs_that_keep_files_in_their_own_way() {
    let script = r#"
        truncate -s 20M n.img; mkntfs -F -Q n.img >/dev/null 2>&1; ntfs-3g n.img m; writes; vuumount m
        mkdir enc; echo secret > pw; gocryptfs -init -q -passfile pw enc
        gocryptfs -q -passfile pw enc m >/dev/null 2>&1; writes; cp -r src m/; fusermount -u m
        ls m; gocryptfs -q -ro -passfile pw enc m >/dev/null 2>&1; diff -r src m/src; vuumount m
        mkdir enc2; encfs --standard -S $W/enc2 $W/m <pw >/dev/null; writes; vuumount m"#;
    says(script, &format!("{WRITES}{WRITES}{WRITES}"));
}

/// archivemount tells no number of links of any file; fuse-overlayfs wants to mask the modes of new files itself.
#[test]
fn programs_that_ask_for_what_others_do_not() {
    let script = r"
        tar cf a.tar -C src .; archivemount a.tar m; writes; echo kept > m/kept; umount m
        until tar xOf a.tar kept 2>/dev/null; do sleep 0.1; done
        mkdir up work; fuse-overlayfs -o lowerdir=src,upperdir=up,workdir=work m 2>/dev/null; writes
        (umask 027; echo x > m/masked; mkdir m/dir); rm m/a.h; ls m; stat -c '%a %F' up/masked up/dir up/a.h; fusermount3 -u m
        mkdir one two; echo 1 > one/file; mergerfs one:two m; writes; cat m/file; umount m; mkdir data
        rclone mount $PWD/data m --vfs-cache-mode writes --config /dev/null 2>/dev/null & P=$!
        until mountpoint -q m; do sleep 0.05; done; writes; fusermount3 -u m; wait $P; echo $?";
    let looks = "640 regular file\n750 directory\n0 character special file\n";
    let listed = "d\ndir\nmasked\nseq\n";
    says(script, &format!("{WRITES}kept\n{WRITES}{listed}{looks}{WRITES}1\n{WRITES}0\n"));
}

/// A program of libfuse takes each name for a file of its own, and hides what loses its name while it is open.
const LINKS: &str = r#"
import os
bad = []
for i in range(150):
    fd = os.open("tmp%d" % i, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444); os.write(fd, b"x" * 100); os.close(fd)
    time = os.stat("tmp%d" % i).st_mtime_ns
    os.link("tmp%d" % i, "f%d" % i); os.unlink("tmp%d" % i)
    told = [os.stat(d + "/f%d" % i).st_size for d in (".", "../src")] + [os.stat("f%d" % i).st_mtime_ns - time]
    if told != [100, 100, 0]: bad.append((i, told))
    with open("old", "w") as f: f.write("old")
    with open("new%d" % i, "w") as f: f.write("new")
    os.rename("new%d" % i, "old")
    if open("old").read() != "new": bad.append((i, "old"))
names = [name for name in os.listdir(".") if name[0] in ".nt"]
print(bad, names, len(os.listdir("../src")))
"#;

#[test]
fn names_that_come_and_go_keep_what_was_written() {
    let script = format!(
        "bindfs src m; cd m; cat > ../links.py <<'E'\n{LINKS}\nE\npython3 ../links.py; cd ..
         git init -q m/repo; cd m/repo; git config user.email a@b; git config user.name a; seq 40 | while read i; do echo $i > f$i; done
         git add .; git commit -qm one; find .git -type f -size 0 2>/dev/null || true; git gc -q; git fsck 2>&1; git status --short; cd ../..
         mkfifo m/p; (echo through >m/p &) ; cat m/p; vuumount m
         echo secret > pw; mkdir enc; gocryptfs -init -q -passfile pw enc; gocryptfs -q -passfile pw enc m >/dev/null 2>&1
         echo 0123456789 > m/t; ln m/t m/f; stat -c %s m/f; rm m/t; cat m/f; wc -c <m/f; fusermount3 -u m"
    );
    says(&script, "[] [] 154\nthrough\n11\n0123456789\n11\n");
}

#[test]
fn many_at_once_one_in_the_other() {
    let script = r"
        mkdir one two; bindfs src m; bindfs m one; bindfs one two; cmp two/seq src/seq
        truncate -s 20M src/ext; mkfs.ext4 -q src/ext; mkdir three
        fuse2fs -o fakeroot two/ext three 2>/dev/null; echo deep > three/file; cat three/file
        ls three; for i in 1 2 3 4; do (cp -a src/seq three/$i; cmp three/$i m/seq) & done; wait
        vuumount three; for it in two one m; do until vuumount $it 2>/dev/null; do sleep 0.1; done; done
        e2fsck -fn src/ext >/dev/null 2>&1 && echo clean";
    says(script, "deep\nfile\nlost+found\nclean\n");
}

#[test]
fn a_program_that_dies_or_sleeps_holds_nobody_up() {
    let script = r#"
        bindfs -f src m & P=$!; until mountpoint -q m; do sleep 0.05; done
        head -1 m/seq; kill -STOP $P
        timeout 1 cat m/a.h || echo $?; ls src | head -1
        (cat m/a.h | head -c 2; echo) & C=$!; sleep 0.3; kill -CONT $P; wait $C
        kill -STOP $P; (stat m/no 2>&1 | grep -o 'Transport.*') & C=$!; sleep 0.3
        kill -KILL $P; wait $C; wait $P || echo $?
        ls m 2>&1 | grep -o 'Transport.*'; vuumount m; ls m
        bindfs -f src m & P=$!; until mountpoint -q m; do sleep 0.05; done
        exec 3<m/seq; vuumount m 2>&1 | grep -o 'in use by'; fusermount3 -u -z m; ls m
        head -1 <&3; exec 3<&-; wait $P; echo ended $?; ls m"#;
    let wanted = "1\n124\na.h\n/*\nTransport endpoint is not connected\n137\n\
                  Transport endpoint is not connected\nin use by\n1\nended 0\n";
    says(script, wanted);
}

#[test]
fn programs_end_well_when_they_are_unmounted() {
    let script = r#"
        ended() { until mountpoint -q m; do sleep 0.05; done; ls m | head -1; "$@" m; wait $P; echo $?; }
        bindfs -f src m & P=$!; ended vuumount
        bindfs -d src m 2>/dev/null & P=$!; ended fusermount3 -u
        fuse2fs -f -o ro i.img m >/dev/null 2>&1 & P=$!; ended umount
        bindfs -f src m & P=$!; until mountpoint -q m; do sleep 0.05; done; kill $P; wait $P || true
        mountpoint -q m || echo gone"#;
    let script = format!("truncate -s 9M i.img; mkfs.ext4 -q i.img; {script}");
    says(&script, "a.h\n0\na.h\n0\nlost+found\n0\ngone\n");
}

#[test]
fn what_is_not_possible_is_said() {
    let script = "vumount -t fuse.sshfs host: m 2>&1 || echo $?; vumount -t fusebox x m 2>&1 || true
                  bindfs src m; vu_rmmod fuse 2>&1 | sed \"s#$W##\"; vuumount m; vu_rmmod fuse; vu_lsmod";
    for place in INSIDE {
        let done = run_as(&[], place, &format!("{BEGIN}{script}"));
        assert!(done.out.contains("is mounted by its program (run: sshfs host: /"), "{done:?}");
        assert!(done.out.contains("fusebox: no such file system"), "{done:?}");
        assert!(done.out.contains("vu_rmmod: fuse: in use by /m\n"), "{done:?}");
        assert!(!done.out.contains("vu virtual /dev/fuse"), "{done:?}");
    }
}

#[test]
fn sshfs_over_a_virtual_network() {
    let script = r#"
        chmod 755 $W; [ $(id -u) != 0 ] || mkdir -p /run/sshd
        vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.1/24" smoltcp /dev/net/a
        vumount -t vunetioth -o "switch://$W/sw,ip=10.0.0.2/24" smoltcp /dev/net/b
        for key in host id; do ssh-keygen -q -t ed25519 -N '' -f $key; done
        vustack /dev/net/b /usr/sbin/sshd -D -f /dev/null -p 2222 -h $W/host -o PidFile=none \
            -o AuthorizedKeysFile=$W/id.pub -o StrictModes=no -o UsePAM=no \
            -o Subsystem='sftp internal-sftp' 2>log & S=$!
        until vustack /dev/net/a nc -z 10.0.0.2 2222; do sleep 0.1; done
        vustack /dev/net/a sshfs -p 2222 -o IdentityFile=$W/id,StrictHostKeyChecking=no \
            -o UserKnownHostsFile=/dev/null 10.0.0.2:$W/src m 2>/dev/null
        cmp m/seq src/seq; cmp m/a.h src/a.h; ls m; writes; fusermount3 -u m; ls m; kill $S"#;
    for place in INSIDE {
        let done = run_as(&[], place, &format!("{BEGIN}{script}"));
        assert_eq!(done.out, format!("{SAME}{WRITES}"), "{place:?}: {}", done.err);
    }
}
