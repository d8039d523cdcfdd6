//! `vudebug`: the debug tags of the view.

use std::{ffi::OsString, os::unix::process::CommandExt, process};

use clap::{Arg, ArgMatches, Command, value_parser};
use umvu_abi::vu;

use super::{output, outside, vucalls};

pub(super) fn command() -> Command {
    Command::new("vudebug")
        .about("Show and change the debug tags of the umvu view")
        .override_usage("vudebug [+TAGS|-TAGS|?TAGS|TAGS][:COLORS]... [-- CMD ARGS]")
        .arg(
            Arg::new("words")
                .num_args(0..)
                .allow_hyphen_values(true)
                .help("+ adds, - removes, ? shows; COLORS: nwrgbcmy NWRGBCMY + - _ * #"),
        )
        .arg(
            Arg::new("command")
                .last(true)
                .num_args(1..)
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
    for word in &words {
        if let Err(message) = apply(word) {
            output::complain(&format!("vudebug: {message}"));
            status = 1;
        }
    }
    let program: Vec<&OsString> =
        matches.get_many::<OsString>("command").unwrap_or_default().collect();
    if let [program, arguments @ ..] = program.as_slice() {
        let error = process::Command::new(program).args(arguments).exec();
        output::complain(&format!("vudebug: {}: {error}", program.to_string_lossy()));
        return 127;
    }
    if words.is_empty() {
        let active = vucalls::debug_tags().unwrap_or_default();
        active.bytes().for_each(|tag| show(tag, &active));
    }
    status
}

fn apply(word: &str) -> Result<(), String> {
    let (tags, colors) = word.split_once(':').map_or((word, None), |(t, c)| (t, Some(c)));
    let complain = |error: std::io::Error| format!("{word}: {}", output::describe(&error));
    if let Some(tags) = tags.strip_prefix('?') {
        let active = vucalls::debug_tags().unwrap_or_default();
        let asked = |tag: &u8| tags.is_empty() || tags.as_bytes().contains(tag);
        (b'A'..=b'z').filter(asked).for_each(|tag| show(tag, &active));
        return Ok(());
    }
    let names = tags.strip_prefix('-').or(tags.strip_prefix('+')).unwrap_or(tags);
    let request =
        if tags.starts_with('-') { vu::VUCTL_DEL_DEBUGTAGS } else { vu::VUCTL_ADD_DEBUGTAGS };
    vucalls::debug(request, names).map_err(complain)?;
    if let Some(colors) = colors {
        let argument = format!("{names}:{colors}");
        vucalls::debug(vu::VUCTL_SET_DEBUGCOLOR, &argument).map_err(complain)?;
    }
    Ok(())
}

/// One line `c +(+)NAME`: active in the view, active in this thread.
fn show(tag: u8, active: &str) {
    if let Ok(name) = vucalls::debug_tag_name(tag) {
        let sign = if active.as_bytes().contains(&tag) { '+' } else { '-' };
        output::print(&format!("{} {sign}({sign}){name}\n", char::from(tag)));
    }
}
