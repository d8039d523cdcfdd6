//! Frames per second through a switch of another process: any that `vde://` reaches.
//!
//! `cargo bench -p vdeplug --bench switches -- NAME=DIRECTORY...` measures each running switch with
//! the same clients, in turns, and prints the ratios to the first. The clients are threads of this
//! program that do what C programs do on their sockets, a frame per call (`send(2)`, `recv(2)`) or
//! many (`sendmmsg(2)`, `recvmmsg(2)`); and plugs of this library, where `switch://` takes part.
//!
//! A word without `=` chooses the lines that contain it. Senders send as fast as they can; what counts is what arrives.

use std::{
    collections::VecDeque,
    error::Error,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, MultiHeaders, getsockopt, recvmmsg, sendmmsg, sockopt},
};
use vdeplug::{Frame, Transport};

const ROUNDS: usize = 3;
const BATCH: usize = 32;
/// `sizeof(struct sockaddr_un)`.
const ADDRESS: usize = 110;

/// How the clients call the system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Single,
    Many,
    Plugs,
}

/// A port of a switch, as any client gets it.
struct Client {
    control: UnixStream,
    data: UnixDatagram,
}

impl Client {
    fn join(directory: &Path, number: usize) -> Result<Self, Box<dyn Error>> {
        let mut control = UnixStream::connect(directory.join("ctl"))?;
        let path = directory.join(format!(".bench-{}-{number}", std::process::id()));
        let data = UnixDatagram::bind(&path)?;
        let mut request = Vec::new();
        request.extend(0xfeed_face_u32.to_ne_bytes());
        request.extend(3_u32.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        let family = u16::try_from(libc::AF_UNIX)?.to_ne_bytes();
        let mut address = [family.as_slice(), path.as_os_str().as_encoded_bytes()].concat();
        address.resize(ADDRESS, 0);
        request.extend(address);
        request.extend(b"bench");
        control.write_all(&request)?;
        let mut reply = [0; ADDRESS];
        control.read_exact(&mut reply)?;
        let end = reply[2..].iter().position(|b| *b == 0).unwrap_or(ADDRESS - 2);
        data.connect(std::str::from_utf8(&reply[2..2 + end])?)?;
        std::fs::remove_file(&path)?;
        data.set_read_timeout(Some(Duration::from_millis(50)))?;
        data.set_write_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { control, data })
    }
}

fn frame(to: u8, from: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
    bytes.resize(size, 0);
    bytes
}

fn send_until(
    stop: &AtomicBool,
    data: &UnixDatagram,
    bytes: &[u8],
    sent: &AtomicU64,
    style: Style,
) {
    let batch = [[IoSlice::new(bytes)]; BATCH];
    while !stop.load(Ordering::Relaxed) {
        let done = match style {
            Style::Single => data.send(bytes).map_or(0, |_| 1),
            Style::Many | Style::Plugs => {
                let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
                let to = [None; BATCH];
                let flags = MsgFlags::empty();
                sendmmsg(data.as_raw_fd(), &mut headers, &batch, to, [], flags)
                    .map_or(0, Iterator::count)
            }
        };
        sent.fetch_add(u64::try_from(done).unwrap_or(0), Ordering::Relaxed);
    }
}

fn receive_until(stop: &AtomicBool, data: &UnixDatagram, count: &AtomicU64, style: Style) {
    let mut memory = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    while !stop.load(Ordering::Relaxed) {
        let received = match style {
            Style::Single => data.recv(&mut memory[0]).map_or(0, |_| 1),
            Style::Many | Style::Plugs => {
                let mut slices: Vec<_> = memory.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
                let flags = MsgFlags::MSG_WAITFORONE;
                recvmmsg(data.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)
                    .map_or(0, Iterator::count)
            }
        };
        count.fetch_add(u64::try_from(received).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Lets all ends be known, and then returns how many frames per second `receive` counts.
fn measure<End: Sync>(
    ends: &[End],
    length: Duration,
    hello: impl Fn(&End, &[u8]),
    send: impl Fn(&AtomicBool, &End, &[u8], &AtomicU64) + Sync,
    receive: impl Fn(&AtomicBool, &End, &AtomicU64) + Sync,
    size: usize,
    switch: Option<i32>,
) -> Rate {
    for (end, number) in ends.iter().zip(0..) {
        hello(end, &frame(255, number, 60));
    }
    thread::sleep(Duration::from_millis(100));
    let stop = AtomicBool::new(false);
    let (sent, count) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for (pair, number) in ends.chunks_exact(2).zip((0..).step_by(2)) {
            let (stop, sent, count, send, receive) = (&stop, &sent, &count, &send, &receive);
            let bytes = frame(number + 1, number, size);
            scope.spawn(move || send(stop, &pair[0], &bytes, sent));
            scope.spawn(move || receive(stop, &pair[1], count));
        }
        thread::sleep(length / 4);
        let read = || [&sent, &count].map(|counter| counter.load(Ordering::Relaxed));
        let (before, taken, begun) = (read(), processor_time(switch), Instant::now());
        thread::sleep(length);
        let [sent, received] = read();
        let seconds = begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let rate = |frames| f64::from(u32::try_from(frames).unwrap_or(u32::MAX)) / seconds;
        let cost = (processor_time(switch) - taken) / seconds;
        let received = rate(received - before[1]);
        Rate { sent: rate(sent - before[0]), received, cost: cost / received * 1e6 }
    })
}

/// Frames per second.
#[derive(Clone, Copy, Default)]
struct Rate {
    sent: f64,
    received: f64,
    /// Microseconds of a processor that the switch took for each frame that arrived.
    cost: f64,
}

/// Seconds of a processor that a process has taken.
fn processor_time(process: Option<i32>) -> f64 {
    // Fields 14 and 15, in hundredths of a second; the name before them may have spaces.
    let stat = process.map(|id| std::fs::read_to_string(format!("/proc/{id}/stat")));
    let stat = stat.and_then(Result::ok).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    fields.skip(12).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Frames per second through a switch at a directory, by clients on sockets.
fn by_sockets(case: Case, directory: &Path, length: Duration) -> Result<Rate, Box<dyn Error>> {
    let clients = (0..case.flows * 2)
        .map(|number| Client::join(directory, number))
        .collect::<Result<Vec<_>, _>>()?;
    let hello = |client: &Client, bytes: &[u8]| drop(client.data.send(bytes));
    let send = |stop: &AtomicBool, client: &Client, bytes: &[u8], sent: &AtomicU64| {
        send_until(stop, &client.data, bytes, sent, case.style);
    };
    let receive = |stop: &AtomicBool, client: &Client, count: &AtomicU64| {
        receive_until(stop, &client.data, count, case.style);
    };
    let peer = getsockopt(&clients[0].control, sockopt::PeerCredentials)?;
    Ok(measure(&clients, length, hello, send, receive, case.size, Some(peer.pid())))
}

/// Frames per second through the network at a locator, by plugs.
fn by_plugs(case: Case, vnl: &str, length: Duration) -> Result<Rate, Box<dyn Error>> {
    let plugs =
        (0..case.flows * 2).map(|_| vdeplug::open(vnl, "bench")).collect::<Result<Vec<_>, _>>()?;
    let hello = |plug: &Plug, bytes: &[u8]| plug.send(&mut vec![Frame::from(bytes.to_vec())]);
    let send = |stop: &AtomicBool, plug: &Plug, bytes: &[u8], sent: &AtomicU64| {
        let mut heard = VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            if plug.backlog() < BATCH {
                plug.send(&mut vec![Frame::from(bytes.to_vec()); BATCH]);
                sent.fetch_add(u64::try_from(BATCH).unwrap_or(0), Ordering::Relaxed);
            } else {
                wait(plug);
            }
            // Room is told where frames are.
            let _ = plug.receive(&mut heard, BATCH);
        }
    };
    let receive = |stop: &AtomicBool, plug: &Plug, count: &AtomicU64| {
        let mut frames = VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            match plug.receive(&mut frames, 256) {
                Ok(0) => wait(plug),
                Ok(received) => {
                    count.fetch_add(u64::try_from(received).unwrap_or(0), Ordering::Relaxed);
                }
                Err(_) => return,
            }
            frames.clear();
        }
    };
    Ok(measure(&plugs, length, hello, send, receive, case.size, None))
}

type Plug = Arc<dyn Transport>;

/// Waits for what a plug tells, or a moment.
fn wait(plug: &Plug) {
    match plug.poll_fd() {
        Some(fd) => drop(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(20_u8))),
        None => thread::yield_now(),
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
struct Case {
    style: Style,
    flows: usize,
    size: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let switches: Vec<(String, String)> = std::env::args()
        .filter_map(|a| a.split_once('=').map(|(n, d)| (n.to_owned(), d.to_owned())))
        .collect();
    let length = std::env::var("SECONDS_EACH").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let length = Duration::from_secs_f64(length);
    let folder = tempfile::tempdir()?;
    let own = format!("switch://{}/own", folder.path().display());
    for style in [Style::Single, Style::Many, Style::Plugs] {
        for flows in [1, 4] {
            for size in [60, 1514] {
                report(Case { style, flows, size }, &switches, &own, length)?;
            }
        }
    }
    Ok(())
}

/// Measures all switches by turns, and prints the best rate of each.
fn report(
    case: Case,
    switches: &[(String, String)],
    own: &str,
    length: Duration,
) -> Result<(), Box<dyn Error>> {
    let style = match case.style {
        Style::Single => "send, recv",
        Style::Many => "sendmmsg, recvmmsg",
        Style::Plugs => "plugs",
    };
    let mut line = format!("{style:18} {} flow(s) {:4} bytes", case.flows, case.size);
    // Cargo gives an option of its own.
    let mut words = std::env::args().skip(1).filter(|a| !a.contains('=') && !a.starts_with('-'));
    if words.any(|word| !line.contains(&word)) {
        return Ok(());
    }
    let mut best = vec![(String::new(), Rate::default()); switches.len()];
    for _ in 0..ROUNDS {
        for ((name, directory), best) in switches.iter().zip(&mut best) {
            let rate = match case.style {
                Style::Plugs => by_plugs(case, &format!("vde://{directory}"), length)?,
                Style::Single | Style::Many => by_sockets(case, Path::new(directory), length)?,
            };
            if rate.received > best.1.received {
                *best = (name.clone(), rate);
            }
        }
    }
    if case.style == Style::Plugs {
        best.push(("switch://".to_owned(), by_plugs(case, own, length)?));
    }
    for (name, rate) in &best {
        let Rate { sent, received, cost } = rate;
        let times = received / best[0].1.received;
        let lost = (100.0 * (1.0 - received / sent)).max(0.0);
        line += &format!("  {name} {received:.0}/s ({times:.2}x, {lost:.0} % lost");
        line += &if *cost > 0.0 { format!(", {cost:.1} us)") } else { ")".to_owned() };
    }
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}
