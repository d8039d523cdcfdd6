//! `vudebug`: the debug tags of the view.

use std::{ffi::OsString, os::unix::process::CommandExt, process};

use clap::{Arg, ArgMatches, Command, value_parser};
use umvu_abi::vu;

use super::{
    output, outside,
    vucalls::{self, Scope},
};

pub(super) fn command() -> Command {
    Command::new("vudebug")
        .about("Show and change the debug tags of the umvu view")
        .override_usage("vudebug [+TAGS|-TAGS|?TAGS|TAGS][:COLORS]... [-- CMD ARGS]")
        .arg(
            Arg::new("words")
                .num_args(0..)
                .allow_hyphen_values(true)
                .value_terminator("--")
                .help("+ adds, - removes, ? shows; COLORS: nwrgbcmy NWRGBCMY + - _ * #"),
        )
        .arg(
            Arg::new("command")
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString))
                .help("A command to run then"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if !vucalls::inside() {
        return outside(command());
    }
    let words: Vec<&String> = matches.get_many::<String>("words").unwrap_or_default().collect();
    if words.iter().any(|word| *word == "--help" || *word == "-h") {
        output::print(&command().render_help().to_string());
        return 0;
    }
    let mut status = 0;
    let program: Vec<&OsString> =
        matches.get_many::<OsString>("command").unwrap_or_default().collect();
    let scope = if program.is_empty() { Scope::View } else { Scope::Thread };
    for word in &words {
        if let Err(message) = apply(word, scope) {
            output::complain(&format!("vudebug: {message}"));
            status = 1;
        }
    }
    if let [program, arguments @ ..] = program.as_slice() {
        let error = process::Command::new(program).args(arguments).exec();
        return output::not_run("vudebug", program, &error);
    }
    if words.is_empty() {
        let active = Active::ask();
        (b'A'..=b'z').filter(|tag| active.has(*tag)).for_each(|tag| active.show(tag));
    }
    status
}

fn apply(word: &str, scope: Scope) -> Result<(), String> {
    let (tags, colors) = word.split_once(':').map_or((word, None), |(t, c)| (t, Some(c)));
    let complain = |error: std::io::Error| format!("{word}: {}", output::describe(&error));
    if let Some(tags) = tags.strip_prefix('?') {
        let active = Active::ask();
        let asked = |tag: &u8| tags.is_empty() || tags.as_bytes().contains(tag);
        (b'A'..=b'z').filter(asked).for_each(|tag| active.show(tag));
        return Ok(());
    }
    let names = tags.strip_prefix('-').or(tags.strip_prefix('+')).unwrap_or(tags);
    let request =
        if tags.starts_with('-') { vu::VUCTL_DEL_DEBUGTAGS } else { vu::VUCTL_ADD_DEBUGTAGS };
    vucalls::debug(request, names, scope).map_err(complain)?;
    if let Some(colors) = colors {
        let argument = format!("{names}:{colors}");
        vucalls::debug(vu::VUCTL_SET_DEBUGCOLOR, &argument, scope).map_err(complain)?;
    }
    Ok(())
}

/// The tags that are active in the view, and in this thread.
struct Active {
    view: String,
    thread: String,
}

impl Active {
    fn ask() -> Self {
        let tags = |scope| vucalls::debug_tags(scope).unwrap_or_default();
        Self { view: tags(Scope::View), thread: tags(Scope::Thread) }
    }

    fn has(&self, tag: u8) -> bool {
        self.view.as_bytes().contains(&tag) || self.thread.as_bytes().contains(&tag)
    }

    /// One line `c +(+)NAME`: active in the view, active in this thread.
    fn show(&self, tag: u8) {
        let sign = |tags: &str| if tags.as_bytes().contains(&tag) { '+' } else { '-' };
        if let Ok(name) = vucalls::debug_tag_name(tag) {
            let (view, thread) = (sign(&self.view), sign(&self.thread));
            output::print(&format!("{} {view}({thread}){name}\n", char::from(tag)));
        }
    }
}
