//! `seqpacket://`: a cable that is a `SOCK_SEQPACKET` socket, one message a frame.
//!
//! `seqpacket://FD` is a socket that was inherited from the program that started this one;
//! `seqpacket://PATH` connects to one that listens at a path, and again when the other end went
//! away. An inherited socket cannot be had again: without its other end the plug is dead.
#![expect(unsafe_code, reason = "the number of a descriptor comes from the locator")]

use std::{
    collections::VecDeque,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::FdFlag,
    sys::socket::{
        AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getpeername, getsockopt,
        shutdown, socket, sockopt,
    },
};

use crate::{
    batch,
    error::OpenError,
    frame::Frame,
    outlet::Outlet,
    reconnect::{Desk, Dial, Link, Lost, Plug, Progress},
    transport::{Drops, Transport},
    vde::absolute,
    vnl::Vnl,
};

/// Opens `seqpacket://FD` or `seqpacket://path`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("seqpacket", &[])?;
    let place = vnl.to_string();
    let far_end = match vnl.path.parse::<u16>() {
        _ if vnl.path.is_empty() => {
            let problem = "needs the number of an inherited socket, or the path of one".to_owned();
            return Err(OpenError::Refused { place, problem, errno: libc::EINVAL });
        }
        Ok(number) => FarEnd::Inherited(number.into()),
        Err(_) => FarEnd::Listening(absolute(&vnl.path)),
    };
    let plug = Plug::open(&place, Socket { place: place.clone(), far_end })?;
    Ok(Arc::new(plug))
}

/// Where the cable comes from.
#[derive(Debug)]
struct Socket {
    place: String,
    far_end: FarEnd,
}

#[derive(Debug)]
enum FarEnd {
    Inherited(RawFd),
    Listening(PathBuf),
}

impl Dial for Socket {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let place = &self.place;
        let socket = match &self.far_end {
            FarEnd::Inherited(number) => inherited(*number).map_err(|errno| {
                let problem = format!("{number} is no connected SOCK_SEQPACKET that was inherited");
                OpenError::Refused { place: place.clone(), problem, errno: errno as i32 }
            }),
            FarEnd::Listening(path) => call(path).map_err(OpenError::system_with(
                place,
                "connecting to the socket",
                |errno| match errno {
                    libc::ENOENT | libc::ECONNREFUSED => {
                        Some("start the program that listens there")
                    }
                    libc::EPROTOTYPE => Some("the socket there is not a SOCK_SEQPACKET"),
                    _ => None,
                },
            )),
        };
        let outlet = Outlet::new(socket?, Arc::clone(&desk.epoll), 0)
            .map_err(OpenError::system(place, "watching the socket"))?;
        Ok(Progress::Connected(Box::new(Cable(outlet))))
    }

    fn can_redial(&self) -> bool {
        matches!(self.far_end, FarEnd::Listening(_))
    }
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

fn call(path: &Path) -> nix::Result<OwnedFd> {
    // Only the call itself must not wait; sending and receiving never does.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// One end of a connected socket.
#[derive(Debug)]
struct Cable(Outlet);

impl Link for Cable {
    fn send(&self, frames: &mut Vec<Frame>, drops: &Drops) {
        self.0.send(batch::wire_ready(frames, drops), drops);
    }

    fn receive(
        &self,
        into: &mut VecDeque<Frame>,
        budget: usize,
        drops: &Drops,
    ) -> Result<usize, Lost> {
        // An error means that the other end is gone, as the check will find.
        Ok(self.0.receive(into, budget, drops).unwrap_or(0))
    }

    fn backlog(&self) -> usize {
        self.0.backlog()
    }

    fn check(&self, _now: Instant) -> Result<(), Lost> {
        if self.0.has_hung_up() { Err("the other end is gone".into()) } else { Ok(()) }
    }
}

impl Drop for Cable {
    /// Tells the other end, which an inherited descriptor would otherwise keep from noticing.
    fn drop(&mut self) {
        let _ = shutdown(self.0.socket().as_raw_fd(), Shutdown::Both);
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
        // First the loss of the carrier, then the error.
        assert_eq!(plug.receive(&mut frames, 9).ok(), Some(0));
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
