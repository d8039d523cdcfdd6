//! The properties of an interface in a `struct ifreq`.

use umvu_abi::{Errno, IfIndex};

use super::{ifreq::IfReq, numbers as n};
use crate::{
    host::HostNet,
    values::{Interface, LinkChange, LinkFlags},
};

pub(super) fn serve(host: &dyn HostNet, request: u32, argument: &mut [u8]) -> Result<i32, Errno> {
    let mut ifreq = IfReq::new(argument)?;
    if request == n::SIOCGIFNAME {
        let index = u32::try_from(ifreq.int()).map_err(|_| Errno::ENODEV)?;
        let mut links = host.interfaces().into_iter();
        let link = links.find(|link| link.index == IfIndex(index)).ok_or(Errno::ENODEV)?;
        ifreq.set_name(&link.name);
        return Ok(0);
    }
    let link = ifreq.interface(host)?;
    if get(&link, request, &mut ifreq) {
        return Ok(0);
    }
    if request == n::SIOCSIFFLAGS {
        return set_flags(host, &link, &ifreq);
    }
    let change = change(&link, request, &ifreq)?;
    host.set_link(link.index, &change)?;
    Ok(0)
}

/// Answers a request that only asks; false for others.
fn get(link: &Interface, request: u32, ifreq: &mut IfReq<'_>) -> bool {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    match request {
        n::SIOCGIFFLAGS => {
            ifreq.clear();
            ifreq.set_int(number(link.all_flags().bits() & 0xffff));
        }
        n::SIOCGIFMETRIC => ifreq.set_int(0),
        n::SIOCGIFMTU => ifreq.set_int(number(link.mtu)),
        n::SIOCGIFHWADDR => ifreq.set_mac(link.kind.hardware_type(), link.mac),
        n::SIOCGIFINDEX => ifreq.set_int(number(link.index.0)),
        n::SIOCGIFTXQLEN => ifreq.set_int(number(link.txqlen)),
        n::SIOCGIFMAP => ifreq.clear(),
        n::SIOCADDMULTI | n::SIOCDELMULTI => {}
        _ => return false,
    }
    true
}

fn change(link: &Interface, request: u32, ifreq: &IfReq<'_>) -> Result<LinkChange, Errno> {
    let number = || u32::try_from(ifreq.int()).map_err(|_| Errno::EINVAL);
    let mut change = LinkChange::default();
    match request {
        n::SIOCSIFMTU => change.mtu = Some(number()?),
        n::SIOCSIFTXQLEN => change.txqlen = Some(number()?),
        n::SIOCSIFNAME => change.name = Some(ifreq.new_name()?.to_owned()),
        n::SIOCSIFHWADDR | n::SIOCSIFHWBROADCAST => {
            let (kind, mac) = ifreq.mac();
            if kind != link.kind.hardware_type() {
                return Err(Errno::EINVAL);
            }
            if request == n::SIOCSIFHWADDR {
                change.mac = Some(mac);
            } else {
                change.broadcast = Some(mac);
            }
        }
        n::SIOCSIFPFLAGS | n::SIOCGIFPFLAGS | n::SIOCGIFSLAVE => return Err(Errno::EINVAL),
        n::SIOCSIFMETRIC | n::SIOCSIFMAP => return Err(Errno::EOPNOTSUPP),
        0x8947..=0x89ff => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(change)
}

/// `ifconfig eth0 up`; taking a label down removes its address.
fn set_flags(host: &dyn HostNet, link: &Interface, ifreq: &IfReq<'_>) -> Result<i32, Errno> {
    let flags = LinkFlags::from_bits_retain(u32::from(ifreq.short()));
    let name = ifreq.name()?;
    if name.contains(':') {
        if flags.contains(LinkFlags::UP) {
            return Ok(0);
        }
        let mut all = host.addresses().into_iter();
        let held = all.find(|address| address.label.as_deref() == Some(name));
        host.del_address(&held.ok_or(Errno::EADDRNOTAVAIL)?)?;
        return Ok(0);
    }
    let flags_mask = LinkFlags::from_bits_retain(0xffff);
    host.set_link(link.index, &LinkChange { flags_mask, flags, ..LinkChange::default() })?;
    Ok(0)
}
