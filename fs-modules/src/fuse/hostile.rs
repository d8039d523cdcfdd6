//! A program that answers with bytes from anywhere: nothing may panic, and nobody may wait for ever.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    thread,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair,
    sockopt::SndBuf,
};
use umvu_abi::{
    Errno,
    files::{Caller, Changes, FileSystem, GuestFile, Handle, Node, Seek, SetTime},
    patience,
};

use super::{
    files::FuseFiles,
    options::{Given, Permissions, Users},
    session::{Session, Who},
    wire::{Body, IN_HEADER, Opcode, Reader},
};

/// A device that nobody looks after.
#[derive(Debug)]
struct Unwatched;

impl GuestFile for Unwatched {
    fn inode(&self) -> u64 {
        1
    }

    fn is_open(&self) -> bool {
        false
    }

    fn revoke(&self, _: Arc<OwnedFd>) {}
}

/// Takes pieces of a length that the bytes themselves say.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?) * 2;
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// Answers INIT, then every request by what comes next; ends with the bytes.
fn program(socket: &OwnedFd, bytes: &[u8]) {
    let mut source = Source(bytes);
    let mut request = vec![0; 256 << 10];
    while let Ok(length @ 1..) = recv(socket.as_raw_fd(), &mut request, MsgFlags::empty()) {
        let mut reader = Reader(&request[..length]);
        let Ok([_, opcode]) = reader.u32().and_then(|one| Ok([one, reader.u32()?])) else { return };
        let unique = reader.u64().unwrap_or(0);
        if opcode == Opcode::Init.number() {
            let body = Body::new().u32(7).u32(38).u32(0).u32(u32::MAX).u32(0).u32(1 << 17);
            reply(socket, (16 + 64, 0, unique), &body.bytes(&[0; 40]).0);
            continue;
        }
        let no_reply = [Opcode::Forget, Opcode::BatchForget, Opcode::Interrupt];
        if no_reply.iter().any(|one| one.number() == opcode) || length < IN_HEADER {
            continue;
        }
        let (Some(how), Some(body)) = (source.byte(), source.piece()) else { return };
        let whole = u32::try_from(body.len()).unwrap_or(0) + 16;
        match how {
            // A word of its own, then no answer but the next.
            0..32 => {
                reply(socket, (whole, i32::from(how % 8), 0), body);
                reply(socket, (16, -libc::EIO, unique), &[]);
            }
            32..40 => reply(socket, (whole.wrapping_add(u32::from(how)), 0, unique), body),
            40..48 => reply(socket, (16, -i32::from(how) * 20, unique), &[]),
            48..56 => reply(socket, (16, i32::from(how), unique), &[]),
            56..60 => {
                reply(socket, (whole, 0, unique ^ 0xff00), body);
                let _ =
                    send(socket.as_raw_fd(), &body[..body.len().min(15)], MsgFlags::MSG_NOSIGNAL);
                reply(socket, (16, -libc::ENOSYS, unique), &[]);
            }
            _ => reply(socket, (whole, 0, unique), body),
        }
    }
}

fn reply(socket: &OwnedFd, (length, error, unique): (u32, i32, u64), body: &[u8]) {
    let header = Body::new().u32(length).u32(error.cast_unsigned()).u64(unique);
    let _ = send(socket.as_raw_fd(), &header.bytes(body).0, MsgFlags::MSG_NOSIGNAL);
}

/// All calls of a file system, one after the other.
fn calls(files: &FuseFiles) {
    let caller = Caller { pid: umvu_abi::Pid(1), ..Caller::root() };
    let root = Node::ROOT;
    let found = files.lookup(&caller, root, b"name").map_or(Node(2), |entry| entry.node);
    let _ = files.getattr(&caller, root, None);
    let changes = Changes { mode: Some(0o600), mtime: Some(SetTime::Now), ..Changes::default() };
    let _ = files.setattr(&caller, found, None, &changes);
    let _ = files.readlink(&caller, found);
    let _ = files.mknod(&caller, root, b"node", libc::S_IFREG | 0o600, 0);
    let _ = files.mkdir(&caller, root, b"directory", 0o700);
    let _ = files.symlink(&caller, root, b"link", b"target");
    let _ = files.link(&caller, found, root, b"other");
    let _ = files.rename(&caller, (root, b"name"), (root, b"new"), 0);
    let _ = files.rename(&caller, (root, b"name"), (root, b"new"), libc::RENAME_EXCHANGE);
    let _ = files.unlink(&caller, root, b"new");
    let _ = files.rmdir(&caller, root, b"directory");
    let handle = files.open(&caller, found, libc::O_RDWR).map_or(Handle(1), |open| open.handle);
    let _ = files.create(&caller, root, b"made", 0o600, libc::O_RDWR);
    let mut buffer = vec![0; 300 << 10];
    let _ = files.read(found, handle, 0, &mut buffer);
    let _ = files.write(found, handle, 0, &buffer);
    let _ = files.seek(found, handle, 3, Seek::Hole);
    let _ = files.fallocate(found, handle, 0, 0, 10);
    let _ = files.copy_range((found, handle, 0), (found, handle, 9), 9);
    let _ = files.ioctl(&caller, found, handle, 0x8008_6601, &mut vec![0; 8]);
    let _ = files.poll(found, handle);
    let _ = (files.flush(found, handle), files.fsync(found, handle, true));
    files.release(found, handle);
    if let Ok(handle) = files.opendir(&caller, root) {
        let _ = files.readdir(&caller, root, handle, &mut |entry| {
            assert!(!entry.name.is_empty() && !entry.name.contains(&b'/'), "{entry:?}");
        });
        files.releasedir(root, handle);
    }
    let _ = files.fsyncdir(root, false);
    let _ = (files.statfs(root), files.access(&caller, root, 4));
    let _ = files.getxattr(&caller, found, b"user.name");
    let _ = files.setxattr(&caller, found, b"user.name", b"value", 0);
    let _ = files.listxattr(&caller, found);
    let _ = files.removexattr(&caller, found, b"user.name");
    files.forget(found, 1);
}

fn given() -> Given {
    Given {
        descriptor: 3,
        root_kind: libc::S_IFDIR,
        uid: 0,
        gid: 0,
        users: Users::All,
        permissions: Permissions::ByProgram,
        max_read: None,
        block_size: None,
    }
}

/// Mounts a program that answers with these bytes, and makes all calls. Panics if one panics.
pub fn replies(bytes: &[u8]) {
    let kind = SockType::SeqPacket;
    let Ok((ours, theirs)) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
    else {
        return;
    };
    for end in [&ours, &theirs] {
        let _ = setsockopt(end, SndBuf, &(4 << 20));
    }
    let bytes = bytes.to_vec();
    let program = thread::spawn(move || program(&theirs, &bytes));
    let owner = Who { uid: 0, gid: 0, pid: 0 };
    let session = Session::begin(ours, Arc::new(Unwatched), owner).expect("threads are to be had");
    let files = FuseFiles::new(session, given());
    patience::patiently(|| {
        calls(&files);
        calls(&files);
        files.stop();
    });
    assert_eq!(patience::patiently(|| files.statfs(Node::ROOT)).err(), Some(Errno::ENOTCONN));
    program.join().expect("the program is ours");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_reply_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..8192)) {
            super::replies(&bytes);
        }
    }

    #[test]
    fn a_program_that_says_nothing_ends_all_calls() {
        super::replies(&[]);
    }
}
