//! Two plugs of one switch exchange a frame: `cargo run -p vdeplug --example two_plugs [VNL]`.
//!
//! With a locator such as `vxvde://` or `/tmp/vde.ctl` the frame goes through that network.

use std::{collections::VecDeque, io::Write, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vnl = std::env::args().nth(1).unwrap_or_else(|| "switch://".to_owned());
    let left = vdeplug::open(&vnl, "left")?;
    let right = vdeplug::open(&vnl, "right")?;

    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend(b"hello, Ethernet");
    frame.resize(60, 0);
    left.send(&mut vec![frame.into()]);

    if let Some(descriptor) = right.poll_fd() {
        let timeout = PollTimeout::try_from(Duration::from_secs(1))?;
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout)?;
    }
    let mut received = VecDeque::new();
    right.receive(&mut received, 1)?;
    for frame in received {
        let text = String::from_utf8_lossy(&frame.bytes[14..29]).into_owned();
        writeln!(std::io::stdout(), "{} bytes: {text}", frame.bytes.len())?;
    }
    Ok(())
}
