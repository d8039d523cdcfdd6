//! Requests about names: finding, making, taking away, listing.

use umvu_abi::{
    Errno,
    files::{Caller, DirEntry, Entry, Handle, Node},
};

use super::{
    files::FuseFiles,
    handles::Open,
    nodes::Foreseen,
    session::{Who, release},
    terms::Terms,
    wire::{Body, EntryOut, Opcode, Plus, Reader, encode_dev, entries, open_out},
};

/// How much of a listing is asked for at once.
const LISTING: u32 = 64 << 10;

impl FuseFiles {
    /// Finds a name. Errors: `ENOENT`; `EIO` for an answer that cannot be.
    pub(super) fn find(&self, who: Who, parent: Node, name: &[u8]) -> Result<Entry, Errno> {
        match self.nodes.foreseen(parent.0, name) {
            Some(Foreseen::Entry(entry)) => return self.enter(parent, name, entry),
            Some(Foreseen::Stale(node)) => self.session.forget(node, 1),
            None => {}
        }
        let reply = self.ask(Opcode::Lookup, parent.0, who, Body::new().name(name))?;
        let entry = EntryOut::read(&mut Reader(&reply))?.ok_or(Errno::ENOENT)?;
        self.enter(parent, name, entry)
    }

    /// Takes in what a name leads to. Errors: `EIO`.
    fn enter(&self, parent: Node, name: &[u8], entry: EntryOut) -> Result<Entry, Errno> {
        if entry.node == Node::ROOT.0 {
            return Err(Errno::EIO);
        }
        if let Err(errno) = self.nodes.learn(entry.node, entry.attributes, entry.attributes_valid) {
            self.session.forget(entry.node, 1);
            return Err(errno);
        }
        self.nodes.stands(entry.node, parent.0, name);
        let attributes = self.shown(entry.attributes);
        Ok(Entry { node: Node(entry.node), attributes, valid: entry.valid })
    }

    /// The answer to a request that makes something of a type. Errors: `EIO` when it is another.
    fn made(&self, parent: Node, name: &[u8], reply: &[u8], kind: u32) -> Result<Entry, Errno> {
        self.nodes.doubt(parent.0);
        let entry = EntryOut::read(&mut Reader(reply))?.ok_or(Errno::EIO)?;
        if entry.attributes.kind() != kind {
            self.session.forget(entry.node, 1);
            return Err(Errno::EIO);
        }
        self.enter(parent, name, entry)
    }

    pub(super) fn make_node(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        (mode, rdev): (u32, u64),
    ) -> Result<Entry, Errno> {
        let who = self.who(caller)?;
        let body = Body::new().u32(mode).u32(encode_dev(rdev)).u32(caller.umask).u32(0);
        let reply = self.ask(Opcode::Mknod, parent.0, who, body.name(name))?;
        self.made(parent, name, &reply, mode & libc::S_IFMT)
    }

    pub(super) fn make_directory(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        mode: u32,
    ) -> Result<Entry, Errno> {
        let who = self.who(caller)?;
        let body = Body::new().u32(mode & 0o7777).u32(caller.umask).name(name);
        let reply = self.ask(Opcode::Mkdir, parent.0, who, body)?;
        self.made(parent, name, &reply, libc::S_IFDIR)
    }

    pub(super) fn make_link(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        let body = Body::new().name(name).name(target);
        let reply = self.ask(Opcode::Symlink, parent.0, self.who(caller)?, body)?;
        self.made(parent, name, &reply, libc::S_IFLNK)
    }

    pub(super) fn link_to(
        &self,
        caller: &Caller,
        node: Node,
        parent: Node,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        let body = Body::new().u64(node.0).name(name);
        let reply = self.ask_if_known(Opcode::Link, parent.0, self.who(caller)?, body);
        self.nodes.doubt(node.0);
        let reply = super::files::unless_lacking(reply, Errno::EPERM)?;
        let kind = self.nodes.last(node.0).map_or(libc::S_IFREG, |known| known.kind());
        let entry = self.made(parent, name, &reply, kind)?;
        // Some programs tell the size of another file here (gocryptfs: of the encrypted one).
        self.nodes.doubt(entry.node.0);
        Ok(entry)
    }

    /// UNLINK, RMDIR.
    pub(super) fn remove(
        &self,
        opcode: Opcode,
        caller: &Caller,
        parent: Node,
        name: &[u8],
    ) -> Result<(), Errno> {
        let done = self.ask(opcode, parent.0, self.who(caller)?, Body::new().name(name));
        self.left(parent, name);
        done?;
        self.nodes.unlinked(parent.0, name);
        Ok(())
    }

    /// Names of a directory have changed.
    fn left(&self, parent: Node, name: &[u8]) {
        self.nodes.doubt(parent.0);
        match self.nodes.foreseen(parent.0, name) {
            Some(Foreseen::Entry(EntryOut { node, .. }) | Foreseen::Stale(node)) => {
                self.session.forget(node, 1);
            }
            None => {}
        }
    }

    /// What was under a name has one name less, or another one.
    fn doubt_child(&self, node: Option<u64>) {
        if let Some(node) = node {
            self.nodes.doubt(node);
        }
    }

    pub(super) fn move_name(
        &self,
        caller: &Caller,
        from: (Node, &[u8]),
        to: (Node, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let who = self.who(caller)?;
        let names = |body: Body| body.name(from.1).name(to.1);
        let done = if flags == 0 {
            let body = Body::new().u64(to.0.0);
            self.ask(Opcode::Rename, from.0.0, who, names(body))
        } else if self.session.terms()?.has_rename2() {
            let body = Body::new().u64(to.0.0).u32(flags).u32(0);
            self.ask_if_known(Opcode::Rename2, from.0.0, who, names(body))
        } else {
            Err(Errno::ENOSYS)
        };
        self.left(from.0, from.1);
        self.left(to.0, to.1);
        super::files::unless_lacking(done.map(drop), Errno::EINVAL)?;
        if flags & libc::RENAME_EXCHANGE == 0 {
            self.nodes.moved((from.0.0, from.1), (to.0.0, to.1));
        }
        Ok(())
    }
}

/// Listings.
impl FuseFiles {
    pub(super) fn open_directory(&self, caller: &Caller, node: Node) -> Result<Handle, Errno> {
        let who = self.who(caller)?;
        let flags = (libc::O_RDONLY | libc::O_DIRECTORY).cast_unsigned();
        let body = Body::new().u32(flags).u32(0);
        let open = match self.ask_if_known(Opcode::Opendir, node.0, who, body) {
            Ok(reply) => {
                let (number, _) = open_out(&mut Reader(&reply))?;
                Open { number, flags, is_held: true }
            }
            Err(Errno::ENOSYS) => Open { number: 0, flags, is_held: false },
            Err(errno) => return Err(errno),
        };
        Ok(self.handles.add(open))
    }

    /// RELEASE, RELEASEDIR: nobody waits for the reply.
    pub(super) fn close(&self, opcode: Opcode, node: Node, handle: Handle) {
        let Some(open) = self.handles.remove(handle) else { return };
        if open.is_held {
            let who = self.session.owner();
            self.session.tell(&release(opcode, node.0, open.number, open.flags, who));
        }
    }

    /// Lists a directory. Errors: `EIO` for a listing that cannot be, or never ends.
    pub(super) fn list(
        &self,
        caller: &Caller,
        node: Node,
        handle: Handle,
        each: &mut dyn FnMut(DirEntry),
    ) -> Result<(), Errno> {
        let who = self.who(caller)?;
        let terms = self.session.terms()?;
        let number = self.handles.number(handle);
        let mut offset = 0;
        loop {
            let plus = self.is_plus(terms, offset);
            let opcode = if plus == Plus::Yes { Opcode::Readdirplus } else { Opcode::Readdir };
            let body = Body::new().u64(number).u64(offset).u32(LISTING).u32(0).u64(0).u64(0);
            let reply = match self.ask_if_known(opcode, node.0, who, body) {
                Err(Errno::ENOSYS) if plus == Plus::Yes => continue,
                reply => reply?,
            };
            if reply.len() > LISTING as usize {
                return Err(Errno::EIO);
            }
            let listed = entries(&reply, plus, |entry, found| {
                if let Some(found) = found {
                    self.foresee(node, &entry.name, found);
                }
                each(entry);
            });
            match listed? {
                None => return Ok(()),
                Some(end) if end == offset => return Err(Errno::EIO),
                Some(end) => offset = end,
            }
        }
    }

    fn is_plus(&self, terms: Terms, offset: u64) -> Plus {
        let is_plus = terms.has_readdirplus()
            && (offset == 0 || !terms.is_readdirplus_sparing())
            && !self.lacks(Opcode::Readdirplus);
        if is_plus { Plus::Yes } else { Plus::No }
    }

    fn foresee(&self, parent: Node, name: &[u8], entry: EntryOut) {
        for node in self.nodes.foresee(parent.0, name, entry) {
            self.session.forget(node, 1);
        }
    }

    /// A name does not lead where it did.
    pub(super) fn doubt_name(&self, parent: u64, name: &[u8]) {
        let found = self.nodes.foreseen(parent, name);
        let node = match found {
            Some(Foreseen::Entry(EntryOut { node, .. }) | Foreseen::Stale(node)) => Some(node),
            None => None,
        };
        if let Some(node) = node {
            self.session.forget(node, 1);
        }
        self.doubt_child(node);
        self.nodes.doubt(parent);
    }
}
