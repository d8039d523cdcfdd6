//! Sockets for programs: stacks in threads, on one switch, with calls that wait.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use umvu_stacks::net::{
    Interest, Route, SendControl, SockAddr, Socket, Stack, TcpListener, TcpStream, UdpSocket,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A switch, and stacks with the addresses 10.9.0.N and fc09::N.
struct Lab {
    directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    fn open(&self, kind: &str, number: u8) -> io::Result<Stack> {
        Stack::builder(kind)
            .name(&format!("host{number}"))
            .network(&format!("switch://{}", self.directory.path().join("sw").display()))
            .option(&format!("ip=10.9.0.{number}/24"))
            .option(&format!("ip=fc09::{number}/64"))
            .open()
    }

    fn smoltcp(&self, number: u8) -> io::Result<Stack> {
        self.open("smoltcp", number)
    }

    /// A stack of the kernel's; None, with a word, where this host allows none.
    fn vdestack(&self, number: u8) -> Option<Stack> {
        self.open("vdestack", number).map_err(|error| eprintln!("skipped: {error}")).ok()
    }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    let error = result.expect_err("it fails");
    error.raw_os_error().unwrap_or_else(|| panic!("no number: {error:?}"))
}

/// Answers connections until the listener is shut down.
fn echo(listener: &TcpListener) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            Err(error) => return Err(error),
        };
        thread::spawn(move || io::copy(&mut stream.try_clone()?, &mut stream));
    }
}

fn exchange(stack: &Stack, server: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(stack, server)?;
    let mut got = Vec::new();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            (&stream).write_all(data)?;
            stream.shutdown(Shutdown::Write)
        });
        (&stream).read_to_end(&mut got)?;
        sender.join().expect("it does not panic")
    })?;
    Ok(got)
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + seed * 7 + at / 251) % 256).unwrap_or(0)).collect()
}

#[test]
fn many_threads_talk_between_every_pair_of_stacks() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?, lab.smoltcp(2)?];
    stacks.extend(lab.vdestack(3));
    let listeners: Vec<TcpListener> = stacks
        .iter()
        .flat_map(|stack| ["0.0.0.0:7", "[fc09::X]:7"].map(|text| (stack, text)))
        .enumerate()
        .map(|(at, (stack, text))| {
            TcpListener::bind(stack, text.replace('X', &(at / 2 + 1).to_string()))
        })
        .collect::<io::Result<_>>()?;
    thread::scope(|scope| {
        let servers: Vec<_> = listeners.iter().map(|own| scope.spawn(|| echo(own))).collect();
        let mut clients = Vec::new();
        for (from, stack) in stacks.iter().enumerate() {
            for to in 1..=stacks.len() {
                for ip in [format!("10.9.0.{to}:7"), format!("[fc09::{to}]:7")] {
                    clients.push(scope.spawn(move || {
                        let server = ip.parse().expect("literal");
                        for round in 0..5 {
                            let data = pattern(from + round, 200_000 + round);
                            let got = exchange(stack, server, &data).expect("an exchange");
                            assert!(got == data, "{from} to {to}");
                        }
                    }));
                }
            }
        }
        for client in clients {
            client.join().expect("it does not panic");
        }
        for listener in &listeners {
            listener.shutdown().expect("it listens");
        }
        for server in servers {
            server.join().expect("it does not panic").expect("it ends in order");
        }
    });
    Ok(())
}

#[test]
fn datagrams_and_their_errors_arrive() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?, lab.smoltcp(2)?];
    stacks.extend(lab.vdestack(3));
    for stack in &stacks {
        let own = if std::ptr::eq(stack, &stacks[0]) { 2 } else { 1 };
        let asked = UdpSocket::bind(&stacks[own - 1], format!("10.9.0.{own}:53"))?;
        let asking = UdpSocket::bind(stack, "0.0.0.0:0")?;
        asking.connect(asked.local_addr()?)?;
        asking.send(b"who is it?")?;
        let mut buffer = [0; 100];
        let (length, from) = asked.peek_from(&mut buffer)?;
        assert_eq!(&buffer[..length], b"who is it?");
        assert_eq!(asked.recv_from(&mut buffer)?, (length, from));
        asked.send_to(b"me", from)?;
        assert_eq!(asking.recv(&mut buffer)?, 2);
        asking.connect((std::net::Ipv4Addr::new(10, 9, 0, 1), 9999))?;
        asking.send(b"nobody")?;
        assert_eq!(errno(asking.recv(&mut buffer)), libc::ECONNREFUSED);
        assert_eq!(errno(asking.send_to(b"all", "10.9.0.255:9")), libc::EACCES);
    }
    Ok(())
}

#[test]
fn what_comes_with_a_datagram_is_told() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?];
    stacks.extend(lab.vdestack(3));
    let sender = lab.smoltcp(2)?;
    for (stack, number) in stacks.iter().zip([1, 3]) {
        for (domain, ip) in [(libc::AF_INET, "10.9.0."), (libc::AF_INET6, "fc09::")] {
            let socket = Socket::open(stack, domain, libc::SOCK_DGRAM, 0)?;
            socket.set_details()?;
            let addr = |port| SockAddr::from((format!("{ip}{number}").parse().expect("ip"), port));
            socket.bind(&SockAddr::any(u16::try_from(domain)?))?;
            let Some(port) = socket.local_addr()?.ip().map(|addr| addr.port()) else {
                panic!("no port")
            };
            let other = Socket::open(&sender, domain, libc::SOCK_DGRAM, 0)?;
            let control = SendControl { ttl: Some(77), tos: Some(16), ..SendControl::default() };
            other.send_message(&[1; 300], Some(&addr(port)), &control)?;
            let got = socket.receive(&mut [0; 10])?;
            assert_eq!((got.length, got.full_length), (10, 300));
            assert_eq!((got.meta.ttl, got.meta.tos), (77, 16));
            assert_eq!(got.meta.destination.ip().map(|ip| ip.ip()), addr(0).ip().map(|ip| ip.ip()));
            assert_eq!(got.meta.ifindex, 2);
        }
    }
    Ok(())
}

#[test]
fn waits_end_at_their_deadlines() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?];
    stacks.extend(lab.vdestack(3));
    let short = Some(Duration::from_millis(30));
    for (stack, own) in stacks.iter().zip(["10.9.0.1", "10.9.0.3"]) {
        let begun = Instant::now();
        let udp = UdpSocket::bind(stack, format!("{own}:0"))?;
        udp.set_read_timeout(short)?;
        assert_eq!(errno(udp.recv(&mut [0; 9])), libc::EAGAIN);
        let until = Instant::now() + Duration::from_millis(30);
        assert_eq!(errno(udp.socket().receive_until(&mut [0; 9], until)), libc::EAGAIN);
        assert!(!udp.socket().wait(Interest::Read, short)?.readable);
        assert!(udp.socket().wait(Interest::Write, short)?.writable);

        let listener = TcpListener::bind(stack, format!("{own}:80"))?;
        listener.socket().set_read_timeout(short)?;
        assert_eq!(errno(listener.accept()), libc::EAGAIN);
        let client = TcpStream::connect(stack, listener.local_addr()?)?;
        client.set_read_timeout(short)?;
        assert_eq!(errno((&client).read(&mut [0; 9])), libc::EAGAIN);
        client.set_write_timeout(short)?;
        let full = (&client).write_all(&vec![0; 20_000_000]);
        assert_eq!(errno(full), libc::EAGAIN);
        client.set_nonblocking(true)?;
        assert_eq!(errno((&client).write(&[0; 9])), libc::EAGAIN);
        assert!(begun.elapsed() >= Duration::from_millis(180));

        // Nobody has this address.
        let nobody = "10.9.0.200:1";
        let tried = TcpStream::connect_timeout(stack, nobody, Duration::from_millis(30));
        assert_eq!(errno(tried), libc::ETIMEDOUT);
        let socket = Socket::open(stack, libc::AF_INET, libc::SOCK_STREAM, 0)?;
        socket.set_nonblocking(true);
        let addr = nobody.parse::<SocketAddr>()?.into();
        assert_eq!(errno(socket.connect(&addr)), libc::EINPROGRESS);
        assert!(!socket.readiness().writable);
    }
    Ok(())
}

#[test]
fn the_ends_of_connections_are_told_as_linux_tells_them() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?];
    stacks.extend(lab.vdestack(3));
    for (stack, own) in stacks.iter().zip(["10.9.0.1", "10.9.0.3"]) {
        let refused = TcpStream::connect(stack, format!("{own}:81"));
        assert_eq!(errno(refused), libc::ECONNREFUSED);
        let listener = TcpListener::bind(stack, format!("{own}:80"))?;
        let addr = listener.local_addr()?;
        assert_eq!(errno(TcpListener::bind(stack, addr)), libc::EADDRINUSE);

        // An orderly end.
        let mut client = TcpStream::connect(stack, addr)?;
        let (mut server, peer) = listener.accept()?;
        assert_eq!(peer, client.local_addr()?);
        assert_eq!(client.peer_addr()?, addr);
        client.write_all(b"bye")?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(errno(client.write(b"more")), libc::EPIPE);
        let mut got = String::new();
        server.read_to_string(&mut got)?;
        assert_eq!(got, "bye");
        assert!(server.socket().readiness().peer_closed);
        server.write_all(b"bye bye")?;
        drop(server);
        got.clear();
        client.read_to_string(&mut got)?;
        assert_eq!(got, "bye bye");

        // A reset.
        let client = TcpStream::connect(stack, addr)?;
        let (server, _) = listener.accept()?;
        server.set_linger(Some(Duration::ZERO))?;
        drop(server);
        assert_eq!(errno((&client).read(&mut [0; 9])), libc::ECONNRESET);
        assert_eq!((&client).read(&mut [0; 9])?, 0);
        assert_eq!(errno((&client).write(b"x")), libc::EPIPE);

        // Reading shut down by another thread.
        let client = TcpStream::connect(stack, addr)?;
        let _server = listener.accept()?;
        thread::scope(|scope| {
            let reader = scope.spawn(|| (&client).read(&mut [0; 9]));
            thread::sleep(Duration::from_millis(20));
            client.shutdown(Shutdown::Read)?;
            assert_eq!(reader.join().expect("no panic")?, 0);
            Ok::<(), io::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn a_stopped_stack_ends_every_wait() -> Result<()> {
    let lab = Lab::new()?;
    let mut stacks = vec![lab.smoltcp(1)?];
    stacks.extend(lab.vdestack(3));
    for stack in stacks {
        let listener = TcpListener::bind(&stack, "0.0.0.0:80")?;
        let udp = UdpSocket::bind(&stack, "0.0.0.0:80")?;
        thread::scope(|scope| {
            let accepting = scope.spawn(|| errno(listener.accept()));
            let receiving = scope.spawn(|| errno(udp.recv(&mut [0; 9])));
            thread::sleep(Duration::from_millis(20));
            stack.stop();
            assert_eq!(accepting.join().expect("no panic"), libc::ENETDOWN);
            assert_eq!(receiving.join().expect("no panic"), libc::ENETDOWN);
        });
        assert_eq!(errno(UdpSocket::bind(&stack, "0.0.0.0:81")), libc::ENETDOWN);
    }
    Ok(())
}

#[test]
fn what_was_written_is_delivered_although_its_stack_is_dropped() -> Result<()> {
    let lab = Lab::new()?;
    let receiver = lab.smoltcp(1)?;
    let listener = TcpListener::bind(&receiver, "10.9.0.1:80")?;
    let data = pattern(1, 60_000);
    let sent = data.clone();
    let sender = lab.smoltcp(2)?;
    let mut stream = TcpStream::connect(&sender, "10.9.0.1:80")?;
    let (mut server, _) = listener.accept()?;
    stream.write_all(&sent)?;
    drop((stream, sender));
    let mut got = Vec::new();
    server.read_to_end(&mut got)?;
    assert!(got == data);
    Ok(())
}

#[test]
fn unknown_stacks_and_options_are_named() {
    for (kind, options, word) in [
        ("nosuch", "", "nosuch"),
        ("smoltcp", "colour=red", "colour=red"),
        ("smoltcp", "x://", "x"),
    ] {
        let error = Stack::open(kind, options).expect_err("there is none");
        assert!(error.to_string().contains(word), "{error}");
    }
    let null = Stack::open("null", "").expect("it needs nothing");
    assert_eq!(errno(UdpSocket::bind(&null, "0.0.0.0:0")), libc::EAFNOSUPPORT);
}

#[test]
fn a_stack_is_configured_by_calls() -> Result<()> {
    let lab = Lab::new()?;
    let wire = format!("switch://{}", lab.directory.path().join("sw").display());
    let mut stacks = vec![Stack::open("smoltcp", &wire)?];
    stacks.extend(lab.vdestack(3));
    let ip = "10.9.1.1".parse()?;
    let gateway = Route::default_by("10.9.1.254".parse()?);
    for stack in &stacks {
        let mut config = stack.config()?;
        assert_eq!(errno(config.set_up("nosuch", true)), libc::ENODEV);
        config.set_up("vde0", false)?;
        config.set_mac("vde0", [2, 0, 0, 0, 9, 9])?;
        config.rename("vde0", "lan")?;
        config.set_mtu("lan", 1400)?;
        config.set_up("lan", true)?;
        config.add_address("lan", ip, 24)?;
        assert_eq!(errno(config.add_address("lan", ip, 24)), libc::EEXIST);
        config.add_route(&gateway)?;
        let lan = config.link("lan")?;
        assert_eq!((lan.mac, lan.mtu, lan.up), (Some([2, 0, 0, 0, 9, 9]), 1400, true));
        let own = config.addresses()?.into_iter().find(|own| own.ip == ip).expect("it was added");
        assert_eq!((own.interface, own.prefix), (lan.index, 24));
        let routes = config.routes()?;
        let default = routes.iter().find(|route| route.destination == gateway.destination);
        let default = default.expect("it was added");
        assert_eq!((default.gateway, default.interface), (gateway.gateway, Some(lan.index)));
        assert!(
            routes.iter().any(|route| route.destination == ("10.9.1.0".parse().expect("ip"), 24))
        );
        config.remove_route(&gateway)?;
        assert_eq!(errno(config.remove_route(&gateway)), libc::ESRCH);
        config.remove_address("lan", ip, 24)?;
        assert_eq!(errno(config.remove_address("lan", ip, 24)), libc::EADDRNOTAVAIL);
        config.set_forwarding(true)?;
        assert_eq!(config.sysctl("ipv4/ip_forward")?, "1");
    }
    Ok(())
}
