"""Programs and tests of the registry of crates, built once."""

import json
import os
import shutil
import subprocess


def install(work, crate, version):
    """The path of a crate's program."""
    program = os.path.join(work, "bin", crate)
    if not os.path.exists(program):
        command = ["cargo", "install", "-q", "--locked", "--root", work, f"{crate}@{version}"]
        subprocess.run(command, check=True, cwd="/")
    return program


def unpack(work, crate, version):
    """The folder of a crate's source, which brings its tests; None when cargo cannot have it."""
    folder = os.path.join(work, f"{crate}-{version}")
    if not os.path.exists(folder):
        # A package that needs it has cargo fetch it.
        probe = os.path.join(work, f"fetch-{crate}")
        os.makedirs(probe, exist_ok=True)
        with open(os.path.join(probe, "lib.rs"), "w", encoding="utf-8"):
            pass
        with open(os.path.join(probe, "Cargo.toml"), "w", encoding="utf-8") as manifest:
            manifest.write(
                '[package]\nname = "probe"\nversion = "0.1.0"\nedition = "2021"\n'
                f'[lib]\npath = "lib.rs"\n[dependencies]\n{crate} = "={version}"\n[workspace]\n'
            )
        done = subprocess.run(["cargo", "metadata", "-q", "--format-version=1"], cwd=probe,
                              check=False, stdout=subprocess.PIPE)
        if done.returncode:
            return None
        packages = json.loads(done.stdout)["packages"]
        manifest = next(one["manifest_path"] for one in packages if one["name"] == crate)
        shutil.copytree(os.path.dirname(manifest), folder + ".new")
        os.rename(folder + ".new", folder)
    return folder


def tests(folder, names, features):
    """Builds some programs of a crate's tests; the path of each by its name."""
    command = ["cargo", "test", "-q", "--no-run", "--message-format=json"]
    command += [word for name in names for word in ("--test", name)]
    command += ["--features", ",".join(features)] if features else []
    # Neither the workspace around nor its flags are those of the crate.
    environment = {**os.environ, "CARGO_TARGET_DIR": os.path.join(folder, "target"), "RUSTFLAGS": ""}
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, env=environment)
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["kind"] == ["test"]:
            found[message["target"]["name"]] = message["executable"]
    return found
