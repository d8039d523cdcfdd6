//! What the program says of its own accord.

use std::sync::Weak;

use umvu_abi::{
    Errno,
    files::{Keeper, Node},
};

use super::{
    files::FuseFiles,
    session::{Notified, Request},
    wire::{Body, NAME_MAX, Opcode, Reader},
};

const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const STORE: i32 = 4;
const RETRIEVE: i32 = 5;
const DELETE: i32 = 6;

/// A name of `length` bytes with its NUL. Errors: `EIO` for what is no name.
fn name<'a>(reader: &mut Reader<'a>, length: u32) -> Result<&'a [u8], Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::EIO)?;
    if length == 0 || length > NAME_MAX {
        return Err(Errno::EIO);
    }
    let name = reader.take(length)?;
    let is_name = !name.contains(&0) && !name.contains(&b'/') && reader.take(1)? == [0];
    if is_name { Ok(name) } else { Err(Errno::EIO) }
}

impl FuseFiles {
    fn take_in(&self, code: i32, body: &[u8]) -> Result<(), Errno> {
        let mut reader = Reader(body);
        match code {
            INVAL_INODE => {
                let node = reader.u64()?;
                let offset = reader.u64()?.cast_signed();
                self.nodes.doubt(node);
                if offset >= 0 {
                    self.keeper(|keeper| keeper.forget_content(Node(node)));
                }
            }
            INVAL_ENTRY => {
                let parent = reader.u64()?;
                let (length, _flags) = (reader.u32()?, reader.u32()?);
                self.forget_name(parent, name(&mut reader, length)?);
            }
            DELETE => {
                let (parent, child) = (reader.u64()?, reader.u64()?);
                let (length, _padding) = (reader.u32()?, reader.u32()?);
                self.forget_name(parent, name(&mut reader, length)?);
                self.nodes.doubt(child);
            }
            // What it has to say of the content is read when it is needed.
            STORE => {
                let node = reader.u64()?;
                self.nodes.doubt(node);
                self.keeper(|keeper| keeper.forget_content(Node(node)));
            }
            RETRIEVE => self.retrieve(&mut reader)?,
            _ => {}
        }
        Ok(())
    }

    fn forget_name(&self, parent: u64, name: &[u8]) {
        self.doubt_name(parent, name);
        self.keeper(|keeper| keeper.forget_name(Node(parent), name));
    }

    /// The program wants to have what is kept of a file: nothing, it has all that guests have written.
    fn retrieve(&self, reader: &mut Reader<'_>) -> Result<(), Errno> {
        let (unique, node, offset) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let body = Body::new().u64(0).u64(offset).u32(0).u32(0).u64(0).u64(0);
        let who = self.session.owner();
        let request = Request { opcode: Opcode::NotifyReply, node, who, body };
        self.session.reply_to(unique, &request);
        Ok(())
    }

    fn keeper(&self, tell: impl FnOnce(&dyn Keeper)) {
        let keeper = self.keeper.lock().as_ref().and_then(Weak::upgrade);
        if let Some(keeper) = keeper {
            tell(keeper.as_ref());
        }
    }
}

impl Notified for FuseFiles {
    fn notified(&self, code: i32, body: &[u8]) {
        // What makes no sense is dropped, as a reply to nothing is.
        let _ = self.take_in(code, body);
    }
}
