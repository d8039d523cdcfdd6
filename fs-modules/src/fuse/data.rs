//! Requests about open files and their data.

use std::collections::VecDeque;

use umvu_abi::{
    Errno,
    files::{Caller, Data, Entry, Handle, Node, Opened, Seek},
};

use super::{
    files::{FuseFiles, unless_lacking},
    handles::Open,
    session::{Request, Ticket, release},
    terms::MOST,
    wire::{Body, EntryOut, Opcode, Reader, open_out},
};

/// How many READs and WRITEs are under way at once for one call.
const UNDER_WAY: usize = 3;
/// A file up to this size is read as one piece of data.
const SMALL: u64 = 1 << 20;

const DIRECT_IO: u32 = 1;
const KEEP_CACHE: u32 = 1 << 1;
const NONSEEKABLE: u32 = 1 << 2;
const STREAM: u32 = 1 << 4;

/// The flags that the program gets to know. Offsets are always said, which `O_APPEND` would make
/// nothing of.
fn shown(flags: i32) -> u32 {
    let ours = libc::O_CREAT
        | libc::O_EXCL
        | libc::O_NOCTTY
        | libc::O_TRUNC
        | libc::O_APPEND
        | libc::O_CLOEXEC
        | libc::O_NOFOLLOW;
    (flags & !ours).cast_unsigned()
}

/// Where the data of an open file is, by the program's flags.
fn data(flags: u32) -> Data {
    if flags & (DIRECT_IO | NONSEEKABLE | STREAM) != 0 {
        return Data::Direct;
    }
    Data::Cached { keep: flags & KEEP_CACHE != 0 }
}

impl FuseFiles {
    pub(super) fn open_file(
        &self,
        caller: &Caller,
        node: Node,
        flags: i32,
    ) -> Result<Opened, Errno> {
        let who = self.who(caller)?;
        let kind = self.nodes.last(node.0).map_or(libc::S_IFREG, |known| known.kind());
        if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) {
            // As on Linux, where a user's mounts are `nodev`.
            return Err(Errno::EACCES);
        }
        let flags = shown(flags);
        let may_lack = self.session.terms()?.may_lack_open();
        let body = Body::new().u32(flags).u32(0);
        match self.ask_if_known(Opcode::Open, node.0, who, body) {
            Ok(reply) => {
                let (number, told) = open_out(&mut Reader(&reply))?;
                let handle = self.handles.add(Open { number, flags, is_held: true });
                Ok(Opened { handle, data: data(told) })
            }
            Err(Errno::ENOSYS) if may_lack => {
                let handle = self.handles.add(Open { number: 0, flags, is_held: false });
                Ok(Opened { handle, data: data(KEEP_CACHE) })
            }
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn create_file(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Entry, Opened), Errno> {
        let who = self.who(caller)?;
        let mode = libc::S_IFREG | mode & 0o7777;
        let shown = shown(flags) | libc::O_CREAT.cast_unsigned();
        let body = Body::new().u32(shown).u32(mode).u32(caller.umask).u32(0).name(name);
        let reply = match self.ask_if_known(Opcode::Create, parent.0, who, body) {
            Err(Errno::ENOSYS) => {
                let entry = self.make_node(caller, parent, name, (mode, 0))?;
                let opened = self.open_file(caller, entry.node, flags)?;
                return Ok((entry, opened));
            }
            reply => reply?,
        };
        self.nodes.doubt(parent.0);
        let mut reader = Reader(&reply);
        let entry = EntryOut::read(&mut reader)?.ok_or(Errno::EIO)?;
        let (number, told) = open_out(&mut reader)?;
        let known = if entry.attributes.is_regular() && entry.node != Node::ROOT.0 {
            self.nodes.learn(entry.node, entry.attributes, entry.attributes_valid)
        } else {
            Err(Errno::EIO)
        };
        if let Err(errno) = known {
            let who = self.session.owner();
            self.session.tell(&release(Opcode::Release, entry.node, number, shown, who));
            self.session.forget(entry.node, 1);
            return Err(errno);
        }
        self.nodes.stands(entry.node, parent.0, name);
        let handle = self.handles.add(Open { number, flags: shown, is_held: true });
        let attributes = self.shown(entry.attributes);
        let entry = Entry { node: Node(entry.node), attributes, valid: entry.valid };
        Ok((entry, Opened { handle, data: data(told) }))
    }

    /// Starts a READ.
    fn start_read(
        &self,
        node: Node,
        open: Open,
        offset: u64,
        length: usize,
    ) -> Result<Ticket, Errno> {
        let length = u32::try_from(length).map_err(|_| Errno::EINVAL)?;
        let body = Body::new().u64(open.number).u64(offset).u32(length).u32(0).u64(0);
        let body = body.u32(open.flags).u32(0);
        let who = self.session.owner();
        self.session.start(&Request { opcode: Opcode::Read, node: node.0, who, body })
    }

    /// Reads by several requests at once. Errors: `EIO` for more data than was asked for.
    pub(super) fn read_file(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let open = self.handles.get(handle).ok_or(Errno::EBADF)?;
        let most = self.given.max_read.and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(MOST).clamp(4096, MOST);
        let mut under_way: VecDeque<(Ticket, usize)> = VecDeque::new();
        let (mut asked, mut got) = (0, 0);
        loop {
            while asked < buffer.len() && under_way.len() < UNDER_WAY {
                let length = most.min(buffer.len() - asked);
                let at = offset.checked_add(asked as u64).ok_or(Errno::EINVAL)?;
                under_way.push_back((self.start_read(node, open, at, length)?, length));
                asked += length;
            }
            let Some((ticket, length)) = under_way.pop_front() else { return Ok(got) };
            let data = match ticket.wait() {
                Err(errno) if got == 0 => return Err(errno),
                Err(_) => return Ok(got),
                Ok(data) => data,
            };
            if data.len() > length {
                return Err(Errno::EIO);
            }
            buffer[got..got + data.len()].copy_from_slice(&data);
            got += data.len();
            if data.len() < length {
                return Ok(got);
            }
        }
    }

    /// Writes by several requests at once. Errors: `EIO` when the program says that it wrote more.
    pub(super) fn write_file(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Errno> {
        let open = self.handles.get(handle).ok_or(Errno::EBADF)?;
        let most = self.session.terms()?.max_write;
        let mut pieces = data.chunks(most);
        let mut under_way: VecDeque<(Ticket, usize)> = VecDeque::new();
        let (mut asked, mut wrote) = (0, 0);
        let outcome = loop {
            while under_way.len() < UNDER_WAY
                && let Some(piece) = pieces.next()
            {
                let at = offset.checked_add(asked as u64).ok_or(Errno::EFBIG)?;
                under_way.push_back((self.start_write(node, open, at, piece)?, piece.len()));
                asked += piece.len();
            }
            let Some((ticket, length)) = under_way.pop_front() else { break Ok(wrote) };
            let count = ticket.wait().and_then(|reply| Reader(&reply).u32());
            match count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)) {
                Err(errno) if wrote == 0 => break Err(errno),
                Err(_) => break Ok(wrote),
                Ok(count) if count > length => break Err(Errno::EIO),
                Ok(count) => {
                    wrote += count;
                    if count < length {
                        break Ok(wrote);
                    }
                }
            }
        };
        self.nodes.doubt(node.0);
        outcome
    }

    fn start_write(
        &self,
        node: Node,
        open: Open,
        offset: u64,
        piece: &[u8],
    ) -> Result<Ticket, Errno> {
        let length = u32::try_from(piece.len()).map_err(|_| Errno::EINVAL)?;
        let body = Body::new().u64(open.number).u64(offset).u32(length).u32(0).u64(0);
        let body = body.u32(open.flags).u32(0).bytes(piece);
        let who = self.session.owner();
        self.session.start(&Request { opcode: Opcode::Write, node: node.0, who, body })
    }

    pub(super) fn seek_in(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        what: Seek,
    ) -> Result<u64, Errno> {
        use umvu_abi::files::FileSystem as _;
        let size = self.getattr(&Caller::root(), node, Some(handle))?.size;
        let piece = match what {
            _ if offset >= size => return Err(Errno::ENXIO),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        };
        if size <= SMALL || !self.session.terms()?.has_lseek() {
            return piece;
        }
        let whence = if what == Seek::Data { libc::SEEK_DATA } else { libc::SEEK_HOLE };
        let body = Body::new().u64(self.handles.number(handle)).u64(offset);
        let body = body.u32(whence.cast_unsigned()).u32(0);
        match self.ask_if_known(Opcode::Lseek, node.0, self.session.owner(), body) {
            // Behind where it began, or it would never end.
            Ok(reply) => Reader(&reply).u64().map(|at| at.max(offset)),
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL) => piece,
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn copy(
        &self,
        from: (Node, Handle, u64),
        to: (Node, Handle, u64),
        length: u64,
    ) -> Result<u64, Errno> {
        if !self.session.terms()?.has_copy_file_range() {
            return Err(Errno::EOPNOTSUPP);
        }
        let body = Body::new().u64(self.handles.number(from.1)).u64(from.2).u64(to.0.0);
        let body = body.u64(self.handles.number(to.1)).u64(to.2).u64(length).u64(0);
        let who = self.session.owner();
        let reply = self.ask_if_known(Opcode::CopyFileRange, from.0.0, who, body);
        self.nodes.doubt(to.0.0);
        let copied = u64::from(Reader(&unless_lacking(reply, Errno::EOPNOTSUPP)?).u32()?);
        if copied > length { Err(Errno::EIO) } else { Ok(copied) }
    }

    pub(super) fn control(
        &self,
        caller: &Caller,
        node: Node,
        handle: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        let size = request >> 16 & 0x3fff;
        let (reads, writes) = (request >> 30 & 1 != 0, request >> 31 != 0);
        let input = if reads { argument.as_slice() } else { &[] };
        let sizes = [u32::try_from(input.len()).unwrap_or(0), if writes { size } else { 0 }];
        let body = Body::new().u64(self.handles.number(handle)).u32(0).u32(request).u64(0);
        let body = body.u32(sizes[0]).u32(sizes[1]).bytes(input);
        let reply = self.ask_if_known(Opcode::Ioctl, node.0, self.who(caller)?, body);
        let reply = unless_lacking(reply, Errno::ENOTTY)?;
        let mut reader = Reader(&reply);
        let (result, flags) = (reader.u32()?.cast_signed(), reader.u32()?);
        let _vectors = reader.take(8)?;
        // Only what the number of the request says is moved.
        if flags & 1 != 0 || reader.0.len() > usize::try_from(sizes[1]).unwrap_or(0) {
            return Err(Errno::EIO);
        }
        if result < 0 {
            return Err(if result > -512 { Errno(-result) } else { Errno::EIO });
        }
        argument[..reader.0.len()].copy_from_slice(reader.0);
        Ok(i64::from(result))
    }

    pub(super) fn poll_file(&self, node: Node, handle: Handle) -> i16 {
        let ready = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;
        let body = Body::new().u64(self.handles.number(handle)).u64(0).u32(0);
        let body = body.u32(u32::from(ready.cast_unsigned()));
        let reply = self.ask_if_known(Opcode::Poll, node.0, self.session.owner(), body);
        let told = reply.and_then(|reply| Reader(&reply).u32());
        told.map_or(ready, |told| i16::try_from(told & 0x7fff).unwrap_or(ready))
    }
}
