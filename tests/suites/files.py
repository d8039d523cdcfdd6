"""The places of suites for file systems: an empty directory of the host, and what umvu has instead.

The command finds that directory as its working directory and in $TMPDIR. Where it lies in an image,
fsck(8) has the last word: one more verdict.
"""

import os
import re
import shlex
import subprocess

import places

IMAGE = "truncate -s 900M i && mkfs.{} i >/dev/null && vumount -t {} -o rw+{} i m"
LAYERS = "mkdir -p low over && vumount -t vufs -o {} {} m"

# Modules, how the directory is made, its path, and how it is judged when all is over.
MOUNTS = {
    "armed": ("mountreal", "mkdir -p m", "$D/m", ""),
    "unreal": ("unreal", "mkdir -p m", "/unreal$D/m", ""),
    "unreal2": ("unreal", "mkdir -p m", "/unreal/unreal$D/m", ""),
    "mountreal": ("mountreal", "mkdir -p low && vumount -t mountreal low m", "$D/m", ""),
    "bind": ("vufs", LAYERS.format("bind", "low"), "$D/m", ""),
    "merge": ("vufs", LAYERS.format("merge", "low"), "$D/m", ""),
    "cow": ("vufs", LAYERS.format("cow", "over"), "$D/m", ""),
    "mem": ("vufuse", "vumount -t vufusemem -o size=900M,mode=755 none m", "$D/m", ""),
    "ext4": ("vufuse", IMAGE.format("ext4 -q", "vufuseext2", ""), "$D/m", "e2fsck -fn i"),
    "fat": ("vufuse", IMAGE.format("vfat", "vufusefatfs", ""), "$D/m", "fsck.vfat -n i"),
    "exfat": ("vufuse", IMAGE.format("exfat", "vufusefatfs", ""), "$D/m", "fsck.exfat -n i"),
}
PLACES = [f"{mode}:{mount}" for mount in MOUNTS for mode in places.MODES]
QUICK = ["notify:cow", "notify:mem", "ptrace:ext4"]
# Those with links, owners and modes.
POSIX = [place for place in PLACES if not place.endswith("fat")]

# umount(2) says EBUSY while something of the suite is about.
INSIDE = """
    D={work}; export PATH=$PATH:/sbin:/usr/sbin; cd $D && mkdir -p m && {mount} || exit 125
    rm -rf {inner}/lost+found; (umask 022; export TMPDIR={inner}; cd {inner} && exec {command}); status=$?
    if [ -n {check} ]; then
        for i in $(seq 50); do vuumount m 2>/dev/null && break; sleep 0.1; done
        vuumount -f m 2>/dev/null; echo; if sh -c {check}; then echo '(image) clean'; else echo '(image) broken'; fi
    fi
    exit $status
"""


def argv(place, command, work):
    """The command line that runs a command in a place."""
    command = shlex.join(command)
    work = os.path.join(work, "at." + place.replace(":", "-"))  # $PATH knows no colons
    subprocess.run(["rm", "-rf", work], check=True)
    os.makedirs(work)
    if place == "native":
        return ["sh", "-c", f"cd {work} && umask 022 && export TMPDIR=$PWD && exec {command}"]
    mode, _, mount = place.partition(":")
    modules, made, inner, check = MOUNTS[mount]
    script = INSIDE.format(
        work=work, mount=made, inner=inner, command=command, check=shlex.quote(check)
    )
    return places.inside(mode, modules, script)


def verdicts(text):
    """What fsck(8) says, where there is an image."""
    return {"(image is whole)": "fail"} if re.search(r"^\(image\) broken", text, re.M) else {}
