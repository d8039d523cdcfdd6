//! `macvtap://`: a macvtap interface of the kernel, `/dev/tapN`.
//!
//! `macvtap://NAME` is the interface, `macvtap:///dev/tapN` its device (N is its index). Unlike a
//! tap it exists before: `ip link add link eth0 name NAME type macvtap mode bridge`. Frames that are
//! sent go out at `eth0`; the address of the stack that plugs in must be the interface's.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::PathBuf, sync::Arc};

use nix::net::if_::if_nametoindex;

use crate::{
    error::OpenError,
    reconnect::{Desk, Dial, Plug, Progress},
    tap,
    transport::Transport,
    vnl::Vnl,
};

/// Opens `macvtap://name` or `macvtap:///dev/tapN`.
pub(crate) fn open(vnl: &Vnl, _description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("macvtap", &[])?;
    let place = vnl.to_string();
    let interface = Interface { place: place.clone(), name: vnl.path.clone() };
    Ok(Arc::new(Plug::open(&place, interface)?))
}

/// The interface, or the path of its device.
#[derive(Debug)]
struct Interface {
    place: String,
    name: String,
}

impl Dial for Interface {
    fn dial(&self, desk: &Desk) -> Result<Progress, OpenError> {
        let place = &self.place;
        let path = device(place, &self.name)?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&path)
            .map_err(OpenError::system_with(
                place,
                &format!("opening {}", path.display()),
                remedy,
            ))?;
        tap::attach(&device, "").map_err(OpenError::system_with(
            place,
            "attaching the interface",
            remedy,
        ))?;
        let name =
            tap::name_of(&device).map_err(OpenError::system(place, "asking for its name"))?;
        if !self.name.starts_with('/') && name != self.name {
            // Numbers of interfaces are those of a network namespace; names of devices are for all.
            let problem = format!("{} is {name}, in another network namespace", path.display());
            let place = place.clone();
            return Err(OpenError::Refused { place, problem, errno: libc::ENODEV });
        }
        let tap = tap::Tap::new(device, desk)
            .map_err(OpenError::system(place, "watching the interfaces of this host"))?;
        Ok(Progress::Connected(Box::new(tap)))
    }
}

fn remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EACCES | libc::EPERM => Some("have root run `chown USER` on the device"),
        libc::ENOENT | libc::ENXIO => Some(
            "is it a macvtap? its device may have to be made: mknod, with the numbers in \
             /sys/class/net/NAME/macvtap/*/dev",
        ),
        libc::EBUSY => Some("another program has the interface open"),
        libc::EINVAL | libc::ENOTTY | libc::EBADFD => Some("that is no macvtap device"),
        _ => None,
    }
}

/// Finds the device of an interface.
fn device(place: &str, name: &str) -> Result<PathBuf, OpenError> {
    if name.starts_with('/') {
        return Ok(PathBuf::from(name));
    }
    let absent = |problem: String| OpenError::Absent {
        place: place.to_owned(),
        problem,
        remedy: "ip link add link eth0 name NAME type macvtap mode bridge, and use that name"
            .to_owned(),
    };
    if name.is_empty() {
        return Err(absent("needs the name of a macvtap interface".to_owned()));
    }
    let index = if_nametoindex(name).map_err(|_| absent(format!("no interface {name}")))?;
    Ok(PathBuf::from(format!("/dev/tap{index}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_say_how_to_make_one() {
        let error = |text: &str| crate::open(text, "test").expect_err(text).to_string();
        assert!(error("macvtap://").contains("type macvtap mode bridge"));
        assert!(error("macvtap://nosuch0").contains("no interface nosuch0 (ip link add link"));
        assert!(error("macvtap://lo").contains("opening /dev/tap1"));
        let expected = "macvtap:///dev/null: attaching the interface: Not a typewriter (that \
                        is no macvtap device)";
        assert_eq!(error("macvtap:///dev/null"), expected);
    }
}
