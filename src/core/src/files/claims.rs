//! Who has a file or a device as the image of a file system: one that writes, or several that read.

use std::fs::File;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use umvu_abi::{Errno, files::Claim};

/// The claims on an inode whose data is not in a file of the host's.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Held>);

#[derive(Debug, Default)]
enum Held {
    #[default]
    None,
    Shared(usize),
    Alone,
}

impl Claims {
    /// Errors: `EBUSY`.
    pub(super) fn add(&self, claim: Claim) -> Result<(), Errno> {
        let mut held = self.0.lock();
        *held = match (&*held, claim) {
            (Held::None, Claim::Alone) => Held::Alone,
            (Held::None, Claim::Shared) => Held::Shared(1),
            (Held::Shared(count), Claim::Shared) => Held::Shared(count + 1),
            _ => return Err(Errno::EBUSY),
        };
        Ok(())
    }

    /// Lets one go that was added.
    pub(super) fn remove(&self, claim: Claim) {
        let mut held = self.0.lock();
        *held = match (&*held, claim) {
            (Held::Shared(count), Claim::Shared) if *count > 1 => Held::Shared(count - 1),
            _ => Held::None,
        };
    }
}

/// Claims an open file of the host's. Errors: `EBUSY`.
pub(super) fn lock(file: &File, claim: Claim) -> Result<(), Errno> {
    let how = match claim {
        Claim::Shared => FlockOperation::NonBlockingLockShared,
        Claim::Alone => FlockOperation::NonBlockingLockExclusive,
    };
    flock(file, how).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => Errno::EBUSY,
        other => std::io::Error::from(other).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_alone() {
        let claims = Claims::default();
        claims.add(Claim::Shared).expect("free");
        claims.add(Claim::Shared).expect("shared");
        assert_eq!(claims.add(Claim::Alone), Err(Errno::EBUSY));
        claims.remove(Claim::Shared);
        assert_eq!(claims.add(Claim::Alone), Err(Errno::EBUSY));
        claims.remove(Claim::Shared);
        claims.add(Claim::Alone).expect("free again");
        assert_eq!(claims.add(Claim::Shared), Err(Errno::EBUSY));
    }
}
