//! Tun and tap interfaces: a program is at the other end. They come when one asks for them, and go with
//! the last descriptor of it, unless they are persistent.

use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use netlink_emu::{
    config::TunnelPlan,
    values::{Interface, Tunnel as Looks},
};
use umvu_abi::{
    Errno, IfIndex,
    tunnel::{PacketInfo, Tunnel, TunnelChange, TunnelKind, TunnelSpec},
};
use vdeplug::{Messages, Program};

use super::{inner::Inner, shared::Shared, wire::Transport};
use crate::names::Names;

/// The interface as its program has it.
struct Attached {
    shared: Weak<Shared>,
    index: IfIndex,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({})", self.index.0)
    }
}

impl Attached {
    fn with<R>(&self, action: impl FnOnce(&mut Inner) -> Result<R, Errno>) -> Result<R, Errno> {
        self.shared.upgrade().ok_or(Errno::EBADFD)?.with(action)
    }
}

impl Tunnel for Attached {
    fn look(&self) -> Result<(String, bool), Errno> {
        self.with(|inner| {
            let link = inner.net.config.link(self.index).ok_or(Errno::EBADFD)?;
            let looks = link.layer.tunnel().ok_or(Errno::EBADFD)?;
            Ok((link.name.clone(), looks.persistent))
        })
    }

    fn change(&self, change: TunnelChange) -> Result<(), Errno> {
        self.with(|inner| inner.net.config.change_tunnel(self.index, change))
    }
}

fn messages(spec: &TunnelSpec) -> Messages {
    match (spec.kind, spec.info) {
        (TunnelKind::Tun, PacketInfo::Absent) => Messages::Packets,
        (TunnelKind::Tun, PacketInfo::Present) => Messages::PacketsWithInfo,
        (TunnelKind::Tap, PacketInfo::Absent) => Messages::Frames,
        (TunnelKind::Tap, PacketInfo::Present) => Messages::FramesWithInfo,
    }
}

/// Joins a program to an interface ([`umvu_abi::net::NetStack::attach_tunnel`]).
pub(crate) fn attach(
    shared: &Arc<Shared>,
    spec: &TunnelSpec,
    end: OwnedFd,
) -> Result<Arc<dyn Tunnel>, Errno> {
    let program: Arc<dyn Transport> = Arc::new(Program::new(end, messages(spec))?);
    let names = shared.names();
    let index = shared.with(|inner| inner.join_tunnel(spec, &program, names))?;
    if let Err(errno) = shared.watch(index.0, &program) {
        shared.with(|inner| {
            if let Some(at) = inner.link_at(index.0) {
                inner.leave_tunnel(at);
            }
        });
        return Err(errno);
    }
    Ok(Arc::new(Attached { shared: Arc::downgrade(shared), index }))
}

impl Inner {
    fn join_tunnel(
        &mut self,
        spec: &TunnelSpec,
        program: &Arc<dyn Transport>,
        names: &Names,
    ) -> Result<IfIndex, Errno> {
        if self.stopped {
            return Err(Errno::ENETDOWN);
        }
        self.look_for_programs();
        match self.net.config.plan_tunnel(spec).map_err(|failure| failure.errno)? {
            TunnelPlan::Existing(index) => {
                self.rejoin_tunnel(index, spec, program)?;
                Ok(index)
            }
            TunnelPlan::New(name, index) => {
                let TunnelSpec { kind, info, .. } = *spec;
                let looks = Looks { kind, info, persistent: false, owner: None, group: None };
                let made = Interface::tunnel(index, &name, looks, names.mac(&name));
                self.net.config.insert_link(made).map_err(|failure| failure.errno)?;
                self.plug(index, Some(Arc::clone(program)))?;
                Ok(index)
            }
        }
    }

    fn rejoin_tunnel(
        &mut self,
        index: IfIndex,
        spec: &TunnelSpec,
        program: &Arc<dyn Transport>,
    ) -> Result<(), Errno> {
        let at = self.link_at(index.0).ok_or(Errno::EBUSY)?;
        let link = &mut self.links[at];
        if link.transport.is_some() {
            return Err(Errno::EBUSY);
        }
        link.transport = Some(Arc::clone(program));
        link.carrier = true;
        self.net.config.set_carrier(index, true);
        self.net.config.alter_tunnel(index, |looks| looks.info = spec.info)
    }

    /// Notices programs that have gone just now, as who has ended one expects.
    pub(crate) fn look_for_programs(&mut self) {
        let tunnels = self.net.config.links().iter().filter(|link| link.layer.tunnel().is_some());
        let tunnels: Vec<u32> = tunnels.map(|link| link.index.0).collect();
        for index in tunnels {
            if let Some(at) = self.link_at(index) {
                self.drain(at);
            }
        }
    }

    /// The program of a link has gone, if it is one that has a program.
    pub(crate) fn leave_tunnel(&mut self, at: usize) {
        let Some(link) = self.links.get_mut(at) else { return };
        let index = IfIndex(link.index);
        let looks = self.net.config.link(index).and_then(|link| link.layer.tunnel());
        match looks {
            Some(Looks { persistent: true, .. }) => {
                link.transport = None;
                link.carrier = false;
                link.queue.clear();
                self.abandoned.push(index.0);
                self.net.config.set_carrier(index, false);
            }
            Some(_) => {
                // It is there, and not `lo`.
                let _ = self.net.config.remove_link(index);
            }
            None => {}
        }
    }
}
