//! `seqpacket://`: a cable that is a `SOCK_SEQPACKET` socket, one message a frame.
//!
//! `seqpacket://FD` is a socket that was inherited from the program that started this one;
//! `seqpacket://PATH` connects to one that listens at a path. When the other end goes away the
//! plug is dead.
//!
//! Lock: the outlet, which is given up when the other end is gone. The waker is called with no
//! lock held.
#![expect(unsafe_code, reason = "the number of a descriptor comes from the locator")]

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::FdFlag,
    sys::{
        epoll::{Epoll, EpollCreateFlags},
        socket::{
            AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getpeername,
            getsockopt, shutdown, socket, sockopt,
        },
    },
};
use parking_lot::RwLock;

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    transport::{Drops, Transport, Waker, WakerSlot},
    vde::absolute,
    vnl::Vnl,
};

/// Opens `seqpacket://FD` or `seqpacket://path`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("seqpacket", &[])?;
    let place = vnl.to_string();
    let socket = match vnl.path.parse::<u16>() {
        _ if vnl.path.is_empty() => {
            let problem = "needs the number of an inherited socket, or the path of one".to_owned();
            return Err(OpenError::Refused { place, problem, errno: libc::EINVAL });
        }
        Ok(number) => inherited(number.into()).map_err(|errno| OpenError::Refused {
            place: place.clone(),
            problem: format!("{number} is no connected SOCK_SEQPACKET that was inherited"),
            errno: errno as i32,
        })?,
        Err(_) => call(&vnl.path).map_err(OpenError::system_with(
            &place,
            "connecting to the socket",
            |errno| match errno {
                libc::ENOENT | libc::ECONNREFUSED => Some("start the program that listens there"),
                libc::EPROTOTYPE => Some("the socket there is not a SOCK_SEQPACKET"),
                _ => None,
            },
        ))?,
    };
    let watch = || {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let outlet = Outlet::new(socket, Arc::clone(&epoll), 0)?;
        Ok::<_, Errno>((epoll, outlet))
    };
    let (epoll, outlet) = watch().map_err(OpenError::system(&place, "watching the socket"))?;
    Ok(Arc::new(Cable {
        place,
        epoll,
        outlet: RwLock::new(Some(outlet)),
        waker: WakerSlot::default(),
        drops: Drops::default(),
    }))
}

/// Duplicates a socket of this process's first day.
///
/// Descriptors that are closed on exec cannot have been inherited: they are somebody's here.
fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes integers; of a number that is no descriptor it says EBADF.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err(Errno::EPERM);
    }
    // SAFETY: as above.
    let raw = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(Errno::result(raw)?) };
    match getsockopt(&socket, sockopt::SockType)? {
        SockType::SeqPacket => getpeername::<UnixAddr>(socket.as_raw_fd()).map(|_| socket),
        _ => Err(Errno::EPROTOTYPE),
    }
}

fn call(path: &str) -> nix::Result<OwnedFd> {
    // Only the call itself must not wait; sending and receiving never does.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(&absolute(path))?)?;
    Ok(socket)
}

/// A plug that is one end of a socket.
#[derive(Debug)]
struct Cable {
    place: String,
    epoll: Arc<Epoll>,
    /// None: the other end is gone.
    outlet: RwLock<Option<Outlet>>,
    waker: WakerSlot,
    drops: Drops,
}

impl Cable {
    /// Lets go of a socket whose other end is gone; returns whether there is one still.
    fn settle(&self) -> bool {
        let mut outlet = self.outlet.write();
        let before = outlet.is_some();
        *outlet = outlet.take().filter(|outlet| !outlet.has_hung_up());
        let after = outlet.is_some();
        drop(outlet);
        if before != after {
            tracing::info!(place = %self.place, "the other end is gone");
            self.waker.wake();
        }
        after
    }
}

impl Transport for Cable {
    fn send(&self, frames: &mut Vec<Frame>) {
        let packets = batch::wire_ready(frames, &self.drops);
        match &*self.outlet.read() {
            Some(outlet) => outlet.send(packets, &self.drops),
            None => self.drops.add(packets.len()),
        }
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        if let Some(outlet) = &*self.outlet.read() {
            outlet.flush(&self.drops);
            let mut push = |frame| into.push_back(frame);
            let received = batch::receive_frames(outlet.socket(), budget, &self.drops, &mut push);
            // An error means that the other end is gone, as `settle` will find.
            let count = received.unwrap_or(0);
            if count > 0 || budget == 0 {
                return Ok(count);
            }
        }
        if self.settle() {
            return Ok(0);
        }
        let text = format!("{}: the other end is gone", self.place);
        Err(io::Error::new(io::ErrorKind::BrokenPipe, text))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn set_waker(&self, waker: Waker) {
        self.waker.set(waker);
    }

    fn carrier(&self) -> bool {
        self.outlet.read().is_some()
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}

impl Drop for Cable {
    /// Tells the other end, which an inherited descriptor would otherwise keep from noticing.
    fn drop(&mut self) {
        if let Some(outlet) = self.outlet.get_mut() {
            let _ = shutdown(outlet.socket().as_raw_fd(), Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{MsgFlags, recv, send, socketpair};

    use super::*;

    fn pair(flags: SockFlag) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("sockets")
    }

    fn of(socket: &OwnedFd) -> String {
        format!("seqpacket://{}", socket.as_raw_fd())
    }

    #[test]
    fn messages_are_frames_until_the_other_end_goes() {
        let (ours, theirs) = pair(SockFlag::empty());
        let plug = crate::open(&of(&ours), "test").expect("a plug");
        plug.send(&mut vec![Frame::from(vec![7; 60])]);
        let mut bytes = [0; 100];
        assert_eq!(recv(theirs.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT), Ok(60));
        send(theirs.as_raw_fd(), &[8; 70], MsgFlags::empty()).expect("a socket");
        let mut frames = VecDeque::new();
        assert_eq!(plug.receive(&mut frames, 9).ok(), Some(1));
        assert_eq!(frames, [Frame::from(vec![8; 70])]);
        assert_eq!(plug.receive(&mut frames, 9).ok(), Some(0));
        drop(theirs);
        let error = plug.receive(&mut frames, 9).expect_err("nobody is there");
        assert_eq!(error.to_string(), format!("{}: the other end is gone", of(&ours)));
        assert!(!plug.carrier());
        plug.send(&mut vec![Frame::from(vec![7; 60])]);
        assert_eq!(plug.drops(), 1);
    }

    #[test]
    fn the_other_end_notices_when_the_plug_goes() {
        let (ours, theirs) = pair(SockFlag::empty());
        drop(crate::open(&of(&ours), "test").expect("a plug"));
        assert_eq!(recv(theirs.as_raw_fd(), &mut [0; 9], MsgFlags::MSG_DONTWAIT), Ok(0));
    }

    #[test]
    fn only_inherited_cables_are_taken() {
        let (private, _other) = pair(SockFlag::SOCK_CLOEXEC);
        let error = crate::open(&of(&private), "test").expect_err("not inherited");
        let expected = format!(
            "{}: {} is no connected SOCK_SEQPACKET that was inherited",
            of(&private),
            private.as_raw_fd()
        );
        assert_eq!((error.to_string(), error.errno()), (expected, libc::EPERM));
        let error = crate::open("seqpacket://60000", "test").expect_err("no descriptor");
        assert_eq!(error.errno(), libc::EBADF);
        let error = crate::open("seqpacket://", "test").expect_err("no number");
        assert!(error.to_string().contains("needs the number"), "{error}");
        let error = crate::open("seqpacket:///nonexistent", "test").expect_err("no socket");
        assert!(error.to_string().contains("start the program that listens there"), "{error}");
    }
}
