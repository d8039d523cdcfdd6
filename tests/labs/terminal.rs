//! Job control and full-screen programs: an interactive shell on a terminal of its own, natively
//! and inside umvu.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{EVERYWHERE, Place, scratch};

/// An interactive shell behind a pseudo-terminal, which script(1) makes.
struct Session {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
    place: Place,
}

impl Session {
    fn start(place: Place) -> Self {
        let mut words = place.prefix().to_vec();
        words.extend(["bash", "--norc", "--noediting", "-i"]);
        let mut child = Command::new("script")
            .args(["-qefc", &words.join(" "), "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("TMUX")
            .env("HOME", scratch("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script(1) runs");
        let screen = Arc::new(Mutex::new(String::new()));
        let mut output = child.stdout.take().expect("piped");
        let seen = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = output.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                seen.lock().expect("no panic").push_str(&text);
            }
        });
        let keys = child.stdin.take().expect("piped");
        let mut session = Self { child, keys, screen, place };
        // Without `noflsh` the kernel throws away what is on its way to the screen after the signal of
        // a key: the prompt of a shell that is quick.
        session.press("stty rows 24 cols 80 noflsh\n");
        session.name_prompt();
        session
    }

    /// Lets a shell that has just been started say `ready> ` when it is.
    fn name_prompt(&mut self) {
        self.press("PS1='rea''dy> '\n");
        self.expect("ready> ");
    }

    /// Runs a command and waits for a text of its output, and for its end.
    #[track_caller]
    fn run(&mut self, command: &str, output: &str) {
        self.press(command);
        self.press("\n");
        self.expect(output);
        self.expect("ready> ");
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("script(1) reads");
        self.keys.flush().expect("script(1) reads");
    }

    /// Waits for a text and forgets the screen up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let seen = self.shows(text, Duration::from_secs(60));
        let screen = self.screen.lock().expect("no panic");
        assert!(seen, "{:?}: no {text:?} in {screen:?}", self.place);
    }

    /// Whether a text comes within a time; then it and what was before it is forgotten.
    fn shows(&self, text: &str, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            let mut screen = self.screen.lock().expect("no panic");
            if let Some(at) = screen.find(text) {
                screen.drain(..at + text.len());
                return true;
            }
            drop(screen);
            if begun.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Presses ^C and waits for the prompt, which a plain shell loses once in many runs: there it is
    /// pressed again, never inside.
    #[track_caller]
    fn interrupt(&mut self) {
        self.press("\x03");
        if self.place == Place::Native && !self.shows("ready> ", Duration::from_secs(20)) {
            self.press("\x03");
        } else if self.place == Place::Native {
            return;
        }
        self.expect("ready> ");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A foreground job that says when it has begun; keeps its process.
const JOB: &str = "sh -c 'echo be''gun; exec sleep 100'\n";

#[test]
fn control_c_ends_the_foreground_job_only() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press(JOB);
        session.expect("begun");
        session.interrupt();
        session.run("echo status=$?", "status=130");
    }
}

#[test]
fn control_z_stops_and_fg_resumes() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press("sh -c 'echo be''gun; read line; echo re-$line'\n");
        session.expect("begun");
        session.press("\x1a");
        session.expect("Stopped");
        session.expect("ready> ");
        session.run("jobs", "Stopped");
        session.press("fg\n");
        session.expect("read line");
        session.run("sumed", "re-sumed");
        session.press(JOB);
        session.expect("begun");
        session.press("\x1a");
        session.expect("Stopped");
        session.expect("ready> ");
        session.run("bg; jobs", "Running");
        session.run("kill %1; wait %1; echo status=$?", "status=143");
    }
}

#[test]
fn the_shell_owns_its_terminal() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.run("stty rows 33 cols 77; stty size", "33 77");
        session.run("tty", "/dev/pts");
        session.run("test -t 0 && echo is-$((1+1))", "is-2");
        session.press("cat\n");
        session.press("line-$((1\n");
        session.expect("line-$((1\r\nline-$((1\r\n");
        session.press("\x04");
        session.expect("ready> ");
        session.press("exit 5\n");
        let status = session.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(5), "{place:?}");
    }
}

#[test]
fn less_pages_stops_and_goes_on() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press("seq -f line-%g 1 2000 | less\n");
        session.expect("line-10");
        session.press("G");
        session.expect("line-2000");
        session.press("\x1a");
        session.expect("Stopped");
        session.expect("ready> ");
        session.press("fg\n");
        session.expect("line-2000");
        session.press("g");
        session.expect("line-1\r");
        session.press("q");
        session.expect("ready> ");
        session.run("echo over-$((1+1))", "over-2");
    }
}

#[test]
fn vim_edits_a_file() {
    for place in EVERYWHERE {
        let folder = scratch("vim");
        let mut session = Session::start(place);
        session.press(&format!("cd {}; vim -u NONE -N -n file\n", folder.display()));
        session.expect("[New");
        session.press("ihello from vim\x1b:w\r");
        session.expect("written");
        session.press("\x1a");
        session.expect("Stopped");
        session.expect("ready> ");
        session.press("fg\n");
        session.expect("hello from vim");
        session.press(":q\r");
        session.expect("ready> ");
        session.run("echo over-$((1+1))", "over-2");
        let text = std::fs::read_to_string(folder.join("file"));
        assert_eq!(text.ok().as_deref(), Some("hello from vim\n"), "{place:?}");
    }
}

/// Ends a tmux server that a test may leave behind.
struct Tmux(String);

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}

#[test]
fn tmux_is_attached_detached_and_asked() {
    for place in EVERYWHERE {
        let server = Tmux(format!("umvu-test-{}-{place:?}", std::process::id()));
        let mut session = Session::start(place);
        session.press(&format!("t() {{ tmux -f /dev/null -L {} \"$@\"; }}\n", server.0));
        session.expect("ready> ");
        session.press("t new-session 'exec bash --norc --noediting'\n");
        session.expect("[0]");
        session.name_prompt();
        session.run("echo in-$((1+1))", "in-2");
        session.press("\x02d");
        session.expect("[detached");
        session.expect("ready> ");
        session.run("t capture-pane -p | grep -c '^in-2'", "1");
        session.press("t attach\n");
        session.expect("in-2");
        session.press("exit\n");
        session.expect("[exited]");
        session.expect("ready> ");
    }
}

#[test]
fn the_session_of_the_readme_works() {
    let readme = include_str!("../../README.md");
    let switch = scratch("lab").join("switch").display().to_string();
    let mut session = Session::start(Place::Transparent);
    let mut step = |command: &str, output: &str| {
        assert!(readme.contains(command), "the README does not say {command}");
        session.press(&command.replace("/tmp/lab", &switch));
        session.press("\n");
        if command.ends_with(" bash") {
            return session.name_prompt();
        }
        session.expect(output);
        session.expect("ready> ");
    };
    step("vu_insmod vunet", "");
    step("vumount -t vunetioth -o switch:///tmp/lab smoltcp /dev/net/alice", "");
    step("vumount -t vunetioth -o switch:///tmp/lab smoltcp /dev/net/bob", "");
    step("ls -l /dev/net", "alice");
    step("vustack /dev/net/alice ip link", "2: vde0: <BROADCAST,MULTICAST> mtu 1500");
    let bob = "sh -c 'ip addr add 10.0.0.2/24 dev vde0; ip link set vde0 up'";
    step(&format!("vustack /dev/net/bob {bob}"), "");
    step("vustack /dev/net/alice bash", "");
    step("ip addr add 10.0.0.1/24 dev vde0", "");
    step("ip link set vde0 up", "");
    step("ip route", "10.0.0.0/24 dev vde0 proto kernel scope link src 10.0.0.1");
    step("ping -c 2 10.0.0.2", "2 packets transmitted, 2 received");
    step("ip neigh", "REACHABLE");
}
