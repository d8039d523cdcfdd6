//! The virtual `/dev/fuse`: each open makes a pair of sockets, of which the program gets one.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt::SndBuf},
        stat::fstat,
    },
};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Caller, Data, Device, DeviceKind, GuestFile, Handle, Looks, Opened},
};

/// What a socket holds: as much as its user may ask for.
const ROOM: usize = 4 << 20;

/// Our ends of the devices that are open and not mounted yet, by the number of the program's end.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: Mutex<HashMap<u64, OwnedFd>>,
}

fn failed(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

impl Channels {
    /// A new device for a program. Errors: `EMFILE`, `ENFILE`.
    fn make(&self, flags: i32) -> Result<OwnedFd, Errno> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).map_err(failed)?;
        for end in [&ours, &theirs] {
            setsockopt(end, SndBuf, &ROOM).map_err(failed)?;
        }
        if flags & libc::O_NONBLOCK != 0 {
            fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        }
        let number = fstat(&theirs).map_err(failed)?.st_ino;
        let mut open = self.open.lock();
        open.retain(|_, ours| !is_left(ours));
        open.insert(number, ours);
        Ok(theirs)
    }

    /// Our end of a device. Errors: `EINVAL` for what is none, or is mounted already.
    pub(super) fn take(&self, device: &dyn GuestFile) -> Result<OwnedFd, Errno> {
        self.open.lock().remove(&device.inode()).ok_or(Errno::EINVAL)
    }
}

/// Whether the program has closed its end.
fn is_left(ours: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(ours.as_fd(), PollFlags::empty())];
    let _ = poll(&mut ready, PollTimeout::ZERO);
    ready[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP))
}

/// The device.
#[derive(Debug)]
pub(super) struct FuseDevice {
    pub(super) channels: Arc<Channels>,
}

impl Device for FuseDevice {
    fn looks(&self, sub: u32) -> Option<Looks> {
        let rdev = libc::makedev(10, 229);
        let kind = DeviceKind::Character;
        (sub == 0).then_some(Looks { kind, mode: 0o666, uid: 0, gid: 0, rdev, size: 0 })
    }

    fn serve(&self, _: &Caller, _: u32, flags: i32) -> Result<Option<Opened>, Errno> {
        let channel = self.channels.make(flags)?;
        Ok(Some(Opened { handle: Handle(0), data: Data::Host(channel) }))
    }
}
