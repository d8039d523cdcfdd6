//! Names that come into being: where they belong decides who makes them.

use std::os::fd::BorrowedFd;

use umvu_abi::{
    Errno,
    files::{Caller, Entry, Node},
};

use super::{Whole, as_caller, names, real};
use crate::paths::{host, owners::Changer, resolve::Place};

impl Whole {
    /// link(2), or linkat(2) by a descriptor.
    pub(super) fn give_name(
        &self,
        caller: &Caller,
        (node, opened): (Node, Option<BorrowedFd<'_>>),
        parent: Node,
        name: &[u8],
    ) -> Result<Entry, Errno> {
        let (to, target) = self.side(parent, name, caller)?;
        match (self.at(node, caller)?.1, target, opened) {
            (Place::Inode(found), Place::Vacant(vacant), _) => {
                names::link(caller, (&found.inode, opened), &vacant.parent, &vacant.name)?;
            }
            (Place::Real(_), Place::Real(to), Some(file)) => {
                as_caller(caller, || host::link_opened(file, &to))?;
            }
            (Place::Real(from), Place::Real(to), None) => {
                as_caller(caller, || host::link(&from, &to))?;
            }
            (_, Place::Inode(_), _) => return Err(Errno::EEXIST),
            _ => return Err(Errno::EXDEV),
        }
        self.entry(&to, caller)
    }

    pub(super) fn make(
        &self,
        caller: &Caller,
        parent: Node,
        name: &[u8],
        what: names::Make<'_>,
    ) -> Result<Entry, Errno> {
        let (path, place) = self.side(parent, name, caller)?;
        match place {
            Place::Vacant(vacant) => {
                // The mask has been applied.
                let caller = Caller { umask: 0, ..caller.clone() };
                names::make(&caller, &vacant.parent, &vacant.name, what)?;
            }
            Place::Real(path) => {
                let made = match what {
                    names::Make::Node(mode, rdev) => {
                        let core = self.moment.core()?;
                        Changer::of(&core, caller).make(&path, mode, rdev)
                    }
                    _ => None,
                };
                made.unwrap_or_else(|| real::make(caller, &path, what))?;
            }
            _ => return Err(Errno::EEXIST),
        }
        self.entry(&path, caller)
    }
}
