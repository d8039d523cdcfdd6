//! Images and archives that real programs make, mounted by `vufuse`, compared with what they were made
//! of: as the user of the tests, and as an ordinary one when that is root; in both interception modes.

use crate::{
    fuse::{run_as, says_alone},
    harness::INSIDE,
};

/// What every script begins with: a tree `src` of all kinds of files that its user can make; `list` tells
/// everything about a tree, `like` whether `m` is like another, and lets it go (deep directories are shown at their
/// places, but genisoimage leaves the one that they were in).
pub(crate) const BEGIN: &str = r#"
set -e; cd "$W"; export PATH=$PATH:/sbin:/usr/sbin
mkdir m src src/d src/many; seq 100000 > src/seq; cp -r /usr/include/linux/can src/
(cd src/many; seq 100 | xargs touch); ln src/seq src/d/hard; ln -s ../seq src/d/link; mkfifo src/fifo
ln -s /nowhere/at/all src/dangling; : > src/empty; head -c 300000 /dev/urandom > src/random
truncate -s 3M src/sparse; echo end >> src/sparse; chmod 4751 src/random; chmod 1777 src/d
touch -d '2001-02-03 04:05:06' src/seq; touch -d '1999-12-31 23:59:59' src/many src/d
if [ "$(id -u)" = 0 ]; then mknod src/d/null c 1 3; mknod src/d/disk b 259 700; chown 12:34 src/empty; fi
vu_insmod vufuse
list() {
    (cd "$1"; find . -type d -printf '%P %y %m %U %G %Ts\n' -o -printf "$FORMAT" | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum)
}
FORMAT='%P %y %m %U %G %n %Ts %s %l\n'
like() { list "$1" > one; list m | grep -v '^rr_moved ' > other; diff one other; vuumount m; echo same; }
errs() { "$@" 2>&1 >/dev/null | sed "s#$W/##; s#.*: \([^:]*\)\$#\1#"; }
"#;

#[track_caller]
fn says(script: &str, wanted: &str) {
    says_alone(&format!("{BEGIN}{script}"), wanted);
}

#[test]
fn squashfs_by_every_compressor() {
    let script = r#"
        printf x > src/$'\377odd\nname'; setfattr -n user.k -v value src/seq
        for by in gzip lzma lzo xz lz4 zstd; do
            mksquashfs src $by.img -quiet -no-progress -comp $by >/dev/null
            vumount -t vufusesquash $by.img m; getfattr -d m/seq m/d | grep k=
            ls -l m/d/null 2>/dev/null | cut -c 1-10 >> devices; cat m/seq | tail -1
            find m/many | wc -l; like src; rm $by.img
        done; ls -A m"#;
    let one = "user.k=\"value\"\n100000\n101\nsame\n";
    says(script, &one.repeat(6));
}

#[test]
fn squashfs_in_squashfs_and_behind_something_else() {
    let script = r#"
        mkdir names; (cd names; seq 10000 | xargs touch); mksquashfs names n.img -quiet -no-progress >/dev/null
        vumount -t vufusesquash n.img m; ls m | wc -l; ls m | sort | cmp - <(ls names | sort); ls -l m/7777 | wc -l
        vuumount m; mksquashfs src inner -quiet -no-progress -b 4K -no-fragments >/dev/null; mkdir outer n
        mv inner outer; mksquashfs outer o.img -quiet -no-progress -noD >/dev/null
        (head -c 12345 /dev/zero; cat o.img) > o.app
        vumount -t vufusesquash -o offset=12345 o.app n; rm -r outer
        vumount -t vufusesquash n/inner m; errs touch m/new; errs vuumount n | cut -c 1-9
        stat -f -c '%T %f' m; tar c -C m . | tar t | wc -l > count; (find src | wc -l) | cmp - count
        like src; vuumount n"#;
    says(script, "10000\n1\nRead-only file system\nin use by\nsquashfs 0\nsame\n");
}

#[test]
fn squashfs_with_a_file_over_4_gib() {
    let script = r#"
        truncate -s 4200M huge; echo end >> huge; mksquashfs huge h.img -quiet -no-progress >/dev/null
        vumount -t vufusesquash h.img m; stat -c %s m/huge; tail -c 4 m/huge; tail -c +4400000000 m/huge | wc -c"#;
    for place in INSIDE {
        let done = run_as(&[], place, &format!("{BEGIN}{script}"));
        assert_eq!(done.out, "4404019204\nend\n4019205\n", "{place:?}: {}", done.err);
    }
}

#[test]
fn what_is_no_image_is_said() {
    let script = r#"
        mksquashfs src i.img -quiet -no-progress >/dev/null; head -c 20000 i.img > cut; : > none
        for it in cut none src/seq nowhere; do vumount -t vufusesquash $it m 2>&1 || true; done
        vumount -t vufusesquash -o rw+ i.img m 2>&1 || true; vumount -t vufusesquash -o x=1 i.img m 2>&1 || true"#;
    for place in INSIDE {
        let done = run_as(&[], place, &format!("{BEGIN}{script}"));
        for line in [
            "cut: cut off: has 20000 of ",
            "none: no squashfs image",
            "seq: no squashfs image",
            "nowhere: No such file or directory",
            "vufusesquash: only reads; mount without rw+",
            "vufusesquash: x=1: unknown option",
        ] {
            assert!(done.out.contains(line), "{place:?}: {line}: {done:?}");
        }
    }
}

#[test]
fn nothing_and_what_is_there_already() {
    let script = r#"
        vumount -t vufusenull none m; ls -A m; errs touch m/a; errs cat m/a; stat -c '%F %a' m; vuumount m
        vumount -t vufusereal src m; like src
        vumount -t vufusereal -o rw+ src m; echo new > m/new; cat src/new; vuumount m
        vumount -r -t vufusereal src m; errs rm m/new; cat m/new"#;
    says(
        script,
        "Read-only file system\nNo such file or directory\ndirectory 755\nsame\nnew\nRead-only file system\nnew\n",
    );
}

#[test]
fn iso_9660_with_the_names_of_unix() {
    let script = r#"
        printf x > src/$'\303\244 long name with blanks and (brackets), longer than 64 characters, of umlauts'
        printf 'tgt' > src/'UPPER lower.x.y'; mkdir -p src/1/2/3/4/5/6/7/8/9/10; echo deep > src/1/2/3/4/5/6/7/8/9/10/f
        ln -s "$(printf '%060d/' 1 2 3)." src/longlink
        FORMAT='%P %y %m %U %G %Ts %s %l\n'
        genisoimage -quiet -R -o r.iso src 2>/dev/null; genisoimage -quiet -input-charset utf-8 -J -joliet-long -R -o jr.iso src 2>/dev/null
        xorriso -outdev x.iso -joliet on -padding 0 -map src / >/dev/null 2>&1
        for it in r jr x; do
            vumount -t vufuseiso $it.iso m; errs rm m/seq; ls -l m/d | grep '^[bc]' >> devices || true; like src
        done; stat -c %a m"#;
    let one = "Read-only file system\nsame\n";
    says(script, &format!("{}755\n", one.repeat(3)));
}

#[test]
fn iso_9660_with_other_names() {
    let script = r#"
        rm -r src/fifo src/d src/dangling src/sparse; cp src/seq src/$'\303\244 A b'; mkdir src/CapItal
        genisoimage -quiet -input-charset utf-8 -J -o j.iso src 2>/dev/null; vumount -t vufuseiso j.iso m; diff -r src m && echo joliet
        vuumount m; rm src/$'\303\244 A b'; rmdir src/CapItal; mkdir src/many/sub; seq 100 > src/many/sub/a.txt
        genisoimage -quiet -l -o p.iso src 2>/dev/null; vumount -t vufuseiso p.iso m; diff -r src m && echo plain
        vuumount m; vumount -t vufuseiso src/seq m 2>&1 | grep -o 'no ISO 9660 image'
        head -c 40000 p.iso > cut; vumount -t vufuseiso cut m 2>&1 | grep -o 'broken ISO 9660 image'
        vumount -t vufuseiso p.iso m; mkdir n; mksquashfs m q.img -quiet -no-progress >/dev/null; vuumount m
        vumount -t vufusesquash q.img n; genisoimage -quiet -R -o s.iso n 2>/dev/null; cp s.iso src/; vuumount n
        genisoimage -quiet -R -o o.iso src 2>/dev/null; vumount -t vufuseiso o.iso m; vumount -t vufuseiso m/s.iso n
        rm src/s.iso; diff -r src n && echo inner; vuumount n"#;
    says(script, "joliet\nplain\nno ISO 9660 image\nbroken ISO 9660 image\ninner\n");
}
