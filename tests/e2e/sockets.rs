//! Sockets as programs see them: the same script on plain Linux and on a stack's loopback.

use crate::harness::{INSIDE, Place, succeed};

#[test]
fn tcp_and_udp_behave_as_on_linux() {
    let script = concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/tests/guests/sockets.py");
    let native = succeed(Place::Native, script);
    for place in INSIDE {
        let inside = format!(
            "vumount -t vunetioth -o null://,ip=10.0.0.1/24 smoltcp /dev/net/a; \
             exec vustack /dev/net/a {script}"
        );
        assert_eq!(succeed(place, &inside), native, "{place:?}");
    }
}
