//! A copy of the whole system that is changed and thrown away: packages, users, what is installed by make
//! and pip; by an ordinary user, by the virtual administrator and by root.

use std::fs;

use crate::{
    harness::{INSIDE, Place, scratch, succeed},
    patchwork::{as_user, lines},
};

/// A package, a Python project and a makefile, each of which installs a program that says hello.
const HELLO: &str = r##"
mkdir -p pkg/DEBIAN pkg/usr/bin make
printf '%s\n' 'Package: umvu-hello' 'Version: 1.0' 'Architecture: all' 'Maintainer: A <a@b.c>' 'Description: says hello' > pkg/DEBIAN/control
printf '#!/bin/sh\necho configured > /var/lib/umvu-hello\n' > pkg/DEBIAN/postinst
printf '#!/bin/sh\necho hello from a package\n' > pkg/usr/bin/umvu-hello; chmod 755 pkg/DEBIAN/postinst pkg/usr/bin/umvu-hello
python3 -c 'import zipfile
with zipfile.ZipFile("umvuhello-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("umvuhello.py", "print(\"hello from python\")\n")
    about = "umvuhello-1.0.dist-info/"
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: umvuhello\nVersion: 1.0\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(about + "RECORD", "")'
printf 'hello: ; echo "#!/bin/sh\\necho made" > hello\ninstall: hello\n\tinstall -D -m 755 hello /usr/local/bin/umvu-made\n' > make/Makefile
mkdir over; vu_insmod vufs
vumount -t vufs -o cow,except=/proc,except=/sys,except=/dev,except=$W/over $W/over / || exit 1
"##;

#[test]
fn an_ordinary_user_changes_the_whole_system_and_throws_it_away() {
    const SCRIPT: &str = r#"
        before=$(ls /usr/share/doc | wc -l; cksum /etc/passwd)
        echo 'umvu:x:4711:4711::/:/bin/sh' >> /etc/passwd && getent passwd umvu | cut -d: -f3
        rm -rf /usr/share/doc; ls /usr/share/doc 2>&1 | grep -o 'No such file.*'
        make -s -C make install && umvu-made; stat -c %a /usr/local/bin/umvu-made
        chown 0:0 /usr/local/bin/umvu-made && stat -c '%u %g' /usr/local/bin/umvu-made
        cp /bin/ls /usr/bin/umvu-ls; umvu-ls -l /proc/self/exe | grep -o '/proc.*'
        python3 -m pip install -q --no-index --break-system-packages --root-user-action=ignore *.whl
        (cd / && python3 -m umvuhello); [ ! -d ~/.local ] && echo for everybody
        mv /etc/apt /etc/apt2 && [ -d /etc/apt2/sources.list.d ] && ls -d /etc/apt 2>&1 | grep -o 'No such file.*'
        mkdir -p /opt/umvu && cd /opt/umvu && pwd && readlink /proc/self/cwd
        [ $(id -u) = 0 ] || cat /etc/shadow 2>&1 | grep -o 'Permission denied'
        cd $W/over; vuumount / && [ "$before" = "$(ls /usr/share/doc | wc -l; cksum /etc/passwd)" ] && echo untouched
        ls -d /opt/umvu /etc/apt2 /usr/bin/umvu-ls 2>/dev/null
        true
    "#;
    for place in INSIDE {
        let told = as_user(place, &format!("{HELLO}{SCRIPT}"));
        assert_eq!(lines(&told), lines(THROWN_AWAY), "{place:?}");
    }
}

const THROWN_AWAY: &str = "\
4711
No such file or directory
made
755
0 0
/proc/self/exe -> /usr/bin/umvu-ls
hello from python
for everybody
No such file or directory
/opt/umvu
/opt/umvu
Permission denied
untouched
";

/// dpkg asks for the administrator; the host's files stay as they are all the same.
#[test]
fn packages_are_installed_into_a_copy_of_the_system() {
    const SCRIPT: &str = r#"
        dpkg-deb --root-owner-group -b pkg hello.deb >/dev/null || exit
        if [ $(id -u) = 0 ]; then
            mkdir repo && cp hello.deb repo && (cd repo && dpkg-scanpackages -m . > Packages 2>/dev/null)
            echo "deb [trusted=yes] file:$W/repo ./" > /etc/apt/sources.list.d/umvu.list
            apt-get -qq update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/umvu.list -o Dir::Etc::sourceparts=- &&
                apt-get -qq install -y umvu-hello >/dev/null && umvu-hello && cat /var/lib/umvu-hello
            dpkg -s umvu-hello | grep Status; dpkg -P umvu-hello >/dev/null; dpkg -i hello.deb >/dev/null && umvu-hello
            useradd -m umvu-guest && id -un umvu-guest && stat -c %U ~umvu-guest
        fi
        cd /; vuumount -f /; ls /usr/bin/umvu-hello /home/umvu-guest /var/lib/umvu-hello 2>/dev/null; true
    "#;
    let root = succeed(Place::Native, "id -u").trim() == "0";
    let packages = "hello from a package\nconfigured\nStatus: install ok installed\n\
                    hello from a package\numvu-guest\numvu-guest\n";
    let expected = if root { packages } else { "" };
    for place in INSIDE {
        let work = scratch("packages");
        let told = succeed(place, &format!("W={}; cd $W; {HELLO}{SCRIPT}", work.display()));
        assert_eq!(lines(&told), lines(expected), "{place:?}");
        fs::remove_dir_all(work).expect("scratch goes");
    }
}

/// The virtual administrator is an ordinary user of the host, who has never been root anywhere.
#[test]
fn the_virtual_administrator_installs_packages_into_a_copy_of_the_system() {
    const SCRIPT: &str = r#"
        vu_insmod unrealuidgid
        host() { ls /usr/share/doc | wc -l; cksum /etc/passwd /etc/group /var/lib/dpkg/status; ls -ld /root /var/lib/apt/lists/partial; }
        before=$(host)
        cat > admin <<'E'
        dpkg-deb --root-owner-group -b pkg hello.deb >/dev/null || exit
        mkdir repo && cp hello.deb repo && (cd repo && dpkg-scanpackages -m . > Packages 2>/dev/null)
        echo "deb [trusted=yes] file:$W/repo ./" > /etc/apt/sources.list.d/umvu.list
        apt-get -qq update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/umvu.list -o Dir::Etc::sourceparts=- &&
            apt-get -qq install -y umvu-hello >log 2>&1 && umvu-hello && cat /var/lib/umvu-hello
        dpkg -s umvu-hello | grep Status; dpkg -P umvu-hello >/dev/null; dpkg -i hello.deb >/dev/null && umvu-hello
        stat -c '%U %G %a' /usr/bin/umvu-hello; dpkg -V umvu-hello
        useradd -m umvu-guest && id -un umvu-guest && stat -c %U ~umvu-guest && su -s /bin/sh - umvu-guest -c 'id -un; pwd'
        echo umvu-guest:secret | chpasswd; grep -c '^umvu-guest:.y' /etc/shadow; stat -c '%U %G %a' /etc/shadow
        python3 -m pip install -q --no-index --break-system-packages --root-user-action=ignore *.whl; (cd / && python3 -m umvuhello)
        mkdir t; touch t/a t/b; mknod t/null c 1 3; chmod 666 t/null; chown 33:44 t/a; chown 7:8 t/b; chmod 4755 t/b; tar cf t.tar t
        mkdir /opt/umvu && tar xpf t.tar -C /opt/umvu; cd /opt/umvu/t && stat -c '%n %u %g %a %t,%T' *; echo lost > null; cat null
        cd /; ls /root 2>&1 | grep -o 'Permission denied'; touch /root/new && ls -A /root; chown 5 /etc/gshadow- 2>&1; stat -c %u /etc/gshadow-
        rm -rf /var/lib/apt/lists/partial; mkdir /var/lib/apt/lists/partial && ls -A /var/lib/apt/lists/partial
E
        vusu -c 'bash ./admin' 2>&1
        cd $W/over; vuumount / && [ "$before" = "$(host)" ] && echo untouched
        ls -d /usr/bin/umvu-hello /home/umvu-guest /var/lib/umvu-hello /opt/umvu 2>/dev/null; true
    "#;
    for place in INSIDE {
        let told = as_user(place, &format!("{HELLO}{SCRIPT}"));
        assert_eq!(lines(&told), lines(ADMINISTRATED), "{place:?}");
    }
}

const ADMINISTRATED: &str = "\
hello from a package
configured
Status: install ok installed
hello from a package
root root 755
umvu-guest
umvu-guest
umvu-guest
/home/umvu-guest
1
root shadow 640
hello from python
a 33 44 644 0,0
b 7 8 4755 0,0
null 0 0 666 1,3
Permission denied
new
5
untouched
";
