//! `vusu`: su(1) inside a view, by virtual ids.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use nix::unistd::{Gid, User, getgrouplist, setgroups, setresgid, setresuid};

use super::{output, vucalls};

/// What is looked up in `/etc/login.defs`, and what holds without it.
const SUPATH: (&str, &str) =
    ("ENV_SUPATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
const PATH: (&str, &str) = ("ENV_PATH", "/usr/local/bin:/usr/bin:/bin");
/// What a login shell keeps of the environment.
const KEPT: [&str; 4] = ["TERM", "COLORTERM", "DISPLAY", "XAUTHORITY"];
const SHELL: &str = "/bin/sh";

pub(super) fn command() -> Command {
    let switch = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name).short(short).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("vusu")
        .about("Become another user inside the umvu view (module unrealuidgid); su(1) outside")
        .arg(switch("login", 'l', "Start a login shell"))
        .arg(switch("preserve-environment", 'm', "Keep the environment").visible_short_alias('p'))
        .arg(Arg::new("command").short('c').long("command").value_name("CMD").help("Run a command"))
        .arg(Arg::new("shell").short('s').long("shell").value_name("SHELL").help("Run this shell"))
        .arg(
            Arg::new("user")
                .num_args(0..)
                .value_names(["USER", "ARG"])
                .help("- for a login shell; the user (root), arguments of the shell"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> u8 {
    if !vucalls::inside() {
        // Outside it is su(1), as in VUOS.
        let error = process::Command::new("su").args(env::args_os().skip(1)).exec();
        return output::not_run("vusu", "su".as_ref(), &error);
    }
    let words: Vec<&String> = matches.get_many("user").unwrap_or_default().collect();
    let mut words = words.into_iter().peekable();
    let dash = words.next_if(|word| *word == "-").is_some();
    let name = words.next().map_or("root", String::as_str);
    let user = match find(name) {
        Ok(user) => user,
        Err(reason) => return complain(&reason),
    };
    if let Err(reason) = become_user(&user) {
        return complain(&reason);
    }
    let keeps = matches.get_flag("preserve-environment");
    let login = dash || matches.get_flag("login");
    let shell = shell_of(matches.get_one::<String>("shell"), &user, keeps && !login);
    let mut program = process::Command::new(&shell);
    let name = shell.file_name().unwrap_or(shell.as_os_str());
    let mut shown = OsString::from(if login { "-" } else { "" });
    shown.push(name);
    program.arg0(shown);
    if let Some(command) = matches.get_one::<String>("command") {
        program.arg("-c").arg(command);
    }
    program.args(words);
    if login {
        be_at_home(&mut program, &user);
    } else if !keeps {
        tell(&mut program, &user, &shell);
    }
    if login {
        tell(&mut program, &user, &shell);
        program.env("USER", &user.name).env("LOGNAME", &user.name);
    }
    let error = program.exec();
    output::not_run("vusu", shell.as_os_str(), &error)
}

fn complain(reason: &str) -> u8 {
    output::complain(&format!("vusu: {reason}"));
    1
}

fn find(name: &str) -> Result<User, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(format!("user {name} does not exist")),
        Err(errno) => Err(format!("{name}: {}", errno.desc())),
    }
}

fn become_user(user: &User) -> Result<(), String> {
    vucalls::free_ids().map_err(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "there are no virtual user ids here (run: vu_insmod unrealuidgid)".to_owned()
        }
        _ => output::describe(&error),
    })?;
    let failed = |what: &str, errno: nix::Error| format!("{what}: {}", errno.desc());
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|error| error.to_string())?;
    let groups: Vec<Gid> = getgrouplist(&name, user.gid).map_err(|no| failed("groups", no))?;
    setgroups(&groups).map_err(|errno| failed("setgroups", errno))?;
    setresgid(user.gid, user.gid, user.gid).map_err(|errno| failed("setresgid", errno))?;
    setresuid(user.uid, user.uid, user.uid).map_err(|errno| failed("setresuid", errno))
}

/// The shell: as asked for, the one in use if the environment is kept, the user's.
fn shell_of(asked: Option<&String>, user: &User, keeps: bool) -> PathBuf {
    if let Some(shell) = asked {
        return shell.into();
    }
    let in_use = env::var_os("SHELL").filter(|shell| keeps && !shell.is_empty());
    match in_use {
        Some(shell) => shell.into(),
        None if user.shell.as_os_str().is_empty() => SHELL.into(),
        None => user.shell.clone(),
    }
}

/// The environment and the directory of a login.
fn be_at_home(program: &mut process::Command, user: &User) {
    let kept: Vec<_> = KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))).collect();
    // Looked at before the environment goes.
    let path = path_of(user);
    program.env_clear().envs(kept).env("PATH", path);
    if env::set_current_dir(&user.dir).is_err() {
        let home = user.dir.display();
        output::complain(&format!("vusu: warning: cannot change directory to {home}"));
        let _ = env::set_current_dir("/");
    }
}

fn tell(program: &mut process::Command, user: &User, shell: &Path) {
    program.env("HOME", &user.dir).env("SHELL", shell).env("PATH", path_of(user));
    if !user.uid.is_root() {
        program.env("USER", &user.name).env("LOGNAME", &user.name);
    }
}

/// The path of a user, with the commands of the view in front.
fn path_of(user: &User) -> OsString {
    let setting = if user.uid.is_root() { SUPATH } else { PATH };
    let defined = fs::read_to_string("/etc/login.defs").unwrap_or_default();
    let path = setting_of(&defined, setting.0).unwrap_or_else(|| setting.1.to_owned());
    let now = env::var_os("PATH").unwrap_or_default();
    let ours = env::split_paths(&now).filter(|folder| folder.join("vu_insmod").exists());
    let all: Vec<PathBuf> = ours.chain(env::split_paths(&path)).collect();
    env::join_paths(all).unwrap_or_else(|_| path.into())
}

/// A line `NAME PATH=...` or `NAME ...` of login.defs(5).
fn setting_of(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != name {
            return None;
        }
        let value = words.next()?;
        Some(value.strip_prefix("PATH=").unwrap_or(value).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_read_from_login_defs() {
        let text = "# ENV_PATH x\nENV_SUPATH\tPATH=/sbin:/bin\nENV_PATH /bin\n";
        assert_eq!(setting_of(text, "ENV_SUPATH").as_deref(), Some("/sbin:/bin"));
        assert_eq!(setting_of(text, "ENV_PATH").as_deref(), Some("/bin"));
        assert_eq!(setting_of(text, "UMASK"), None);
    }
}
