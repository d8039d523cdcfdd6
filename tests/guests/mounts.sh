# Flags of mounts, bind mounts, remounts and umounts as root, with `$T` as the type of file system; told without
# what differs from run to run.
mkdir a b c d; echo x > a/f; plain() { sed "s:$PWD:W:g"; }
own() {
  grep " $PWD/$1 " /proc/self/mounts | sed "s/$T/TYPE/" | plain
  grep " $PWD/$1 " /proc/self/mountinfo | sed "s/$T/TYPE/;s/^[0-9]* [0-9]* [0-9:]* //" | plain
  findmnt -n -o FSTYPE,OPTIONS,VFS-OPTIONS,FS-OPTIONS $1 | sed "s/$T/TYPE/" | tr -s " "
  python3 -c "import os; print(hex(os.statvfs('$1').f_flag))"
}
for o in nosuid nodev noexec noatime relatime strictatime nodiratime ro sync dirsync lazytime nosuid,nodev,noexec,noatime,size=4M; do
  echo "== $o"; mount -t $T -o $o none c; own c; umount c
done
echo "== noexec"
mount -t $T -o noexec,mode=755 none c; cp /bin/true c/true; c/true; echo $?; test -x c/true; echo $?
/lib64/ld-linux-x86-64.so.2 c/true; echo $?
printf "#!/bin/sh\necho ran\n" >c/s; chmod 755 c/s; c/s; echo $?; sh c/s
maps="
import mmap
f = open('PATH', 'rb')
mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
try: mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE); print('mapped')
except OSError as error: print(error)"
python3 -c "${maps/PATH/c/true}"; mount -o remount,exec c; echo $?; c/true; echo $?; python3 -c "${maps/PATH/c/true}"; own c; umount c
cp /bin/true a/true; mount -o bind,noexec a b; b/true; echo $?; python3 -c "${maps/PATH/b/true}"; umount b; rm a/true
echo "== bind"
mount --bind a b; own b; mount -o remount,bind,ro,nosuid b; own b; touch b/z; mount -o remount,bind,rw b; own b; touch b/z; umount b
mount -t $T -o size=4M none c; mkdir c/in; mount --bind c/in b; own b; findmnt -n -o SOURCE,FSROOT b | tr -s " "
mount -o remount,ro c; echo $?; touch b/x; own b; own c; mount -o remount,rw c; touch b/x; ls b; umount b; umount c
mount -o bind,ro a b; own b; umount b; mount -o bind,noexec,nosuid a b; own b; umount b
mount --bind a b; mount --bind c b; ls b; umount b; ls b; umount b; ls b
mount -t $T one c; touch c/file; mount --bind c/file a/f; own a/f; umount a/f; umount c
: >f; mount --bind a f 2>&1 | head -1 | plain; mount --bind f a 2>&1 | head -1 | plain
echo "== remount"
mount -t $T -o size=4M,nosuid none c; mount -o remount,ro c; own c; mount -o remount,rw,noexec c; own c; exec 5>c/open
mount -o remount,ro c 2>&1 | head -1 | plain; mount -o remount,bind,ro c 2>&1 | head -1 | plain; exec 5>&-; mount -o remount,ro c; echo $?; umount c
echo "== umount"
mount -t $T one c; mount -t $T two d; umount two; echo $?; findmnt -n -o SOURCE d; findmnt -n -o SOURCE c
mount -t $T two d; umount -a -t $T 2>/dev/null; findmnt -n c; findmnt -n d
mount -t $T one c; mkdir c/in; mount -t $T two c/in; umount c 2>&1 | plain; umount -R c; echo $?; findmnt -n -R c; ls c
mount -t $T one c; mkdir c/in; mount -t $T two c/in; umount -l c; echo $?; findmnt c; findmnt c/in
mount -t $T one c; mkdir c/in; mount -n --move c d; echo $?; findmnt -n -o TARGET,SOURCE d | tr -s " " | plain; ls d; umount d; echo $?
mount -t $T one c; mkdir c/in; mount -n --move c nonexist 2>&1 | head -1 | plain; mount -n -M c d; echo $?; umount d
