//! An Internet of threads: three hosts in three threads of one program, and nothing else of umvu.
//!
//! ```text
//!    alice 10.0.1.1 ----+---- bob 10.0.2.1
//!                       |
//!        router 10.0.1.254, 10.0.2.254
//! ```
//!
//! Each thread opens a stack of its own on the network of a locator, by default a switch inside
//! this process: `internet_of_threads [VNL]`. Alice and bob are on two networks of one wire, so what
//! they tell each other goes through the router, which takes one off its TTL.
#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::{
    error::Error,
    io::{Read, Write},
    sync::Barrier,
    thread,
};

use umvu_stacks::net::{Socket, Stack, TcpListener, TcpStream, UdpSocket};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROUTER: [&str; 2] = ["10.0.1.254", "10.0.2.254"];

/// Forwards until both others are done.
fn router(wire: &str, ready: &Barrier, done: &Barrier) -> Result<()> {
    let stack = Stack::builder("smoltcp")
        .name("router")
        .network(wire)
        .option(&format!("ip={}/24", ROUTER[0]))
        .open()?;
    let mut config = stack.config()?;
    config.add_address("vde0", ROUTER[1].parse()?, 24)?;
    config.set_forwarding(true)?;
    ready.wait();
    done.wait();
    Ok(())
}

/// Opens a host whose way to the other network is the router.
fn host(wire: &str, name: &str, ip: &str, gateway: &str) -> Result<Stack> {
    let options = format!("ip={ip}/24,gw={gateway}");
    Ok(Stack::builder("smoltcp").name(name).network(wire).options(&options).open()?)
}

/// Answers one datagram and one connection.
fn bob(wire: &str, ready: &Barrier) -> Result<()> {
    let stack = host(wire, "bob", "10.0.2.1", ROUTER[1])?;
    let udp = UdpSocket::bind(&stack, "10.0.2.1:7")?;
    udp.socket().set_details()?;
    let listener = TcpListener::bind(&stack, "10.0.2.1:7")?;
    ready.wait();

    let mut buffer = [0; 100];
    let datagram = udp.socket().receive(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..datagram.length]);
    let from = datagram.meta.source.ip().ok_or("no internet address")?;
    println!("bob: {from} says {text:?}, TTL {}", datagram.meta.ttl);
    udp.socket().send_to(&buffer[..datagram.length], &datagram.meta.source)?;

    let (mut stream, peer) = listener.accept()?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    println!("bob: {peer} has connected and says {text:?}");
    stream.write_all(text.to_uppercase().as_bytes())?;
    Ok(())
}

/// Asks.
fn alice(wire: &str, ready: &Barrier) -> Result<()> {
    let stack = host(wire, "alice", "10.0.1.1", ROUTER[0])?;
    ready.wait();

    let udp = UdpSocket::bind(&stack, "10.0.1.1:0")?;
    udp.send_to(b"hello", "10.0.2.1:7")?;
    let mut buffer = [0; 100];
    let (length, from) = udp.recv_from(&mut buffer)?;
    println!("alice: {from} answers {:?}", String::from_utf8_lossy(&buffer[..length]));

    let mut stream = TcpStream::connect(&stack, "10.0.2.1:7")?;
    stream.write_all(b"how do you do?")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    println!("alice: bob answers {text:?}");

    // A ping, by the generic socket: type 8, code 0; the stack fills in checksum and identifier.
    let ping = Socket::open(&stack, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    ping.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], &(ROUTER[1].parse::<std::net::IpAddr>()?, 0).into())?;
    let length = ping.recv(&mut buffer)?;
    println!("alice: the router answers a ping of {length} bytes");
    Ok(())
}

/// Lives the life of a host. One that cannot go on ends the program: the others would wait for it.
fn run(name: &str, life: impl FnOnce() -> Result<()>) {
    if let Err(error) = life() {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
}

fn main() {
    let own = std::env::temp_dir().join(format!("internet_of_threads.{}", std::process::id()));
    let wire = std::env::args().nth(1).unwrap_or_else(|| format!("switch://{}", own.display()));
    let (ready, done) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        scope.spawn(|| run("router", || router(&wire, &ready, &done)));
        // A host has said goodbye when its stack is gone; the router stays until both have.
        for (name, life) in [("alice", alice as fn(&str, &Barrier) -> Result<()>), ("bob", bob)] {
            let (wire, ready, done) = (&wire, &ready, &done);
            scope.spawn(move || {
                run(name, || life(wire, ready));
                done.wait();
            });
        }
    });
}
