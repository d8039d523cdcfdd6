//! The module `vunet`: file-system types that mount network stacks.

use std::sync::Arc;

use umvu_abi::{
    Errno,
    module::{Module, MountError, MountRequest, Mounted},
};
use umvu_reactor::Reactor;

use crate::{null::NullStack, real::RealStack};

/// Virtual networking: mounts stacks at paths such as `/dev/net/lab`.
#[derive(Debug)]
pub struct Vunet {
    #[expect(dead_code, reason = "the smoltcp stack runs on it")]
    reactor: Reactor,
}

impl Vunet {
    /// Makes the module; its stacks run on `reactor`.
    #[must_use]
    pub fn new(reactor: Reactor) -> Self {
        Self { reactor }
    }
}

impl Module for Vunet {
    fn name(&self) -> &'static str {
        "vunet"
    }

    fn description(&self) -> &'static str {
        "vu virtual networking"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        &["vunetioth", "vunetsmoltcp", "vunetvdestack", "vunetnull", "vunetreal"]
    }

    fn mount(&self, request: &MountRequest) -> Result<Mounted, MountError> {
        match request.fstype.as_str() {
            "vunetnull" => Ok(Mounted::Stack(Arc::new(NullStack))),
            "vunetreal" => Ok(Mounted::Stack(Arc::new(RealStack))),
            other => Err(MountError::new(
                Errno::ENODEV,
                format!("{other}: unknown type; vunet mounts {}", self.fstypes().join(", ")),
            )),
        }
    }
}
