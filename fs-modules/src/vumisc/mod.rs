//! `vumisc`: what system calls tell about the host, changed by files and by the calls themselves.
//!
//! As soon as it is loaded the view has a host name and a domain name of its own. `vumiscuname` shows
//! what uname(2) tells as files. `vumisctime` is a clock.

mod names;
mod time;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use umvu_abi::{
    Errno,
    module::{Clock, Facet, HostNames, Module, MountError, MountRequest, Mounted, Standing},
};

use self::{
    names::{Files, Names},
    time::Time,
};

const TYPES: &[&str] = &["vumiscuname", "vumisctime"];

/// The module.
#[derive(Debug, Default)]
pub struct Vumisc {
    names: Arc<Names>,
    clock: Mutex<Weak<Time>>,
}

impl Module for Vumisc {
    fn name(&self) -> &'static str {
        "vumisc"
    }

    fn description(&self) -> &'static str {
        "virtual host name and time"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        TYPES
    }

    fn facets(&self) -> &'static [Facet] {
        match self.clock.lock().upgrade() {
            Some(clock) if clock.has_pace() => &[Facet::HostNames, Facet::Clock, Facet::Pace],
            Some(_) => &[Facet::HostNames, Facet::Clock],
            None => &[Facet::HostNames],
        }
    }

    fn host_names(&self) -> Option<Arc<dyn HostNames>> {
        Some(Arc::clone(&self.names) as Arc<dyn HostNames>)
    }

    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.clock.lock().upgrade().map(|clock| clock as Arc<dyn Clock>)
    }

    fn standing(&self) -> &'static [Standing] {
        const fn of(source: &'static str, target: &'static str) -> Standing {
            Standing { fstype: "vumiscuname", source, target }
        }
        const ALL: &[Standing] = &[
            of("nodename", "/proc/sys/kernel/hostname"),
            of("domainname", "/proc/sys/kernel/domainname"),
        ];
        ALL
    }

    fn mount(&self, request: &MountRequest) -> Result<Mounted, MountError> {
        if request.fstype == "vumisctime" {
            let mut clock = self.clock.lock();
            if clock.strong_count() > 0 {
                let reason = "vumisctime: the view has a clock already";
                return Err(MountError::new(Errno::EBUSY, reason));
            }
            let time = Arc::new(Time::default());
            *clock = Arc::downgrade(&time);
            return Ok(Mounted::Tree(time));
        }
        if request.fstype != "vumiscuname" {
            let reason = format!("{}: there is {} only", request.fstype, TYPES.join(", "));
            return Err(MountError::new(Errno::ENODEV, reason));
        }
        Ok(Mounted::Tree(Arc::new(Files::new(&self.names, &request.source))))
    }
}
