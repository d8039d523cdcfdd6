//! `vudevtap`: `/dev/net/tun` of the view. Each open is a socket of its own, whose other end becomes an
//! interface of a stack with `TUNSETIFF`: packets pass without this module. The requests are those of
//! `Documentation/networking/tuntap.rst` of the kernel, the errors those of its `drivers/net/tun.c`.

use std::{
    collections::HashMap,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt},
};
use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Caller, Data, Device, Handle, Looks, Opened, Outside, Takes},
    net::NetStack,
    tunnel::{PacketInfo, Tunnel, TunnelChange, TunnelKind, TunnelSpec},
};

use super::identity::Identity;

const DEVICE: &[u8] = b"/dev/net/tun";
const TUNSETNOCSUM: u32 = 0x4004_54c8;
const TUNSETDEBUG: u32 = 0x4004_54c9;
const TUNSETIFF: u32 = 0x4004_54ca;
const TUNSETPERSIST: u32 = 0x4004_54cb;
const TUNSETOWNER: u32 = 0x4004_54cc;
const TUNSETGROUP: u32 = 0x4004_54ce;
const TUNGETFEATURES: u32 = 0x8004_54cf;
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const TUNGETIFF: u32 = 0x8004_54d2;
const TUNGETSNDBUF: u32 = 0x8004_54d3;
const TUNSETSNDBUF: u32 = 0x4004_54d4;
const TUNSETCARRIER: u32 = 0x4004_54e2;
const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_PERSIST: u16 = 0x0800;
const IFF_NO_PI: u16 = 0x1000;
const IFF_ONE_QUEUE: u16 = 0x2000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_TUN_EXCL: u16 = 0x8000;
/// What there is; the rest of the kernel's is refused.
const FEATURES: u16 = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_ONE_QUEUE;
/// `struct ifreq`: the name, then the flags.
const IFREQ: usize = 40;
const NAME: usize = 16;
/// How many bytes may wait for the stack in the kernel.
const ROOM: usize = 4 << 20;
/// What `TUNGETSNDBUF` tells until it is set.
const ENDLESS: i32 = i32::MAX;

/// One open of the device.
enum State {
    /// It has no interface: the stack's end of it, and the stack it is for.
    Fresh(OwnedFd, Arc<dyn NetStack>),
    Attached {
        tunnel: Arc<dyn Tunnel>,
        flags: u16,
        send_buffer: i32,
    },
}

impl State {
    /// Whether a program has it open.
    fn is_open(&self) -> bool {
        match self {
            Self::Fresh(end, _) => {
                let mut fds = [PollFd::new(end.as_fd(), PollFlags::empty())];
                let _ = poll(&mut fds, PollTimeout::ZERO);
                !fds[0].revents().is_some_and(|found| found.intersects(PollFlags::POLLHUP))
            }
            Self::Attached { tunnel, .. } => tunnel.look().is_ok(),
        }
    }
}

/// Which stack interfaces are made in.
#[derive(Debug)]
pub(super) enum Stack {
    /// That of who opens the device; it is the kernel's device where that is the kernel's.
    Own(Arc<dyn Outside>),
    /// This one.
    Given(Arc<dyn NetStack>),
}

/// The device.
pub(super) struct Tap {
    identity: Identity,
    stack: Stack,
    opened: Mutex<(u64, HashMap<Handle, State>)>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Tap {
    pub(super) fn new(identity: Identity, stack: Stack) -> Self {
        Self { identity, stack, opened: Mutex::default() }
    }

    fn attach(&self, handle: Handle, argument: &mut Vec<u8>) -> Result<(), Errno> {
        let mut opened = self.opened.lock();
        let (end, stack) = match opened.1.get(&handle) {
            Some(State::Fresh(end, stack)) => (end.try_clone()?, Arc::clone(stack)),
            Some(State::Attached { .. }) => return Err(Errno::EEXIST),
            None => return Err(Errno::EBADFD),
        };
        let (spec, flags) = specification(argument)?;
        let tunnel = stack.attach_tunnel(&spec, end)?;
        let (name, _) = tunnel.look()?;
        write_name(argument, &name);
        opened.1.insert(handle, State::Attached { tunnel, flags, send_buffer: ENDLESS });
        Ok(())
    }

    /// Answers for an open that has an interface.
    fn control(&self, handle: Handle, request: u32, argument: &mut Vec<u8>) -> Result<(), Errno> {
        let mut opened = self.opened.lock();
        let Some(State::Attached { tunnel, flags, send_buffer }) = opened.1.get_mut(&handle) else {
            return Err(Errno::EBADFD);
        };
        let (name, persistent) = tunnel.look()?;
        let int = argument.first_chunk().map_or(0, |int| i32::from_ne_bytes(*int));
        let value = int.cast_unsigned();
        let id = (value != u32::MAX).then_some(value);
        match request {
            TUNGETIFF => {
                write_name(argument, &name);
                let persistent = if persistent { IFF_PERSIST } else { 0 };
                put_flags(argument, *flags | persistent);
            }
            TUNSETNOCSUM | TUNSETDEBUG => {}
            // Nothing is left to the other end but what this says.
            TUNSETOFFLOAD if value == 0 => {}
            TUNSETPERSIST => tunnel.change(TunnelChange::Persistent(value != 0))?,
            TUNSETOWNER => tunnel.change(TunnelChange::Owner(id))?,
            TUNSETGROUP => tunnel.change(TunnelChange::Group(id))?,
            TUNSETCARRIER => tunnel.change(TunnelChange::Carrier(int != 0))?,
            TUNGETSNDBUF => *argument = send_buffer.to_ne_bytes().to_vec(),
            TUNSETSNDBUF if int > 0 => *send_buffer = int,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

impl Device for Tap {
    fn looks(&self, sub: u32) -> Option<Looks> {
        (sub == 0).then(|| self.identity.looks(0, 0))
    }

    fn serve(&self, caller: &Caller, _: u32, flags: i32) -> Result<Option<Opened>, Errno> {
        let stack = match &self.stack {
            Stack::Given(stack) => Some(Arc::clone(stack)),
            Stack::Own(outside) => outside.stack_of(caller),
        };
        let Some(stack) = stack else {
            let data = Data::HostPath(DEVICE.to_vec());
            return Ok(Some(Opened { handle: Handle(0), data }));
        };
        let flag = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flag)
            .map_err(|errno| Errno(errno as i32))?;
        // As much as the host gives.
        let _ = setsockopt(&theirs, sockopt::SndBuf, &ROOM);
        let status = OFlag::from_bits_truncate(flags) & OFlag::O_NONBLOCK;
        fcntl(&theirs, FcntlArg::F_SETFL(status)).map_err(|errno| Errno(errno as i32))?;
        let mut opened = self.opened.lock();
        opened.1.retain(|_, state| state.is_open());
        opened.0 += 1;
        let handle = Handle(opened.0);
        opened.1.insert(handle, State::Fresh(ours, stack));
        Ok(Some(Opened { handle, data: Data::HostDressed(theirs) }))
    }

    fn takes(&self, _: u32, request: u32) -> Takes {
        match request {
            TUNSETIFF | TUNGETIFF => Takes::Bytes(IFREQ),
            TUNSETNOCSUM | TUNSETDEBUG | TUNSETPERSIST | TUNSETOWNER | TUNSETGROUP
            | TUNSETOFFLOAD => Takes::Value,
            _ => Takes::AsItSays,
        }
    }

    fn ioctl(
        &self,
        _: &Caller,
        _: u32,
        handle: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        match request {
            TUNGETFEATURES => *argument = u32::from(FEATURES).to_ne_bytes().to_vec(),
            TUNSETIFF => self.attach(handle, argument)?,
            request if request >> 8 & 0xff == u32::from(b'T') => {
                self.control(handle, request, argument)?;
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

/// What `TUNSETIFF` asks for, and the flags of it that are told again. Errors: `EINVAL`.
fn specification(argument: &[u8]) -> Result<(TunnelSpec, u16), Errno> {
    let (name, rest) = argument.split_at_checked(NAME).ok_or(Errno::EINVAL)?;
    let flags = rest.first_chunk().map_or(0, |flags| u16::from_ne_bytes(*flags));
    if flags & (IFF_MULTI_QUEUE | IFF_VNET_HDR) != 0 {
        return Err(Errno::EINVAL);
    }
    // As the kernel, which looks for the one first.
    let kind = match (flags & IFF_TUN, flags & IFF_TAP) {
        (IFF_TUN, _) => TunnelKind::Tun,
        (_, IFF_TAP) => TunnelKind::Tap,
        _ => return Err(Errno::EINVAL),
    };
    // As long as a name may be, with its end.
    let name = name[..NAME - 1].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| Errno::EINVAL)?.to_owned();
    let info = if flags & IFF_NO_PI == 0 { PacketInfo::Present } else { PacketInfo::Absent };
    let exclusive = flags & IFF_TUN_EXCL != 0;
    Ok((TunnelSpec { name, kind, info, exclusive }, flags & FEATURES))
}

fn write_name(argument: &mut Vec<u8>, name: &str) {
    argument.resize(IFREQ, 0);
    argument[..NAME].fill(0);
    argument.iter_mut().zip(name.bytes()).for_each(|(room, byte)| *room = byte);
}

fn put_flags(argument: &mut [u8], flags: u16) {
    argument[NAME..NAME + 2].copy_from_slice(&flags.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, flags: u16) -> Vec<u8> {
        let mut argument = Vec::new();
        write_name(&mut argument, name);
        put_flags(&mut argument, flags);
        argument
    }

    #[test]
    fn flags_say_what_is_wanted() {
        let (spec, told) = specification(&request("tun%d", IFF_TUN | IFF_NO_PI)).expect("right");
        assert_eq!((spec.name.as_str(), spec.kind), ("tun%d", TunnelKind::Tun));
        assert_eq!((spec.info, told), (PacketInfo::Absent, IFF_TUN | IFF_NO_PI));
        let (spec, _) = specification(&request("", IFF_TAP | IFF_TUN_EXCL)).expect("right");
        assert_eq!((spec.kind, spec.info), (TunnelKind::Tap, PacketInfo::Present));
        assert!(spec.exclusive);
        for wrong in [0, IFF_NO_PI, IFF_TUN | IFF_VNET_HDR, IFF_TAP | IFF_MULTI_QUEUE] {
            assert_eq!(specification(&request("x", wrong)), Err(Errno::EINVAL));
        }
        assert_eq!(specification(&[0; 8]), Err(Errno::EINVAL));
    }
}
