//! `SIOCSIFADDR` and `SIOCDIFADDR` on an AF_INET6 socket: `struct in6_ifreq`.

use std::net::Ipv6Addr;

use umvu_abi::{Errno, IfIndex};

use crate::{
    host::HostNet,
    values::{Address, RouteMode},
};

/// The size of `struct in6_ifreq`: address, prefix length, index.
pub(super) const LENGTH: usize = 24;

pub(super) fn change(host: &dyn HostNet, add: bool, argument: &[u8]) -> Result<i32, Errno> {
    let octets: [u8; 16] = argument[..16].try_into().map_err(|_| Errno::EINVAL)?;
    let number = |at: usize| -> Result<u32, Errno> {
        let bytes = argument.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        Ok(u32::from_ne_bytes(bytes.ok_or(Errno::EINVAL)?))
    };
    let length = u8::try_from(number(16)?).ok().filter(|length| *length <= 128);
    let length = length.ok_or(Errno::EINVAL)?;
    let index = IfIndex(number(20)?);
    let address = Address::new(index, Ipv6Addr::from(octets).into(), length);
    if add {
        host.add_address(&address, RouteMode::ADD)?;
    } else {
        host.del_address(&address)?;
    }
    Ok(0)
}
