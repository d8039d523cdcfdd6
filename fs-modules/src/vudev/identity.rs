//! What a device says it is: the options that all devices share.

use std::sync::atomic::{AtomicU32, Ordering};

use umvu_abi::{
    files::{Caller, DeviceKind, Looks},
    module::MountError,
};

use crate::options::Options;

/// The first number of disks: one that Linux leaves to local use (Documentation/admin-guide/devices.txt).
const LOCAL: u32 = 240;
/// How many second numbers there are, and how many a disk has for its partitions.
const MINORS: u32 = 1 << 20;
const ROOM: u32 = 256;

/// `mode=`, `uid=`, `gid=`, `major=`, `minor=`, and the kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    kind: DeviceKind,
    mode: u32,
    uid: u32,
    gid: u32,
    major: u32,
    minor: u32,
    /// The first number of sub-devices.
    sub_major: u32,
    /// The second number that those of sub-devices are counted from.
    sub_minor: u32,
}

impl Identity {
    /// Takes the options out. A device is its user's alone unless they say otherwise. Each disk has
    /// numbers of its own: programs look it up by them, and 0:0 is none to them. Its partitions have
    /// those of VUOS. Errors: `EINVAL`.
    pub(super) fn of(
        options: &mut Options,
        kind: DeviceKind,
        owner: &Caller,
    ) -> Result<Self, MountError> {
        static DISKS: AtomicU32 = AtomicU32::new(0);
        let (uid, gid) = (owner.uid, owner.gid);
        let mode = 0o600;
        let none = Self { kind, mode, uid, gid, major: 0, minor: 0, sub_major: 0, sub_minor: 0 };
        let changed = none.changed(options)?;
        if changed.kind == DeviceKind::Character || (changed.major, changed.minor) != (0, 0) {
            return Ok(changed);
        }
        let disk = DISKS.fetch_add(1, Ordering::Relaxed) % (MINORS / ROOM);
        let minor = disk * ROOM;
        Ok(Self { major: LOCAL, minor, sub_minor: minor, ..changed })
    }

    /// The same of the control of loop devices: loop(4).
    pub(super) fn of_loop_control(
        options: &mut Options,
        (uid, gid): (u32, u32),
    ) -> Result<Self, MountError> {
        let kind = DeviceKind::Character;
        let (major, minor) = (10, 237);
        let own =
            Self { kind, mode: 0o660, uid, gid, major, minor, sub_major: major, sub_minor: minor };
        own.changed(options)
    }

    /// The same of a loop device, with the owner and the mode of their control: its partitions are far from
    /// those of the kernel.
    pub(super) fn of_loop(self, number: u32) -> Self {
        let sub_minor = MINORS / 2 + number * ROOM;
        let kind = DeviceKind::Block;
        Self { kind, major: 7, minor: number, sub_major: 259, sub_minor, ..self }
    }

    /// The same of the device for tun and tap interfaces, which is everybody's.
    pub(super) fn of_tun(options: &mut Options, owner: &Caller) -> Result<Self, MountError> {
        let (uid, gid) = (owner.uid, owner.gid);
        let kind = DeviceKind::Character;
        let (major, minor) = (10, 200);
        let own =
            Self { kind, mode: 0o666, uid, gid, major, minor, sub_major: major, sub_minor: minor };
        own.changed(options)
    }

    fn changed(mut self, options: &mut Options) -> Result<Self, MountError> {
        let identity = &mut self;
        for (name, kind) in [
            ("chrdev", DeviceKind::Character),
            ("char", DeviceKind::Character),
            ("chr", DeviceKind::Character),
            ("blkdev", DeviceKind::Block),
            ("blk", DeviceKind::Block),
        ] {
            if options.flag(name) {
                identity.kind = kind;
            }
        }
        for (name, radix, field) in [
            ("mode", 8, &mut identity.mode),
            ("uid", 10, &mut identity.uid),
            ("gid", 10, &mut identity.gid),
            ("major", 10, &mut identity.major),
            ("minor", 10, &mut identity.minor),
        ] {
            if let Some(number) = options.number(name, radix)? {
                *field = number;
            }
        }
        identity.mode &= 0o7777;
        identity.sub_major = identity.major;
        identity.sub_minor = identity.minor;
        Ok(self)
    }

    /// How a device or sub-device looks: the minor numbers count on.
    pub(super) fn looks(&self, sub: u32, size: u64) -> Looks {
        Looks {
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            rdev: match sub {
                0 => libc::makedev(self.major, self.minor),
                sub => libc::makedev(self.sub_major, self.sub_minor.wrapping_add(sub)),
            },
            size,
        }
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::module::MountRequest;

    use super::*;

    #[test]
    fn options_say_what_a_device_is() {
        let mut options = Options::of(&MountRequest {
            source: "none".to_owned(),
            target: "/dev/x".to_owned(),
            fstype: "vudevnull".to_owned(),
            flags: 0,
            data: "mode=0666,uid=7,gid=8,major=3,minor=64,blk".to_owned(),
            environment: Vec::new(),
            view: String::new(),
        });
        let identity =
            Identity::of(&mut options, DeviceKind::Character, &Caller::root()).expect("numbers");
        options.finish().expect("all are known");
        let looks = identity.looks(2, 512);
        assert_eq!((looks.kind, looks.mode), (DeviceKind::Block, 0o666));
        assert_eq!((looks.uid, looks.gid), (7, 8));
        assert_eq!(looks.rdev, libc::makedev(3, 66));
    }
}
