//! How many frames per second pass through each kind of network, from one plug to another.
//!
//! `cargo bench -p vdeplug` prints one line per case; locators given as arguments are measured
//! too, for example `vxvde://`.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use vdeplug::{Frame, Transport};

const BATCH: usize = 64;
const ENOUGH: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().display();
    let switch = format!("switch://{path}/sw");
    measure("switch, 2 ports, 1 thread", &switch, &switch, 0)?;
    measure("switch, 1000 ports, 1 thread", &switch, &switch, 998)?;
    measure("hub, 2 ports, 1 thread", &format!("hub://{path}/h"), &format!("hub://{path}/h"), 0)?;
    threads("switch, 2 ports, 2 threads", &switch)?;
    let _maker = vdeplug::open(&switch, "bench")?;
    let client = format!("vde://{path}/sw");
    measure("switch to client", &switch, &client, 0)?;
    measure("client to switch", &client, &switch, 0)?;
    measure("client to client", &client, &client, 0)?;
    for vnl in std::env::args().skip(1).filter(|a| a.contains("://")) {
        measure(&vnl, &vnl, &vnl, 0)?;
    }
    Ok(())
}

fn frame(to: u8, from: u8) -> Frame {
    let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
    bytes.resize(1514, 0);
    Frame::from(bytes)
}

fn report(name: &str, frames: usize, elapsed: Duration) -> io::Result<()> {
    let frames = u32::try_from(frames).unwrap_or(u32::MAX);
    let rate = f64::from(frames) / elapsed.as_secs_f64();
    writeln!(io::stdout(), "{name:32} {:8.2} million frames/s", rate / 1e6)
}

/// Opens both ends and lets each know where the other is.
fn ends(left: &str, right: &str) -> Result<[Arc<dyn Transport>; 2], Box<dyn std::error::Error>> {
    let [left, right] = [vdeplug::open(left, "bench")?, vdeplug::open(right, "bench")?];
    let mut received = VecDeque::new();
    while received.is_empty() {
        right.send(&mut vec![frame(1, 2)]);
        left.receive(&mut received, 1)?;
    }
    Ok([left, right])
}

/// Moves batches by turns, the frames themselves going round without being allocated again where
/// the network moves them.
fn measure(
    name: &str,
    left: &str,
    right: &str,
    others: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let [from, to] = ends(left, right)?;
    let _others =
        (0..others).map(|_| vdeplug::open(left, "bench")).collect::<Result<Vec<_>, _>>()?;
    let mut frames: Vec<_> = (0..BATCH).map(|_| frame(2, 1)).collect();
    let mut received = VecDeque::new();
    let (started, mut total) = (Instant::now(), 0);
    while started.elapsed() < ENOUGH {
        from.send(&mut frames);
        let mut count = 0;
        // Frames that were dropped are replaced.
        while count < BATCH {
            match to.receive(&mut received, BATCH)? {
                0 => break,
                some => count += some,
            }
        }
        total += count;
        frames.extend(received.drain(..));
        frames.resize_with(BATCH, || frame(2, 1));
    }
    report(name, total, started.elapsed())?;
    Ok(())
}

/// One thread sends what another receives.
fn threads(name: &str, vnl: &str) -> Result<(), Box<dyn std::error::Error>> {
    let [from, to] = ends(vnl, vnl)?;
    let sender = std::thread::spawn(move || {
        let started = Instant::now();
        while started.elapsed() < ENOUGH {
            from.send(&mut (0..BATCH).map(|_| frame(2, 1)).collect());
        }
    });
    let (started, mut total) = (Instant::now(), 0);
    let mut received = VecDeque::new();
    while !sender.is_finished() {
        total += to.receive(&mut received, usize::MAX)?;
        received.clear();
    }
    report(name, total, started.elapsed())?;
    Ok(())
}
