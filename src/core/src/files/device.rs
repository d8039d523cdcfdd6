//! A device as a file system of one node, and one more for each sub-device.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{
        Attributes, Caller, Changes, Data, Device, DeviceKind, Entry, FileSystem, Handle, Looks,
        Node, Opened, Seek, StatFs, Takes, Time, Traits,
    },
};

use parking_lot::Mutex;

const BLKDISCARD: u32 = 0x1277;
const BLKZEROOUT: u32 = 0x127f;

#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Serves a device as a file system: node `1 + n` is sub-device `n`, the root the device itself.
#[derive(Debug)]
pub(crate) struct DeviceFiles {
    device: Arc<dyn Device>,
    made: Time,
    owner: Mutex<Owner>,
}

impl DeviceFiles {
    pub(crate) fn new(device: Arc<dyn Device>) -> Self {
        Self { device, made: Time::now(), owner: Mutex::default() }
    }

    /// The node of a sub-device.
    pub(crate) fn node(sub: u32) -> Node {
        Node(u64::from(sub) + Node::ROOT.0)
    }

    fn sub(node: Node) -> u32 {
        u32::try_from(node.0 - Node::ROOT.0).unwrap_or(u32::MAX)
    }

    fn look(&self, node: Node) -> Result<Looks, Errno> {
        self.device.looks(Self::sub(node)).ok_or(Errno::ENXIO)
    }
}

impl FileSystem for DeviceFiles {
    fn traits(&self) -> Traits {
        Traits { may_wait: self.device.may_wait(), ..Traits::default() }
    }

    fn lookup(&self, _: &Caller, _: Node, name: &[u8]) -> Result<Entry, Errno> {
        // The name is the number of a sub-device: see the resolver.
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok());
        let node = number.map(Self::node).ok_or(Errno::ENOENT)?;
        self.look(node).map_err(|_| Errno::ENOENT)?;
        let attributes = self.getattr(&Caller::root(), node, None)?;
        Ok(Entry { node, attributes, valid: std::time::Duration::ZERO })
    }

    fn getattr(&self, _: &Caller, node: Node, _: Option<Handle>) -> Result<Attributes, Errno> {
        let looks = self.look(node)?;
        let owner = *self.owner.lock();
        let kind = match looks.kind {
            DeviceKind::Character => libc::S_IFCHR,
            DeviceKind::Block => libc::S_IFBLK,
        };
        Ok(Attributes {
            dev: None,
            ino: node.0,
            mode: kind | owner.mode.unwrap_or(looks.mode),
            nlink: 1,
            uid: owner.uid.unwrap_or(looks.uid),
            gid: owner.gid.unwrap_or(looks.gid),
            rdev: looks.rdev,
            // Each call is a trap: what is read in larger pieces is read faster.
            blksize: if looks.kind == DeviceKind::Block { 64 << 10 } else { 4096 },
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            ..Attributes::default()
        })
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: Node,
        _: Option<Handle>,
        changes: &Changes,
    ) -> Result<Attributes, Errno> {
        let mut owner = self.owner.lock();
        owner.mode = changes.mode.or(owner.mode);
        owner.uid = changes.uid.or(owner.uid);
        owner.gid = changes.gid.or(owner.gid);
        drop(owner);
        self.getattr(caller, node, None)
    }

    fn open(&self, caller: &Caller, node: Node, flags: i32) -> Result<Opened, Errno> {
        if let Some(opened) = self.device.serve(caller, Self::sub(node), flags)? {
            return Ok(opened);
        }
        let handle = self.device.open(caller, Self::sub(node), flags)?;
        Ok(Opened { handle, data: Data::Direct })
    }

    fn read(&self, node: Node, handle: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.device.read(Self::sub(node), handle, at, buffer)
    }

    fn write(&self, node: Node, handle: Handle, at: u64, data: &[u8]) -> Result<usize, Errno> {
        self.device.write(Self::sub(node), handle, at, data)
    }

    fn release(&self, node: Node, handle: Handle) {
        self.device.release(Self::sub(node), handle);
    }

    fn fsync(&self, node: Node, _: Handle, _: bool) -> Result<(), Errno> {
        self.device.flush(Self::sub(node))
    }

    fn fallocate(
        &self,
        node: Node,
        handle: Handle,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_AND_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        // As the kernel does it for a block device.
        let request = match mode {
            PUNCH => BLKDISCARD,
            libc::FALLOC_FL_ZERO_RANGE | ZERO_AND_KEEP => BLKZEROOUT,
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let mut range = [offset.to_ne_bytes(), length.to_ne_bytes()].concat();
        let told = self.device.ioctl(&Caller::root(), Self::sub(node), handle, request, &mut range);
        match told {
            Ok(_) => Ok(()),
            Err(Errno::ENOTTY) => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        }
    }

    fn seek(&self, node: Node, _: Handle, _: u64, _: Seek) -> Result<u64, Errno> {
        // Where the device ends.
        Ok(self.look(node)?.size)
    }

    fn statfs(&self, _: Node) -> Result<StatFs, Errno> {
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        Ok(StatFs { kind: TMPFS_MAGIC, block_size: 4096, name_length: 255, ..StatFs::default() })
    }

    fn takes(&self, node: Node, request: u32) -> Takes {
        self.device.takes(Self::sub(node), request)
    }

    fn ioctl(
        &self,
        caller: &Caller,
        node: Node,
        handle: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        self.device.ioctl(caller, Self::sub(node), handle, request, argument)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.device.flush(0)
    }

    fn stop(&self) {
        self.device.stop();
    }
}
