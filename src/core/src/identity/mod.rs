//! Virtual credentials: who a thread is in its view (credentials(7)), whatever it is to the kernel.
//!
//! A thread has the kernel's until it asks for others. Then it may become anybody, as in VUOS; from
//! there on Linux's rules hold among the virtual ids: who has given root up cannot have it back.
//! Permissions of real files, signals and what sockets tell (`SO_PEERCRED`) stay the kernel's.
//!
//! Neighbours: the calls are in `handlers/ids.rs` and `handlers/capabilities.rs`; [`owners`] remembers
//! whom files belong to; [`status`] is what procfs says.

pub mod capabilities;
pub mod owners;
pub(crate) mod status;
pub(crate) mod vector;

use std::sync::Arc;

use umvu_abi::{Errno, Tid};

use self::capabilities::{Capabilities, SETGID, SETUID};
pub use self::owners::Owners;

/// The ids of a user, or of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The real one.
    pub real: u32,
    /// The effective one.
    pub effective: u32,
    /// The saved one.
    pub saved: u32,
    /// The one that counts for files.
    pub files: u32,
}

impl Ids {
    /// The same for all purposes.
    #[must_use]
    pub const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2) or setgid(2). Errors: `EPERM`, `EINVAL`.
    pub fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if id == u32::MAX {
            return Err(Errno::EINVAL);
        }
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.files) = (id, id);
        } else {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// setreuid(2) or setregid(2); None leaves an id as it is. Errors: `EPERM`.
    pub fn set_two(&mut self, ids: [Option<u32>; 2], privileged: bool) -> Result<(), Errno> {
        let [real, effective] = ids;
        let is_allowed = |id: u32, among: &[u32]| privileged || among.contains(&id);
        if real.is_some_and(|id| !is_allowed(id, &[self.real, self.effective]))
            || effective.is_some_and(|id| !is_allowed(id, &[self.real, self.effective, self.saved]))
        {
            return Err(Errno::EPERM);
        }
        let before = self.real;
        self.real = real.unwrap_or(self.real);
        self.effective = effective.unwrap_or(self.effective);
        if real.is_some() || effective.is_some_and(|id| id != before) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// setresuid(2) or setresgid(2); None leaves an id as it is. Errors: `EPERM`.
    pub fn set_three(&mut self, ids: [Option<u32>; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && ids.iter().flatten().any(|id| !self.has(*id)) {
            return Err(Errno::EPERM);
        }
        let [real, effective, saved] = ids;
        self.real = real.unwrap_or(self.real);
        self.effective = effective.unwrap_or(self.effective);
        self.saved = saved.unwrap_or(self.saved);
        self.files = self.effective;
        Ok(())
    }

    /// setfsuid(2) or setfsgid(2): returns the former one, whatever happens.
    pub fn set_files(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.files;
        if id != u32::MAX && (privileged || self.has(id) || id == before) {
            self.files = id;
        }
        before
    }
}

/// The credentials of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User ids.
    pub uid: Ids,
    /// Group ids.
    pub gid: Ids,
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Whether the thread may still become anybody.
    pub is_free: bool,
}

impl Credentials {
    /// Somebody with these ids, by setuid(2) from root.
    #[must_use]
    pub fn of_user(uid: u32, gid: u32, groups: Arc<[u32]>) -> Self {
        let capabilities =
            if uid == 0 { Capabilities::of_root() } else { Capabilities::of_nobody() };
        Self { uid: Ids::all(uid), gid: Ids::all(gid), groups, capabilities, is_free: false }
    }

    /// What the kernel says about a thread: where virtual ones begin.
    #[must_use]
    pub fn of_kernel(tid: Tid) -> Self {
        // The name of a thread is any bytes.
        let status = status::text(tid);
        status::parse(&String::from_utf8_lossy(&status))
    }

    /// Whether the user ids may be any.
    #[must_use]
    pub fn may_set_uid(&self) -> bool {
        self.is_free || self.capabilities.has(SETUID)
    }

    /// Whether the group ids may be any.
    #[must_use]
    pub fn may_set_gid(&self) -> bool {
        self.is_free || self.capabilities.has(SETGID)
    }

    /// Changes user ids, and the capabilities with them (capabilities(7)). Errors: those of `change`.
    pub fn change_uid<T>(
        &mut self,
        change: impl FnOnce(&mut Ids, bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let privileged = self.may_set_uid();
        let before = self.uid;
        let result = change(&mut self.uid, privileged)?;
        if std::mem::take(&mut self.is_free) && self.uid.effective == 0 {
            self.capabilities = Capabilities::of_root();
        }
        self.capabilities.follow(&before, &self.uid);
        Ok(result)
    }

    /// Changes group ids. Errors: those of `change`.
    pub fn change_gid<T>(
        &mut self,
        change: impl FnOnce(&mut Ids, bool) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let privileged = self.may_set_gid();
        change(&mut self.gid, privileged)
    }

    /// setgroups(2). Errors: `EPERM`.
    pub fn set_groups(&mut self, mut groups: Vec<u32>) -> Result<(), Errno> {
        if !self.may_set_gid() {
            return Err(Errno::EPERM);
        }
        // As the kernel keeps them.
        groups.sort_unstable();
        self.groups = groups.into();
        Ok(())
    }

    /// After execve(2): the set-id bits of files have no effect.
    #[must_use]
    pub fn after_exec(&self) -> Self {
        let mut after = self.clone();
        for ids in [&mut after.uid, &mut after.gid] {
            (ids.saved, ids.files) = (ids.effective, ids.effective);
        }
        after.capabilities = self.capabilities.after_exec(&after.uid);
        after
    }

    /// Whether the thread has a group.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid.files == gid || self.groups.contains(&gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials::of_user(uid, uid, Arc::new([]))
    }

    #[test]
    fn root_that_is_given_up_is_gone() {
        let mut who = user(0);
        who.change_uid(|ids, all| ids.set(7, all)).expect("root may");
        assert_eq!(who.uid, Ids::all(7));
        assert_eq!(who.change_uid(|ids, all| ids.set(0, all)), Err(Errno::EPERM));
        assert_eq!(who.set_groups(vec![0]), Err(Errno::EPERM));
        assert!(!who.capabilities.has(SETUID));
    }

    #[test]
    fn root_that_is_set_aside_comes_back() {
        let mut who = user(0);
        who.change_uid(|ids, all| ids.set_three([None, Some(7), None], all)).expect("root may");
        assert_eq!((who.uid.effective, who.uid.files, who.uid.saved), (7, 7, 0));
        assert!(!who.capabilities.has(SETUID));
        who.change_uid(|ids, all| ids.set(0, all)).expect("the saved one");
        assert_eq!(who.uid.effective, 0);
        assert!(who.capabilities.has(SETUID));
        assert_eq!(who.uid.real, 0);
    }

    #[test]
    fn who_is_free_becomes_root_once() {
        let mut who = Credentials { is_free: true, ..user(1000) };
        who.change_gid(|ids, all| ids.set(0, all)).expect("free");
        who.change_uid(|ids, all| ids.set(0, all)).expect("free");
        assert!(who.capabilities.has(SETGID) && !who.is_free);
    }

    #[test]
    fn setreuid_moves_the_saved_one() {
        let mut ids = Ids { real: 1, effective: 2, saved: 3, files: 2 };
        assert_eq!(ids.set_two([Some(3), None], false), Err(Errno::EPERM));
        ids.set_two([Some(2), Some(1)], false).expect("swapped");
        assert_eq!(ids, Ids { real: 2, effective: 1, saved: 1, files: 1 });
        ids.set_two([None, Some(2)], false).expect("the real one");
        assert_eq!(ids, Ids { real: 2, effective: 2, saved: 1, files: 2 });
    }

    #[test]
    fn a_program_keeps_what_is_effective() {
        let mut who = user(0);
        who.change_uid(|ids, all| ids.set_three([None, Some(7), None], all)).expect("root may");
        let after = who.after_exec();
        assert_eq!(after.uid, Ids { real: 0, effective: 7, saved: 7, files: 7 });
    }
}
