//! The options of mount(2) for FUSE, as libfuse and fusermount give them.

use umvu_abi::{
    Errno,
    files::Caller,
    module::{MountError, MountRequest},
};

use crate::options::Options;

/// Who may use the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// Who has mounted them.
    Owner,
    /// Everybody (`allow_other`).
    All,
}

/// Who decides about permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permissions {
    /// The mode bits (`default_permissions`).
    ByMode,
    /// The program.
    ByProgram,
}

/// The options of a mount.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// The descriptor of `/dev/fuse` of the caller of mount(2).
    pub(super) descriptor: i32,
    /// The type bits of the root.
    pub(super) root_kind: u32,
    /// The owner.
    pub(super) uid: u32,
    /// Its group.
    pub(super) gid: u32,
    /// Who may use the files.
    pub(super) users: Users,
    /// Who decides about permissions.
    pub(super) permissions: Permissions,
    /// The most that one READ asks for, when it is limited.
    pub(super) max_read: Option<u32>,
    /// The block size, when the source is a block device.
    pub(super) block_size: Option<u32>,
}

impl Given {
    /// Reads the options of a request. Errors: `EINVAL`.
    pub(super) fn of(request: &MountRequest) -> Result<Self, MountError> {
        let mut options = Options::of(request);
        let Some(descriptor) = options.number("fd", 10)? else {
            return Err(by_hand(request));
        };
        let missing = |name: &str| MountError::new(Errno::EINVAL, format!("{name}= is missing"));
        let mode = options.number("rootmode", 8)?.ok_or_else(|| missing("rootmode"))?;
        let given = Self {
            descriptor: i32::try_from(descriptor).map_err(|_| MountError::from(Errno::EBADF))?,
            root_kind: mode & libc::S_IFMT,
            uid: options.number("user_id", 10)?.ok_or_else(|| missing("user_id"))?,
            gid: options.number("group_id", 10)?.ok_or_else(|| missing("group_id"))?,
            users: if options.flag("allow_other") { Users::All } else { Users::Owner },
            permissions: if options.flag("default_permissions") {
                Permissions::ByMode
            } else {
                Permissions::ByProgram
            },
            max_read: options.number("max_read", 10)?,
            block_size: options.number("blksize", 10)?,
        };
        // The type in the name of the mount, and security labels, are of no consequence.
        let _ = (options.value("subtype"), options.values("context"));
        if !matches!(given.root_kind, libc::S_IFDIR | libc::S_IFREG) {
            return Err(MountError::new(Errno::EINVAL, format!("rootmode={mode:o}: no such root")));
        }
        options.finish()?;
        Ok(given)
    }

    /// Whether the caller may see the files at all; the core itself may.
    pub(super) fn admits(&self, caller: &Caller) -> bool {
        self.users == Users::All
            || caller.pid.0 == 0
            || caller.uid == self.uid && caller.gid == self.gid
    }

    /// As `/proc/mounts` shows them.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("user_id={},group_id={}", self.uid, self.gid);
        if self.permissions == Permissions::ByMode {
            text += ",default_permissions";
        }
        if self.users == Users::All {
            text += ",allow_other";
        }
        if let Some(size) = self.max_read {
            text += &format!(",max_read={size}");
        }
        if let Some(size) = self.block_size {
            text += &format!(",blksize={size}");
        }
        text
    }
}

/// Somebody mounts without a program behind it.
fn by_hand(request: &MountRequest) -> MountError {
    let MountRequest { fstype, source, target, .. } = request;
    let program = fstype.split_once('.').map_or("PROGRAM", |(_, name)| name);
    let reason = format!(
        "{fstype}: is mounted by its program (run: {program} {source} {target}, for instance \
         fuse2fs IMAGE {target})"
    );
    MountError::new(Errno::EINVAL, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(data: &str) -> MountRequest {
        MountRequest {
            source: "image".to_owned(),
            target: "/mnt".to_owned(),
            fstype: "fuse.fuse2fs".to_owned(),
            flags: 0,
            data: data.to_owned(),
            environment: Vec::new(),
            view: String::new(),
        }
    }

    #[test]
    fn what_libfuse_gives_is_understood() {
        let data = "fd=3,rootmode=40000,user_id=7,group_id=8,default_permissions,max_read=4096";
        let given = Given::of(&request(data)).expect("they are right");
        assert_eq!((given.descriptor, given.root_kind), (3, libc::S_IFDIR));
        assert_eq!(given.shown(), "user_id=7,group_id=8,default_permissions,max_read=4096");
        let who = |uid, gid, pid| Caller { uid, gid, pid: umvu_abi::Pid(pid), ..Caller::root() };
        assert!(given.admits(&who(7, 8, 1)) && !given.admits(&who(0, 0, 1)));
        assert!(given.admits(&who(0, 0, 0)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |data: &str| Given::of(&request(data)).expect_err("it is wrong").reason;
        assert!(refused("ro").contains("run: fuse2fs image /mnt"));
        assert!(refused("fd=3,rootmode=40000,user_id=0").contains("group_id"));
        assert!(refused("fd=3,rootmode=20000,user_id=0,group_id=0").contains("rootmode"));
    }
}
