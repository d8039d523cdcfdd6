//! [`Inner`]: the network inside a plugin's locator, when it is one of our own.
//!
//! The C library would open `switch:///tmp/sw` inside of a plugin by itself, as another process
//! does, and could not share the switch that this process has there. So the inner network is opened
//! here, and the plugin is given the end of a socket: `seqpacket://FD`.

use std::{
    collections::VecDeque,
    fs,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
    time::Instant,
};

use nix::{
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt},
        stat::fstat,
    },
    unistd::read,
};

use crate::{
    batch,
    library::pump::{Far, Gone, carry},
    transport::{Drops, Transport},
};

/// Room for bursts; the system may grant less.
const SEND_BUFFER: usize = 1 << 20;

/// Makes the two ends of a cable.
pub(super) fn cable() -> nix::Result<(OwnedFd, OwnedFd)> {
    let ends = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let _ = setsockopt(&ends.0, sockopt::SndBuf, &SEND_BUFFER);
    let _ = setsockopt(&ends.1, sockopt::SndBuf, &SEND_BUFFER);
    Ok(ends)
}

/// A network of ours that a plugin is to use.
#[derive(Debug)]
pub(super) struct Inner(pub(super) Arc<dyn Transport>);

impl Inner {
    /// Joins the network to a new cable, whose other end is returned.
    pub(super) fn lend(&self) -> std::io::Result<Lent> {
        let (ours, theirs) = cable()?;
        let tells = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let teller = Arc::clone(&tells);
        let transport = Arc::clone(&self.0);
        transport.set_waker(Arc::new(move || {
            // Full is as good as written.
            let _ = teller.write(1);
        }));
        let mut inside = Inside { transport, tells };
        thread::Builder::new()
            .name("vde-nested".into())
            .spawn(move || carry(&ours, &mut inside, &Drops::default()))?;
        Ok(Lent { inode: fstat(&theirs)?.st_ino, number: theirs.into_raw_fd() })
    }
}

/// The end of a cable that a plugin gets by its number, and closes.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) number: RawFd,
    inode: u64,
}

impl Lent {
    /// Closes the end if the plugin, which could not be opened, has not done so.
    #[expect(unsafe_code, reason = "the plugin may own the descriptor or not")]
    pub(super) fn take_back(self) {
        let found = fs::metadata(format!("/proc/self/fd/{}", self.number));
        if found.is_ok_and(|status| status.ino() == self.inode) {
            // SAFETY: it is still the end that `lend` made, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(self.number) });
        }
    }
}

/// A network of ours as the far side of a pump.
struct Inside {
    transport: Arc<dyn Transport>,
    tells: Arc<EventFd>,
}

impl Far for Inside {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.transport.poll_fd().into_iter().chain([self.tells.as_fd()]).collect()
    }

    fn due(&mut self, now: Instant) -> Option<Instant> {
        self.transport.tick(now)
    }

    fn send(&mut self, packets: Vec<Vec<u8>>, _drops: &Drops) {
        self.transport.send(&mut packets.into_iter().map(Into::into).collect());
    }

    fn receive(
        &mut self,
        into: &mut VecDeque<Vec<u8>>,
        budget: usize,
        drops: &Drops,
    ) -> Result<bool, Gone> {
        let _ = read(&*self.tells, &mut [0; 8]);
        let mut frames = VecDeque::new();
        let count = self.transport.receive(&mut frames, budget).map_err(|_| Gone)?;
        into.extend(batch::wire_ready(&mut frames.into(), drops));
        Ok(count == budget)
    }
}
