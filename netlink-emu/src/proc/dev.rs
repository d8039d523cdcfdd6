//! `/proc/net/dev` and `/proc/net/dev_mcast`.

use std::{fmt::Write, net::IpAddr};

use super::{files::name_of, groups};
use crate::host::HostNet;

const DEV_HEADER: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

pub(super) fn dev(host: &dyn HostNet) -> String {
    let mut text = DEV_HEADER.to_owned();
    for link in host.interfaces() {
        let c = link.counters;
        let name = link.name;
        let missed = c.rx_dropped;
        let _ = writeln!(
            text,
            "{name:>6}: {:7} {:7} {:4} {missed:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} \
             {:5} {:7} {:10}",
            c.rx_bytes,
            c.rx_packets,
            c.rx_errors,
            0,
            0,
            0,
            c.multicast,
            c.tx_bytes,
            c.tx_packets,
            c.tx_errors,
            c.tx_dropped,
            0,
            0,
            0,
            0,
        );
    }
    text
}

pub(super) fn dev_mcast(host: &dyn HostNet) -> String {
    let links = host.interfaces();
    let mut text = String::new();
    for member in groups::all(host) {
        let link = links.iter().find(|link| link.index == member.interface);
        if link.is_none_or(crate::values::Interface::is_loopback) {
            continue;
        }
        let mac = match member.group {
            IpAddr::V4(group) => {
                let [_, b, c, d] = group.octets();
                [0x01, 0x00, 0x5e, b & 0x7f, c, d]
            }
            IpAddr::V6(group) => {
                let octets = group.octets();
                if octets[1] & 0xf == 1 {
                    continue;
                }
                [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
            }
        };
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let (index, name) = (member.interface.0, name_of(&links, member.interface));
        let _ = writeln!(text, "{index:<4} {name:<15} {:<5} {:<5} {hex}", member.users, 0);
    }
    text
}
