//! `vufusefatfs`: images of mkfs.vfat and mkfs.exfat, judged by fsck(8), and read by other programs: as the user
//! of the tests, and as an ordinary one when that is root; in both interception modes.

use crate::fuse::says_alone;

const BEGIN: &str = r#"
set -e; cd "$W"; export PATH=$PATH:/sbin:/usr/sbin LC_ALL=C.UTF-8; umask 022; mkdir m; vu_insmod vudev vufuse
errs() { "$@" 2>&1 >/dev/null | sed "s#$W/##; s#.*: \([^:]*\)\$#\1#"; }
check() { fsck.$1 -n i >log 2>&1 || { cat log; exit 8; }; echo clean; }
"#;

#[track_caller]
fn says(script: &str, wanted: &str) {
    says_alone(&format!("{BEGIN}{script}"), wanted);
}

/// What programs do in a directory; it says the same on every layout.
const WORK: &str = r#"
    work() {
    (cd m; echo hello > a; cat A; mkdir d; mkdir d/e; echo long > 'A rather long name, with blanks.and.dots'; echo x > $'\303\274 \346\227\245'
    ls; seq 100000 > seq; md5sum < seq; printf x | dd of=seq bs=1 seek=777 conv=notrunc status=none
    seq 9 >> seq; md5sum < seq; truncate -s 5000 seq; truncate -s 9000 seq; md5sum < seq
    mv a d/e/moved; mv d/e e; cat e/MOVED; python3 -c 'import os; os.rename("e/moved", "e/Moved")'; ls e; rmdir e 2>&1 | grep -o 'not empty'
    exec 3>open 4<open; echo data >&3; rm open; echo more >&3; cat <&4; ls -A | grep -c umvu || true; exec 3>&- 4<&-
    errs ln -s a sym; errs ln seq hard; errs mkfifo fifo; errs touch 'a?b' 'a:b'; errs chown 12345 seq || true
    stat -c '%A %h' seq d; chmod a-w seq; stat -c %A seq; chmod 600 seq; stat -c %A seq; errs chmod 4755 seq
    chmod 777 seq; stat -c %A seq; (umask 777; : > made); stat -c %A made
    TZ=UTC touch -d '2001-02-03 04:05:07' seq; TZ=UTC stat -c %y seq | cut -c 1-18
    mkdir full; (cd full; for i in $(seq 200); do echo $i > a_rather_long_name_for_a_file_$i; done; rm *1*; cat * | md5sum)
    mkdir over; touch over/f; mv -T over d/over; echo one > one; echo two > two; mv one two; cat two; cp -r d d2; diff -r d d2
    python3 -c "
import mmap
with open('mapped', 'w+b') as f:
    f.truncate(70000); m = mmap.mmap(f.fileno(), 0); m[65000:65003] = b'abc'; m.flush(); m.close()
print(open('mapped', 'rb').read()[64999:65004])"
    ); sync; vuumount m; }
"#;

const SAID: &str = "hello\nA rather long name, with blanks.and.dots\na\nd\n\u{fc} \u{65e5}\n\
    dea9193b768319cbb4ff1a137ac03113  -\n459d217ce981e5507adf140f5844c3ef  -\n0652787d9ff8032861c413da23f787b4  -\n\
    hello\nMoved\nnot empty\ndata\nmore\n0\nOperation not permitted\nOperation not permitted\n\
    Operation not permitted\nInvalid argument\nInvalid argument\nOperation not permitted\n-rwxr-xr-x 1\n\
    drwxr-xr-x 1\n-r-xr-xr-x\n-r-xr-xr-x\nOperation not permitted\n-rwxr-xr-x\n-rwxr-xr-x\n2001-02-03 04:05:0\n7e291a23364a13fa2c71ff71b368b9fc  -\n\
    one\nb'\\x00abc\\x00'\nclean\none\n81\nRead-only file system\n";

#[test]
fn programs_on_every_layout() {
    let script = r#"
        for make in 'vfat -F12 -s8' 'vfat -F16' 'vfat -F32 -s1' 'exfat'; do
            rm -f i; truncate -s 40M i; case $make in *12*) truncate -s 8M i;; esac
            mkfs.$make i >/dev/null 2>&1; vumount -t vufusefatfs -o rw+ i m; work; check ${make%% *}
            vumount -t vufusefatfs -o ro i m; cat m/two; ls m/full | wc -l; errs touch m/new; vuumount m
        done"#;
    says(&format!("{WORK}{script}"), &SAID.repeat(4));
}

#[test]
fn a_partition_of_a_virtual_disk() {
    let script = r#"
        truncate -s 64M disk; vumount -t vudevpartx disk /dev/hda 2>/dev/null; printf ',,c\n' | sfdisk -q /dev/hda
        mkfs.vfat -F 32 -n LABEL /dev/hda1 >/dev/null; vumount -t vufusefatfs -o rw+ /dev/hda1 m
        echo ciao > m/hello; cp -r /usr/include/linux/can m; sync
        vumount -t vufusefatfs -o ro /dev/hda1 /tmp 2>&1 | grep -o 'in use by another mount'
        stat -f -c '%T %S' m; grep -c ' vufusefatfs rw' /proc/mounts; vuumount m; fsck.vfat -n /dev/hda1 >log && echo clean
        vumount -t vufusefatfs /dev/hda1 m; cat m/HELLO; diff -r /usr/include/linux/can m/can && echo same; vuumount m; vuumount /dev/hda"#;
    says(script, "in use by another mount\nmsdos 512\n1\nclean\nciao\nsame\n");
}

#[test]
fn what_others_write_and_read() {
    let script = r#"
        truncate -s 30M i; mkfs.vfat -F16 i >/dev/null; mkdir src; seq 9999 > 'src/a long name.txt'; seq 7 > src/SHORT.TXT
        export MTOOLS_SKIP_CHECK=1; mcopy -s -i i src ::; mattrib +r -i i ::src/SHORT.TXT
        vumount -t vufusefatfs -o rw+,uid=12,gid=34,fmask=133,dmask=22 i m; diff -r src m/src && echo same
        stat -c '%A %u %g' m/src m/src/*; vuumount m; vumount -t vufusefatfs -o rw+ i m
        seq 500 > m/src/new; mv m/src/SHORT.TXT m/'moved away'; vuumount m; check vfat
        mtype -i i ::src/new | md5sum | cut -c 1-8; seq 500 | md5sum | cut -c 1-8; mtype -i i '::moved away' | tr '\n' ' '; echo
        touch -d '2020-02-02 02:02:03' src/new; vumount -t vufusefatfs -o rw+ i m; TZ=UTC touch -d '2020-02-02 02:02:04' m/src/new; vuumount m
        mdir -i i ::src/new | grep -o '2020-02-02 *2:02'
        vumount -t vufusefatfs -o ro,time_offset=60 i m; TZ=UTC stat -c %y m/src/new | cut -c 1-19"#;
    says(
        script,
        "same\ndrwxr-xr-x 12 34\n-r--r--r-- 12 34\n-rw-r--r-- 12 34\nclean\n5705e3c0\n5705e3c0\n1 2 3 4 5 6 7 \n\
         2020-02-02   2:02\n2020-02-02 01:02:04\n",
    );
}

#[test]
fn the_ends_of_volumes_and_files() {
    let script = r#"
        truncate -s 8M i; mkfs.vfat -F16 -s1 i >/dev/null 2>&1 || mkfs.vfat i >/dev/null; vumount -t vufusefatfs -o rw+ i m
        F=$(stat -f -c %f m); errs dd if=/dev/zero of=m/big bs=64k count=200 conv=fsync status=none; rm m/big; sync; [ "$(stat -f -c %f m)" = $F ] && echo freed
        yes stale | head -c 3000000 > m/old; rm m/old; truncate -s 2000000 m/new; tr -d '\0' < m/new | wc -c; vuumount m; check vfat
        truncate -s 6G i; mkfs.vfat -F32 i >/dev/null; vumount -t vufusefatfs -o rw+ i m; touch m/f
        python3 -c "
import os
try: os.truncate('m/f', 1 << 32)
except OSError as e: print(e.strerror)"
        stat -c %s m/f; vuumount m; check vfat"#;
    says(script, "No space left on device\nfreed\n0\nclean\nFile too large\n0\nclean\n");
}

#[test]
fn what_is_no_file_system_is_said() {
    let script = r#"
        mount() { vumount -t vufusefatfs "$@" 2>&1 | sed "s#$W/##"; }
        truncate -s 8M zero i; mkfs.vfat i >/dev/null; head -c 100000 i > cut; mount -o ro zero m; mount -o ro cut m; mount -o rw+,what i m
        mount -o ro,time_offset=x i m; mount i m; vuumount m; mount -o ro nowhere m"#;
    says(
        script,
        "vumount: zero: is no FAT or exFAT file system\n\
         vumount: cut: the file system is damaged or cut off; run fsck\nvumount: vufusefatfs: what: unknown option\n\
         vumount: vufusefatfs: time_offset= takes minutes east of Greenwich (as 60, -300)\n\
         vufusefatfs: mounted read-only; to write, mount with -o rw+\nvumount: nowhere: No such file or directory\n",
    );
}
