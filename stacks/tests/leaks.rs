//! A program that opens and drops stacks keeps neither descriptors nor threads of them.
//!
//! Alone in its binary: it counts what the whole process has.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use umvu_stacks::net::{Interest, Stack, TcpListener, TcpStream, UdpSocket, poll};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many descriptors and threads this process has.
fn holdings() -> Result<(usize, usize)> {
    let count = |path| std::fs::read_dir(path).map(Iterator::count);
    Ok((count("/proc/self/fd")?, count("/proc/self/task")?))
}

fn stacks(wire: &str, kind: &str) -> Option<[Stack; 2]> {
    let open = |kind, number| Stack::open(kind, &format!("{wire},ip=10.9.0.{number}/24"));
    match (open("smoltcp", 1), open(kind, 2)) {
        (Ok(one), Ok(other)) => Some([one, other]),
        (_, Err(error)) | (Err(error), _) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Uses two stacks in all ways, and leaves sockets in every state to be dropped.
fn live(wire: &str, kind: &str) -> Result<()> {
    let Some([one, other]) = stacks(wire, kind) else { return Ok(()) };
    let listener = TcpListener::bind(&one, "10.9.0.1:80")?;
    let mut client = TcpStream::connect(&other, "10.9.0.1:80")?;
    let (mut server, _) = listener.accept()?;
    let _waiting = TcpStream::connect(&other, "10.9.0.1:80")?;
    client.write_all(b"hello")?;
    server.read_exact(&mut [0; 3])?;
    let udp = UdpSocket::bind(&other, "10.9.0.2:53")?;
    UdpSocket::bind(&one, "0.0.0.0:0")?.send_to(b"x", "10.9.0.2:53")?;
    let all = [(udp.socket(), Interest::Read), (client.socket(), Interest::Read)];
    assert!(poll(&all, Some(Duration::from_secs(10)))?[0].readable);
    let reader = thread::spawn(move || client.read(&mut [0; 9]).is_err());
    drop((server, listener));
    assert!(reader.join().is_ok());
    other.config()?.links()?;
    Ok(())
}

#[test]
fn nothing_is_left_of_stacks_that_were_dropped() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let wire = format!("switch://{}", directory.path().join("sw").display());
    // What is made once stays.
    live(&wire, "smoltcp")?;
    live(&wire, "vdestack")?;
    let late = Instant::now() + Duration::from_secs(20);
    let before = settled(late, |now| now.1 <= 3)?;
    for _ in 0..20 {
        live(&wire, "smoltcp")?;
    }
    for _ in 0..3 {
        live(&wire, "vdestack")?;
    }
    let late = Instant::now() + Duration::from_secs(20);
    let after = settled(late, |now| now.0 <= before.0 && now.1 <= before.1)?;
    assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} became {after:?}");
    Ok(())
}

/// What the process has once that is as it should be: threads end a moment after they were told.
fn settled(late: Instant, is_fine: impl Fn((usize, usize)) -> bool) -> Result<(usize, usize)> {
    loop {
        let now = holdings()?;
        if is_fine(now) || Instant::now() > late {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
