//! The module `vunet`: file-system types that mount network stacks.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    path::Path,
    sync::Arc,
};

use umvu_abi::{
    Errno,
    module::{Module, MountError, MountRequest, Mounted},
    net::NetStack,
};
use umvu_reactor::Reactor;
use vdeplug::capture::{CaptureFile, Interface};

use crate::{
    autoconf::configure,
    ioth::{self, IothStack},
    null::NullStack,
    options::{InterfacePlan, StackPlan},
    real::RealStack,
    smoltcp::{stack::SmolStack, wire::Transport},
    vdestack::VdeStack,
};

/// Virtual networking: mounts stacks at paths such as `/dev/net/lab`.
///
/// | type | source | stack |
/// |---|---|---|
/// | `vunetioth` | `smoltcp`, `vdestack`, `kernel`, `null` or empty | that one; networks are options |
/// | `vunetioth` | another name, or a file | a plugin of libioth; networks are options |
/// | `vunetsmoltcp` | a network locator | smoltcp on it |
/// | `vunetvdestack` | a network locator | a kernel namespace on it |
/// | `vunetnull` | any | no network |
/// | `vunetreal` | any | the host's network |
#[derive(Debug)]
pub struct Vunet {
    reactor: Reactor,
}

/// Which stack a mount asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Smoltcp,
    Vdestack,
    Null,
    Real,
    Plugin,
}

impl Vunet {
    /// Makes the module; its stacks run on `reactor`.
    #[must_use]
    pub fn new(reactor: Reactor) -> Self {
        crate::ffi::memory::prefer_fresh_pages();
        Self { reactor }
    }

    fn smoltcp(&self, plan: &StackPlan, about: &str) -> Result<Arc<dyn NetStack>, MountError> {
        let stack = SmolStack::start(&self.reactor, &plan.names, open_all(plan, about)?)?;
        stack.set_seed(plan.seed);
        configure(&self.reactor, Arc::new(stack), plan)
    }

    /// A plugin configures itself; with the word `conf` among the options we do.
    fn plugin(&self, request: &MountRequest) -> Result<Arc<dyn NetStack>, MountError> {
        let (given, ours) = ioth::divide(&request.data);
        let plan = ours.map(|data| plan(&MountRequest { data, ..request.clone() }, None));
        let plan = plan.transpose()?;
        let stack = IothStack::start(&MountRequest { data: given, ..request.clone() })?;
        match plan {
            Some(plan) => configure(&self.reactor, Arc::new(stack), &plan),
            None => Ok(Arc::new(stack)),
        }
    }

    fn vdestack(&self, plan: &StackPlan, about: &str) -> Result<Arc<dyn NetStack>, MountError> {
        if plan.interfaces.is_empty() {
            let reason = "vdestack: a network is needed (name a VNL)";
            return Err(MountError::new(Errno::EINVAL, reason));
        }
        let stack = VdeStack::start(&self.reactor, open_all(plan, about)?)?;
        configure(&self.reactor, Arc::new(stack), plan)
    }
}

/// What the options of a mount ask for.
fn plan(request: &MountRequest, network: Option<&str>) -> Result<StackPlan, MountError> {
    StackPlan::parse(request, network, RandomState::new().hash_one(0u8))
}

/// An interface and its network.
type Opened = (InterfacePlan, Arc<dyn Transport>);

/// Opens the networks of all interfaces, and the files that their frames are written to.
fn open_all(plan: &StackPlan, about: &str) -> Result<Vec<Opened>, MountError> {
    let mut files: Vec<(&Path, Arc<CaptureFile>)> = Vec::new();
    let mut opened = Vec::new();
    for link in &plan.interfaces {
        let Some(path) = link.capture.as_deref() else {
            opened.push((link.clone(), open(link, plan, about)?));
            continue;
        };
        let wrong = |error: io::Error| {
            let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
            let told = if errno == Errno::EINVAL {
                "not a regular file".to_owned()
            } else {
                errno.to_string()
            };
            MountError::new(errno, format!("pcap={}: {told}", path.display()))
        };
        let file = match files.iter().find(|(known, _)| *known == path) {
            Some((_, file)) => Arc::clone(file),
            None => {
                let file = CaptureFile::create(path).map_err(wrong)?;
                files.push((path, Arc::clone(&file)));
                file
            }
        };
        let shown = Interface { name: &link.name, about: &link.vnl, mac: Some(link.mac) };
        let plug = file.capture(&shown, open(link, plan, about)?).map_err(wrong)?;
        opened.push((link.clone(), Arc::new(plug)));
    }
    Ok(opened)
}

/// Errors: a capture is wanted of a stack whose frames do not pass here.
fn refuse_capture(request: &MountRequest) -> Result<(), MountError> {
    let word = request.data.split(',').map(str::trim).find(|word| word.starts_with("pcap="));
    word.map_or(Ok(()), |word| {
        let reason =
            format!("{word}: only of smoltcp and vdestack, whose networks are opened here");
        Err(MountError::new(Errno::EOPNOTSUPP, reason))
    })
}

/// Opens the network of an interface.
fn open(
    link: &InterfacePlan,
    plan: &StackPlan,
    about: &str,
) -> Result<Arc<dyn Transport>, MountError> {
    let transport = vdeplug::open(&link.vnl, about)
        .map_err(|error| MountError::new(Errno(error.errno()), error.to_string()))?;
    if plan.strict {
        transport.set_strict();
    }
    Ok(transport)
}

/// What a type and a source ask for: the stack, and the locator that the source names.
fn select(request: &MountRequest) -> Result<(Kind, Option<&str>), MountError> {
    let source = request.source.as_str();
    match request.fstype.as_str() {
        "vunetsmoltcp" => Ok((Kind::Smoltcp, Some(source).filter(|vnl| *vnl != "none"))),
        "vunetvdestack" => Ok((Kind::Vdestack, Some(source))),
        "vunetnull" => Ok((Kind::Null, None)),
        "vunetreal" => Ok((Kind::Real, None)),
        "vunetioth" => match source {
            "" | "none" | "smoltcp" => Ok((Kind::Smoltcp, None)),
            "vdestack" => Ok((Kind::Vdestack, None)),
            "kernel" | "real" => Ok((Kind::Real, None)),
            "null" => Ok((Kind::Null, None)),
            _ => Ok((Kind::Plugin, None)),
        },
        other => Err(MountError::new(
            Errno::ENODEV,
            format!("{other}: unknown type (vunet mounts {})", FSTYPES.join(", ")),
        )),
    }
}

const FSTYPES: &[&str] = &["vunetioth", "vunetsmoltcp", "vunetvdestack", "vunetnull", "vunetreal"];

impl Module for Vunet {
    fn name(&self) -> &'static str {
        "vunet"
    }

    fn description(&self) -> &'static str {
        "vu virtual networking"
    }

    fn fstypes(&self) -> &'static [&'static str] {
        FSTYPES
    }

    fn mount(&self, request: &MountRequest) -> Result<Mounted, MountError> {
        let (kind, network) = select(request)?;
        let about = format!("umvu {}", request.target);
        if !matches!(kind, Kind::Smoltcp | Kind::Vdestack) {
            refuse_capture(request)?;
        }
        let stack: Arc<dyn NetStack> = match kind {
            Kind::Null => Arc::new(NullStack),
            Kind::Real => Arc::new(RealStack),
            Kind::Smoltcp => self.smoltcp(&plan(request, network)?, about.trim_end())?,
            Kind::Vdestack => self.vdestack(&plan(request, network)?, about.trim_end())?,
            Kind::Plugin => self.plugin(request)?,
        };
        Ok(Mounted::Stack(stack))
    }
}
