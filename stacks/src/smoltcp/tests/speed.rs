//! Measurements; run with `cargo test --release -p umvu-stacks speed -- --ignored --nocapture`.
#![expect(clippy::print_stdout, reason = "a measurement is a report")]

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use umvu_abi::net::{Socket, StreamSocket};

use super::{super::inner::Inner, Ignore, Lab, addr, connected};

#[test]
#[ignore = "a measurement: run with --release"]
fn bulk_speed() {
    for offload in [false, true] {
        let lab = Lab::new(offload);
        let (client, server) = connected(&lab, libc::AF_INET, "10.0.0.2:80");
        let begun = Instant::now();
        let total = 8_000_000_000usize;
        let (mut sent, mut got) = (0, 0);
        while got < total {
            sent += client.transmit(&mut |room| Ok(room.len().min(total))).expect("open");
            lab.time.fetch_add(20, Ordering::SeqCst);
            for stack in [1, 0] {
                lab.stacks[stack].with(Inner::turn);
            }
            got += server.receive(&mut |bytes| Ok(bytes.len())).expect("open");
        }
        let spent = begun.elapsed();
        println!(
            "offload {offload}: {:.1} Gbit/s, sent {sent}",
            got as f64 * 8.0 / spent.as_nanos() as f64
        );
    }
}

#[test]
#[ignore = "a measurement: run with --release"]
fn connection_speed() {
    let lab = Lab::new(true);
    let server = lab.socket(1, libc::AF_INET);
    server.bind(&addr("0.0.0.0:80")).expect("free");
    server.listen(100).expect("bound");
    let begun = Instant::now();
    let count = 20_000u32;
    for _ in 0..count {
        let client = lab.socket(0, libc::AF_INET);
        client.connect(&addr("10.0.0.2:80")).expect("routed");
        lab.time.fetch_add(20, Ordering::SeqCst);
        for stack in [1, 0, 1, 0, 1] {
            lab.stacks[stack].with(Inner::turn);
        }
        let accepted = server.accept(&mut || Arc::new(Ignore)).expect("waiting");
        client.close();
        accepted.socket.close();
        for stack in [1, 0, 1, 0] {
            lab.stacks[stack].with(Inner::turn);
        }
    }
    let each = begun.elapsed() / count;
    println!("connect, accept, close: {each:?} both sides together");
}
