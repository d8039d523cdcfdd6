//! Data to and from a socket of a plugin, by whichever functions it has.
//!
//! libioth goes from the special function to the more general one (`read`, `recv`, `recvfrom`,
//! `recvmsg`, and likewise for sending). Here `MSG_DONTWAIT` comes first, so `recv` and those behind
//! it are preferred to `read`.
#![expect(unsafe_code, reason = "calls functions of a plugin")]

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use libc::{iovec, msghdr};
use umvu_abi::{Errno, SockAddr};

use super::plugin::{Aligned, NAME, Plugin, PluginFd, decode, encode, length_of};

/// Room for control messages.
const CONTROL: usize = 512;

/// A received message: its length, and how much there is of its source and control messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// How many bytes of the buffer are filled.
    pub(crate) length: usize,
    /// Who sent it, if the plugin says.
    pub(crate) source: Option<SockAddr>,
    /// Its control messages, as cmsg(3) lays them out.
    pub(crate) control: Vec<u8>,
}

impl Plugin {
    /// Receives bytes of a stream; 0 is the end. Errors: `EAGAIN` when there is nothing.
    pub(crate) fn receive(&self, fd: PluginFd, room: &mut [u8]) -> Result<usize, Errno> {
        let table = &self.functions;
        let (data, length) = (room.as_mut_ptr().cast::<c_void>(), room.len());
        self.library().clear_errno();
        let count = if let Some(recv) = table.recv {
            // SAFETY: the buffer has the length that is said.
            unsafe { recv(fd, data, length, libc::MSG_DONTWAIT) }
        } else if table.recvfrom.is_some() || table.recvmsg.is_some() {
            return self.receive_message(fd, room, 0).map(|message| message.length);
        } else {
            return self.read(fd, room);
        };
        self.count(count, length)
    }

    /// read(2), on a socket that does not block.
    fn read(&self, fd: PluginFd, room: &mut [u8]) -> Result<usize, Errno> {
        let length = room.len();
        let count = if let Some(read) = self.functions.read {
            // SAFETY: the buffer has the length that is said.
            unsafe { read(fd, room.as_mut_ptr().cast(), length) }
        } else {
            let readv = self.functions.readv.ok_or(Errno::ENOSYS)?;
            let part = part(room.as_mut_ptr(), length);
            // SAFETY: one part, whose buffer has the length that it says.
            unsafe { readv(fd, &raw const part, 1) }
        };
        self.count(count, length)
    }

    /// Receives one message and up to `control` bytes of control messages. Errors: `EAGAIN` when
    /// there is nothing.
    pub(crate) fn receive_message(
        &self,
        fd: PluginFd,
        room: &mut [u8],
        control: usize,
    ) -> Result<Message, Errno> {
        let table = &self.functions;
        let mut name = Aligned([0; NAME]);
        let mut space = Aligned([0; CONTROL]);
        self.library().clear_errno();
        if let Some(recvmsg) = table.recvmsg {
            let mut part = part(room.as_mut_ptr(), room.len());
            let mut message = header(&raw mut part);
            message.msg_name = name.0.as_mut_ptr().cast();
            message.msg_namelen = length_of(NAME);
            if control > 0 {
                message.msg_control = space.0.as_mut_ptr().cast();
                message.msg_controllen = control.min(space.0.len());
            }
            // SAFETY: all that the message refers to is a local buffer of the length it says.
            let count = unsafe { recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
            let length = self.count(count, room.len())?;
            let filled = space.0.len().min(message.msg_controllen).min(control);
            return Ok(Message {
                length,
                source: decode(&name, message.msg_namelen),
                control: space.0[..filled].to_vec(),
            });
        }
        let Some(recvfrom) = table.recvfrom else {
            let length =
                if table.recv.is_some() { self.receive(fd, room)? } else { self.read(fd, room)? };
            return Ok(Message { length, source: None, control: Vec::new() });
        };
        let mut length = length_of(NAME);
        let (data, from) = (room.as_mut_ptr().cast(), name.0.as_mut_ptr().cast());
        // SAFETY: both buffers have the lengths that are said, and outlive the call.
        let count =
            unsafe { recvfrom(fd, data, room.len(), libc::MSG_DONTWAIT, from, &raw mut length) };
        let count = self.count(count, room.len())?;
        Ok(Message { length: count, source: decode(&name, length), control: Vec::new() })
    }

    /// Sends bytes of a stream. Errors: `EAGAIN` when there is no room.
    pub(crate) fn send(&self, fd: PluginFd, data: &[u8]) -> Result<usize, Errno> {
        const FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let table = &self.functions;
        let (start, length) = (data.as_ptr().cast::<c_void>(), data.len());
        self.library().clear_errno();
        let count = if let Some(send) = table.send {
            // SAFETY: the data has the length that is said.
            unsafe { send(fd, start, length, FLAGS) }
        } else if let Some(sendto) = table.sendto {
            // SAFETY: as above, and no address.
            unsafe { sendto(fd, start, length, FLAGS, ptr::null(), 0) }
        } else if table.sendmsg.is_some() {
            return self.send_message(fd, data, None, &[]);
        } else {
            return self.write(fd, data);
        };
        self.count(count, length)
    }

    /// write(2), on a socket that does not block.
    fn write(&self, fd: PluginFd, data: &[u8]) -> Result<usize, Errno> {
        let length = data.len();
        let count = if let Some(write) = self.functions.write {
            // SAFETY: the data has the length that is said.
            unsafe { write(fd, data.as_ptr().cast(), length) }
        } else {
            let writev = self.functions.writev.ok_or(Errno::ENOSYS)?;
            let part = part(data.as_ptr(), length);
            // SAFETY: one part, which is only read and has the length that it says.
            unsafe { writev(fd, &raw const part, 1) }
        };
        self.count(count, length)
    }

    /// Sends one message. Errors: `EAGAIN` when there is no room, `ENOSYS` when the plugin cannot
    /// send to an address.
    pub(crate) fn send_message(
        &self,
        fd: PluginFd,
        data: &[u8],
        to: Option<&SockAddr>,
        control: &[u8],
    ) -> Result<usize, Errno> {
        const FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let table = &self.functions;
        let name = to.map(encode);
        self.library().clear_errno();
        let count = match (table.sendto, table.sendmsg) {
            (_, Some(sendmsg)) if table.sendto.is_none() || !control.is_empty() => {
                let mut part = part(data.as_ptr(), data.len());
                let mut message = header(&raw mut part);
                if let Some((name, length)) = &name {
                    message.msg_name = name.0.as_ptr().cast_mut().cast();
                    message.msg_namelen = *length;
                }
                if !control.is_empty() {
                    message.msg_control = control.as_ptr().cast_mut().cast();
                    message.msg_controllen = control.len();
                }
                // SAFETY: all that the message refers to outlives the call, has the length that it
                // says, and is only read.
                unsafe { sendmsg(fd, &raw const message, FLAGS) }
            }
            (Some(sendto), _) => {
                let (at, length) = match &name {
                    Some((name, length)) => (name.0.as_ptr().cast(), *length),
                    None => (ptr::null(), 0),
                };
                // SAFETY: the data and the address have the lengths that are said.
                unsafe { sendto(fd, data.as_ptr().cast(), data.len(), FLAGS, at, length) }
            }
            _ if to.is_none() && table.send.is_some() => return self.send(fd, data),
            _ if to.is_none() => return self.write(fd, data),
            _ => return Err(Errno::ENOSYS),
        };
        self.count(count, data.len())
    }
}

fn part(data: *const u8, length: usize) -> iovec {
    iovec { iov_base: data.cast_mut().cast(), iov_len: length }
}

/// A message of one part.
fn header(part: *mut iovec) -> msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers and numbers.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}
