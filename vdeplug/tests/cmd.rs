//! `cmd://`: commands that carry frames, Debian's `vde_plug` among them.

mod common;

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    beside, directory, frame, installed, open, path_text, receive, send, vde_switch, wait_for,
    wait_for_path,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vdeplug::Transport;

/// Receives nothing but the end.
fn receive_end(plug: &Arc<dyn Transport>) -> io::Error {
    let mut frames = VecDeque::new();
    let error = wait_for(plug, "the end", || plug.receive(&mut frames, 64).err());
    assert!(frames.is_empty());
    error
}

/// The line of a process's status that starts with `key`; None if the process is gone.
fn status(number: &str, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().to_owned())
}

fn number_in(path: &Path) -> String {
    wait_for_path(path);
    loop {
        match fs::read_to_string(path).expect("a file") {
            text if text.ends_with('\n') => return text.trim().to_owned(),
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn frames_go_through_the_standard_streams() {
    let plug = open("cmd://cat");
    assert!(plug.carrier() && !plug.accepts_offload());
    send(&plug, &frame(255, 1, b"hello"));
    assert_eq!(receive(&plug), frame(255, 1, b"hello"));
    let longest = vec![7; vdeplug::MAX_FRAME];
    send(&plug, &longest);
    assert_eq!(receive(&plug), longest);
}

#[test]
fn a_burst_longer_than_the_pipe_does_not_block_and_arrives_in_order() {
    let plug = open("cmd://cat");
    let numbered = |n: u16| [&[2; 12], &n.to_be_bytes()[..], &[0; 1000]].concat();
    let burst: Vec<Vec<u8>> = (0..1000).map(numbered).collect();
    plug.send(&mut burst.iter().cloned().map(Into::into).collect());
    let mut frames = VecDeque::new();
    wait_for(&plug, "the burst", || {
        plug.receive(&mut frames, 7).expect("a live plug");
        (frames.len() == burst.len()).then_some(())
    });
    assert!(frames.iter().zip(&burst).all(|(got, sent)| got.bytes == *sent));
    assert_eq!(plug.drops(), 0);
}

#[test]
fn a_command_that_ended_is_started_again() {
    let directory = directory();
    let file = beside(&directory, "pid");
    let plug = open(&format!("cmd://sh -c 'echo $$ >{}; exec cat'", path_text(&file)));
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    plug.set_waker(Arc::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    }));
    assert!(plug.carrier());
    let first = number_in(&file);
    fs::remove_file(&file).expect("a file");
    kill(Pid::from_raw(first.parse().expect("a number")), Signal::SIGKILL).expect("a process");
    let mut frames = VecDeque::new();
    wait_for(&plug, "the loss of the carrier", || {
        plug.receive(&mut frames, 64).expect("a plug that reconnects");
        (!plug.carrier()).then_some(())
    });
    assert_eq!(told.load(Ordering::SeqCst), 1);
    // It is believed when the first frame comes.
    wait_for(&plug, "an echo", || {
        send(&plug, &frame(255, 1, b"hello"));
        (plug.receive(&mut frames, 64).expect("a plug that reconnects") > 0).then_some(())
    });
    assert!(plug.carrier());
    assert_eq!(told.load(Ordering::SeqCst), 2);
    assert_ne!(number_in(&file), first);
}

#[test]
fn a_strict_plug_ends_with_its_command() {
    let directory = directory();
    let gate = beside(&directory, "gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a pipe with a name");
    let plug = open(&format!("strict://{{cmd://sh -c 'read line <{}'}}", path_text(&gate)));
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    plug.set_waker(Arc::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    }));
    assert!(plug.carrier());
    fs::write(&gate, "go\n").expect("the command waits");
    let error = receive_end(&plug);
    assert!(error.to_string().ends_with("': the command has ended"), "{error}");
    assert!(told.load(Ordering::SeqCst) == 1 && !plug.carrier());
    send(&plug, &frame(255, 1, b"lost"));
    assert_eq!(plug.drops(), 1);
    assert_eq!(plug.tick(std::time::Instant::now()), None);
    assert!(plug.receive(&mut VecDeque::new(), 1).is_err(), "it stays dead");
}

#[test]
fn a_command_that_prints_text_is_no_network() {
    let error = receive_end(&open("strict://{cmd://echo hello}"));
    let expected = "cmd://echo hello: the command writes something else than frames (it should \
                    end in `vde_plug`)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_command_is_nobodys_child_and_ends_with_the_plug() {
    let directory = directory();
    let [file, other] = ["pid", "other"].map(|name| beside(&directory, name));
    let script = format!(
        "sleep 1000 & echo $! >{}; echo $$ >{}; exec sleep 1000",
        path_text(&other),
        path_text(&file)
    );
    let plug = open(&format!("cmd://sh -c '{script}'"));
    let (number, other) = (number_in(&file), number_in(&other));
    let parent = status(&number, "PPid:").expect("a process");
    assert_ne!(parent, std::process::id().to_string());
    // Standard input, output and error, and nothing that was ours.
    let names = fs::read_dir(format!("/proc/{number}/fd")).expect("a process").count();
    assert_eq!(names, 3);
    drop(plug);
    for number in [number, other] {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while status(&number, "State:").is_some_and(|state| !state.starts_with('Z')) {
            assert!(std::time::Instant::now() < end, "{number} still runs");
            std::thread::yield_now();
        }
    }
}

#[test]
fn debian_plugs_carry_a_switch() {
    if !installed("vde_plug") || !installed("vde_switch") {
        return;
    }
    let directory = directory();
    let path = beside(&directory, "sw");
    let _switch = vde_switch(&path);
    let near = open(&path_text(&path));
    let far = open(&format!("cmd://vde_plug vde://{}", path_text(&path)));
    // Until the command has joined, frames go nowhere.
    let mut frames = VecDeque::new();
    wait_for(&far, "a greeting", || {
        send(&near, &frame(255, 1, b"hello"));
        far.receive(&mut frames, 64).expect("a live plug");
        frames.iter().any(|got| got.bytes == frame(255, 1, b"hello")).then_some(())
    });
    send(&far, &frame(1, 2, b"answer"));
    assert_eq!(receive(&near), frame(1, 2, b"answer"));
    let burst: Vec<_> = (0..100_u8).map(|n| frame(2, 1, &[n])).collect();
    for bytes in &burst {
        send(&near, bytes);
    }
    send(&near, &frame(2, 1, b"last"));
    let got = common::receive_until(&far, &frame(2, 1, b"last"));
    let mut expected = burst.iter();
    let hello = frame(255, 1, b"hello");
    assert!(got.iter().filter(|b| **b != hello).all(|bytes| expected.any(|e| e == bytes)));
}
