//! A switch with numbered ports and VLANs in a Rust program: `switch DIRECTORY [COMMAND]...`.
//!
//! Executes the management commands and prints the replies; then others may join by
//! `vde://DIRECTORY` until the standard input ends.

use std::io::{self, Write};

use vdeplug::{ManagedSwitch, SwitchSettings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let directory = words.next().ok_or("usage: switch DIRECTORY [COMMAND]...")?;
    let switch = ManagedSwitch::start(SwitchSettings::new(directory))?;
    for command in words {
        write!(io::stdout(), "{command}\n{}", switch.execute(&command))?;
    }
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
