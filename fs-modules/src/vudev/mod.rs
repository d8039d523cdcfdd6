//! `vudev`: virtual devices. Each kind has a file of its own; [`disk`] is what the disks share, a
//! device of blocks over any [`Backing`](umvu_abi::files::Backing).

mod disk;
mod identity;
pub mod image;
mod ioctl;
mod loops;
mod null;
mod ram;
mod table;
mod tap;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::{Backing, DeviceKind, Outside},
    module::{Module, MountError, MountRequest, Mounted, Standing},
};

use self::{
    disk::{Disk, Partitioning},
    identity::Identity,
    image::Surroundings,
    loops::Loops,
    null::Null,
    ram::Ram,
    tap::{Stack, Tap},
};
use crate::options::Options;

/// The module.
#[derive(Debug)]
pub struct Vudev;

/// The types, for the messages.
const TYPES: &[&str] =
    &["vudevnull", "vudevramdisk", "vudevpartx", "vudevvdi", "vudevtap", "vudevloop"];

impl Module for Vudev {
    fn name(&self) -> &'static str {
        "vudev"
    }

    fn description(&self) -> &'static str {
        "vu virtual devices"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        TYPES
    }

    fn standing(&self) -> &'static [Standing] {
        &[Standing { fstype: "vudevloop", source: "none", target: "/dev/loop-control" }]
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        match request.fstype.as_str() {
            "vudevnull" => null(request, outside),
            "vudevramdisk" => ramdisk(request, outside),
            "vudevpartx" => partitioned(request, outside, |image, _| Ok(image)),
            "vudevvdi" => partitioned(request, outside, image::open),
            "vudevtap" => tap(request, outside),
            "vudevloop" => loops(request, outside),
            other => {
                let reason = format!("{other}: no such device (there are: {})", TYPES.join(" "));
                Err(MountError::new(Errno::ENODEV, reason))
            }
        }
    }
}

fn null(request: &MountRequest, outside: &Arc<dyn Outside>) -> Result<Mounted, MountError> {
    let mut options = Options::of(request);
    let identity = Identity::of(&mut options, DeviceKind::Character, &outside.caller())?;
    options.finish()?;
    Ok(Mounted::Device(Arc::new(Null { identity })))
}

fn ramdisk(request: &MountRequest, outside: &Arc<dyn Outside>) -> Result<Mounted, MountError> {
    let mut options = Options::of(request);
    let identity = Identity::of(&mut options, DeviceKind::Block, &outside.caller())?;
    let size = options.size("size")?;
    let has_mbr = options.flag("mbr");
    options.finish()?;
    let ram = Ram::new(size)?;
    if has_mbr {
        ram.put_mbr()?;
    }
    let read_only = request.flags & libc::MS_RDONLY != 0;
    let disk = Disk::new(Arc::new(ram), identity, read_only, Partitioning::None)?;
    Ok(Mounted::Device(Arc::new(disk)))
}

/// The device of tun and tap interfaces, in the stack that is the source.
fn tap(request: &MountRequest, outside: &Arc<dyn Outside>) -> Result<Mounted, MountError> {
    let mut options = Options::of(request);
    let identity = Identity::of_tun(&mut options, &outside.caller())?;
    options.finish()?;
    let stack = match request.source.as_str() {
        "none" => Stack::Own(Arc::clone(outside)),
        source => Stack::Given(outside.stack(source.as_bytes()).map_err(|errno| {
            let reason = format!(
                "{source}: no network stack is mounted there (`none` is for that of each process)"
            );
            MountError::new(errno, reason)
        })?),
    };
    Ok(Mounted::Device(Arc::new(Tap::new(identity, stack))))
}

/// Loop devices, and their control: of the user that the view is of, as all devices.
fn loops(request: &MountRequest, outside: &Arc<dyn Outside>) -> Result<Mounted, MountError> {
    let mut options = Options::of(request);
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let identity = Identity::of_loop_control(&mut options, owner)?;
    options.finish()?;
    Ok(Mounted::Device(Arc::new(Loops::new(identity, outside))))
}

/// A disk with partitions on the source, as `format` reads it.
fn partitioned(
    request: &MountRequest,
    outside: &Arc<dyn Outside>,
    format: impl FnOnce(Arc<dyn Backing>, &Surroundings<'_>) -> Result<Arc<dyn Backing>, MountError>,
) -> Result<Mounted, MountError> {
    let mut options = Options::of(request);
    let identity = Identity::of(&mut options, DeviceKind::Block, &outside.caller())?;
    options.finish()?;
    let source = request.source.as_bytes();
    let wants = request.flags & libc::MS_RDONLY == 0;
    let (medium, writable) = match outside.backing(source, wants) {
        // As losetup(8): what cannot be written to can be read.
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) if wants => {
            (outside.backing(source, false), false)
        }
        opened => (opened, wants),
    };
    let named =
        |error: MountError| MountError::new(error.errno, format!("{}: {error}", request.source));
    let medium = medium.map_err(|errno| named(errno.into()))?;
    let path = outside.absolute(source)?;
    let around = Surroundings::new(outside.as_ref(), &path, writable);
    let medium = format(medium, &around).map_err(named)?;
    let disk = Disk::new(medium, identity, !writable, Partitioning::Table)?;
    if let Some(notice) = disk.notice() {
        outside.notice(&notice);
    }
    Ok(Mounted::Device(Arc::new(disk)))
}
