//! `tap://`: a tap interface of the kernel, `/dev/net/tun`.
//!
//! The one file with an ioctl: `TUNSETIFF` names the interface. See
//! `Documentation/networking/tuntap.rst` of the kernel.
#![expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    sync::Arc,
};

use nix::errno::Errno;

use crate::{
    batch,
    error::OpenError,
    frame::{Frame, MAX_FRAME, is_wire_length},
    transport::{Drops, Transport, Waker},
    vnl::Vnl,
};

const DEVICE: &str = "/dev/net/tun";

/// Opens `tap://name`; without a name the kernel chooses one.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("tap", &[])?;
    let place = vnl.to_string();
    if vnl.path.len() >= libc::IFNAMSIZ {
        let problem = format!("the name of an interface has at most {} bytes", libc::IFNAMSIZ - 1);
        return Err(OpenError::Refused { place, problem, errno: libc::ENAMETOOLONG });
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(OpenError::system_with(&place, &format!("opening {DEVICE}"), device_remedy))?;
    attach(&device, &vnl.path).map_err(OpenError::system_with(
        &place,
        "attaching the interface",
        attach_remedy,
    ))?;
    Ok(plug(device))
}

/// Makes a plug of a device that is attached to its interface.
pub(crate) fn plug(device: File) -> Arc<dyn Transport> {
    Arc::new(Tap { device, drops: Drops::default() })
}

fn device_remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EACCES | libc::EPERM => Some("no permission for /dev/net/tun; ask for access to it"),
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Some("load the tun module of the kernel"),
        _ => None,
    }
}

fn attach_remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EPERM | libc::EACCES => {
            Some("have root run `ip tuntap add NAME mode tap user USER`, or use a user namespace")
        }
        libc::EBUSY => Some("another program has the interface open"),
        libc::EINVAL => Some("an interface of that name exists and is no tap"),
        _ => None,
    }
}

/// Makes `device` the interface `name`, which must be shorter than `IFNAMSIZ`.
pub(crate) fn attach(device: &File, name: &str) -> nix::Result<()> {
    let mut interface = [0; libc::IFNAMSIZ];
    for (to, from) in interface.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    let mut request = libc::ifreq {
        ifr_name: interface,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: i16::try_from(flags).map_err(|_| Errno::EINVAL)?,
        },
    };
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call and ends its name
    // with a zero byte; the descriptor is open for the whole call.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
        .map(drop)
}

/// Returns the name of the interface that `device` is.
pub(crate) fn name_of(device: &File) -> nix::Result<String> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // SAFETY: TUNGETIFF writes one `ifreq`, which outlives the call; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let name = request.ifr_name.map(|c| c.to_ne_bytes()[0]);
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

#[derive(Debug)]
struct Tap {
    device: File,
    drops: Drops,
}

impl Transport for Tap {
    fn send(&self, frames: &mut Vec<Frame>) {
        for packet in batch::wire_ready(frames, &self.drops) {
            // The kernel refuses while the interface is down or its queue is full.
            if (&self.device).write(&packet).is_err() {
                self.drops.add(1);
            }
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        let mut buffer = [0; MAX_FRAME + 1];
        let mut count = 0;
        while count < budget {
            match (&self.device).read(&mut buffer) {
                Ok(length) if is_wire_length(length) => {
                    into.push_back(Frame::from(buffer[..length].to_vec()));
                    count += 1;
                }
                Ok(_) => self.drops.add(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The interface was deleted; what was read comes first.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.device.as_fd())
    }

    fn set_waker(&self, _waker: Waker) {}

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_names_are_refused_before_the_kernel_cuts_them() {
        let error = crate::open("tap://sixteen-bytes-xx", "test").expect_err("too long");
        assert_eq!(error.errno(), libc::ENAMETOOLONG);
    }
}
