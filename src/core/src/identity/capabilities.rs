//! Sets of capabilities and how they change (capabilities(7)).

use umvu_abi::Errno;

use super::Ids;

/// `CAP_CHOWN`.
pub const CHOWN: u32 = 0;
/// `CAP_FOWNER`.
pub const FOWNER: u32 = 3;
/// `CAP_SETGID`.
pub const SETGID: u32 = 6;
/// `CAP_SETUID`.
pub const SETUID: u32 = 7;
/// `CAP_SETPCAP`.
pub const SETPCAP: u32 = 8;
/// `CAP_SYS_CHROOT`.
pub const SYS_CHROOT: u32 = 18;
/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;
/// `CAP_MKNOD`.
pub const MKNOD: u32 = 27;
/// The last one that there is: `CAP_CHECKPOINT_RESTORE`.
pub const LAST: u32 = 40;

const ALL: u64 = (1 << (LAST + 1)) - 1;
/// Those that go with the file-system user id: chown, dac_override, dac_read_search, fowner, fsetid,
/// linux_immutable, mknod, mac_override.
const OF_FILES: u64 = 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32;

/// `SECBIT_NOROOT`.
const NOROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`.
const NO_SETUID_FIXUP: u32 = 1 << 2;
/// `SECBIT_KEEP_CAPS`.
const KEEP_CAPS: u32 = 1 << 4;

/// The sets of a thread, one bit for each capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Those that count.
    pub effective: u64,
    /// Those that may be made effective.
    pub permitted: u64,
    /// Those that pass through execve(2) of a file that names them.
    pub inheritable: u64,
    /// Those that can ever be had.
    pub bounding: u64,
    /// Those that pass through execve(2).
    pub ambient: u64,
    /// `SECBIT_*`.
    pub securebits: u32,
}

impl Capabilities {
    /// Root's: all.
    #[must_use]
    pub fn of_root() -> Self {
        Self { effective: ALL, permitted: ALL, bounding: ALL, ..Self::default() }
    }

    /// Everybody else's: none.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self { bounding: ALL, ..Self::default() }
    }

    /// Whether one is effective.
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective & bit(capability) != 0
    }

    /// Follows a change of the user ids.
    pub fn follow(&mut self, before: &Ids, after: &Ids) {
        if self.securebits & NO_SETUID_FIXUP != 0 {
            return;
        }
        let is_root = |ids: &Ids| [ids.real, ids.effective, ids.saved].contains(&0);
        if is_root(before) && !is_root(after) {
            if self.securebits & KEEP_CAPS == 0 {
                (self.permitted, self.ambient) = (0, 0);
            }
            self.effective = 0;
        } else if before.effective == 0 && after.effective != 0 {
            self.effective = 0;
        } else if before.effective != 0 && after.effective == 0 {
            self.effective = self.permitted;
        } else if before.files == 0 && after.files != 0 {
            self.effective &= !OF_FILES;
        } else if before.files != 0 && after.files == 0 {
            self.effective |= self.permitted & OF_FILES;
        }
    }

    /// After execve(2) of a file without capabilities.
    #[must_use]
    pub fn after_exec(&self, uid: &Ids) -> Self {
        let mut after = Self { securebits: self.securebits & !KEEP_CAPS, ..*self };
        let as_root = self.securebits & NOROOT == 0;
        if as_root && (uid.real == 0 || uid.effective == 0) {
            after.permitted = self.bounding | self.inheritable;
            after.effective = if uid.effective == 0 { after.permitted } else { self.ambient };
        } else {
            (after.permitted, after.effective) = (self.ambient, self.ambient);
        }
        after
    }

    /// capset(2): effective, permitted, inheritable. Errors: `EPERM`.
    pub fn set(&mut self, [effective, permitted, inheritable]: [u64; 3]) -> Result<(), Errno> {
        let beyond = |set: u64, limit: u64| set & !limit != 0;
        let inherits = if self.has(SETPCAP) {
            self.inheritable | self.bounding
        } else {
            self.inheritable | self.permitted
        };
        if beyond(permitted, self.permitted)
            || beyond(effective, permitted)
            || beyond(inheritable, inherits)
        {
            return Err(Errno::EPERM);
        }
        (self.effective, self.permitted, self.inheritable) = (effective, permitted, inheritable);
        self.ambient &= permitted & inheritable;
        Ok(())
    }

    /// As [`Capabilities::set`], where anybody may have any.
    pub fn choose(&mut self, [effective, permitted, inheritable]: [u64; 3]) {
        let all = |set: u64| set & ALL;
        self.effective = all(effective);
        self.permitted = all(permitted);
        self.inheritable = all(inheritable);
        self.ambient &= permitted & inheritable;
    }

    /// `PR_SET_KEEPCAPS`.
    pub fn keep(&mut self, keep: u64) -> Result<(), Errno> {
        match keep {
            0 => self.securebits &= !KEEP_CAPS,
            1 => self.securebits |= KEEP_CAPS,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `PR_GET_KEEPCAPS`.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        self.securebits & KEEP_CAPS != 0
    }

    /// `PR_CAPBSET_DROP`. Errors: `EPERM`, `EINVAL`.
    pub fn drop_bound(&mut self, capability: u64) -> Result<(), Errno> {
        let capability = known(capability)?;
        if !self.has(SETPCAP) {
            return Err(Errno::EPERM);
        }
        self.bounding &= !bit(capability);
        Ok(())
    }

    /// `PR_CAPBSET_READ`. Errors: `EINVAL`.
    pub fn is_bound(&self, capability: u64) -> Result<bool, Errno> {
        Ok(self.bounding & bit(known(capability)?) != 0)
    }

    /// `PR_CAP_AMBIENT_IS_SET`. Errors: `EINVAL`.
    pub fn is_ambient(&self, capability: u64) -> Result<bool, Errno> {
        Ok(self.ambient & bit(known(capability)?) != 0)
    }

    /// `PR_CAP_AMBIENT_RAISE`. Errors: `EPERM`, `EINVAL`.
    pub fn raise_ambient(&mut self, capability: u64) -> Result<(), Errno> {
        let wanted = bit(known(capability)?);
        if self.permitted & self.inheritable & wanted == 0 {
            return Err(Errno::EPERM);
        }
        self.ambient |= wanted;
        Ok(())
    }

    /// `PR_CAP_AMBIENT_LOWER`. Errors: `EINVAL`.
    pub fn lower_ambient(&mut self, capability: u64) -> Result<(), Errno> {
        self.ambient &= !bit(known(capability)?);
        Ok(())
    }
}

fn known(capability: u64) -> Result<u32, Errno> {
    u32::try_from(capability).ok().filter(|it| *it <= LAST).ok_or(Errno::EINVAL)
}

fn bit(capability: u32) -> u64 {
    1 << capability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_permitted_cannot_be_had() {
        let mut sets = Capabilities::of_root();
        let few = bit(CHOWN) | bit(SETUID);
        sets.set([few, few, 0]).expect("fewer");
        assert_eq!(sets.set([ALL, ALL, 0]), Err(Errno::EPERM));
        assert!(sets.has(CHOWN) && !sets.has(SETGID));
    }

    #[test]
    fn kept_capabilities_survive_a_change_of_ids() {
        let mut sets = Capabilities::of_root();
        sets.keep(1).expect("valid");
        sets.follow(&Ids::all(0), &Ids::all(5));
        assert_eq!((sets.permitted, sets.effective), (ALL, 0));
        assert_eq!(sets.after_exec(&Ids::all(5)).permitted, 0);
    }

    #[test]
    fn ambient_ones_pass_through_a_program() {
        let mut sets = Capabilities::of_root();
        sets.keep(1).expect("valid");
        sets.set([ALL, ALL, bit(CHOWN)]).expect("allowed");
        sets.follow(&Ids::all(0), &Ids::all(5));
        sets.raise_ambient(CHOWN.into()).expect("permitted and inheritable");
        let after = sets.after_exec(&Ids::all(5));
        assert_eq!((after.permitted, after.effective), (bit(CHOWN), bit(CHOWN)));
        assert_eq!(sets.raise_ambient(99), Err(Errno::EINVAL));
    }
}
