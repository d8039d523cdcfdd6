//! `vudevloop`: loop devices, loop(4), as losetup(8) and mount(8) set them up: a file of the view as a disk.
//!
//! The device itself is their control, `/dev/loop-control`; the loop devices are its sub-devices, of which each
//! has room for 255 partitions. What is bound to a file is a [`Disk`] over a [`Window`] of it.
//!
//! Lock order: the slots, then one slot.

mod window;
mod wire;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{Access, access};
use umvu_abi::{
    Errno,
    files::{Backing, Block, Caller, Device, Handle, Looks, OpenFile, Outside, Takes},
};

use self::{
    window::Window,
    wire::{AUTOCLEAR, Info, Order, PARTSCAN, READ_ONLY, Request},
};
use super::{
    disk::{Disk, Partitioning},
    identity::Identity,
};

/// Sub-devices of each loop device: itself and its partitions.
const ROOM: u32 = 256;
/// How many there may be.
const MOST: u32 = 1024;
/// What is open for writing.
const WRITER: Handle = Handle(1);
const READER: Handle = Handle(0);

/// A loop device.
#[derive(Debug, Default)]
struct Slot {
    /// How many have it open, or one of its partitions.
    users: usize,
    bound: Option<Bound>,
}

/// What a loop device is bound to.
#[derive(Debug)]
struct Bound {
    file: OpenFile,
    info: Info,
    disk: Arc<Disk>,
}

/// All loop devices of a view, by their numbers.
#[derive(Debug)]
pub(super) struct Loops {
    identity: Identity,
    outside: Arc<dyn Outside>,
    slots: RwLock<BTreeMap<u32, Arc<Mutex<Slot>>>>,
    gone: AtomicBool,
}

/// The number of the loop device that a sub-device is of, and what it is there: 0 for the disk.
fn parted(sub: u32) -> Option<(u32, u32)> {
    Some(((sub / ROOM).checked_sub(1)?, sub % ROOM))
}

fn joined(number: u32, part: u32) -> u32 {
    (number + 1) * ROOM + part
}

impl Loops {
    pub(super) fn new(identity: Identity, outside: &Arc<dyn Outside>) -> Self {
        let outside = Arc::clone(outside);
        Self { identity, outside, slots: RwLock::default(), gone: AtomicBool::new(false) }
    }

    fn slot(&self, number: u32) -> Option<Arc<Mutex<Slot>>> {
        self.slots.read().get(&number).cloned()
    }

    /// The disk that a sub-device is of, and what it is there. Errors: `ENXIO` when it is bound to nothing.
    fn disk(&self, sub: u32) -> Result<(Arc<Disk>, u32), Errno> {
        let (number, part) = parted(sub).ok_or(Errno::ENXIO)?;
        let slot = self.slot(number).ok_or(Errno::ENXIO)?;
        let disk = slot.lock().bound.as_ref().map(|bound| Arc::clone(&bound.disk));
        Ok((disk.ok_or(Errno::ENXIO)?, part))
    }

    /// The lowest number that is not taken: by one of these, or by one of the kernel's that its user may use.
    fn unused(&self, slots: &BTreeMap<u32, Arc<Mutex<Slot>>>) -> Option<u32> {
        let is_the_kernels = |number: u32| {
            let path = PathBuf::from(format!("/dev/loop{number}"));
            access(&path, Access::READ_OK | Access::WRITE_OK).is_ok()
        };
        (0..MOST).find(|number| !slots.contains_key(number) && !is_the_kernels(*number))
    }

    fn command(&self, order: &Order) -> Result<i64, Errno> {
        let mut slots = self.slots.write();
        let number = match *order {
            Order::Free => {
                let is_free = |slot: &Arc<Mutex<Slot>>| slot.lock().bound.is_none();
                let free = slots.iter().find(|(_, slot)| is_free(slot)).map(|(number, _)| *number);
                match free.or_else(|| self.unused(&slots)) {
                    Some(number) => number,
                    None => return Err(Errno::ENOSPC),
                }
            }
            Order::Add(None) => self.unused(&slots).ok_or(Errno::ENOSPC)?,
            Order::Add(Some(number)) if slots.contains_key(&number) => return Err(Errno::EEXIST),
            Order::Add(Some(number)) if number < MOST => number,
            Order::Add(Some(_)) => return Err(Errno::EINVAL),
            Order::Remove(number) => {
                let slot = slots.get(&number).ok_or(Errno::ENODEV)?.lock();
                if slot.users > 0 || slot.bound.is_some() {
                    return Err(Errno::EBUSY);
                }
                drop(slot);
                slots.remove(&number);
                number
            }
        };
        if !matches!(order, Order::Remove(_)) {
            slots.entry(number).or_default();
        }
        drop(slots);
        self.outside.disks_changed();
        Ok(number.into())
    }

    /// A disk of what a file holds now. Errors: `EIO`.
    fn make(&self, file: &OpenFile, info: &Info) -> Result<Arc<Disk>, Errno> {
        let medium = Window::new(&file.backing, info.offset, info.limit)?;
        let identity = self.identity.of_loop(info.number);
        let scanned = info.flags & PARTSCAN != 0;
        let partitioning = if scanned { Partitioning::Table } else { Partitioning::None };
        let sealed = info.flags & READ_ONLY != 0;
        Ok(Arc::new(Disk::new(
            Arc::new(medium) as Arc<dyn Backing>,
            identity,
            sealed,
            partitioning,
        )?))
    }

    fn act(
        &self,
        caller: &Caller,
        number: u32,
        handle: Handle,
        request: Request,
        argument: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let slot = self.slot(number).ok_or(Errno::ENXIO)?;
        if let Request::Bind(descriptor, wanted) = request {
            if slot.lock().bound.is_some() {
                return Err(Errno::EBUSY);
            }
            let file = self.outside.opened(caller, descriptor)?;
            let kept = wanted.flags & (READ_ONLY | AUTOCLEAR | PARTSCAN);
            let sealed = if file.writable && handle == WRITER { 0 } else { READ_ONLY };
            let (dev, ino, flags) = (file.dev, file.ino, kept | sealed);
            let info = Info { dev, ino, number, flags, ..wanted };
            let disk = self.make(&file, &info)?;
            let mut slot = slot.lock();
            if slot.bound.is_some() {
                return Err(Errno::EBUSY);
            }
            slot.bound = Some(Bound { file, info, disk });
            return Ok(());
        }
        let mut slot = slot.lock();
        let users = slot.users;
        let bound = slot.bound.as_mut().ok_or(Errno::ENXIO)?;
        match request {
            Request::Clear if users > 1 => bound.info.flags |= AUTOCLEAR,
            Request::Clear => {
                let bound = slot.bound.take();
                drop(slot);
                // What cannot be written is told by fsync(2), not here.
                bound.into_iter().for_each(|bound| bound.disk.stop());
            }
            Request::Set(wanted) => {
                // Partitions are looked for from then on, not less.
                let settable = wanted.flags & (AUTOCLEAR | PARTSCAN);
                let flags = bound.info.flags & !AUTOCLEAR | settable;
                let Info { dev, ino, number, .. } = bound.info;
                let info = Info { dev, ino, number, flags, ..wanted };
                bound.disk.flush(0)?;
                bound.disk = self.make(&bound.file, &info)?;
                bound.info = info;
            }
            Request::Tell => *argument = bound.info.encode(),
            Request::Measure => bound.disk = self.make(&bound.file, &bound.info)?,
            Request::Nothing => {}
            Request::Refused | Request::Bind(..) => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

impl Device for Loops {
    fn looks(&self, sub: u32) -> Option<Looks> {
        let Some((number, part)) = parted(sub) else {
            return (sub == 0).then(|| self.identity.looks(0, 0));
        };
        match self.disk(sub) {
            Ok((disk, part)) => disk.looks(part),
            Err(_) if part == 0 && self.slot(number).is_some() => {
                Some(self.identity.of_loop(number).looks(0, 0))
            }
            Err(_) => None,
        }
    }

    fn sub_devices(&self) -> Vec<u32> {
        let disks = self.disks();
        let all = disks.iter().flat_map(|disk| [vec![*disk], self.partitions(*disk)].concat());
        all.collect()
    }

    fn sub_name(&self, _: &str, sub: u32) -> String {
        match parted(sub) {
            Some((number, 0)) => format!("loop{number}"),
            Some((number, part)) => format!("loop{number}p{part}"),
            None => format!("loop-{sub}"),
        }
    }

    fn sub_named(&self, base: &str, name: &str) -> Option<u32> {
        let rest = name.strip_prefix("loop")?;
        let (number, part) = rest.split_once('p').unwrap_or((rest, "0"));
        let (number, part) = (number.parse::<u32>().ok()?, part.parse().ok()?);
        let sub = (number < MOST && part < ROOM).then(|| joined(number, part))?;
        (self.looks(sub).is_some() && self.sub_name(base, sub) == name).then_some(sub)
    }

    fn disks(&self) -> Vec<u32> {
        self.slots.read().keys().map(|number| joined(*number, 0)).collect()
    }

    fn partitions(&self, disk: u32) -> Vec<u32> {
        let parts = self.disk(disk).map(|(disk, _)| disk.sub_devices()).unwrap_or_default();
        parts.into_iter().filter(|part| *part < ROOM).map(|part| disk + part).collect()
    }

    fn attributes(&self, sub: u32) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        let (number, _) = parted(sub)?;
        let slot = self.slot(number)?;
        let slot = slot.lock();
        let Bound { file, info, .. } = slot.bound.as_ref()?;
        let flag = |flag: u32| u8::from(info.flags & flag != 0).to_string();
        let told = vec![
            ("autoclear", flag(AUTOCLEAR)),
            ("backing_file", String::from_utf8_lossy(&file.path).into_owned()),
            ("dio", 0.to_string()),
            ("offset", info.offset.to_string()),
            ("partscan", flag(PARTSCAN)),
            ("sizelimit", info.limit.to_string()),
        ];
        Some(("loop", told))
    }

    fn block(&self, sub: u32) -> Option<Block> {
        match self.disk(sub) {
            Ok((disk, part)) => disk.block(part),
            Err(_) => self.looks(sub).map(|_| Block { start: 0, read_only: false }),
        }
    }

    fn open(&self, caller: &Caller, sub: u32, flags: i32) -> Result<Handle, Errno> {
        if self.gone.load(Ordering::Acquire) {
            return Err(Errno::ENXIO);
        }
        if let Some((number, part)) = parted(sub) {
            let slot = self.slot(number).ok_or(Errno::ENXIO)?;
            let mut slot = slot.lock();
            match &slot.bound {
                Some(bound) => drop(bound.disk.open(caller, part, flags)?),
                None if part == 0 => {}
                None => return Err(Errno::ENXIO),
            }
            slot.users += 1;
        }
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        Ok(if writes { WRITER } else { READER })
    }

    fn release(&self, sub: u32, _: Handle) {
        let Some(slot) = parted(sub).and_then(|(number, _)| self.slot(number)) else { return };
        let mut slot = slot.lock();
        slot.users = slot.users.saturating_sub(1);
        let is_left = slot.users == 0;
        let bound = slot.bound.take_if(|bound| is_left && bound.info.flags & AUTOCLEAR != 0);
        drop(slot);
        bound.into_iter().for_each(|bound| bound.disk.stop());
    }

    fn read(&self, sub: u32, handle: Handle, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.disk(sub) {
            Ok((disk, part)) => disk.read(part, handle, at, buffer),
            // One that is bound to nothing is empty.
            Err(_) if self.looks(sub).is_some() && sub != 0 => Ok(0),
            Err(_) => Err(Errno::EINVAL),
        }
    }

    fn write(&self, sub: u32, handle: Handle, at: u64, data: &[u8]) -> Result<usize, Errno> {
        match self.disk(sub) {
            Ok((disk, part)) => disk.write(part, handle, at, data),
            Err(_) if self.looks(sub).is_some() && sub != 0 => Err(Errno::ENOSPC),
            Err(_) => Err(Errno::EINVAL),
        }
    }

    fn flush(&self, sub: u32) -> Result<(), Errno> {
        if sub == 0 {
            let disks = self.disks().into_iter().filter_map(|sub| self.disk(sub).ok());
            return disks.map(|(disk, _)| disk.flush(0)).find(Result::is_err).unwrap_or(Ok(()));
        }
        self.disk(sub).map_or(Ok(()), |(disk, part)| disk.flush(part))
    }

    fn takes(&self, _: u32, request: u32) -> Takes {
        wire::takes(request)
    }

    fn ioctl(
        &self,
        caller: &Caller,
        sub: u32,
        handle: Handle,
        request: u32,
        argument: &mut Vec<u8>,
    ) -> Result<i64, Errno> {
        let Some((number, _)) = parted(sub) else {
            return self.command(&wire::order(request, argument)?);
        };
        if let Some(request) = wire::request(request, argument) {
            return self.act(caller, number, handle, request, argument).map(|()| 0);
        }
        let (disk, part) = self.disk(sub)?;
        disk.ioctl(caller, part, handle, request, argument)
    }

    fn stop(&self) {
        self.gone.store(true, Ordering::Release);
        for slot in std::mem::take(&mut *self.slots.write()).into_values() {
            slot.lock().bound.take().into_iter().for_each(|bound| bound.disk.stop());
        }
    }
}
