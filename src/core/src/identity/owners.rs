//! Whom files of the host belong to in the view, as guests have said by chown(2), chmod(2) and
//! mknod(2): remembered per view, by device, inode and time of birth.
//!
//! A file whose number is used again was born later, so nothing has to be forgotten when files go.
//! The user of umvu is, to a guest with virtual ids, whoever the guest is: what is its own stays so.

use std::{collections::HashMap, sync::atomic::AtomicUsize, sync::atomic::Ordering};

use nix::unistd::{getegid, geteuid};
use parking_lot::RwLock;
use umvu_abi::files::{Attributes, Time};

use super::Credentials;

/// What was said about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Said {
    born: Option<Time>,
    uid: Option<u32>,
    gid: Option<u32>,
    /// The whole mode, and the device number.
    looks: Option<(u32, u64)>,
}

/// A change of what a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The new owner.
    pub uid: Option<u32>,
    /// The new group.
    pub gid: Option<u32>,
    /// The whole mode, and the number of the device.
    pub looks: Option<(u32, u64)>,
}

/// All files of which something was said.
#[derive(Debug, Default)]
pub struct Owners {
    files: RwLock<HashMap<(u64, u64), Said>>,
    count: AtomicUsize,
}

impl Owners {
    /// Whether nothing was said of any file.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What a file looks like to a guest; `real` is what the host says.
    pub fn show(&self, real: &Attributes, to: Option<&Credentials>) -> Attributes {
        let mut shown = *real;
        if let Some(who) = to
            && !geteuid().is_root()
        {
            if shown.uid == geteuid().as_raw() {
                shown.uid = who.uid.files;
            }
            if shown.gid == getegid().as_raw() {
                shown.gid = who.gid.files;
            }
        }
        if self.is_empty() {
            return shown;
        }
        if let Some(said) = self.files.read().get(&key(real)).filter(|it| it.born == real.btime) {
            shown.uid = said.uid.unwrap_or(shown.uid);
            shown.gid = said.gid.unwrap_or(shown.gid);
            if let Some((mode, rdev)) = said.looks {
                (shown.mode, shown.rdev) = (mode, rdev);
            }
        }
        shown
    }

    /// Whether the mode of a file was told to guests otherwise than the host has it.
    pub fn has_looks(&self, real: &Attributes) -> bool {
        let files = self.files.read();
        let said = files.get(&key(real)).filter(|it| it.born == real.btime);
        said.is_some_and(|said| said.looks.is_some())
    }

    /// Remembers a change.
    pub fn say(&self, real: &Attributes, change: Change) {
        let mut files = self.files.write();
        let said = files.entry(key(real)).or_default();
        if said.born != real.btime {
            *said = Said::default();
        }
        said.born = real.btime;
        said.uid = change.uid.or(said.uid);
        said.gid = change.gid.or(said.gid);
        said.looks = change.looks.or(said.looks);
        self.count.store(files.len(), Ordering::Release);
    }
}

fn key(file: &Attributes) -> (u64, u64) {
    (file.dev.unwrap_or(0), file.ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: u64, born: i64) -> Attributes {
        let btime = Some(Time { seconds: born, nanos: 0 });
        Attributes { dev: Some(1), ino, uid: 70_000, gid: 70_000, btime, ..Attributes::default() }
    }

    #[test]
    fn what_was_said_is_shown_until_the_file_is_another() {
        let owners = Owners::default();
        assert!(owners.is_empty());
        owners.say(&file(5, 1), Change { uid: Some(33), ..Change::default() });
        owners.say(&file(5, 1), Change { gid: Some(34), ..Change::default() });
        let shown = owners.show(&file(5, 1), None);
        assert_eq!((shown.uid, shown.gid), (33, 34));
        assert_eq!(owners.show(&file(6, 1), None).uid, 70_000);
        assert_eq!(owners.show(&file(5, 2), None).uid, 70_000);
        owners.say(&file(5, 2), Change { gid: Some(9), ..Change::default() });
        assert_eq!(owners.show(&file(5, 2), None).uid, 70_000);
    }
}
