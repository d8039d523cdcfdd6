//! `vumisc`: what system calls tell about the host, changed by files and by the calls themselves.
//!
//! As soon as it is loaded the view has a host name and a domain name of its own. `vumiscuname` shows
//! what uname(2) tells as files.

mod names;

use std::sync::Arc;

use umvu_abi::{
    Errno,
    module::{Facet, HostNames, Module, MountError, MountRequest, Mounted, Standing},
};

use self::names::{Files, Names};

const TYPES: &[&str] = &["vumiscuname"];

/// The module.
#[derive(Debug, Default)]
pub struct Vumisc {
    names: Arc<Names>,
}

impl Module for Vumisc {
    fn name(&self) -> &'static str {
        "vumisc"
    }

    fn description(&self) -> &'static str {
        "virtual host name"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        TYPES
    }

    fn facets(&self) -> &'static [Facet] {
        &[Facet::HostNames]
    }

    fn host_names(&self) -> Option<Arc<dyn HostNames>> {
        Some(Arc::clone(&self.names) as Arc<dyn HostNames>)
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
        if request.fstype != "vumiscuname" {
            let reason = format!("{}: there is {} only", request.fstype, TYPES.join(", "));
            return Err(MountError::new(Errno::ENODEV, reason));
        }
        Ok(Mounted::Tree(Arc::new(Files::new(&self.names, &request.source))))
    }
}
