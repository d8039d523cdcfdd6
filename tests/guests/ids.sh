# What root does with owners and modes; works in the directory $1.
cd "$1" || exit
id; touch f; mkdir d; chown 33:44 f; stat -c '%u %g %a %F' f d; chown -h 5 d; stat -c '%u %g' d
mknod dev c 1 3; ls -ln dev | cut -d' ' -f1-6; stat -c '%F %t %T' dev
chmod 4755 f; stat -c %a f; chmod 0 f; stat -c %a f; cat f
install -o 7 -g 8 -m 600 /etc/hostname ins; stat -c '%u %g %a' ins
tar cf ../x.tar . && tar tvf ../x.tar --numeric-owner | awk '{print $1,$2,$6}' | sort
mkdir y; tar xpf ../x.tar -C y && stat -c '%n %u %g %a %F' y/*
cp -a f f2; stat -c '%u %g %a' f2; mv f2 f3; stat -c '%u %g %a' f3; ln f3 f4; stat -c '%u %g %h' f4
ln -s ins link; chown -h 9:9 link; stat -c '%u %g' link; stat -Lc '%u %g' link; chown 4 link; stat -Lc '%u %g' link
python3 -c 'import os; s=os.fstat(os.open("f3",0)); print(s.st_uid,s.st_gid); print(os.getresuid())'
rm f3 f4; touch f3; stat -c '%u %g' f3
mkdir -p pkg/DEBIAN pkg/usr/bin; echo hi > pkg/usr/bin/hi; chown 33 pkg/usr/bin/hi
printf 'Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n' > pkg/DEBIAN/control
dpkg-deb -b pkg ../a.deb >/dev/null && dpkg-deb -c ../a.deb | awk '{print $1,$2,$6}'
