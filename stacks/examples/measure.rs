//! Measures stacks on a switch of this process: `measure bulk|kernel|connections|memory`.
//!
//! * `bulk`: one TCP connection between two stacks, in Gbit/s;
//! * `kernel`: the same with a vdestack, each way;
//! * `connections`: connect, accept and close, one after the other, per second;
//! * `memory`: 1,000 stacks on one switch, in KiB each.
#![expect(clippy::print_stdout, reason = "a measurement is a report")]

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use umvu_abi::{
    SockAddr,
    module::{Module, MountRequest, Mounted},
    net::{NetStack, NewSocket, SocketEvents, SocketSpec, StreamSocket, StreamState},
};
use umvu_reactor::Reactor;
use umvu_stacks::Vunet;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Counts changes, and lets a thread wait for the next one.
#[derive(Default)]
struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
}

impl SocketEvents for Bell {
    fn changed(&self) {
        *self.count.lock().expect("no panic holds it") += 1;
        self.rung.notify_all();
    }
}

impl Bell {
    /// Waits until a condition holds; looks at it, without the lock, after each change.
    fn wait(&self, mut until: impl FnMut() -> bool) {
        loop {
            let seen = *self.count.lock().expect("no panic holds it");
            if until() {
                return;
            }
            let count = self.count.lock().expect("no panic holds it");
            let again = Duration::from_millis(100);
            let changed = self.rung.wait_timeout_while(count, again, |count| *count == seen);
            drop(changed);
        }
    }
}

fn mount(
    vunet: &Vunet,
    stack: &str,
    network: &str,
    name: &str,
    ip: &str,
) -> Result<Arc<dyn NetStack>> {
    let request = MountRequest {
        source: stack.to_owned(),
        target: format!("/dev/net/{name}"),
        fstype: "vunetioth".to_owned(),
        flags: 0,
        data: format!("{network},ip={ip}/16"),
        environment: Vec::new(),
        view: String::new(),
    };
    let Mounted::Stack(stack) = vunet.mount(&request)? else {
        unreachable!("vunet mounts stacks only")
    };
    Ok(stack)
}

fn stream(stack: &dyn NetStack, bell: &Arc<Bell>) -> Result<Arc<dyn StreamSocket>> {
    let spec = SocketSpec { domain: libc::AF_INET, kind: libc::SOCK_STREAM, protocol: 0 };
    match stack.socket(&spec, Arc::clone(bell) as Arc<dyn SocketEvents>)? {
        NewSocket::Stream(socket) => Ok(socket),
        other => Err(format!("not a stream: {other:?}").into()),
    }
}

fn address(text: &str) -> Result<SockAddr> {
    Ok(text.parse::<SocketAddr>()?.into())
}

struct Pair {
    client: Arc<dyn NetStack>,
    listener: Arc<dyn StreamSocket>,
    bell: Arc<Bell>,
    _server: Arc<dyn NetStack>,
}

fn pair(vunet: &Vunet, network: &str) -> Result<Pair> {
    let client = mount(vunet, "smoltcp", network, "a", "10.1.0.1")?;
    let server = mount(vunet, "smoltcp", network, "b", "10.1.0.2")?;
    let bell = Arc::new(Bell::default());
    let listener = stream(&*server, &bell)?;
    listener.bind(&address("0.0.0.0:80")?)?;
    listener.listen(128)?;
    Ok(Pair { client, listener, bell, _server: server })
}

fn established(socket: &dyn StreamSocket) -> bool {
    matches!(socket.state(), StreamState::Established { .. })
}

/// A connection: the client, its bell, the server.
type Connection = (Arc<dyn StreamSocket>, Arc<Bell>, Arc<dyn StreamSocket>);

fn connect(pair: &Pair) -> Result<Connection> {
    let bell = Arc::new(Bell::default());
    let socket = stream(&*pair.client, &bell)?;
    socket.connect(&address("10.1.0.2:80")?)?;
    bell.wait(|| established(&*socket));
    let mut accepted = None;
    let observer = Arc::clone(&pair.bell);
    pair.bell.wait(|| {
        accepted = pair.listener.accept(&mut || Arc::clone(&observer) as Arc<dyn SocketEvents>);
        accepted.is_some()
    });
    let accepted = accepted.ok_or("nothing was accepted")?;
    Ok((socket, bell, accepted.socket))
}

fn bulk(vunet: &Vunet, network: &str) -> Result<()> {
    let pair = pair(vunet, network)?;
    let (client, bell, server) = connect(&pair)?;
    let total = 20_000_000_000u64;
    let begun = Instant::now();
    let sender = std::thread::spawn(move || -> io::Result<()> {
        let mut sent = 0u64;
        while sent < total {
            let count = client.transmit(&mut |room| Ok(room.len()))?;
            sent += count as u64;
            if count == 0 {
                bell.wait(|| client.wants_data());
            }
        }
        Ok(())
    });
    let mut received = 0u64;
    while received < total {
        let count = server.receive(&mut |data| Ok(data.len()))?;
        received += count as u64;
        if count == 0 {
            pair.bell.wait(|| server.ioctl_ready());
        }
    }
    sender.join().map_err(|_| "the sender panicked")??;
    report("bulk", received, begun);
    Ok(())
}

/// Whether bytes wait, as FIONREAD tells.
trait Waiting {
    fn ioctl_ready(&self) -> bool;
}

impl Waiting for Arc<dyn StreamSocket> {
    fn ioctl_ready(&self) -> bool {
        let mut argument = Vec::new();
        self.ioctl(0x541b, &mut argument).is_ok() && argument != [0; 4]
    }
}

/// A kernel namespace on the same switch, as server and as sender.
fn kernel(vunet: &Vunet, network: &str) -> Result<()> {
    let ours = mount(vunet, "smoltcp", network, "a", "10.1.0.1")?;
    let theirs = mount(vunet, "vdestack", network, "k", "10.1.0.2")?;
    let bell = Arc::new(Bell::default());
    let listener = stream(&*ours, &bell)?;
    listener.bind(&address("0.0.0.0:80")?)?;
    listener.listen(1)?;
    let spec = SocketSpec { domain: libc::AF_INET, kind: libc::SOCK_STREAM, protocol: 0 };
    let NewSocket::Kernel(fd) = theirs.socket(&spec, Arc::new(Bell::default()))? else {
        return Err("not a kernel socket".into());
    };
    let target: nix::sys::socket::SockaddrIn = "10.1.0.1:80".parse()?;
    nix::sys::socket::connect(fd.as_raw_fd(), &target)?;
    let mut socket = TcpStream::from(fd);
    let mut accepted = None;
    let observer = Arc::clone(&bell);
    bell.wait(|| {
        accepted = listener.accept(&mut || Arc::clone(&observer) as Arc<dyn SocketEvents>);
        accepted.is_some()
    });
    let server = accepted.ok_or("nothing was accepted")?.socket;
    let total = 2_000_000_000u64;
    let begun = Instant::now();
    let mut writer = socket.try_clone()?;
    let sender = std::thread::spawn(move || -> io::Result<()> {
        let block = vec![0; 1 << 16];
        for _ in 0..total / (1 << 16) + 1 {
            writer.write_all(&block)?;
        }
        Ok(())
    });
    let mut received = 0u64;
    while received < total {
        let count = server.receive(&mut |data| Ok(data.len()))?;
        received += count as u64;
        if count == 0 {
            bell.wait(|| server.ioctl_ready());
        }
    }
    sender.join().map_err(|_| "the sender panicked")??;
    report("from the kernel", received, begun);
    let begun = Instant::now();
    let sender = std::thread::spawn(move || -> io::Result<()> {
        let mut sent = 0u64;
        while sent < total {
            let count = server.transmit(&mut |room| Ok(room.len()))?;
            sent += count as u64;
            if count == 0 {
                bell.wait(|| server.wants_data());
            }
        }
        Ok(())
    });
    let mut block = vec![0; 1 << 18];
    let mut received = 0u64;
    while received < total {
        received += socket.read(&mut block)? as u64;
    }
    sender.join().map_err(|_| "the sender panicked")??;
    report("to the kernel", received, begun);
    theirs.stop();
    Ok(())
}

fn report(what: &str, bytes: u64, begun: Instant) {
    println!("{what}: {:.2} Gbit/s", bytes as f64 * 8.0 / 1e9 / begun.elapsed().as_secs_f64());
}

fn connections(vunet: &Vunet, network: &str) -> Result<()> {
    let pair = pair(vunet, network)?;
    let begun = Instant::now();
    let count = 10_000u32;
    for _ in 0..count {
        let (client, _, server) = connect(&pair)?;
        server.close();
        client.close();
    }
    println!("connections: {:.0} per second", f64::from(count) / begun.elapsed().as_secs_f64());
    Ok(())
}

fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn memory(vunet: &Vunet, network: &str) -> Result<()> {
    let before = resident()?;
    let begun = Instant::now();
    let mut stacks = Vec::new();
    for index in 0..1000 {
        let ip = format!("10.1.{}.{}", index / 250, index % 250 + 1);
        stacks.push(mount(vunet, "smoltcp", network, &format!("s{index}"), &ip)?);
    }
    std::thread::sleep(Duration::from_millis(500));
    let each = (resident()? - before) / 1000;
    println!("memory: {each} KiB per stack, {:?} for 1,000 stacks", begun.elapsed());
    Ok(())
}

fn main() -> Result<()> {
    let what = std::env::args().nth(1).unwrap_or_else(|| "bulk".to_owned());
    let directory = std::env::temp_dir().join(format!("umvu-measure-{}", std::process::id()));
    let network = format!("switch://{}", directory.display());
    let vunet = Vunet::new(Reactor::start("stacks")?);
    match what.as_str() {
        "kernel" => kernel(&vunet, &network),
        "bulk" => bulk(&vunet, &network),
        "connections" => connections(&vunet, &network),
        "memory" => memory(&vunet, &network),
        other => Err(format!("{other}: not one of bulk, kernel, connections, memory").into()),
    }
}
