//! TCP between two stacks.

use std::{io, sync::Arc};

use umvu_abi::{
    Errno,
    net::{Socket, StreamSocket, StreamState},
};

use super::{Ignore, Lab, TcpSocket, addr, connected};

fn send_all(lab: &Lab, from: &dyn StreamSocket, to: &dyn StreamSocket, data: &[u8]) -> Vec<u8> {
    let mut left = data;
    let mut got = Vec::new();
    for _ in 0..2000 {
        from.transmit(&mut |room| {
            let count = room.len().min(left.len());
            room[..count].copy_from_slice(&left[..count]);
            left = &left[count..];
            Ok(count)
        })
        .expect("open");
        lab.pass(1);
        to.receive(&mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(bytes.len())
        })
        .expect("open");
        if left.is_empty() && got.len() == data.len() {
            break;
        }
    }
    got
}

#[test]
fn data_flows_both_ways_over_both_families_with_and_without_offload() {
    for offload in [false, true] {
        for (family, target) in [
            (libc::AF_INET, "10.0.0.2:80"),
            (libc::AF_INET6, "[fc00::2]:80"),
            (libc::AF_INET6, "[::ffff:10.0.0.2]:80"),
        ] {
            let lab = Lab::new(offload);
            let (client, server) = connected(&lab, family, target);
            let data: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
            assert!(send_all(&lab, &client, &*server, &data) == data);
            assert!(send_all(&lab, &*server, &client, &data[..100_000]) == data[..100_000]);
        }
    }
}

#[test]
fn both_sides_close_in_order_and_the_first_rests_in_time_wait() {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.finish().expect("connected");
    lab.run();
    assert_eq!(server.state(), StreamState::Established { peer_closed: true });
    assert_eq!(send_all(&lab, &*server, &client, b"late"), b"late");
    server.close();
    lab.pass(20);
    assert_eq!(client.state(), StreamState::Closed);
    let counts = |side: usize| {
        lab.stacks[side].with(|inner| (inner.tcp.demux.len(), inner.tcp.waits.iter().count()))
    };
    assert_eq!((counts(0), counts(1)), ((0, 1), (0, 0)));
    drop(client);
    lab.pass(61_000);
    assert_eq!(counts(0), (0, 0));
    assert_eq!(lab.stacks[0].with(|inner| (inner.tcp.flows.len(), inner.tcp.usage.len())), (0, 0));
}

#[test]
fn connections_that_have_ended_leave_few_timers_behind() {
    let lab = Lab::new(true);
    let mut most = 0;
    for _ in 0..3000 {
        let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        client.reset();
        drop((client, server));
        lab.run();
        let timers = |side: usize| lab.stacks[side].with(|inner| inner.tcp.timers.len());
        most = most.max(timers(0)).max(timers(1));
    }
    // Each has left the time until which its handshake might have lasted, a minute and more.
    assert!((1000..1100).contains(&most), "{most}");
}

#[test]
fn the_last_data_and_the_fin_with_it_are_acknowledged_at_once() {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    assert_eq!(send_all(&lab, &client, &*server, b"request"), b"request");
    client.finish().expect("connected");
    lab.pass(20);
    let mut left = b"answer".as_slice();
    let sent = server.transmit(&mut |room| io::Read::read(&mut left, room));
    assert_eq!(sent.expect("open"), 6);
    server.finish().expect("open");
    // No time passes.
    lab.run();
    assert_eq!(server.state(), StreamState::Closed);
    assert_eq!(lab.stacks[0].with(|inner| inner.tcp.waits.iter().count()), 1);
}

#[test]
fn a_closed_port_refuses_and_a_silent_host_is_unreachable() {
    let lab = Lab::new(true);
    let client = lab.socket(0, libc::AF_INET);
    client.connect(&addr("10.0.0.2:81")).expect("routed");
    lab.run();
    assert_eq!(client.state(), StreamState::Refused(Errno::ECONNREFUSED));
    assert_eq!(client.take_error(), Some(Errno::ECONNREFUSED));
    assert_eq!(client.state(), StreamState::Fresh);
    client.connect(&addr("10.0.0.9:81")).expect("routed");
    for _ in 0..4 {
        lab.pass(1000);
    }
    assert_eq!(client.state(), StreamState::Refused(Errno::EHOSTUNREACH));
    client.take_error();
    assert_eq!(client.connect(&addr("192.168.7.7:1")), Err(Errno::ENETUNREACH));
}

#[test]
fn a_backlog_holds_several_connections_and_then_no_more() {
    let lab = Lab::new(true);
    let server = lab.socket(1, libc::AF_INET);
    server.bind(&addr("10.0.0.2:80")).expect("own address");
    server.listen(2).expect("bound");
    let clients: Vec<_> = (0..5).map(|_| lab.socket(0, libc::AF_INET)).collect();
    for client in &clients {
        client.connect(&addr("10.0.0.2:80")).expect("routed");
        lab.run();
    }
    let up = |client: &&TcpSocket| matches!(client.state(), StreamState::Established { .. });
    // As on Linux, one more than the backlog.
    assert_eq!(clients.iter().filter(up).count(), 3);
    assert!(server.accept(&mut || Arc::new(Ignore)).is_some());
    // The others try again, and both find the one free place.
    lab.pass(1100);
    assert_eq!(clients.iter().filter(up).count(), 5);
}

#[test]
fn a_reset_reaches_the_peer_and_unread_data_resets() {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.reset();
    lab.run();
    assert_eq!(server.state(), StreamState::Broken(Errno::ECONNRESET));
    assert_eq!(server.take_error(), Some(Errno::ECONNRESET));
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.transmit(&mut |room| Ok(room.len().min(10))).expect("open");
    lab.run();
    server.close();
    lab.run();
    assert_eq!(client.state(), StreamState::Broken(Errno::ECONNRESET));
}

#[test]
fn names_and_ports_follow_linux() {
    let lab = Lab::new(true);
    let (client, server) = connected(&lab, libc::AF_INET6, "[::ffff:10.0.0.2]:80");
    assert_eq!(client.peer(), Ok(addr("[::ffff:10.0.0.2]:80")));
    assert_eq!(server.local(), Ok(addr("[::ffff:10.0.0.2]:80")));
    let other = lab.socket(1, libc::AF_INET);
    assert_eq!(other.bind(&addr("10.0.0.2:80")), Err(Errno::EADDRINUSE));
    assert_eq!(other.bind(&addr("10.0.0.77:81")), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(other.connect(&addr("[fc00::1]:5")), Err(Errno::EAFNOSUPPORT));
    other.bind(&addr("10.0.0.2:0")).expect("any port");
    assert_ne!(other.local(), Ok(addr("10.0.0.2:0")));
    assert_eq!(other.peer(), Err(Errno::ENOTCONN));
}

#[test]
fn loopback_connects_a_stack_with_itself() {
    let lab = Lab::new(true);
    for target in ["127.0.0.1:99", "10.0.0.1:99"] {
        let server = lab.socket(0, libc::AF_INET);
        server.bind(&addr("0.0.0.0:99")).expect("free");
        server.listen(1).expect("bound");
        let client = lab.socket(0, libc::AF_INET);
        client.connect(&addr(target)).expect("routed");
        lab.run();
        assert_eq!(client.state(), StreamState::Established { peer_closed: false });
        let accepted = server.accept(&mut || Arc::new(Ignore)).expect("waiting");
        let data = vec![7; 300_000];
        assert!(send_all(&lab, &client, &*accepted.socket, &data) == data);
        client.reset();
        drop((accepted, server));
    }
}

#[test]
fn a_lost_segment_is_sent_again() {
    let lab = Lab::new(false);
    let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
    client.transmit(&mut |room| Ok(room.len().min(100))).expect("open");
    lab.lose(1);
    lab.run();
    assert_eq!(server.receive(&mut |bytes| Ok(bytes.len())).expect("open"), 0);
    lab.pass(1500);
    assert_eq!(server.receive(&mut |bytes| Ok(bytes.len())).expect("open"), 100);
}

#[test]
fn a_deferred_connection_is_accepted_with_its_data_or_when_that_is_late() {
    let lab = Lab::new(true);
    let server = lab.socket(1, libc::AF_INET);
    server.bind(&addr("10.0.0.2:80")).expect("own address");
    let seconds = 3i32.to_ne_bytes();
    server.set_option(libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, &seconds).expect("known");
    server.listen(5).expect("bound");
    let clients = [0, 1].map(|_| lab.socket(0, libc::AF_INET));
    for client in &clients {
        client.connect(&addr("10.0.0.2:80")).expect("routed");
        lab.run();
        assert_eq!(client.state(), StreamState::Established { peer_closed: false });
    }
    let accept = || server.accept(&mut || Arc::new(Ignore));
    assert!(accept().is_none());
    assert_eq!(send(&lab, &clients[1], b"first"), 5);
    let accepted = accept().expect("there is data");
    assert_eq!(accepted.peer, clients[1].local().expect("bound"));
    assert!(accept().is_none());
    lab.pass(3100);
    assert_eq!(accept().expect("it is late").peer, clients[0].local().expect("bound"));
}

fn send(lab: &Lab, from: &dyn StreamSocket, mut data: &[u8]) -> usize {
    let sent = from.transmit(&mut |room| io::Read::read(&mut data, room)).expect("open");
    lab.run();
    sent
}
