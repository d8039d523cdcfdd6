//! [`Program`]: a plug whose other end a program holds, as that of a tun or tap device
//! (`Documentation/networking/tuntap.rst` of the kernel): each message of a `SOCK_SEQPACKET` socket is a
//! packet, with or without `struct tun_pi` in front.
//!
//! Stacks speak Ethernet to it in any case. Where the program has IP packets, the header is taken away
//! here, and one without addresses is put in front of what the program sends.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags},
    socket::{setsockopt, sockopt},
};

use crate::{
    batch,
    frame::Frame,
    outlet::Outlet,
    transport::{Drops, Transport, Waker},
};

/// The length of an Ethernet header, and where it has the EtherType.
const HEADER: usize = 14;
const ETHERTYPE: usize = 12;
/// The length of `struct tun_pi`: flags, and the EtherType in network order.
const INFO: usize = 4;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// How many bytes may wait for the program in the kernel.
const ROOM: usize = 4 << 20;

/// What a program reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// IP packets.
    Packets,
    /// IP packets behind `struct tun_pi`.
    PacketsWithInfo,
    /// Ethernet frames.
    Frames,
    /// Ethernet frames behind `struct tun_pi`.
    FramesWithInfo,
}

/// A plug with a program at the other end. Without it, receiving fails for good.
#[derive(Debug)]
pub struct Program {
    messages: Messages,
    epoll: Arc<Epoll>,
    outlet: Outlet,
    gone: AtomicBool,
    drops: Drops,
}

impl Program {
    /// Takes one end of a pair of sockets. Errors: those of epoll_ctl(2).
    pub fn new(socket: OwnedFd, messages: Messages) -> io::Result<Self> {
        // As much as the host gives.
        let _ = setsockopt(&socket, sockopt::SndBuf, &ROOM);
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let outlet = Outlet::new(socket, Arc::clone(&epoll), 0)?;
        let (gone, drops) = (AtomicBool::new(false), Drops::default());
        Ok(Self { messages, epoll, outlet, gone, drops })
    }
}

impl Transport for Program {
    fn send(&self, frames: &mut Vec<Frame>) {
        let mut packets = Vec::with_capacity(frames.len());
        for frame in frames.drain(..) {
            frame.complete(&mut |bytes| match to_program(self.messages, bytes) {
                Some(message) => packets.push(message),
                None => self.drops.add(1),
            });
        }
        self.outlet.send(packets, &self.drops);
    }

    fn receive(&self, into: &mut VecDeque<Frame>, budget: usize) -> io::Result<usize> {
        self.outlet.flush(&self.drops);
        let (mut count, mut more) = (0, true);
        while more && count < budget {
            let mut ended = true;
            let mut each = |bytes: &[u8], _: Option<()>| {
                ended &= bytes.is_empty();
                match from_program(self.messages, bytes) {
                    Some(frame) => {
                        count += 1;
                        into.push_back(Frame::from(frame));
                    }
                    None => self.drops.add(usize::from(!bytes.is_empty())),
                }
            };
            match batch::receive_long(self.outlet.socket(), budget, &mut each) {
                Ok(received) => more = received.more && !ended,
                Err(_) => more = false,
            }
        }
        if count == 0 && self.outlet.has_hung_up() {
            self.gone.store(true, Ordering::Release);
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "no program has it open"));
        }
        Ok(count)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    // The descriptor tells.
    fn set_waker(&self, _: Waker) {}

    fn carrier(&self) -> bool {
        !self.gone.load(Ordering::Acquire)
    }

    fn backlog(&self) -> usize {
        self.outlet.backlog()
    }

    fn drops(&self) -> u64 {
        self.drops.get()
    }
}

/// What the program gets for a frame; None for one that it cannot have.
fn to_program(messages: Messages, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let ethertype = *frame.get(ETHERTYPE..)?.first_chunk::<2>()?;
    let info = [0, 0, ethertype[0], ethertype[1]];
    match messages {
        Messages::Frames => {}
        Messages::FramesWithInfo => drop(frame.splice(..0, info)),
        Messages::Packets => drop(frame.drain(..HEADER)),
        Messages::PacketsWithInfo => {
            frame[HEADER - INFO..HEADER].copy_from_slice(&info);
            frame.drain(..HEADER - INFO);
        }
    }
    Some(frame)
}

/// The frame that a message is; None for what is no packet.
fn from_program(messages: Messages, message: &[u8]) -> Option<Vec<u8>> {
    let (info, packet) = match messages {
        Messages::Packets | Messages::Frames => (None, message),
        Messages::PacketsWithInfo | Messages::FramesWithInfo => {
            let (info, packet) = message.split_first_chunk::<INFO>()?;
            (Some([info[2], info[3]]), packet)
        }
    };
    if matches!(messages, Messages::Frames | Messages::FramesWithInfo) {
        return (packet.len() >= HEADER).then(|| packet.to_vec());
    }
    let by_version = match packet.first()? >> 4 {
        4 => Some(IPV4.to_be_bytes()),
        6 => Some(IPV6.to_be_bytes()),
        _ => None,
    };
    let ethertype = info.or(by_version)?;
    let mut frame = vec![0; HEADER + packet.len()];
    frame[ETHERTYPE..HEADER].copy_from_slice(&ethertype);
    frame[HEADER..].copy_from_slice(packet);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

    use super::*;

    const FRAME: [u8; 16] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0, 0x45, 9];

    #[test]
    fn a_program_sees_what_it_has_asked_for() {
        let told = |messages| to_program(messages, FRAME.to_vec()).expect("a frame");
        assert_eq!(told(Messages::Frames), FRAME);
        assert_eq!(told(Messages::FramesWithInfo), [&[0, 0, 8, 0][..], &FRAME].concat());
        assert_eq!(told(Messages::Packets), [0x45, 9]);
        assert_eq!(told(Messages::PacketsWithInfo), [0, 0, 8, 0, 0x45, 9]);
        assert_eq!(to_program(Messages::Packets, vec![0; 13]), None);
    }

    #[test]
    fn what_a_program_writes_becomes_a_frame() {
        let bare = [&[0; 12][..], &FRAME[12..]].concat();
        let made = from_program;
        assert_eq!(made(Messages::Frames, &FRAME).as_deref(), Some(&FRAME[..]));
        assert_eq!(made(Messages::Frames, &FRAME[..13]), None);
        assert_eq!(made(Messages::Packets, &[0x45, 9]), Some(bare.clone()));
        assert_eq!(made(Messages::Packets, &[0x25, 9]), None);
        assert_eq!(made(Messages::PacketsWithInfo, &[0, 0, 8, 0, 0x45, 9]), Some(bare));
        assert_eq!(made(Messages::PacketsWithInfo, &[0, 0, 8]), None);
    }

    #[test]
    fn the_plug_is_dead_when_all_is_read_and_nobody_is_left() {
        let pair =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = pair.expect("sockets");
        let plug = Program::new(ours, Messages::Packets).expect("a plug");
        plug.send(&mut vec![Frame::from(FRAME.to_vec())]);
        let mut bytes = [0; 9];
        assert_eq!(recv(theirs.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT), Ok(2));
        let mut frames = VecDeque::new();
        send(theirs.as_raw_fd(), &[], MsgFlags::empty()).expect("a socket");
        assert_eq!(plug.receive(&mut frames, 9).ok(), Some(0));
        send(theirs.as_raw_fd(), &[0x60, 1], MsgFlags::empty()).expect("a socket");
        drop(theirs);
        assert_eq!(plug.receive(&mut frames, 9).ok(), Some(1));
        assert!(plug.carrier());
        assert!(plug.receive(&mut frames, 9).is_err());
        assert!(!plug.carrier());
    }
}
