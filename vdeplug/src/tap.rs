//! `tap://`: a tap interface of the kernel, `/dev/net/tun`.
//!
//! The one file with ioctls: `TUNSETIFF` names the interface, `TUNGETIFF` tells its name. See
//! `Documentation/networking/tuntap.rst` of the kernel.
//!
//! The carrier is what the host does with its end: up or down. An interface that is deleted is
//! attached to again when it is back; if it was this plug that made it, it is made again.
//!
//! Lock: the name, held while the interface is attached.
#![expect(unsafe_code, reason = "TUNSETIFF and TUNGETIFF have no safe wrappers")]

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    mem,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use nix::{errno::Errno, net::if_::if_nametoindex};
use parking_lot::Mutex;

use crate::{
    batch,
    error::OpenError,
    frame::{Frame, MAX_FRAME, is_wire_length},
    hostnet::{self, Changes},
    reconnect::{Desk, Dial, Link, Lost, Plug, Progress, Watched},
    transport::{Drops, Transport},
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
    let made_by_others = if_nametoindex(vnl.path.as_str()).is_ok();
    let name = Mutex::new(vnl.path.clone());
    let interface = Interface { place: place.clone(), name, made_by_others };
    Ok(Arc::new(Plug::open(&place, interface)?))
}

/// The interface to attach to.
#[derive(Debug)]
struct Interface {
    place: String,
    /// Empty until the kernel has chosen it.
    name: Mutex<String>,
    /// Whoever made it may make it again; then it is not ours to make.
    made_by_others: bool,
}

impl Dial for Interface {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let place = &self.place;
        let mut name = self.name.lock();
        if self.made_by_others && if_nametoindex(name.as_str()).is_err() {
            return Err(OpenError::Absent {
                place: place.clone(),
                problem: "no such interface".to_owned(),
                remedy: format!("ip tuntap add {name} mode tap"),
            });
        }
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(OpenError::system_with(place, &format!("opening {DEVICE}"), device_remedy))?;
        attach(&device, &name).map_err(OpenError::system_with(
            place,
            "attaching the interface",
            attach_remedy,
        ))?;
        let tap = Tap::new(device, desk)
            .map_err(OpenError::system(place, "watching the interfaces of this host"))?;
        *name = name_of(&tap.device)
            .map_err(OpenError::system(place, "reading the interface's name"))?;
        Ok(Progress::Connected(Box::new(tap)))
    }
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

/// Returns the name of the interface that `device` is attached to.
///
/// # Errors
/// `EBADFD`: it was deleted.
pub(crate) fn name_of(device: &File) -> nix::Result<String> {
    // SAFETY: all-zero bytes are a valid `ifreq`: numbers and arrays of numbers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, which outlives the call; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let bytes = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// An interface that we hold the other end of.
#[derive(Debug)]
pub(crate) struct Tap {
    device: Watched<File>,
    changes: Watched<Changes>,
    /// Whether the host has its end up, as the carrier of a cable tells.
    up: AtomicBool,
}

impl Tap {
    /// Takes over a device that is attached to its interface.
    pub(crate) fn new(device: File, desk: &Desk) -> nix::Result<Self> {
        let changes = Watched::new(Changes::watch()?, &desk.epoll)?;
        let device = Watched::new(device, &desk.epoll)?;
        let tap = Self { device, changes, up: AtomicBool::new(false) };
        tap.look().map(|()| tap)
    }

    /// Notes whether the interface is up.
    fn look(&self) -> nix::Result<()> {
        let name = name_of(&self.device)?;
        // The interface of a device may be in another namespace, where nobody can tell.
        let up = hostnet::is_up(&name)?.unwrap_or(true);
        self.up.store(up, Ordering::SeqCst);
        Ok(())
    }
}

impl Link for Tap {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        for packet in batch::wire_ready(frames, drops) {
            // The kernel refuses while the interface is down or its queue is full.
            if (&*self.device).write(&packet).is_err() {
                drops.add(1);
            }
        }
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        let mut buffer = [0; MAX_FRAME + 1];
        let mut count = 0;
        while count < budget {
            match (&*self.device).read(&mut buffer) {
                Ok(length) if is_wire_length(length) => {
                    into.push_back(Frame::from(buffer[..length].to_vec()));
                    count += 1;
                }
                Ok(_) => drops.add(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The interface was deleted; what was read comes first.
                Err(_) if count > 0 => break,
                Err(_) => return Err("the interface was deleted".into()),
            }
        }
        Ok(count)
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        if !self.changes.take() {
            return Ok(());
        }
        self.look().map_err(|_| "the interface was deleted".into())
    }

    fn carrier(&self) -> bool {
        self.up.load(Ordering::SeqCst)
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
