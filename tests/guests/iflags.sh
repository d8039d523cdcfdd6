# Flags of files (chattr(1), lsattr(1)) and where their blocks are, in the working directory; told without what
# differs from run to run.
mkdir d; echo x > f; ln -s f s; lsattr f; lsattr -d . d; lsattr -v f | awk '{print NF}'
chattr +i f; lsattr f; echo y >> f; rm f; mv f g; ln f h; chmod 600 f; touch f; cat f; chattr -i f; rm f; ls f
echo x > a; chattr +a a; lsattr a; echo y >> a; echo z > a; rm a; cat a; truncate -s 0 a; chattr -a a; rm a
chattr +i d; touch d/x; mkdir d/y; lsattr -d d; chattr -i d; touch d/x; chattr +a d; touch d/y; rm d/y; mv d/y d/z; chattr -a d; rm d/y d/x
chattr +A d; lsattr -d d; chattr +d d; lsattr -d d; chattr +D d; chattr +T d; lsattr -d d; echo > d/f; lsattr d/f; chattr -A -d -D -T d; lsattr -d d; mkdir n; chattr +sudAD n; mkdir n/d; echo > n/f; ln -s f n/s; lsattr -d n/d n/f; lsattr n/f
echo > k; chattr +S k; chattr +u k; chattr +c k; chattr +s k; lsattr k; chattr +D k; lsattr k; chattr +C k; lsattr k
python3 - <<'P'
import array, errno, fcntl, os, struct
def fiemap(fd, start=0, length=2**63, flags=0, room=50):
    buffer = bytearray(struct.pack("QQIIII", start, length, flags, 0, room, 0) + bytes(56 * room))
    try:
        fcntl.ioctl(fd, 0xc020660b, buffer)
    except OSError as error:
        return errno.errorcode[error.errno]
    head = struct.unpack_from("QQIIII", buffer)
    extents = [struct.unpack_from("QQQQQI", buffer, 32 + 56 * n) for n in range(min(head[3], room))]
    return head[3], [(e[0], e[1] > 0, e[2], hex(e[5])) for e in extents]
fd = os.open("map", os.O_RDWR | os.O_CREAT)
print(fiemap(fd))
os.pwrite(fd, b"x" * 16384, 0); os.pwrite(fd, b"y" * 5000, 1 << 20); os.fsync(fd)
print(fiemap(fd)); print(fiemap(fd, room=0)); print(fiemap(fd, room=1)); print(fiemap(fd, 4096, 4096)); print(fiemap(fd, 20000, 1 << 20)); print(fiemap(fd, 2 << 20))
print(fiemap(fd, length=0), fiemap(fd, flags=0x100))
os.unlink("map")
for request in 0x80086601, 0x80087601:
    word = array.array("i", [-1, -1]); fcntl.ioctl(fd, request, word); print(word[1], word[0] != -1)
try: fcntl.ioctl(fd, 0x6699, 0)
except OSError as error: print(error)
P
echo hello > t; filefrag -s t | tail -1; filefrag d
> empty; chattr -e empty; lsattr empty; seq 9000 > empty; md5sum < empty; > empty; chattr +e empty; lsattr empty; seq 9000 > empty; md5sum < empty
