//! The hypervisor and its commands, one program: the name it is called by chooses.

use std::process::ExitCode;

fn main() -> ExitCode {
    umvu::cli::main(std::env::args_os().collect())
}
