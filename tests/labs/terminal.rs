//! Job control: an interactive shell on a terminal of its own, natively and inside umvu.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{EVERYWHERE, Place};

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
        session.press("PS1='rea''dy> '\n");
        session.expect("ready> ");
        session
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("script(1) reads");
        self.keys.flush().expect("script(1) reads");
    }

    /// Waits for a text and forgets the screen up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let mut screen = self.screen.lock().expect("no panic");
            if let Some(at) = screen.find(text) {
                screen.drain(..at + text.len());
                return;
            }
            let late = begun.elapsed() > Duration::from_secs(20);
            assert!(!late, "{:?}: no {text:?} in {screen:?}", self.place);
            drop(screen);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn control_c_ends_the_foreground_job_only() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press("sleep 100\n");
        session.expect("sleep 100");
        thread::sleep(Duration::from_millis(300));
        session.press("\x03");
        session.expect("ready> ");
        session.press("echo status=$?\n");
        session.expect("status=130");
    }
}

#[test]
fn control_z_stops_and_fg_resumes() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press("sh -c 'sleep 1; echo re-sumed'\n");
        session.expect("sumed'");
        thread::sleep(Duration::from_millis(300));
        session.press("\x1a");
        session.expect("Stopped");
        session.press("jobs\n");
        session.expect("Stopped");
        session.press("fg\n");
        session.expect("re-sumed");
        session.expect("ready> ");
        session.press("sleep 100\n");
        session.expect("sleep 100");
        thread::sleep(Duration::from_millis(300));
        session.press("\x1a");
        session.expect("Stopped");
        session.press("bg; jobs\n");
        session.expect("Running");
        session.press("kill %1; wait %1; echo status=$?\n");
        session.expect("status=143");
    }
}

#[test]
fn the_shell_owns_its_terminal() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        session.press(
            "stty rows 33 cols 77; stty size; tty | cut -c1-8; test -t 0 && echo is-$((1+1))\n",
        );
        session.expect("33 77");
        session.expect("/dev/pts");
        session.expect("is-2");
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
fn tmux_runs_inside() {
    for place in EVERYWHERE {
        let mut session = Session::start(place);
        let name = format!("umvu-test-{}-{place:?}", std::process::id());
        session.press(&format!("unset TMUX; t() {{ tmux -f /dev/null -L {name} \"$@\"; }}\n"));
        session.press("t new-session -d -x 80 -y 24 sh; t send-keys 'echo in-$((1+1))' Enter\n");
        session.press(
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; t capture-pane -p | grep -q '^in-2' && echo se''en && break; done; t kill-server\n",
        );
        session.expect("seen");
        session.press("echo over-$((1+1))\n");
        session.expect("over-2");
    }
}
