"""Work on mounted images, beside the kernel's FUSE with the same image in the same run: ext4 beside
fuse2fs, squashfs beside squashfuse. The kernel's mounts need root or fusermount3."""

import os
import pathlib
import subprocess

# Each line: what is measured, and the command; all in a fresh mount, in this order.
READING = {
    "big file, first": "cat big >/dev/null",
    "big file, again": "cat big >/dev/null",
    "find": "find tree >/dev/null",
    "tar c": "tar c tree | cat >/dev/null",
    "grep -r": "grep -r nowhere tree",
    "find -size": "find tree -size +1M",
    "git status": "git -C tree status --short",
}
WRITING = {
    "cp -r": "cp -r tree copy",
    "gcc, 40 files": "cd tree/code && for f in *.c; do gcc -c $f || exit; done",
    "rm -r": "rm -r copy",
}


def make_tree(folder, quick):
    """A big file, and a git repository of small ones."""
    files, megabytes = (1500, 100) if quick else (6000, 400)
    tree = folder / "tree"
    (tree / "code").mkdir(parents=True)
    with open(folder / "big", "wb") as big:
        for _ in range(megabytes):
            big.write(os.urandom(1 << 20))
    for number in range(files):
        place = tree / f"d{number % 60}"
        place.mkdir(exist_ok=True)
        (place / f"f{number}").write_bytes(os.urandom(64 + number * 37 % 8000).hex().encode())
    for number in range(40):
        (tree / "code" / f"c{number}.c").write_text(
            f"#include <stdio.h>\nint f{number}(int x) {{ return printf(\"%d\", x + {number}); }}\n")
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", tree, *words], check=True)


def timed(commands):
    """A shell script that prints the milliseconds of each command, in the working directory."""
    lines = ["export GIT_OPTIONAL_LOCKS=0"]
    for name, command in commands.items():
        lines.append(f"b=$(date +%s%N); ( {command} ); e=$(date +%s%N); echo \"{name}=$(((e-b)/1000))\"")
    return "\n".join(lines)


def measure(umvu, work, quick, record):
    """Measures and prints."""
    source = work / "source"
    source.mkdir()
    make_tree(source, quick)
    mount = work / "mounted"
    mount.mkdir()
    squash, clean = work / "i.squash", work / "clean.ext4"
    subprocess.run(["mksquashfs", source, squash, "-quiet", "-no-progress"], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-d", source, clean, "200M" if quick else "900M"], check=True)
    ends = f"cd /; fusermount3 -u {mount} || fusermount -u {mount}"
    cases = {
        "ext4, reading": (clean, READING, "fuse2fs -o ro", "vufuseext2", "-o ro"),
        "ext4, writing": (clean, WRITING, "fuse2fs -o fakeroot", "vufuseext2", "-o rw+"),
        "squashfs": (squash, READING, "squashfuse", "vufusesquash", ""),
    }
    for label, (image, commands, by_kernel, fstype, options) in cases.items():
        # One each: a program that has just been unmounted may still be writing.
        theirs, own = (work / f"{label.replace(', ', '-')}.{who}" for who in ("theirs", "ours"))
        for copy in (theirs, own):
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        inside = f"vu_insmod vufuse; vumount -t {fstype} {options} {own} {mount} || exit"
        places = {
            "kernel FUSE": (["bash"], f"{by_kernel} {theirs} {mount} 2>/dev/null || exit", ends),
            "umvu": ([str(umvu), "-N", "bash"], inside, f"cd /; vuumount {mount}"),
        }
        found = {}
        for place, (prefix, begin, end) in places.items():
            script = f"{begin}\ncd {mount} || exit\ngit config --global --add safe.directory '*'\n" \
                     f"{timed(commands)}\n{end}"
            home = {**os.environ, "HOME": str(work)}
            done = subprocess.run([*prefix, "-c", script], text=True, stdout=subprocess.PIPE,
                                  env=home, check=False)
            lines = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
            found[place] = {name: int(micros) / 1000 for name, _, micros in lines}
        for copy in (theirs, own):
            copy.unlink()
        print(f"{label:20}{'kernel FUSE ms':>16}{'umvu ms':>10}{'as fast':>10}")
        for name in commands:
            kernel, ours = (found[place].get(name) for place in places)
            record(f"{label}: {name} ms", "kernel FUSE", kernel)
            record(f"{label}: {name} ms", "umvu", ours)
            if kernel and ours:
                print(f"  {name:18}{kernel:16.1f}{ours:10.1f}{kernel / ours:9.2f}x")
            else:
                print(f"  {name:18}{'-' if kernel is None else kernel:>16}{'-' if ours is None else ours:>10}")
