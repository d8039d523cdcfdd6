//! `vudevnull`: null(4).

use umvu_abi::{
    Errno,
    files::{Device, Handle, Looks},
};

use super::identity::Identity;

/// Swallows what is written; there is nothing to read.
#[derive(Debug)]
pub(super) struct Null {
    pub(super) identity: Identity,
}

impl Device for Null {
    fn looks(&self, sub: u32) -> Option<Looks> {
        (sub == 0).then(|| self.identity.looks(0, 0))
    }

    fn read(&self, _: u32, _: Handle, _: u64, _: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }

    fn write(&self, _: u32, _: Handle, _: u64, data: &[u8]) -> Result<usize, Errno> {
        Ok(data.len())
    }
}
