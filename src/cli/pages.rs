//! Manual pages and shell completions, from the definitions of the commands.

use std::{fs, io, io::Write, path::Path};

use clap_complete::Shell;
use umvu_tracer::api::Trap;

/// What a page says beyond the definition of its command: title of a section, lines of roff.
type Section = (&'static str, &'static str);

const OUTSIDE: &str = "0 on success, 1 on failure, 2 on wrong usage and outside umvu.";

/// The commands and their sections, in the order of the pages.
const SECTIONS: &[(&str, &[Section])] = &[
    (
        "umvu",
        &[
            ("EXIT STATUS", include_str!("pages/umvu-status.roff")),
            ("FILES", include_str!("pages/umvu-files.roff")),
            ("EXAMPLES", include_str!("pages/umvu-examples.roff")),
        ],
    ),
    ("vu_insmod", &[("EXIT STATUS", OUTSIDE), ("EXAMPLES", ".nf\nvu_insmod vunet\n.fi")]),
    ("vu_rmmod", &[("EXIT STATUS", OUTSIDE), ("EXAMPLES", ".nf\nvu_rmmod vunet\n.fi")]),
    ("vu_lsmod", &[("EXIT STATUS", OUTSIDE)]),
    (
        "vumount",
        &[
            ("STACKS AND NETWORKS", include_str!("pages/vumount-stacks.roff")),
            ("PLUGINS", include_str!("pages/vumount-plugins.roff")),
            ("FILES AND DEVICES", include_str!("pages/vumount-files.roff")),
            ("EXIT STATUS", OUTSIDE),
            ("EXAMPLES", include_str!("pages/vumount-examples.roff")),
        ],
    ),
    ("vuumount", &[("EXIT STATUS", OUTSIDE), ("EXAMPLES", ".nf\nvuumount /dev/net/lab\n.fi")]),
    (
        "vustack",
        &[
            ("EXIT STATUS", include_str!("pages/vustack-status.roff")),
            ("EXAMPLES", include_str!("pages/vustack-examples.roff")),
        ],
    ),
    (
        "iplink",
        &[
            ("EXIT STATUS", "0 on success, 1 on failure, 2 on wrong usage."),
            ("EXAMPLES", include_str!("pages/iplink-examples.roff")),
        ],
    ),
    ("vuname", &[("EXAMPLES", ".nf\nvuname lab1\nPS1='$(vuname -P)\\(rs$ '\n.fi")]),
    (
        "vudebug",
        &[
            ("EXIT STATUS", OUTSIDE),
            ("EXAMPLES", ".nf\nvudebug ?\nvudebug +sN:r\nvudebug +p -- ls /dev/net\n.fi"),
        ],
    ),
    (
        "vusu",
        &[
            ("IDS", include_str!("pages/vusu.roff")),
            (
                "EXIT STATUS",
                "That of the shell; 1 when the user cannot be had, 126 or 127 when the shell cannot be run.",
            ),
            (
                "EXAMPLES",
                ".nf\nvu_insmod unrealuidgid\nvusu \\-c 'tar czf /tmp/root.tgz \\-C tree .'\nvusu \\- ada\n.fi",
            ),
        ],
    ),
    (
        "umvu-plug",
        &[
            ("EXIT STATUS", include_str!("pages/umvu-plug-status.roff")),
            ("EXAMPLES", include_str!("pages/umvu-plug-examples.roff")),
        ],
    ),
    (
        "umvu-dpipe",
        &[
            ("EXIT STATUS", include_str!("pages/umvu-dpipe-status.roff")),
            ("EXAMPLES", include_str!("pages/umvu-dpipe-examples.roff")),
        ],
    ),
    (
        "umvu-switch",
        &[
            ("MANAGEMENT", include_str!("pages/umvu-switch-management.roff")),
            ("EXIT STATUS", include_str!("pages/umvu-switch-status.roff")),
            ("FILES", include_str!("pages/umvu-switch-files.roff")),
            ("EXAMPLES", include_str!("pages/umvu-switch-examples.roff")),
        ],
    ),
];

/// Writes a manual page of section 1 for each command. Errors: those of writing the files.
pub(super) fn manuals(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let names: Vec<_> = super::commands().map(|command| command.get_name().to_owned()).collect();
    for command in super::commands() {
        let name = command.get_name().to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command).manual("umvu").render(&mut page)?;
        let own = SECTIONS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, own)| *own);
        for (title, text) in own {
            writeln!(page, ".SH \"{title}\"\n{}", text.trim_end())?;
        }
        see_also(&mut page, names.iter().filter(|other| **other != name))?;
        fs::write(folder.join(format!("{name}.1")), page)?;
    }
    Ok(())
}

fn see_also<'a>(page: &mut Vec<u8>, names: impl Iterator<Item = &'a String>) -> io::Result<()> {
    writeln!(page, ".SH \"SEE ALSO\"")?;
    for name in names {
        writeln!(page, ".BR {name} (1),")?;
    }
    writeln!(page, ".BR ip (8),\n.BR vde_switch (1)")
}

/// The table of intercepted system calls in Markdown, calls of one kind in one line.
pub(super) fn support() -> String {
    let mut kinds: Vec<(&str, bool, Vec<&str>)> = Vec::new();
    for row in umvu_core::dispatch::rows() {
        let refused = matches!(row.trap, Trap::Refuse(_));
        match kinds.iter_mut().find(|(note, also, _)| *note == row.note && *also == refused) {
            Some((_, _, names)) => names.push(row.name),
            None => kinds.push((row.note, refused, vec![row.name])),
        }
    }
    let line = |(note, refused, names): (&str, bool, Vec<&str>)| {
        let what = if refused { format!("refused: {note}") } else { note.to_owned() };
        format!("| `{}` | {what} |\n", names.join("`, `"))
    };
    let lines: String = kinds.into_iter().map(line).collect();
    format!("| system calls | in an armed view |\n|---|---|\n{lines}")
}

/// Writes the completions of all commands for a shell.
pub(super) fn completions(shell: Shell, out: &mut dyn Write) {
    for mut command in super::commands() {
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, out);
    }
}
