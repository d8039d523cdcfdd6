"""Programs of crates.io, built once."""

import os
import subprocess


def install(work, crate, version):
    """The path of a crate's program."""
    program = os.path.join(work, "bin", crate)
    if not os.path.exists(program):
        command = ["cargo", "install", "-q", "--locked", "--root", work, f"{crate}@{version}"]
        subprocess.run(command, check=True, cwd="/")
    return program
