//! `vubinfmt`: programs in formats that the kernel does not know, in files of the host and virtual ones.

use std::fs;

use crate::harness::{INSIDE, Place, run, scratch, succeed};

const MOUNT: &str =
    "vu_insmod vubinfmt && vumount -t vubinfmt none /proc/sys/fs/binfmt_misc || exit 9
B=/proc/sys/fs/binfmt_misc";

#[test]
fn an_extension_and_a_magic_number_choose_the_interpreter() {
    for place in INSIDE {
        let work = scratch("formats");
        let told = succeed(
            place,
            &format!(
                r#"{MOUNT}; cd {}
                cat > show <<'E'
#!/bin/sh
echo "$0" "$@"
E
                printf '#!/bin/sh\necho kernel\n' > a.shown; printf 'XYZ\001rest' > magic; cp magic other
                printf 'XYW\001rest' > near; cp a.shown no.shown; chmod +x show a.shown magic near
                cat $B/status; ./a.shown
                echo ":ext:E::shown::$PWD/show:" > $B/register
                printf ':mag:M:1:YX\\x01:\\xff\\xf0\\xff:%s:P' $PWD/show > $B/register
                ls $B; sed "s,$PWD/,," $B/mag $B/ext
                ./a.shown 1 2; $PWD/a.shown; ./magic 3; bash -c 'exec -a called ./near 4'
                ./no.shown 2>&1 | grep -o 'Permission denied'; ./other 2>&1 | grep -o 'Permission denied'
                mkdir d.shown; ./d.shown 2>&1 | grep -o 'Is a directory'; ./none.shown 2>&1 | grep -o 'No such file.*'
                echo 0 > $B/ext; head -1 $B/ext; ./a.shown; echo 1 > $B/ext; echo 0 > $B/status; ./a.shown
                cat $B/status; echo 1 > $B/status; ./a.shown x; echo -1 > $B/ext; ls $B; ./a.shown
                echo -1 > $B/status; ls $B; vuumount $B && ./a.shown"#,
                work.display()
            ),
        );
        let told = told.replace(&format!("{}/", work.display()), "W/");
        assert_eq!(told, EXPECTED, "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const EXPECTED: &str = "\
enabled
kernel
ext
mag
register
status
enabled
interpreter show
flags: P
offset 1
magic 595801
mask fff0ff
enabled
interpreter show
flags: 
extension .shown
W/show ./a.shown 1 2
W/show W/a.shown
W/show ./magic ./magic 3
W/show W/near called 4
Permission denied
Permission denied
Is a directory
No such file or directory
disabled
kernel
kernel
disabled
W/show ./a.shown x
mag
register
status
kernel
register
status
kernel
";

#[test]
fn who_writes_is_told_what_is_wrong() {
    let script = r#"
        echo ':bad' > $B/register; echo $?
        echo ':one:E::zz::/bin/cat:' > $B/register; echo $?
        echo ':one:E::zz::/bin/cat:' > $B/register; echo $?
        echo 7 > $B/status; echo $?; echo 7 | tee $B/one >/dev/null; echo $?
        echo -1 > $B/one; echo $?; ls $B
        python3 -c 'f = open("'$B'/register", "w"); f.write(":y:"); f.close()' 2>&1 | tail -n 1"#;
    for place in INSIDE {
        let done = run(place, &format!("{MOUNT}\n{script}"));
        let wanted = "1\n0\n1\n1\n1\n0\nregister\nstatus\nOSError: [Errno 22] Invalid argument\n";
        assert_eq!(done.out, wanted, "{place:?} {}", done.err);
        for told in ["Invalid argument", "File exists"] {
            assert!(done.err.contains(told), "{place:?} {}", done.err);
        }
    }
}

/// The line by which Debian's qemu-user-binfmt registers it.
const ARM64: &str = r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:OCPF";

/// A program of another machine, on the host and in a mounted file system, as qemu itself runs it.
#[test]
fn a_program_of_another_machine_runs() {
    const SOURCE: &str = r#"
#include <stdio.h>
#include <sys/utsname.h>
int main(int n, char **v) { struct utsname u; uname(&u); printf("%s %s %d\n", u.machine, v[0], n); return 7; }
"#;
    let work = scratch("arm");
    fs::write(work.join("hello.c"), SOURCE).expect("scratch is writable");
    let built = run(
        Place::Native,
        &format!("cd {} && aarch64-linux-gnu-gcc -static -o hello hello.c", work.display()),
    );
    assert_eq!(built.status, Some(0), "{}", built.err);
    for place in INSIDE {
        let told = succeed(
            place,
            &format!(
                r#"{MOUNT}; cd {}; echo '{ARM64}' > $B/register; ./hello a b; echo $?
                mkdir -p m; vu_insmod vufuse; vumount -t vufusemem none m; cp hello m/virtual; m/virtual; echo $?
                sh -c 'm/virtual x | cat'; vuumount m"#,
                work.display()
            ),
        );
        assert_eq!(
            told, "aarch64 ./hello 3\n7\naarch64 m/virtual 1\n7\naarch64 m/virtual 2\n",
            "{place:?}"
        );
    }
    fs::remove_dir_all(work).expect("scratch goes");
}

/// What `F` is for (binfmt-misc.rst of Linux): the interpreter is none of the other root.
#[test]
fn an_interpreter_that_is_fixed_serves_in_another_root() {
    for place in INSIDE {
        let work = scratch("fixed");
        let told = succeed(
            place,
            &format!(
                r#"{MOUNT}; vu_insmod unrealuidgid; cd {}; mkdir root
                echo 'int puts(const char *); int main(int n, char **a) {{ while (*a) puts(*a++); return 0; }}' > show.c
                gcc -static -w -o show show.c; printf 'XYZ' > root/program; chmod +x root/program
                echo ":late:M::XYZ::$PWD/show:" > $B/register; ./root/program 1; vusu -c "chroot root /program 2"; echo $?
                echo -1 > $B/late; echo ":fixed:M::XYZ::$PWD/show:F" > $B/register; cat $B/fixed | sed -n 3p
                ./root/program 3; vusu -c "chroot root /program 4"
                vu_insmod vufuse; mkdir m; vumount -t vufusemem none m; cp show root/program m; echo -1 > $B/fixed
                echo ":fixed:M::XYZ::$PWD/m/show:FO" > $B/register; rm m/show; m/program 5; echo 6 | ./root/program
                echo ":none:M::XYZ::$PWD/none:F" > $B/register; echo ":file:M::XYZ::$PWD/show.c:F" > $B/register; ls $B"#,
                work.display()
            ),
        );
        let told = told.replace(&format!("{}/", work.display()), "W/");
        assert_eq!(told, FIXED, "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const FIXED: &str = "W/show\n./root/program\n1\n127\nflags: F\n\
    W/show\n./root/program\n3\nW/show\n/program\n4\nW/m/show\nm/program\n5\nW/m/show\n./root/program\n\
    fixed\nregister\nstatus\n";

/// What interpreters are told by binfmt_misc: `$B` is where it is, `rooted` executes in another root.
const CALLS: &str = r#"
gcc -static -o show $SOURCE && gcc -o dynamic $SOURCE || exit 8; mkdir root; printf 'XYZrest' > root/program; printf XYZ > noread
chmod 755 root/program; chmod 111 noread
for f in '' P F PF; do echo "== $f"; echo ":t:M::XYZ::$PWD/show:$f" > $B/register; sed -n 3p $B/t
    ./root/program 1; bash -c 'exec -a other ./root/program 2'; (cd root; PATH=.:$PATH program 3); ./noread
    rooted; echo -1 > $B/t; done 2>&1
for f in O C OP OF POCF; do for i in show dynamic; do echo "== $f $i"; echo ":t:M::XYZ::$PWD/$i:$f" > $B/register; sed -n 3p $B/t
    ./root/program 1; (cd root; PATH=.:$PATH program 3 4); exec 3</dev/null 4</dev/null; ./noread; exec 3<&- 4<&-
    echo -1 > $B/t; done; done 2>&1
printf '#!%s\n' $PWD/show > script; chmod +x script; echo ":s:E::twice::$PWD/script:O" > $B/register; cp root/program p.twice; ./p.twice 2>/dev/null; echo $?; echo -1 > $B/s
cp show gone; echo ":g:M::XYZ::$PWD/gone:F" > $B/register; rm gone; ./root/program 1; rooted; cp dynamic gone; ./root/program 2; echo -1 > $B/g
for i in none:F show.c:F none: ; do echo ":n:M::XYZ::$PWD/$i" > $B/register; echo $?; done 2>/dev/null
./root/program 2>/dev/null; echo $?; ls $B"#;

#[test]
fn interpreters_are_called_as_by_the_kernel() {
    let source = concat!("export SOURCE=", env!("CARGO_MANIFEST_DIR"), "/tests/guests/shown.c");
    let begin =
        format!("{source}; W=$(mktemp -d); trap 'rm -rf $W' EXIT; cd $W; touch show.c; mkdir b");
    // One of its own in a user namespace, since Linux 6.7.
    let natively = format!(
        "{begin}; cat > s <<'E'\nmount -t binfmt_misc none b || exit 77; B=$PWD/b\n\
         rooted() {{ chroot root /program 4; }}\n{CALLS}\nE\nunshare -rm bash s > out; code=$?; sed \"s:$W:W:g\" out; exit $code"
    );
    let native = run(Place::Native, &natively);
    if native.status == Some(77) {
        eprintln!("the kernel has no formats for a user namespace: nothing to compare with");
        return;
    }
    assert_eq!(native.status, Some(0), "{}", native.out);
    for place in INSIDE {
        let script = format!(
            "{begin}; vu_insmod vubinfmt unrealuidgid && vumount -t vubinfmt none b || exit 9; B=$PWD/b\n\
             rooted() {{ vusu -c 'chroot root /program 4'; }}; ( {CALLS} ) | sed \"s:$W:W:g\"; vuumount b"
        );
        let told = succeed(place, &script);
        assert!(told == native.out && told.contains("name ./program"), "{told}\n{}", native.out);
    }
}
