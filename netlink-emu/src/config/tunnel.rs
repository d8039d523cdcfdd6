//! Tun and tap interfaces: found or made by a name, and changed by their programs.

use umvu_abi::{
    Errno, IfIndex,
    tunnel::{TunnelChange, TunnelSpec},
};

use super::NetConfig;
use crate::{
    host::Failure,
    values::{Change, Interface, Layer, LinkChange, NewLink, Tunnel},
};

/// Which interface a program gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelPlan {
    /// One that is there.
    Existing(IfIndex),
    /// A new one, of this name and index.
    New(String, IfIndex),
}

impl NetConfig {
    /// Finds the interface that a program asks for (`tun_set_iff`). Errors: `EINVAL` for a bad name
    /// and for an interface of another kind, `EBUSY` for one that is refused because it exists,
    /// `ENFILE` when no number is free.
    pub fn plan_tunnel(&mut self, spec: &TunnelSpec) -> Result<TunnelPlan, Failure> {
        if let Some(link) = self.link_named(&spec.name) {
            return match link.layer.tunnel() {
                _ if spec.exclusive => Err(Errno::EBUSY.into()),
                Some(tunnel) if tunnel.kind == spec.kind => Ok(TunnelPlan::Existing(link.index)),
                _ => Err(Errno::EINVAL.into()),
            };
        }
        let prefix = match spec.kind {
            umvu_abi::tunnel::TunnelKind::Tun => "tun",
            umvu_abi::tunnel::TunnelKind::Tap => "tap",
        };
        let name = (!spec.name.is_empty()).then(|| spec.name.clone());
        let properties =
            LinkChange { name: name.or(Some(format!("{prefix}%d"))), ..LinkChange::default() };
        let link = NewLink { properties, ..NewLink::default() };
        let (name, index) = self.plan_link(&link)?;
        Ok(TunnelPlan::New(name, index))
    }

    /// Changes what a program may of its interface. Errors: `EBADFD` when it is gone.
    pub fn change_tunnel(&mut self, index: IfIndex, change: TunnelChange) -> Result<(), Errno> {
        let alter: &dyn Fn(&mut Tunnel) = match change {
            TunnelChange::Persistent(on) => &move |tunnel| tunnel.persistent = on,
            TunnelChange::Owner(owner) => &move |tunnel| tunnel.owner = owner,
            TunnelChange::Group(group) => &move |tunnel| tunnel.group = group,
            TunnelChange::Carrier(on) => {
                self.link(index).ok_or(Errno::EBADFD)?;
                self.set_carrier(index, on);
                return Ok(());
            }
        };
        self.alter_tunnel(index, alter)
    }

    /// Has a tunnel look as its program wants it. Errors: `EBADFD` when it is gone.
    pub fn alter_tunnel(
        &mut self,
        index: IfIndex,
        alter: impl FnOnce(&mut Tunnel),
    ) -> Result<(), Errno> {
        let link = self.links.iter_mut().find(|link| link.index == index);
        let link: &mut Interface = link.ok_or(Errno::EBADFD)?;
        let Layer::Tunnel(tunnel) = &mut link.layer else { return Err(Errno::EBADFD) };
        alter(tunnel);
        let link = link.clone();
        self.note(Change::Link(link));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use umvu_abi::tunnel::{PacketInfo, TunnelKind};

    use super::*;

    fn spec(name: &str, kind: TunnelKind) -> TunnelSpec {
        TunnelSpec { name: name.to_owned(), kind, info: PacketInfo::Absent, exclusive: false }
    }

    fn make(config: &mut NetConfig, wanted: &TunnelSpec) -> IfIndex {
        let Ok(TunnelPlan::New(name, index)) = config.plan_tunnel(wanted) else {
            panic!("a new one")
        };
        let TunnelSpec { kind, info, .. } = *wanted;
        let tunnel = Tunnel { kind, info, persistent: false, owner: None, group: None };
        config.insert_link(Interface::tunnel(index, &name, tunnel, [2; 6])).expect("it is new");
        index
    }

    #[test]
    fn names_are_patterns_and_interfaces_are_found_again() {
        let mut config = NetConfig::default();
        make(&mut config, &spec("", TunnelKind::Tun));
        let second = make(&mut config, &spec("tun%d", TunnelKind::Tun));
        assert_eq!(config.link(second).map(|link| link.name.as_str()), Some("tun1"));
        let again = spec("tun1", TunnelKind::Tun);
        assert_eq!(config.plan_tunnel(&again), Ok(TunnelPlan::Existing(second)));
        let exclusive = TunnelSpec { exclusive: true, ..again };
        assert_eq!(config.plan_tunnel(&exclusive), Err(Errno::EBUSY.into()));
        let other = spec("tun1", TunnelKind::Tap);
        assert_eq!(config.plan_tunnel(&other), Err(Errno::EINVAL.into()));
        assert_eq!(config.plan_tunnel(&spec("lo", TunnelKind::Tun)), Err(Errno::EINVAL.into()));
    }

    #[test]
    fn what_a_program_says_shows_in_the_flags() {
        let mut config = NetConfig::default();
        let index = make(&mut config, &spec("t", TunnelKind::Tap));
        let look = |config: &NetConfig| {
            config.link(index).and_then(|link| link.layer.tunnel()).map(|tunnel| tunnel.flags())
        };
        assert_eq!(look(&config), Some(0x1002));
        config.change_tunnel(index, TunnelChange::Persistent(true)).expect("it is there");
        assert_eq!(look(&config), Some(0x1802));
        assert_eq!(config.change_tunnel(IfIndex(1), TunnelChange::Owner(None)), Err(Errno::EBADFD));
    }
}
