//! `fuse`: a virtual `/dev/fuse` for unmodified FUSE programs.
//!
//! A program opens the device ([`device`]), and mounts with its descriptor; from then on the file system
//! ([`files`]) is what the program answers over its [`session`]. [`wire`] is the protocol, [`terms`] what
//! both sides agreed to, [`nodes`] what holds for a while, [`notify`] what the program says by itself.

mod data;
mod device;
mod files;
mod handles;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod names;
mod nodes;
mod notify;
mod options;
mod session;
mod terms;
mod wire;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    files::Outside,
    module::{Module, MountError, MountRequest, Mounted, Standing},
};

use self::{
    device::{Channels, FuseDevice},
    files::FuseFiles,
    options::Given,
    session::{Session, Who},
};

/// The module.
#[derive(Debug, Default)]
pub struct Fuse {
    channels: Arc<Channels>,
}

/// The type of the device itself.
const DEVICE: &str = "fusedev";
/// The file-system types, for the messages; those with a name behind a dot belong to them.
const TYPES: &[&str] = &["fuse", "fuseblk", DEVICE];

impl Module for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn description(&self) -> &'static str {
        "vu virtual /dev/fuse"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        TYPES
    }

    fn standing(&self) -> &'static [Standing] {
        &[Standing { fstype: DEVICE, source: "none", target: "/dev/fuse" }]
    }

    fn mount_over(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        let kind = request.fstype.split('.').next().unwrap_or_default();
        match kind {
            DEVICE => {
                let channels = Arc::clone(&self.channels);
                Ok(Mounted::Device(Arc::new(FuseDevice { channels })))
            }
            "fuse" | "fuseblk" => self.mount_files(request, outside),
            _ => {
                let known = TYPES.join(" ");
                let reason =
                    format!("{}: no such file system (there are: {known})", request.fstype);
                Err(MountError::new(Errno::ENODEV, reason))
            }
        }
    }
}

impl Fuse {
    fn mount_files(
        &self,
        request: &MountRequest,
        outside: &Arc<dyn Outside>,
    ) -> Result<Mounted, MountError> {
        let given = Given::of(request)?;
        let device = outside.descriptor(given.descriptor)?;
        let socket = self.channels.take(device.as_ref()).map_err(|errno| {
            let fd = given.descriptor;
            MountError::new(errno, format!("fd={fd}: no /dev/fuse, or mounted already"))
        })?;
        // The program of whoever mounts asks for itself.
        let owner = Who { uid: given.uid, gid: given.gid, pid: 0 };
        let session = Session::begin(socket, device, owner)?;
        Ok(Mounted::FileSystem(FuseFiles::new(session, given)))
    }
}
