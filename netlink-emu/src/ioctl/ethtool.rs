//! `SIOCETHTOOL`: whether the link is up, and the name of the driver; nothing else.

use umvu_abi::Errno;

use super::ifreq::IfReq;
use crate::host::HostNet;

/// `ETHTOOL_GDRVINFO` and the size of its structure.
const GDRVINFO: u32 = 0x3;
const DRVINFO: usize = 196;
/// `ETHTOOL_GLINK`.
const GLINK: u32 = 0xa;

pub(super) fn serve(host: &dyn HostNet, argument: &mut [u8]) -> Result<i32, Errno> {
    let mut ifreq = IfReq::new(argument)?;
    let link = ifreq.interface(host)?;
    let data = ifreq.rest();
    let command = data.get(..4).and_then(|bytes| bytes.try_into().ok());
    let command = command.ok_or(Errno::EOPNOTSUPP)?;
    match u32::from_ne_bytes(command) {
        GLINK => {
            let value = data.get_mut(4..8).ok_or(Errno::EFAULT)?;
            value.copy_from_slice(&u32::from(link.is_running()).to_ne_bytes());
            Ok(0)
        }
        GDRVINFO => {
            let info = data.get_mut(4..DRVINFO).ok_or(Errno::EFAULT)?;
            let driver = link.kind.info_kind().filter(|_| !link.is_loopback());
            let driver = driver.ok_or(Errno::EOPNOTSUPP)?;
            info.fill(0);
            let count = driver.len().min(31);
            info[..count].copy_from_slice(&driver.as_bytes()[..count]);
            Ok(0)
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}
