//! `vufs`: directories laid over each other, told apart from plain Linux by nobody who stands in them.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::harness::{INSIDE, Place, run, scratch, succeed};

const GUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests");

/// A tree to lay something over.
const TREE: &str = r#"
tree() {
    mkdir -p $1 && (cd $1 && mkdir -p a/b/c a/sub d/e sub/sub && echo 1 > b && echo 2 > a/a &&
    echo 3 > a/b/a && echo 4 > a/b/c/b && echo 5 > d/b && echo 6 > d/e/c && ln -s a c &&
    echo 7 > sub/a && echo 8 > sub/sub/x && touch e)
}
"#;

pub(crate) fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn random_changes_of_a_copy_on_write_tree_are_as_on_linux() {
    for seed in [7, 29, 42, 61] {
        let work = scratch("random");
        let program = format!("python3 {GUESTS}/patchwork.py");
        let native = succeed(
            Place::Native,
            &format!("{TREE} tree {0}/native; {program} {0}/native {seed} 300", work.display()),
        );
        let find = "find . -printf '%p %y %m %l\\n' | sort";
        let left = succeed(Place::Native, &format!("cd {}/native; {find}", work.display()));
        for place in INSIDE {
            let script = format!(
                "{TREE} W={}/{place:?}; tree $W/lower; tree $W/same; mkdir $W/upper; vu_insmod vufs
                 vumount -t vufs -o cow $W/upper $W/lower && {program} $W/lower {seed} 300 || exit
                 vuumount $W/lower && diff -r $W/same $W/lower >&2 || exit
                 vumount -t vufs -o cow $W/upper $W/lower && cd $W/lower; echo; {find}",
                work.display()
            );
            let told = succeed(place, &script);
            let (told, again) = told.rsplit_once("\n\n").expect("an empty line");
            assert_eq!(lines(told), lines(&native), "{place:?}, seed {seed}");
            assert_eq!(lines(again), lines(&left), "{place:?}, seed {seed}: mounted again");
        }
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

/// The same commands in the kernel's overlayfs, where this host lets a user mount one.
#[test]
fn a_story_goes_as_on_overlayfs() {
    const STORY: &str = r#"
        cd $M && cat b && echo more >> b && cat b && rm a/a && ls a && mv a/b a/moved && ls -R a
        rm -rf d && mkdir d && ls -A d && touch d/new && mv d d2 && ls -R d2 && ls
        ln -s b link && cat link && mv sub/sub sub/sub2 && cat sub/sub2/x && chmod 700 sub && stat -c '%a %F' sub
        : > e; echo cut > b; cat b; touch -d @1000 sub/a; stat -c '%Y %s' sub/a; rmdir a 2>&1 | grep -o 'not empty'
        mkdir a/a && rm -rf a && echo file > a && cat a && rm a && mkdir a && ls -A a; cp -a sub copy && ls -R copy
        cd /; ls -AR $M | sed "s|$M||"
    "#;
    let work = scratch("story");
    let paths = format!("W={}; M=$W/lower", work.display());
    let kernel = format!(
        "{TREE} {paths}; tree $M; mkdir $W/upper $W/work
         unshare -Urm sh -c 'mount -t overlay overlay -o lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work,userxattr $0/lower || exit 77
         W=$0; M=$W/lower; {}' $W",
        STORY.replace('\'', "\"")
    );
    let kernel = run(Place::Native, &kernel);
    fs::remove_dir_all(&work).expect("scratch goes");
    for place in INSIDE {
        let work = scratch("story");
        let paths = format!("W={}; M=$W/lower", work.display());
        let script = format!(
            "{TREE} {paths}; tree $M; mkdir $W/upper; vu_insmod vufs
             vumount -t vufs -o cow $W/upper $M || exit; {STORY}"
        );
        let told = succeed(place, &script);
        assert!(told.contains("cut\n1000 2\nnot empty\n"), "{told}");
        if kernel.status == Some(0) {
            let kernel = kernel.out.replace(&work.display().to_string(), "");
            let told = told.replace(&work.display().to_string(), "");
            assert_eq!(lines(&told), lines(&kernel), "{place:?}");
        }
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

#[test]
fn each_mode_changes_what_it_says() {
    const SCRIPT: &str = r#"
        cd $W; mkdir -p a/sub b/sub m c; echo A > a/fa; echo A > a/both; echo B > b/both; echo B > b/fb
        vu_insmod vufs
        echo merge; vumount -t vufs -o merge a b; ls b | xargs; cat b/both
        for f in both fa; do echo x 2>&1 > b/$f | cat; done 2>&1 | grep -o Read-only.*; rm b/fa 2>&1 | grep -o Read-only.*
        rm b/fb; echo new > b/new; vuumount b; ls a b
        echo mincow; vumount -t vufs -o mincow m b; echo q > b/q; rm b/new; vuumount b; ls b m
        echo bind; vumount -t vufs -o bind,except=/sub c b; ls b; touch b/made b/sub/kept; vuumount b; ls c b/sub
        echo move; vumount -t vufs -o move c b; ls b; vuumount b
        echo file; vumount -t vufs c/made b/both; cat b/both; echo told > b/both; vuumount b/both; cat c/made b/both
        echo ro; vumount -t vufs -o ro a b; touch b/x 2>&1 | grep -o Read-only.*; chmod 7 b/fa 2>&1 | grep -o Read-only.*; vuumount b
        vumount -t vufs -o cow,ro m b; touch b/x 2>&1 | grep -o Read-only.*; vuumount b
        python3 -c 'import os; f = os.open("a/fa", 0)'
        for o in bogus cow,merge except; do vumount -t vufs -o $o c b; echo $?; done
        vumount -t vufs -o cow c/made b; vumount -t vufs nothing b
    "#;
    for place in INSIDE {
        let work = scratch("modes");
        let told = run(place, &format!("W={}; {SCRIPT}", work.display()));
        let told = format!("{}{}", told.out, told.err).replace(&work.display().to_string(), "W");
        assert_eq!(lines(&told), lines(MODES), "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const MODES: &str = "\
merge
both fa fb sub
A
Read-only file system
Read-only file system
Read-only file system
a:
both
fa
sub

b:
both
new
sub
mincow
b:
both
q
sub

m:
bind
sub
b/sub:
kept

c:
made
move
made
file
told
B
ro
Read-only file system
Read-only file system
Read-only file system
1
1
1
vumount: vufs: bogus: unknown option
vumount: vufs: merge and cow: only one of bind, move, merge, cow and mincow
vumount: vufs: except needs a path: except=PATH
vumount: c/made: not a directory (a file can only be bound)
vumount: nothing: No such file or directory
";

/// What VUOS's module has written is read, and what is written is what that module reads.
#[test]
fn the_metadata_are_those_of_vuos() {
    const SCRIPT: &str = r#"
        cd $W; mkdir -p low/dir/in low/gone up/.-/dir up/solid low/solid
        echo low > low/file; echo x > low/dir/in/x; echo y > low/dir/y; echo s > low/solid/s; echo g > low/gone/g
        : > up/.-/dir/y; : > up/.-/gone; : > up/.-/solid; echo own > up/solid/own
        printf 'mode=0600\nuid=33\ngid=44\n' > up/.-/file$D; : > up/dev
        printf 'type=c\nrdev=1,3\n' > up/.-/dev$D
        vu_insmod vufs; vumount -t vufs -o cow up low || exit; cd low
        ls | xargs; ls dir solid | xargs; stat -c '%a %u %g' file; stat -c '%F %t,%T' dev; echo dropped > dev; cat dev
        cat gone/g solid/s 2>/dev/null; echo $?
        rm -r dir/in; mkdir gone; ls gone; touch gone/new; cat solid/own; chmod 640 file; stat -c '%a %u %g' file
        mknod pipe b 8 1; stat -c '%F %t,%T' pipe
        cd ..; find up -printf '%P %y\n' | LC_ALL=C sort | sed "s/$D/DEL/"; cat up/.-/pipe$D
    "#;
    for place in INSIDE {
        let told = as_user(place, &format!("D=$(printf '\\177'); {SCRIPT}"));
        assert_eq!(lines(&told), lines(FORMAT), "{place:?}");
    }
}

const FORMAT: &str = "\
dev dir file solid
dir: in solid: own
600 33 44
character special file 1,3
1
own
640 33 44
block special file 8,1
 d
.- d
.-/.- d
.-/devDEL f
.-/dir d
.-/dir/in f
.-/dir/y f
.-/fileDEL f
.-/gone d
.-/gone/g f
.-/pipeDEL f
.-/solid f
dev f
file f
gone d
gone/new f
pipe f
solid d
solid/own f
type=b
rdev=8,1
";

/// Runs a script as an ordinary user, who has the folder `$W`; returns what it printed, with `W` for that.
pub(crate) fn as_user(place: Place, script: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (us, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let home = std::env::temp_dir().join(format!("umvu-user-{us}-{number}"));
    fs::create_dir(&home).expect("the folder for temporary files is writable");
    fs::write(home.join("script"), script).expect("it is ours");
    let mut words = place.prefix().to_vec();
    let umvu = home.join("umvu").display().to_string();
    words[0] = &umvu;
    let start = format!(
        r#"H={0}; cp {1} $H/umvu; mkdir $H/w; chmod -R a+rwX $H; trap 'rm -rf $H' EXIT; cd $H/w
        [ $(id -u) != 0 ] || who='setpriv --reuid=1000 --regid=1000 --clear-groups'
        $who env HOME=$H W=$H/w {2} bash $H/script 2>&1"#,
        home.display(),
        crate::harness::umvu(),
        words.join(" "),
    );
    let told = succeed(Place::Native, &start);
    told.replace(&home.join("w").display().to_string(), "W")
}

#[test]
fn layers_may_be_virtual_and_nested() {
    const SCRIPT: &str = r#"
        set -e; cd /; mkdir -p $W/real $W/up $W/up2 $W/mem; vu_insmod vufs vufuse mountreal
        vumount -t vufusemem none $W/mem; echo mem > $W/mem/f; cp /bin/echo $W/mem/say; mkdir $W/mem/d
        vumount -t vufs -o cow $W/up $W/mem; echo one >> $W/mem/f; cat $W/mem/f; $W/mem/say said
        vumount -t vufs -o cow $W/up2 $W/mem; echo two >> $W/mem/f; rmdir $W/mem/d; ls $W/mem; cat $W/mem/f
        vumount -t mountreal $W/mem $W/real; cat $W/real/f; chmod 600 $W/real/f; stat -c %a $W/mem/f; vuumount $W/real
        vuumount $W/mem; cat $W/mem/f; ls $W/mem; vuumount $W/mem; cat $W/mem/f; stat -c %a $W/mem/f
        mkdir $W/vup; vumount -t vufusemem none $W/vup; echo low > $W/real/g; vumount -t vufs -o cow $W/vup $W/real
        echo high > $W/real/h; rm $W/real/g; mkdir $W/real/g; ls $W/real; cat $W/vup/h; vuumount $W/real; cat $W/real/g
    "#;
    for place in INSIDE {
        let work = scratch("nested");
        let told = succeed(place, &format!("W={}; {SCRIPT}", work.display()));
        assert_eq!(lines(&told), lines(NESTED), "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const NESTED: &str = "\
mem
one
said
f
say
mem
one
two
mem
one
two
600
mem
one
d
f
say
mem
644
g
h
high
low
";

/// Below an exception stands what stood there before, be it virtual itself.
#[test]
fn exceptions_show_what_was_mounted_before() {
    const SCRIPT: &str = r#"
        cd /; mkdir -p $W/t/b $W/up $W/up2; vu_insmod vufs vufuse
        vumount -t vufusemem none $W/t/b; mkdir $W/t/b/in; echo mem > $W/t/b/f; echo deep > $W/t/b/in/g
        vumount -t vufs -o cow,except=/b/in $W/up $W/t; ls $W/t $W/t/b | xargs; cat $W/t/b/in/g
        echo new > $W/t/b/in/h; echo cow > $W/t/b/c; ls $W/up/b; stat -c %n $W/t/b/in/../f
        cd $W/t/b/in; pwd; cd ..; ls | xargs; cd /; vuumount $W/t; ls $W/t/b $W/t/b/in | xargs; vuumount $W/t/b
        vumount -t vufs -o cow,except=/b $W/up $W/t; vumount -t vufs -o cow $W/up2 $W/t
        touch $W/t/b/two $W/t/three; vuumount $W/t; vuumount $W/t; find $W/t | sort; ls $W/up2 $W/up2/b | xargs
    "#;
    for place in INSIDE {
        let work = scratch("except");
        let told = succeed(place, &format!("W={}; {SCRIPT}", work.display()));
        let told = told.replace(&work.display().to_string(), "W");
        assert_eq!(lines(&told), lines(EXCEPTED), "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const EXCEPTED: &str = "\
W/t: b W/t/b: f in
deep
c
W/t/b/in/../f
W/t/b/in
c f in
W/t/b: f in W/t/b/in: g h
W/t
W/t/b
W/up2: b three W/up2/b: two
";

/// Whatever stands in the metadata, what is below still shows or is said to be wrong.
#[test]
fn hostile_metadata_do_no_harm() {
    const SCRIPT: &str = r#"
        cd $W; mkdir -p low/d up/.-/d; for f in a b c e g h; do echo $f > low/$f; done; echo x > low/d/x
        mkfifo up/.-/a$D up/.-/b; ln -s / up/.-/e; ln -s /etc/passwd up/.-/c$D; mkdir up/.-/g$D
        head -c 100000 /dev/urandom > up/.-/h$D; mkfifo up/.-/d/x; printf 'type=c\nmode=0755\n' > up/.-/d$D
        deep=up/.-/deep; for i in $(seq 50); do deep=$deep/deep; done; mkdir -p $deep
        vu_insmod vufs; vumount -t vufs -o cow up low || exit; cd low
        cat a b c e g d/x; stat -c %F d; for f in a b c e g h; do echo more >> $f; done; cat a; rm -rf *; ls
        mkdir deep; touch deep/x; ls -A . deep; cd ..; vuumount low
        rm -rf up; mkdir up; ln -s /etc up/.-; vumount -t vufs -o cow up low; rm up/.-; touch up/.-; vumount -t vufs -o cow up low
    "#;
    for place in INSIDE {
        let work = scratch("hostile");
        let script = format!("W={}; D=$(printf '\\177'); {SCRIPT}", work.display());
        let told = run(place, &script);
        let told = format!("{}{}", told.out, told.err).replace(&work.display().to_string(), "W");
        assert_eq!(lines(&told), lines(HOSTILE), "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

const HOSTILE: &str = "\
a
b
c
e
g
x
directory
a
more
.:
deep

deep:
x
vumount: up/.-: Not a directory
vumount: up/.-: Not a directory
";

/// A copy is whole or not there, and what was put together goes with the next mount.
#[test]
fn who_is_killed_while_copying_leaves_no_half_copy() {
    let work = scratch("torn");
    let script = format!(
        r#"W={}; cd $W; mkdir up low; head -c 300000000 /dev/urandom > low/big; sum=$(cksum < low/big)
        for after in 0.02 0.05 0.1 0.2; do
            {} -N -m vufs sh -c "vumount -t vufs -o cow up low; cd low; exec sh -c 'echo x >> big'" &
            sleep $after; kill -9 $! 2>/dev/null; wait 2>/dev/null
            if [ -e up/big ]; then [ $(stat -c %s up/big) -ge 300000000 ] || echo torn; rm up/big; fi
        done 2>/dev/null
        {} -N -m vufs sh -c 'vumount -t vufs -o cow up low; cksum < low/big; ls up/.-/.- | wc -l' | tr '\n' ' '
        [ "$sum" = "$(cksum < low/big)" ]; echo "$? $sum""#,
        work.display(),
        crate::harness::umvu(),
        crate::harness::umvu(),
    );
    let told = succeed(Place::Native, &script);
    let sum = told.rsplit_once("0 ").map_or("", |(_, sum)| sum.trim()).to_owned();
    fs::remove_dir_all(work).expect("scratch goes");
    assert!(!told.contains("torn") && told.contains(" 300000000 0 "), "{told}: {sum}");
}
