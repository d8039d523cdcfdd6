//! What needs nobody's answer: links, addresses and default routes.

use std::{net::IpAddr, thread, time::Duration};

use netlink_emu::{
    Failure,
    values::{Address, AddressFlags, LinkChange, Route},
};
use umvu_abi::{Errno, IfIndex, module::MountError};

use super::rtnl::Rtnl;
use crate::{
    names,
    options::{InterfacePlan, StackPlan},
};

/// How often, and how often at most, to look whether new IPv6 addresses may be used.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: usize = 50;

/// Configures the interfaces of a stack as its plan says; gives their indices, in its order.
pub(super) fn configure(rtnl: &mut Rtnl, plan: &StackPlan) -> Result<Vec<IfIndex>, MountError> {
    if plan.up() {
        let lo = rtnl.index("lo").and_then(|lo| rtnl.set_link(lo, &LinkChange::admin(true)));
        lo.map_err(|failure| refused("lo", &failure))?;
    }
    let mut indices = Vec::new();
    for interface in &plan.interfaces {
        indices.push(raise(rtnl, interface).map_err(|failure| refused(&interface.name, &failure))?);
    }
    for (interface, index) in plan.interfaces.iter().zip(&indices) {
        for (ip, prefix) in &interface.setup.addresses {
            let what = format!("ip={ip}/{prefix}");
            rtnl.put_address(&address(*index, *ip, *prefix)).map_err(|f| refused(&what, &f))?;
        }
    }
    for (interface, index) in plan.interfaces.iter().zip(&indices) {
        if interface.setup.addresses.iter().any(|(ip, _)| ip.is_ipv6()) {
            settle(rtnl, *index);
        }
        for gateway in &interface.setup.gateways {
            let what = format!("gw={gateway}");
            rtnl.put_route(&default_by(*gateway, *index)).map_err(|f| refused(&what, &f))?;
        }
    }
    Ok(indices)
}

/// An error that names the option it is about.
fn refused(what: &str, failure: &Failure) -> MountError {
    MountError::new(failure.errno, format!("{what}: {failure}"))
}

/// Gives an interface its hardware address and MTU, and brings it up if it is to be.
fn raise(rtnl: &mut Rtnl, interface: &InterfacePlan) -> Result<IfIndex, Failure> {
    let index = rtnl.index(&interface.name)?;
    let hardware =
        LinkChange { mac: Some(interface.mac), mtu: interface.mtu, ..LinkChange::default() };
    match rtnl.set_link(index, &hardware) {
        // A stack that chooses by itself keeps its choice.
        Err(failure) if failure.errno == Errno::EOPNOTSUPP && interface.mtu.is_none() => {}
        other => other?,
    }
    if interface.setup.up {
        rtnl.set_link(index, &LinkChange::admin(true))?;
        if let Some(fqdn) = interface.setup.fqdn.as_ref().filter(|_| interface.setup.rd.is_some()) {
            // A stack without such tokens uses the hardware address, which is made of the name too.
            let _ = rtnl.set_token(index, names::hash_identifier(fqdn));
        }
    }
    Ok(index)
}

/// An address as ip(8) adds it. It is the user's choice and of use at once: no detection of
/// duplicates.
fn address(index: IfIndex, ip: IpAddr, prefix: u8) -> Address {
    let mut address = Address::new(index, ip, prefix);
    match (ip, address.prefix.last()) {
        (IpAddr::V4(_), IpAddr::V4(last)) if prefix < 31 => address.broadcast = Some(last),
        (IpAddr::V6(_), _) => address.flags |= AddressFlags::NODAD,
        _ => {}
    }
    address
}

/// A default route; IPv6 gateways are often known by link-local addresses, which need the link.
fn default_by(gateway: IpAddr, index: IfIndex) -> Route {
    let oif = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local()).then_some(index);
    let metric = if gateway.is_ipv6() { 1024 } else { 0 };
    Route { oif, metric, ..Route::default_by(gateway) }
}

/// Waits until IPv6 addresses may be used: a kernel makes up its mind in the background.
pub(super) fn settle(rtnl: &mut Rtnl, index: IfIndex) {
    let tentative = |address: &Address| address.flags.contains(AddressFlags::TENTATIVE);
    for _ in 0..LOOKS {
        match rtnl.addresses(index) {
            Ok(addresses) if addresses.iter().any(tentative) => thread::sleep(LOOK),
            _ => return,
        }
    }
}
