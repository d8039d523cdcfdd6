//! The smoltcp stack and the Linux kernel on one switch: each as client and as server.
//!
//! The kernel's side is a vdestack: a network namespace that the test makes. Where namespaces are
//! not allowed the tests say so and pass.

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::Duration,
};

use common::{Bell, Lab, Result, address, established, read_all, stream, write_all};
use umvu_abi::net::{NetStack, NewSocket, SocketSpec};

/// Bytes that each transfer moves.
const AMOUNT: usize = 6_000_000;

fn kernel_socket(stack: &dyn NetStack, v6: bool, kind: i32, protocol: i32) -> Result<OwnedFd> {
    let domain = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let spec = SocketSpec { domain, kind, protocol };
    match stack.socket(&spec, Arc::new(Bell::default()))? {
        NewSocket::Kernel(fd) => Ok(fd),
        other => Err(format!("not the kernel's: {other:?}").into()),
    }
}

fn name(addr: SocketAddr) -> nix::sys::socket::SockaddrStorage {
    addr.into()
}

fn pattern(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    (0..AMOUNT)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn echo_kernel(mut socket: TcpStream, data: &[u8]) -> Result<Vec<u8>> {
    let mut writer = socket.try_clone()?;
    let sent = data.to_vec();
    let sender = thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut got = Vec::new();
    socket.read_to_end(&mut got)?;
    sender.join().map_err(|_| "the sender panicked")??;
    Ok(got)
}

#[test]
fn tcp_with_the_kernel_as_server() -> Result<()> {
    for (v6, target) in [(false, "10.7.0.2:80"), (true, "[fc07::2]:80")] {
        let Some(lab) = Lab::with_kernel()? else { return Ok(()) };
        let fd = kernel_socket(&*lab.kernel, v6, libc::SOCK_STREAM, 0)?;
        let target: SocketAddr = target.parse()?;
        nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &name(target))?;
        nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(5)?)?;
        let listener = TcpListener::from(fd);
        let (theirs, ours) = (pattern(1), pattern(2));
        let kernel = thread::spawn(move || -> std::result::Result<Vec<u8>, String> {
            let (socket, _) = listener.accept().map_err(|e| e.to_string())?;
            echo_kernel(socket, &theirs).map_err(|e| e.to_string())
        });
        let bell = Arc::new(Bell::default());
        let client = stream(&*lab.smoltcp, v6, &bell)?;
        client.connect(&address(&target.to_string())?)?;
        bell.wait(|| established(&*client));
        let writer = {
            let (client, bell, ours) = (Arc::clone(&client), Arc::clone(&bell), ours.clone());
            thread::spawn(move || {
                write_all(&*client, &bell, &ours);
                client.finish()
            })
        };
        let got = read_all(&*client, &bell);
        writer.join().map_err(|_| "the sender panicked")??;
        assert!(got == pattern(1), "what the kernel sent arrived whole: {} bytes", got.len());
        let theirs = kernel.join().map_err(|_| "the kernel's side panicked")??;
        assert!(theirs == ours, "what we sent arrived whole: {} bytes", theirs.len());
    }
    Ok(())
}

#[test]
fn tcp_with_the_kernel_as_client() -> Result<()> {
    for (v6, target) in [(false, "10.7.0.1:80"), (true, "[fc07::1]:80")] {
        let Some(lab) = Lab::with_kernel()? else { return Ok(()) };
        let bell = Arc::new(Bell::default());
        let listener = stream(&*lab.smoltcp, v6, &bell)?;
        listener.bind(&address(if v6 { "[::]:80" } else { "0.0.0.0:80" })?)?;
        listener.listen(5)?;
        let fd = kernel_socket(&*lab.kernel, v6, libc::SOCK_STREAM, 0)?;
        let target: SocketAddr = target.parse()?;
        let kernel = thread::spawn(move || -> std::result::Result<Vec<u8>, String> {
            let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
            nix::sys::socket::connect(raw, &name(target)).map_err(|e| e.to_string())?;
            echo_kernel(TcpStream::from(fd), &pattern(3)).map_err(|e| e.to_string())
        });
        let mut accepted = None;
        let observer = Arc::clone(&bell);
        bell.wait(|| {
            accepted = listener.accept(&mut || Arc::clone(&observer) as _);
            accepted.is_some()
        });
        let server = accepted.ok_or("nobody came")?.socket;
        let got = read_all(&*server, &bell);
        assert!(got == pattern(3), "what the kernel sent arrived whole: {} bytes", got.len());
        write_all(&*server, &bell, &pattern(4));
        server.finish()?;
        let theirs = kernel.join().map_err(|_| "the kernel's side panicked")??;
        assert!(theirs == pattern(4), "what we sent arrived whole: {} bytes", theirs.len());
    }
    Ok(())
}

#[test]
fn datagrams_echoes_and_refusals_pass_both_ways() -> Result<()> {
    let Some(lab) = Lab::with_kernel()? else { return Ok(()) };
    for (v6, ours, kernels) in
        [(false, "10.7.0.1:7", "10.7.0.2:7"), (true, "[fc07::1]:7", "[fc07::2]:7")]
    {
        let kernel = UdpSocket::from(kernel_socket(&*lab.kernel, v6, libc::SOCK_DGRAM, 0)?);
        kernel.set_read_timeout(Some(Duration::from_secs(3)))?;
        let here: SocketAddr = kernels.parse()?;
        nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&kernel), &name(here))?;
        let bell = Arc::new(Bell::default());
        let own = common::datagram(&*lab.smoltcp, v6, libc::SOCK_DGRAM, 0, &bell)?;
        own.bind(&address(ours)?)?;
        for length in [1usize, 1472, 1473, 8000, 60_000] {
            let data: Vec<u8> = pattern(5)[..length].to_vec();
            own.send(&data, Some(&address(kernels)?), &umvu_abi::net::SendControl::default())?;
            let mut got = vec![0; 65_536];
            let (count, from) = kernel.recv_from(&mut got)?;
            assert_eq!((count, from), (length, ours.parse()?));
            assert!(got[..count] == data);
            kernel.send_to(&got[..count], ours)?;
            let mut back = None;
            bell.wait(|| {
                back = back.take().or_else(|| own.receive());
                back.is_some()
            });
            assert!(back.ok_or("no answer")?.data == data, "{length} bytes came back");
        }
        let refused = UdpSocket::from(kernel_socket(&*lab.kernel, v6, libc::SOCK_DGRAM, 0)?);
        refused.connect(if v6 { "[fc07::1]:9" } else { "10.7.0.1:9" })?;
        refused.set_read_timeout(Some(Duration::from_secs(3)))?;
        refused.send(b"x")?;
        let error = refused.recv(&mut [0; 8]).expect_err("nobody listens");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }
    ping(&lab)
}

/// The stack pings the kernel, the kernel pings the stack.
fn ping(lab: &Lab) -> Result<()> {
    for (v6, protocol, kind, target, ours) in [
        (false, libc::IPPROTO_ICMP, 8u8, "10.7.0.2:0", "10.7.0.1:0"),
        (true, libc::IPPROTO_ICMPV6, 128, "[fc07::2]:0", "[fc07::1]:0"),
    ] {
        let request = [kind, 0, 0, 0, 0, 0, 0, 1, b'p', b'i', b'n', b'g'];
        let bell = Arc::new(Bell::default());
        let socket = common::datagram(&*lab.smoltcp, v6, libc::SOCK_DGRAM, protocol, &bell)?;
        socket.send(&request, Some(&address(target)?), &umvu_abi::net::SendControl::default())?;
        let mut answer = None;
        bell.wait(|| {
            answer = answer.take().or_else(|| socket.receive());
            answer.is_some()
        });
        assert_eq!(&answer.ok_or("no answer")?.data[8..], b"ping");
        let raw = UdpSocket::from(kernel_socket(&*lab.kernel, v6, libc::SOCK_RAW, protocol)?);
        raw.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut summed = request;
        if !v6 {
            let sum: u32 =
                request.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
            let folded = u16::try_from((sum & 0xffff) + (sum >> 16))?;
            summed[2..4].copy_from_slice(&(!folded).to_be_bytes());
        }
        raw.send_to(&summed, ours)?;
        let mut got = [0; 128];
        loop {
            let count = raw.recv(&mut got)?;
            let body = &got[if v6 { 0 } else { 20 }..count];
            if body.first() == Some(&(if v6 { 129 } else { 0 })) {
                assert_eq!(&body[8..], b"ping");
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn the_trees_of_a_namespace_are_its_own() -> Result<()> {
    let Some(lab) = Lab::with_kernel()? else { return Ok(()) };
    let net = lab.kernel.proc_net().ok_or("a tree")?;
    let devices = String::from_utf8(net.read("dev")?)?;
    assert!(devices.contains("vde0") && devices.contains("lo"), "{devices}");
    assert_eq!(devices.lines().count(), 4, "only lo and vde0: {devices}");
    let sysctls = lab.kernel.proc_sys_net().ok_or("a tree")?;
    assert_eq!(sysctls.read("ipv4/ip_forward")?, b"0\n");
    sysctls.write("ipv4/ip_forward", b"1\n")?;
    assert_eq!(sysctls.read("ipv4/ip_forward")?, b"1\n");
    assert!(matches!(sysctls.entry("ipv4"), Ok(umvu_abi::tree::Entry::Directory(_))));
    assert_eq!(lab.kernel.users(), 0);
    let socket = kernel_socket(&*lab.kernel, false, libc::SOCK_STREAM, 0)?;
    assert_eq!(lab.kernel.users(), 1);
    drop(socket);
    assert_eq!(lab.kernel.users(), 0);
    Ok(())
}

#[test]
fn a_connection_whose_socket_is_closed_keeps_nothing_busy() -> Result<()> {
    let Some(lab) = Lab::with_kernel()? else { return Ok(()) };
    let bell = Arc::new(Bell::default());
    let listener = stream(&*lab.smoltcp, false, &bell)?;
    listener.bind(&address("0.0.0.0:80")?)?;
    listener.listen(5)?;
    let fd = kernel_socket(&*lab.kernel, false, libc::SOCK_STREAM, 0)?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    nix::sys::socket::connect(raw, &name("10.7.0.1:80".parse()?))?;
    assert_eq!(lab.kernel.users(), 1);
    // The peer does not close: the kernel's side waits in FIN-WAIT-2.
    drop(fd);
    assert_eq!(lab.kernel.users(), 0);
    Ok(())
}
