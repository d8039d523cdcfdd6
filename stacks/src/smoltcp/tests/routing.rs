//! A stack as a router, and what it says about packets it cannot deliver.

use umvu_abi::{
    Errno,
    net::{DatagramSocket, SendControl, Socket},
};

use super::{Lab, NONE, addr};

#[test]
fn an_expired_packet_is_reported_to_its_sender() {
    let lab = Lab::new(true);
    lab.gateway();
    let client = lab.datagram(0, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let one = 1i32.to_ne_bytes();
    client.set_option(libc::SOL_IP, libc::IP_RECVERR, &one).expect("known");
    let short = SendControl { ttl: Some(1), ..NONE };
    client.send(b"probe", Some(&addr("192.168.1.1:33434")), &short).expect("sent");
    lab.run();
    let error = client.receive_error().expect("queued");
    assert_eq!((error.errno, error.icmp_type), (Errno::EHOSTUNREACH, 11));
    assert_eq!(error.offender, addr("10.0.0.2:0"));
    assert_eq!(error.data, b"probe");
    client.take_error();
    client.send(b"probe", Some(&addr("192.168.1.1:33434")), &NONE).expect("sent");
    lab.run();
    let error = client.receive_error().expect("queued");
    assert_eq!((error.errno, error.icmp_type, error.icmp_code), (Errno::ENETUNREACH, 3, 0));
}

#[test]
fn a_narrow_path_is_found_and_respected() {
    let lab = Lab::new(false);
    let (client, server) = super::connected(&lab, libc::AF_INET, "10.0.0.2:80");
    let data = vec![5; 50_000];
    let mut left = data.as_slice();
    let mut got = Vec::new();
    for round in 0..100 {
        umvu_abi::net::StreamSocket::transmit(&client, &mut |room| {
            let count = room.len().min(left.len());
            room[..count].copy_from_slice(&left[..count]);
            left = &left[count..];
            Ok(count)
        })
        .expect("open");
        if round == 0 {
            // A router in between says that 1000 bytes are the most.
            lab.narrow(1000);
        }
        lab.pass(300);
        server
            .receive(&mut |bytes| {
                got.extend_from_slice(bytes);
                Ok(bytes.len())
            })
            .expect("open");
        if got.len() == data.len() {
            break;
        }
    }
    assert!(got == data, "{} bytes", got.len());
    assert!(lab.longest() <= 1014, "{} bytes", lab.longest());
}
