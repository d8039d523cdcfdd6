//! The hypervisor's side of the helper process: requests and answers, one at a time.

use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use parking_lot::Mutex;
use umvu_abi::{Errno, module::MountError, net::SocketSpec};

use crate::ffi::helper::{self, ANSWER, OPEN, REQUEST, SOCKET, Step, TAP};

/// A helper process in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Helper {
    channel: Mutex<Option<OwnedFd>>,
}

impl Helper {
    /// Starts it.
    pub(crate) fn start() -> Result<Self, MountError> {
        let channel = helper::start()
            .map_err(|errno| MountError::new(errno, format!("vdestack: cannot start: {errno}")))?;
        let (errno, number, _) = receive(&channel).map_err(MountError::from)?;
        if errno != 0 {
            return Err(explain(Step::from_number(number), Errno(errno)));
        }
        tracing::debug!(helper = number, "namespace made");
        Ok(Self { channel: Mutex::new(Some(channel)) })
    }

    /// Makes a tap interface of the namespace.
    pub(crate) fn tap(&self, name: &str) -> Result<OwnedFd, MountError> {
        match self.exchange([TAP, 0, 0, 0], name).map_err(MountError::from)? {
            (0, _, Some(tap)) => Ok(tap),
            (errno, number, _) => Err(explain(Step::from_number(number), Errno(errno))),
        }
    }

    /// Makes a socket in the namespace.
    pub(crate) fn socket(&self, spec: &SocketSpec) -> Result<OwnedFd, Errno> {
        let kind = spec.kind | libc::SOCK_CLOEXEC;
        self.request([SOCKET, spec.domain, kind, spec.protocol], "")
    }

    /// Opens a file as the namespace sees it.
    pub(crate) fn open(&self, path: &str, flags: i32) -> Result<OwnedFd, Errno> {
        self.request([OPEN, flags | libc::O_CLOEXEC, 0, 0], path)
    }

    /// Reads a file as the namespace sees it.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut content = Vec::new();
        File::from(self.open(path, libc::O_RDONLY)?).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Writes a file as the namespace sees it.
    pub(crate) fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        File::from(self.open(path, libc::O_WRONLY)?).write_all(data)?;
        Ok(())
    }

    /// Lets the helper end.
    pub(crate) fn stop(&self) {
        self.channel.lock().take();
    }

    fn request(&self, numbers: [i32; 4], path: &str) -> Result<OwnedFd, Errno> {
        match self.exchange(numbers, path)? {
            (0, _, Some(fd)) => Ok(fd),
            (0, _, None) => Err(Errno::EIO),
            (errno, ..) => Err(Errno(errno)),
        }
    }

    fn exchange(&self, numbers: [i32; 4], path: &str) -> Result<Answer, Errno> {
        let mut request = Vec::with_capacity(16 + path.len() + 1);
        for number in numbers {
            request.extend_from_slice(&number.to_ne_bytes());
        }
        request.extend_from_slice(path.as_bytes());
        request.push(0);
        if request.len() > REQUEST {
            return Err(Errno::ENAMETOOLONG);
        }
        let channel = self.channel.lock();
        let channel = channel.as_ref().ok_or(Errno::ENETDOWN)?;
        send(channel.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL)
            .map_err(|errno| Errno(errno as i32))?;
        receive(channel)
    }
}

/// An error number, a number, a descriptor.
type Answer = (i32, i32, Option<OwnedFd>);

fn receive(channel: &OwnedFd) -> Result<Answer, Errno> {
    let mut body = [0u8; ANSWER];
    let mut control = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut body)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(channel.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other.map_err(|errno| Errno(errno as i32))?,
        }
    };
    if message.bytes < ANSWER {
        return Err(Errno::ENETDOWN);
    }
    let mut received = None;
    for entry in message.cmsgs().map_err(|errno| Errno(errno as i32))? {
        if let ControlMessageOwned::ScmRights(fds) = entry {
            received = fds.first().copied();
        }
    }
    let fd = received.map(crate::ffi::socket::adopt);
    let number =
        |at: usize| i32::from_ne_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    Ok((number(0), number(4), fd))
}

fn explain(step: Option<Step>, errno: Errno) -> MountError {
    let text = match step {
        Some(Step::Namespaces) => format!(
            "vdestack: cannot make a network namespace: {errno} (unprivileged user namespaces \
             must be allowed: sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
        ),
        Some(Step::Device) => {
            let remedy = match errno {
                Errno::EACCES | Errno::EPERM => "ask for access to it: chmod 666 /dev/net/tun",
                _ => "load the module: modprobe tun",
            };
            format!("vdestack: cannot open /dev/net/tun: {errno} ({remedy}, as root)")
        }
        Some(Step::Tap) => format!("vdestack: cannot make the tap interface: {errno}"),
        None => format!("vdestack: the helper failed: {errno}"),
    };
    MountError::new(errno, text)
}
