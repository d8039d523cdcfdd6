//! Manual pages and shell completions, from the definitions of the commands.

use std::{fs, io, path::Path};

use clap_complete::Shell;

/// Appended to each page.
const SEE_ALSO: &str = ".SH \"SEE ALSO\"\n\
    .BR umvu (1),\n.BR vu_insmod (1),\n.BR vu_rmmod (1),\n.BR vu_lsmod (1),\n.BR vumount (1),\n\
    .BR vuumount (1),\n.BR vustack (1),\n.BR vuname (1),\n.BR vudebug (1),\n.BR vde_switch (1)\n";

/// Writes a manual page of section 1 for each command. Errors: those of writing the files.
pub(super) fn manuals(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for command in super::commands() {
        let name = command.get_name().to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command).manual("umvu").render(&mut page)?;
        page.extend_from_slice(SEE_ALSO.as_bytes());
        fs::write(folder.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

/// Writes the completions of all commands for a shell.
pub(super) fn completions(shell: Shell, out: &mut dyn io::Write) {
    for mut command in super::commands() {
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, out);
    }
}
