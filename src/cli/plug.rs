//! `umvu plug`: a cable between two networks, or between a network and a stream of frames.
//!
//! The words and the stream are those of Debian's `vde_plug`, so that either end of a
//! `dpipe vde_plug ... = ssh HOST umvu-plug ...` may be one or the other.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vdeplug::{
    Transport,
    cable::{self, Stop},
};

use super::{
    background::{self, PidFile, Received},
    failure::Failure,
    logging, output,
};

const NAME: &str = "umvu-plug";
const NO_STREAM: &str =
    "a stream cannot go to the background: give a second network or = CMD, or use dpipe -d";
/// How long a stream that nobody reads may keep the program from its end.
const GRACE: Duration = Duration::from_millis(500);
/// The level of syslog(3) at which connections are told.
const INFO: i32 = 6;

pub(super) fn command() -> clap::Command {
    let value = |name: &'static str, placeholder: &'static str| {
        Arg::new(name).long(name).value_name(placeholder)
    };
    let command = clap::Command::new(NAME)
        .about("Plug into a virtual Ethernet: a cable between two networks, or a stream of frames")
        .override_usage(
            "umvu plug [OPTIONS] [VNL]\n       \
             umvu plug [OPTIONS] VNL VNL\n       \
             umvu plug [OPTIONS] [VNL] = CMD [ARGS]...",
        );
    background::options(command)
        .arg(value("descr", "TEXT").short('D').default_value("umvu-plug:").help(
            "Describe this plug to the switch, which shows it to people",
        ))
        .arg(value("group", "GROUP").short('g').help("Group of the socket (vde:// only)"))
        .arg(value("group2", "GROUP").short('G').help("The same for the second network"))
        .arg(value("mode", "MODE").alias("mod").short('m').help(
            "Permissions of the socket, octal (vde:// only)",
        ))
        .arg(value("mode2", "MODE").alias("mod2").short('M').help("The same for the second network"))
        .arg(value("port", "PORT").help("Port of the switch (vde:// only; or VNL[PORT])"))
        .arg(value("port2", "PORT").help("The same for the second network"))
        .arg(
            Arg::new("log")
                .short('l')
                .long("log")
                .action(ArgAction::SetTrue)
                .help("Tell the system log when the plug starts and stops"),
        )
        .arg(
            Arg::new("networks")
                .num_args(0..=2)
                .value_terminator("=")
                .value_name("VNL")
                .help("Network locators; the empty one is the default network"),
        )
        .arg(
            Arg::new("command")
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString))
                .value_name("CMD")
                .help("A command whose standard streams carry the frames, after `=`"),
        )
        .after_help(
            "With at most one network the frames are on the standard streams, each after its length \
             (two bytes, the most significant first), as vde_plug has them.",
        )
}

/// What is at the other end of the first network.
enum Far {
    Streams,
    Network(String),
    Command(Vec<OsString>),
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    run_checked(matches).unwrap_or_else(|Failure(message, status)| {
        output::complain(&format!("{NAME}: {message}"));
        status
    })
}

fn run_checked(matches: &ArgMatches) -> Result<u8, Failure> {
    let (near, far) = ends(matches)?;
    if matches.get_flag("daemon") && matches!(far, Far::Streams) {
        return Err(Failure(NO_STREAM.to_owned(), 1));
    }
    if let Some(status) = background::detach(matches, NAME) {
        return Ok(status);
    }
    background::begin(matches)?;
    let syslog = if matches.get_flag("log") { INFO } else { -1 };
    logging::start(logging::DEFAULT_LEVEL, syslog, None)?;
    let child = if let Far::Command(words) = &far { Some(start(words)?) } else { None };
    background::hold_signals()?;
    let descr = matches.get_one::<String>("descr").map_or("", String::as_str);
    let open = |vnl: &str| vdeplug::open(vnl, descr).map_err(|error| error.to_string());
    let plug = open(&near)?;
    let other = if let Far::Network(vnl) = &far { Some(open(vnl)?) } else { None };
    let _pid = PidFile::of(matches)?;
    let stop = Stop::new()?;
    let stopper = stop.clone();
    let received = background::on_signal(move |_| stopper.stop())?;
    background::ready_anywhere(matches)?;
    tracing::info!(network = near, "START");
    let status = match (other, child) {
        (Some(other), _) => cable::join(&*plug, &*other, &stop).map(|()| 0).map_err(Failure::from),
        (None, Some(child)) => beside(&plug, child, &stop, &received),
        (None, None) => stream(&plug, io::stdin(), io::stdout(), &stop).map(|()| 0),
    };
    tracing::info!(network = near, "STOP");
    Ok(received.status(status?))
}

/// The first network, and what it is connected to.
fn ends(matches: &ArgMatches) -> Result<(String, Far), String> {
    let networks: Vec<&String> =
        matches.get_many::<String>("networks").unwrap_or_default().collect();
    let words = background::words(matches, "command");
    let first = with_parameters(networks.first().map_or("", |vnl| vnl), matches, "")?;
    let far = match (networks.get(1), words.is_empty()) {
        (None, true) => Far::Streams,
        (Some(vnl), true) => Far::Network(with_parameters(vnl, matches, "2")?),
        (None, false) => Far::Command(words),
        (Some(_), false) => return Err("either two networks, or one and = CMD".to_owned()),
    };
    Ok((first, far))
}

/// Adds what options say about a plug in a switch to its locator.
fn with_parameters(vnl: &str, matches: &ArgMatches, suffix: &str) -> Result<String, String> {
    let parameters: Vec<String> = ["group", "mode", "port"]
        .into_iter()
        .filter_map(|name| {
            let value = matches.get_one::<String>(&format!("{name}{suffix}"))?;
            Some(format!("{name}={value}"))
        })
        .collect();
    if parameters.is_empty() {
        return Ok(vnl.to_owned());
    }
    if vnl.contains("://") && !vnl.starts_with("vde://") {
        return Err(format!("{vnl}: groups, modes and ports are for switches (vde://)"));
    }
    let parameters = parameters.join("/");
    Ok(match vnl.strip_suffix(']') {
        Some(open) => format!("{open}/{parameters}]"),
        None => format!("{vnl}[{parameters}]"),
    })
}

/// Carries frames between a plug and streams until one of them ends.
fn stream(
    plug: &Arc<dyn Transport>,
    input: impl std::os::fd::AsFd + Send + 'static,
    output: impl std::os::fd::AsFd + Send + 'static,
    stop: &Stop,
) -> Result<(), Failure> {
    let (up, down) = (Arc::clone(plug), Arc::clone(plug));
    let uploading = in_thread(stop, move |stop| cable::upload(input, &*up, stop));
    let downloading = in_thread(stop, move |stop| cable::download(&*down, output, stop));
    stop.wait();
    // The one that waits for a reader does not hear of the end: it is left behind.
    let end = Instant::now() + GRACE;
    let running = |thread: &thread::JoinHandle<_>| !thread.is_finished() && Instant::now() < end;
    while running(&uploading) || running(&downloading) {
        thread::sleep(Duration::from_millis(1));
    }
    for thread in [uploading, downloading].into_iter().filter(thread::JoinHandle::is_finished) {
        thread.join().unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Runs one way of a cable; its end is the end of both.
fn in_thread(
    stop: &Stop,
    way: impl FnOnce(&Stop) -> io::Result<()> + Send + 'static,
) -> thread::JoinHandle<io::Result<()>> {
    let stop = stop.clone();
    thread::spawn(move || {
        let result = way(&stop);
        stop.stop();
        result
    })
}

fn start(words: &[OsString]) -> Result<Child, Failure> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map_err(|error| Failure::not_run(&words[0], &error))
}

/// Carries frames between a plug and a command until it ends; the status is the command's.
fn beside(
    plug: &Arc<dyn Transport>,
    mut child: Child,
    stop: &Stop,
    received: &Received,
) -> Result<u8, Failure> {
    let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(Failure("the command has no streams".to_owned(), 1));
    };
    let carried = stream(plug, input, output, stop);
    if received.status(0) != 0 {
        let id = i32::try_from(child.id()).unwrap_or_default();
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    let status = child.wait()?;
    carried?;
    Ok(shell_status(status))
}

/// The status that a shell would show.
pub(super) fn shell_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
