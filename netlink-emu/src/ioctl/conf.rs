//! `SIOCGIFCONF`: the interfaces that have an IPv4 address, once for each.

use std::net::IpAddr;

use umvu_abi::Errno;

use super::ifreq::{LENGTH, NAME, name_bytes, sockaddr};
use crate::host::HostNet;

pub(super) fn get(host: &dyn HostNet, argument: &mut Vec<u8>) -> Result<i32, Errno> {
    let links = host.interfaces();
    let mut array = Vec::new();
    for address in host.addresses() {
        let IpAddr::V4(ip) = address.ip() else { continue };
        let Some(link) = links.iter().find(|link| link.index == address.interface) else {
            continue;
        };
        array.extend_from_slice(&name_bytes(address.label.as_deref().unwrap_or(&link.name)));
        array.extend_from_slice(&sockaddr(ip));
        array.resize(array.len() + LENGTH - NAME - 16, 0);
    }
    if !argument.is_empty() {
        let fitting = argument.len() / LENGTH * LENGTH;
        array.truncate(fitting);
    }
    let length = i32::try_from(array.len()).map_err(|_| Errno::EINVAL)?;
    if !argument.is_empty() {
        *argument = array;
    }
    Ok(length)
}
