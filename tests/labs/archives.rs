//! `vufusearchive`: archives that real programs make, compared with what the programs unpack: as the user of
//! the tests, and as an ordinary one when that is root; in both interception modes.

use crate::{
    fuse::{run_as, says_alone},
    harness::INSIDE,
    images::BEGIN,
};

/// Of the files that are all alike a few do: each archive is read as a whole.
const FEWER: &str = "rm src/many/??\n";

#[track_caller]
fn says(script: &str, wanted: &str) {
    says_alone(&format!("{BEGIN}{FEWER}{script}"), wanted);
}

/// Names that are long, or not of UTF-8, and times with a fraction or before the epoch.
const MORE: &str = r#"
    L=$(printf '%090d/' 1 2 3); mkdir -p src/$L; echo x > src/$L$(printf '%0150d' 9); ln -s ${L}y src/longlink
    printf x > src/$'\377odd\nname'; touch -d '2001-02-03 04:05:06.123456789' src/seq
    touch -d '1949-12-31 23:59:59.5' src/empty
    unpacked() { rm -rf x; mkdir x; tar xpf "$1" -C x 2>/dev/null || true; vumount -t vufusearchive "$1" m; like x; }
"#;

#[test]
fn tar_of_every_format() {
    let script = r#"
        for by in v7 ustar gnu 'gnu --sparse' 'pax --sparse' 'pax --sparse --sparse-version=0.0' \
            'pax --sparse --sparse-version=0.1'; do
            case $by in pax*) FORMAT='%P %y %m %U %G %n %T@ %s %l\n';; *) FORMAT='%P %y %m %U %G %n %Ts %s %l\n';; esac
            tar c --format=$by -f a.tar -C src . 2>/dev/null || true; unpacked a.tar
        done"#;
    says(&format!("{MORE}{script}"), &"same\n".repeat(7));
}

#[test]
fn tar_by_every_compressor() {
    let script = r#"
        for by in gzip bzip2 xz zstd lzip lzma; do tar c -I $by -f a.$by -C src .; unpacked a.$by; done
        tar c -C src . | split -b 99999 - part; for it in part*; do gzip -c $it; done | xz > twice; xz -dc twice > once
        rm -rf x; mkdir x; gzip -dc once | tar xp -C x; vumount -t vufusearchive twice m; like x
        gzip -dc once | lz4 -q > a.lz4; vumount -t vufusearchive a.lz4 m; like x"#;
    says(&format!("{MORE}{script}"), &"same\n".repeat(8));
}

#[test]
fn cpio_and_ar() {
    let script = r#"
        UNTIMED='/^[^ ]* l /s/ 1[0-9]\{9\} / /; s/^\([^ ]* d .*\) [0-9]*$/\1/'
        for by in newc crc odc; do
            (cd src; find . -print0 | cpio -0 --quiet -o -H $by) > a.cpio 2>/dev/null
            rm -rf x; mkdir x; (cd x; cpio -idm --quiet < ../a.cpio 2>/dev/null); vumount -t vufusearchive a.cpio m
            touch -r m src x; chmod --reference=m src x; (cd x; find . -type d -exec touch -d @0 {} +)
            list x | sed "$UNTIMED" > one; list m | sed "$UNTIMED" > other
            diff one other; vuumount m; echo same
        done
        mkdir t; cd t; seq 9 > a; seq 99 > a_name_of_more_than_sixteen_bytes; ar rcs ../a.ar a a_name*; cd ..
        vumount -t vufusearchive a.ar m; diff -r t m && echo ar; vuumount m
        mkdir -p p/DEBIAN p/etc; echo conf > p/etc/conf; cat > p/DEBIAN/control <<'C'
Package: p
Version: 1
Architecture: all
Maintainer: m <m@example.org>
Description: d
C
        dpkg-deb --root-owner-group -b p p.deb >/dev/null; mkdir n; vumount -t vufusearchive p.deb m; cat m/debian-binary
        vumount -t vufusearchive m/data.tar* n; cat n/etc/conf; stat -c %u n/etc/conf; vuumount n"#;
    says(script, "same\nsame\nsame\nar\n2.0\nconf\n0\n");
}

#[test]
fn zip_and_7z() {
    let script = r#"
        rm src/fifo src/sparse src/d/hard; rm -f src/d/null src/d/disk; printf x > src/$'\303\244 b'; mkdir src/nothing
        FORMAT='%P %y %m %U %G %n %Ts %s %l\n'; chmod 755 src/random; touch -hd @1000000002 src/dangling src/d/link
        find src ! -type l -exec touch -d @1000000000 {} +
        same() { touch -r m x; chmod --reference=m x; like x; }
        for by in -6 -0 '-Z bzip2'; do
            rm -rf x a.zip; (cd src; zip -qry $by ../a.zip .); unzip -qX a.zip -d x; vumount -t vufusearchive a.zip m
            cp -Pp src/dangling x/; cp -Pp src/d/link x/d/; chmod +t x/d; touch -d @1000000000 x/d; same
        done
        rm -rf x; cp -a src x; chown -R "$(id -u):$(id -g)" x
        for by in -mx5 -mx0 -ms=off -m0=ppmd -m0=bzip2 -m0=deflate -m0=lzma '-m0=BCJ2 -m1=LZMA2'; do
            rm -f a.7z; (cd src; 7z a -snl -bd $by ../a.7z . >/dev/null); vumount -t vufusearchive a.7z m; same
        done
        cp a.7z m.7z; (cd src; zip -qr -P secret ../e.zip seq; 7z a -psecret ../e.7z seq; 7z a -mhe=on -psecret ../h.7z seq) >/dev/null
        for it in e.zip e.7z; do vumount -t vufusearchive $it m 2>&1; stat -c %s m/seq; errs cat m/seq; vuumount m; done
        vumount -t vufusearchive h.7z m 2>&1 || true"#;
    let wanted = format!(
        "{}vufusearchive: e.zip: 1 members are encrypted and cannot be read\n588895\nPermission denied\n\
         vufusearchive: e.7z: 1 members are encrypted and cannot be read\n588895\nPermission denied\n\
         vumount: h.7z: encrypted; unpack it with 7z x\n",
        "same\n".repeat(11)
    );
    for place in INSIDE {
        let done = run_as(&[], place, &format!("{BEGIN}{FEWER}{script}"));
        let said = done.out.replace(&format!("{}/", work(&done.out)), "");
        assert_eq!(said, wanted, "{place:?}: {}", done.err);
    }
}

/// The folder that a message names.
fn work(said: &str) -> String {
    let path = said.split([' ', '\n', ':']).find(|word| word.ends_with(".zip"));
    path.and_then(|path| path.rsplit_once('/')).map_or("?".to_owned(), |(work, _)| work.to_owned())
}

#[test]
fn members_that_are_not_as_they_should_be() {
    let script = r#"
        python3 - <<'P'
import io, tarfile
def add(name, content=b'', **more):
    info = tarfile.TarInfo(name); info.size = len(content)
    for key, value in more.items(): setattr(info, key, value)
    t.addfile(info, io.BytesIO(content))
with tarfile.open('odd.tar', 'w') as t:
    add('twice', b'first'); add('/absolute', b'1'); add('../out', b'2'); add('a/../../out', b'3'); add('./././dot', b'4')
    add('deep/er/file', b'5', mode=0o600, uid=77); add('early', type=tarfile.LNKTYPE, linkname='late'); add('late', b'late')
    add('lost', type=tarfile.LNKTYPE, linkname='nowhere'); add('twice', b'second'); add('file', b'6'); add('file/below', b'7')
    add('deep/er', b'in the way'); add('x' * 300, b'8')
P
        vumount -t vufusearchive odd.tar m 2>&1 | sed 's/.*tar: //'; (cd m; find . -type f | sort | xargs tail -n +1)
        stat -c '%h %n' m/late m/deep m/deep/er | sed "s# m/# #"; echo; errs touch m/new; errs rm m/dot; test -w m/dot || echo fixed
        test -x m/dot || echo plain; vuumount m
        tar cf t.tar -C src .; head -c 100000 t.tar > cut.tar; vumount -t vufusearchive cut.tar m 2>&1 | sed 's/byte .*/byte/; s/.*tar: //'; vuumount m
        gzip < t.tar | head -c 100000 > cut.tgz; for it in cut.tgz src/seq nowhere; do vumount -t vufusearchive $it m 2>&1 | sed 's/.*: //' || true; done
        ar rc a.ar t.tar; gzip < t.tar > t.tgz; xz -0 < t.tgz > twice; vumount -t vufusearchive -o size=1M t.tgz m 2>&1 | sed 's/.*: //'
        for it in cut.tar a.ar twice; do vumount -t vufusearchive -o rw+ $it m 2>&1 | sed 's/byte .*/byte/; s#[^ ]*/##' || true; done; gzip < src/seq > seq.gz; vumount -t vufusearchive seq.gz m 2>&1 | sed 's/.*: //'
        tar cf none.tar -T /dev/null; vumount -t vufusearchive none.tar m; ls -A m; stat -f -c %T m"#;
    let wanted = "5 members are not shown: they lead out of it, or others are in their way\n\
        ==> ./absolute <==\n1\n==> ./deep/er/file <==\n5\n==> ./dot <==\n4\n==> ./early <==\nlate\n\
        ==> ./file/below <==\n7\n==> ./late <==\nlate\n==> ./twice <==\nsecond2 late\n3 deep\n2 deep/er\n\n\
        Read-only file system\nRead-only file system\nfixed\nplain\ndamaged or cut off at byte\n\
        incomplete deflate stream\nno archive (of tar, cpio, ar, zip or 7z)\nNo such file or directory\n\
        needs more than 1 MiB unpacked; give more with -o size=\n\
        vumount: cut.tar: to write it would lose something (damaged or cut off at byte\n\
        vumount: a.ar: only tar, cpio and zip archives are written; mount without rw+\n\
        vumount: twice: it is compressed more than once; mount without rw+\n\
        compressed, but no archive (of tar, cpio, ar, zip or 7z)\nfuseblk\n";
    says(script, wanted);
}

/// Changes that are made to a tree, and to an archive of it; then the archive is looked at by its own program.
const CHANGES: &str = r#"
    rm -f src/d/null src/d/disk; FORMAT='%P %y %m %U %G %n %Ts %s %l\n'; rm -rf src/many
    change() {
        cd $1; echo more >> seq; mkdir -p new/deep/er; seq 1000 > new/deep/er/seq; rm empty; mv d/hard new/place; ln -s target new/link
        chmod 600 random; truncate -s 5 can/*.h; printf xx | dd of=random bs=1 seek=100000 conv=notrunc status=none; : > new/none
        echo l > new/$(printf '%0200d' 7); [ $2 = zip ] || ln random new/hard; rmdir new/deep/er 2>/dev/null || rm -r new/deep
        find . ! -type l -exec touch -d @1000000000 {} +; touch -hd @1000000002 dangling d/link new/link; cd ..
    }
    written() {
        rm -rf x; cp -a src x; [ $1 != zip ] || rm x/fifo; change x $1; touch -d @1000000000 x
        vumount -t vufusearchive -o rw+ $2 m; change m $1; touch -d @1000000000 m; vuumount m; ls $2*
        rm -rf y; mkdir y; unpack $1 $2; touch -r x y; list x > one; list y > other; diff one other
        vumount -t vufusearchive $2 m; [ $1 != zip ] || touch -r m x; like x; rm $2*
    }
"#;

#[test]
fn archives_of_every_format_are_written() {
    let script = r#"
        unpack() { case $1 in tar) tar xpf $2 -C y;; gz) tar xpzf $2 -C y;; xz) tar xpJf $2 -C y;; *) tar xp -I $1 -f $2 -C y;; esac; }
        tar cf a.tar --format=pax --sparse -C src .; written tar a.tar
        for by in gz xz bzip2 zstd lzip lzma; do
            case $by in gz) tar czf a.$by -C src .;; xz) tar cJf a.$by -C src .;; *) tar c -I $by -f a.$by -C src .;; esac; written $by a.$by
        done
        unpack() { unzip -qX $2 -d y; chmod +t y/d; touch -hd @1000000002 y/dangling y/d/link y/new/link; touch -d @1000000000 y/d y/new; }
        rm -f src/d/hard src/sparse; echo hard > src/d/hard; (cd src; zip -qry ../a.zip . -n .h); written zip a.zip
        unpack() { (cd y; cpio -idm --quiet < ../$2); touch -hd @1000000002 y/dangling y/d/link y/new/link; find y -type d -exec touch -d @1000000000 {} +; }
        (cd src; find . | cpio -o -H newc --quiet) > a.cpio; written cpio a.cpio"#;
    let each = |name| format!("{name}\n{name}.orig\nsame\n");
    let names =
        ["a.tar", "a.gz", "a.xz", "a.bzip2", "a.zstd", "a.lzip", "a.lzma", "a.zip", "a.cpio"];
    says(&format!("{CHANGES}{script}"), &names.map(each).concat());
}

#[test]
fn an_archive_is_written_when_it_is_to_be_and_never_in_part() {
    let script = r#"
        mkdir r; tar cf r/a.tar -C src .; ln -s r/a.tar link
        has() { tar tf r/a.tar | grep -c "$1" || true; }
        vumount -t vufusearchive -o rw+ link m; echo 1 > m/one; truncate -s 50M m/hole; setfattr -n user.k -v value m/one
        errs vumount -t vufusearchive -o rw+ r/a.tar r | grep -o 'in use by another mount'; has one; sync -f m; has one; echo 2 > m/two; vuumount m
        has two; ls r; test -L link && test $(stat -c %s r/a.tar) -lt 20000000 && echo short; mkdir y; tar xf r/a.tar --xattrs -C y
        getfattr --only-values -n user.k y/one; stat -c ' %s %b' y/hole
        vumount -t vufusearchive -o rw+,nosave r/a.tar m; echo 3 > m/three; vuumount m; has three; rm r/a.tar.orig
        vumount -t vufusearchive -o rw+,nobackup r/a.tar m; echo 4 > m/four; mkdir r/a.tar.new; vuumount m 2>&1 | sed 's/.*: cannot/cannot/'
        has four; rmdir r/a.tar.new; vuumount m; has four; ls r
        vumount -t vufusearchive -o rw+,nobackup r/a.tar m; echo 5 > m/five"#;
    let wanted = "in use by another mount\n0\n1\n1\na.tar\na.tar.orig\nshort\nvalue 52428800 0\n0\n\
        cannot be written: File exists (vuumount -f takes it away all the same)\n0\n1\na.tar\n";
    says(script, wanted);
}
