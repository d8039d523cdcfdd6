"""Work as virtual root, and in another root directory, beside fakeroot, fakechroot and proot in the
same run, by an ordinary user. Native is Linux's root, where the benchmark is run by it."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

# What packagers do. `%` is a new folder; `tree` lies in the working directory.
OWNERS = {
    "cp -a, chown -R": "cp -a tree % && chown -R 0:33 %",
    "tar c of it": "chown -R 5:6 tree && tar c tree | tar tv >%",
    "tar x": "tar xf tree.tar --one-top-level=%",
    "200 install -o": "mkdir % && for i in $(seq 200); do install -o 1 -g 2 -m 4755 one %/$i || exit; done",
    "dpkg-deb -b": "dpkg-deb -b package %.deb",
}
# What is done in a small system of its own.
IN_A_ROOT = {
    "find": "find /tree >/dev/null",
    "tar c": "tar c /tree 2>/dev/null | cat >/dev/null",
    "grep -r": "grep -r nowhere /tree; true",
    "300 programs": "for i in $(seq 300); do /bin/true; done",
    "cp -r, rm -r": "cp -r /tree copy && rm -r copy",
}


def fill(folder, files):
    """A folder of small files, archived beside it, and a Debian package not yet packed."""
    tree = folder / "tree"
    for number in range(files):
        place = tree / f"d{number % 40}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(os.urandom(64 + number * 37 % 4000))
    (folder / "one").write_bytes(os.urandom(1000))
    subprocess.run(["tar", "cf", folder / "tree.tar", "-C", folder, "tree"], check=True)
    package = folder / "package"
    shutil.copytree(tree, package / "opt")
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN" / "control").write_text(
        "Package: bench\nVersion: 1\nArchitecture: all\nMaintainer: b <b@example.org>\nDescription: b\n")


def small_system(folder, tree):
    """A root directory with bash, busybox, the libraries that it and fakeroot's peers need, and the tree."""
    for name in ("bin", "lib64", "tmp", "proc", "etc"):
        (folder / name).mkdir(parents=True)
    busybox = folder / "bin" / "busybox"
    shutil.copy2(shutil.which("busybox"), busybox)
    shutil.copy2(shutil.which("bash"), folder / "bin" / "bash")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (folder / "bin" / applet).exists():
            (folder / "bin" / applet).symlink_to("busybox")
    libraries = subprocess.run(["ldd", busybox, shutil.which("bash")], capture_output=True, text=True,
                               check=True).stdout
    wanted = {word for word in libraries.split() if word.startswith("/") and not word.endswith(":")}
    # The libraries that fakechroot and fakeroot load need these two.
    beside = pathlib.Path(next(word for word in wanted if "libc.so" in word)).parent
    for library in [*map(pathlib.Path, wanted), beside / "libdl.so.2", beside / "libpthread.so.0"]:
        place = folder / str(library).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, place)
    (folder / "dev").mkdir()
    (folder / "dev" / "null").touch(0o666)
    subprocess.run(["/sbin/ldconfig", "-r", folder], check=True)
    shutil.copytree(tree, folder / "tree")


def timed(commands):
    """A script that prints the microseconds of each command; `%` is a new name each time."""
    lines = []
    for number, (name, command) in enumerate(commands.items()):
        command = command.replace("%", f"new{number}-$$")
        lines.append(f"b=${{EPOCHREALTIME/.}}; if ( {command} ) 2>new-errors >/dev/null; then e=${{EPOCHREALTIME/.}}; "
                     f"echo \"{name}=$((e-b))\"; else echo \"{name}:\" $(head -n 1 new-errors) >&2; fi")
    return "\n".join(lines)


def best_of(prefix, script, folder, rounds):
    """Milliseconds of each named command, the best of some rounds, each in a copy of the folder."""
    best = {}
    for _ in range(rounds):
        copy = folder.with_name("copy")
        subprocess.run(["cp", "-a", folder, copy], check=True)
        try:
            done = subprocess.run([*prefix, script], cwd=copy, text=True, capture_output=True,
                                  check=False, timeout=300)
        except (FileNotFoundError, subprocess.TimeoutExpired) as missing:
            print(missing, file=sys.stderr)
            return {}
        finally:
            shutil.rmtree(copy)
        print(done.stderr, end="", file=sys.stderr)
        for line in done.stdout.splitlines():
            name, _, micros = line.partition("=")
            if micros.isdigit():
                best[name] = min(best.get(name, 1e12), int(micros) / 1000)
    return best


def table(label, commands, settings, folder, rounds, record):
    """Measures each command in each setting, and prints it with its ratio to the first."""
    found = {name: best_of(prefix, script, folder, rounds) for name, (prefix, script) in settings.items()}
    first = next(iter(settings))
    print(f"{label:20}" + "".join(f"{name:>22}" for name in settings))
    for command in commands:
        base = found[first].get(command)
        cells = []
        for name in settings:
            value = found[name].get(command)
            record(f"{label}: {command} ms", name, value)
            ratio = f" ({value / base:.2f}x)" if value and base else ""
            cells.append(f"{value:.1f}{ratio}" if value else "-")
        print(f"  {command:18}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


def measure(umvu, work, quick, record):
    """Measures and prints."""
    rounds, files = (1, 600) if quick else (3, 2000)
    folder = work / "roots"
    folder.mkdir()
    fill(folder, files)
    small_system(folder / "root", folder / "tree")
    user = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", folder], check=True)
        os.chmod(work, 0o755)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"HOME={folder}"]
    owners = timed(OWNERS)
    virtual = [*user, str(umvu), "-N", "-m", "unrealuidgid", "vusu", "-s", "/bin/bash", "-c"]
    settings = {
        "native": (["bash", "-c"], owners),
        "fakeroot": ([*user, "fakeroot", "bash", "-c"], owners),
        "proot -0": ([*user, "proot", "-0", "bash", "-c"], owners),
        "umvu": (virtual, owners),
    }
    if not user:
        del settings["native"]
    table("virtual root", OWNERS, settings, folder, rounds, record)
    inside = timed(IN_A_ROOT)
    quoted = shlex.quote(f"cd /tmp; {inside}")
    settings = {
        "native": (["bash", "-c"], f"chroot root /bin/bash -c {quoted}"),
        "fakechroot": ([*user, "bash", "-c"], f"PATH=$PATH:/usr/sbin; fakechroot fakeroot chroot root /bin/bash -c {quoted}"),
        "proot -r": ([*user, "bash", "-c"], f"proot -r root -w / /bin/bash -c {quoted}"),
        "umvu": (virtual, f"chroot root /bin/bash -c {quoted}"),
    }
    if not user:
        del settings["native"]
    table("another root", IN_A_ROOT, settings, folder, rounds, record)
