//! `/sys/class/net` of a stack: a directory per interface, where Linux has links to devices.

use std::{fmt, sync::Arc};

use umvu_abi::{
    Errno,
    tree::{Entry, Tree},
};

use crate::{
    host::HostNet,
    proc::mac,
    values::{Counters, Interface, LinkChange, LinkFlags, Tunnel},
};

/// Makes the tree `/sys/class/net` of a stack.
#[must_use]
pub fn sys_class_net(host: &Arc<dyn HostNet>) -> Arc<dyn Tree> {
    Arc::new(SysClassNet { host: Arc::clone(host) })
}

struct SysClassNet {
    host: Arc<dyn HostNet>,
}

/// Makes the content of an attribute, without the newline.
type Maker = fn(&Interface) -> Result<String, Errno>;

/// The attributes: name, whether it can be written, content.
const ATTRIBUTES: &[(&str, bool, Maker)] = &[
    ("addr_assign_type", false, |_| Ok("0".to_owned())),
    ("addr_len", false, |_| Ok("6".to_owned())),
    ("address", false, |link| Ok(mac(link.mac))),
    ("broadcast", false, |link| Ok(mac(link.broadcast))),
    ("carrier", true, |link| {
        // As in the kernel: nobody knows while it is down.
        if link.is_up() { Ok(u8::from(link.carrier).to_string()) } else { Err(Errno::EINVAL) }
    }),
    ("carrier_changes", false, |link| {
        let changes = link.carrier_changes;
        Ok(changes.up.wrapping_add(changes.down).to_string())
    }),
    ("carrier_down_count", false, |link| Ok(link.carrier_changes.down.to_string())),
    ("carrier_up_count", false, |link| Ok(link.carrier_changes.up.to_string())),
    ("dev_id", false, |_| Ok("0x0".to_owned())),
    ("dev_port", false, |_| Ok("0".to_owned())),
    ("dormant", false, |link| if link.is_up() { Ok("0".to_owned()) } else { Err(Errno::EINVAL) }),
    ("duplex", false, |_| Err(Errno::EINVAL)),
    ("flags", true, |link| Ok(format!("0x{:x}", link.flags.bits()))),
    ("gro_flush_timeout", true, |_| Ok("0".to_owned())),
    ("ifalias", true, |link| Ok(link.alias.clone().unwrap_or_default())),
    ("ifindex", false, |link| Ok(link.index.0.to_string())),
    ("iflink", false, |link| Ok(link.index.0.to_string())),
    ("link_mode", false, |_| Ok("0".to_owned())),
    ("mtu", true, |link| Ok(link.mtu.to_string())),
    ("name_assign_type", false, |_| Ok("4".to_owned())),
    ("netdev_group", true, |link| Ok(link.group.to_string())),
    ("operstate", false, |link| Ok(link.oper_state().word().to_owned())),
    ("proto_down", true, |_| Ok("0".to_owned())),
    ("speed", false, |_| Err(Errno::EINVAL)),
    ("testing", false, |link| if link.is_up() { Ok("0".to_owned()) } else { Err(Errno::EINVAL) }),
    ("tx_queue_len", true, |link| Ok(link.txqlen.to_string())),
    ("type", false, |link| Ok(link.kind.hardware_type().to_string())),
    ("uevent", true, |link| Ok(format!("INTERFACE={}\nIFINDEX={}", link.name, link.index.0))),
];

/// The attributes that tun and tap interfaces have beside these.
const OF_TUNNELS: &[(&str, bool, Maker)] = &[
    ("group", false, |link| tunnel(link).map(|tunnel| id(tunnel.group))),
    ("owner", false, |link| tunnel(link).map(|tunnel| id(tunnel.owner))),
    ("tun_flags", false, |link| tunnel(link).map(|tunnel| format!("0x{:x}", tunnel.flags()))),
];

fn tunnel(link: &Interface) -> Result<Tunnel, Errno> {
    link.layer.tunnel().ok_or(Errno::ENOENT)
}

fn id(id: Option<u32>) -> String {
    id.map_or("-1".to_owned(), |id| id.to_string())
}

/// The attributes of an interface.
fn attributes(link: &Interface) -> impl Iterator<Item = &'static (&'static str, bool, Maker)> {
    let tunnels: &[_] = if link.layer.tunnel().is_some() { OF_TUNNELS } else { &[] };
    ATTRIBUTES.iter().chain(tunnels)
}

/// Reads one counter.
type Counter = fn(&Counters) -> u64;

/// The counters in `statistics`.
const STATISTICS: &[(&str, Counter)] = &[
    ("collisions", |_| 0),
    ("multicast", |counters| counters.multicast),
    ("rx_bytes", |counters| counters.rx_bytes),
    ("rx_compressed", |_| 0),
    ("rx_crc_errors", |_| 0),
    ("rx_dropped", |counters| counters.rx_dropped),
    ("rx_errors", |counters| counters.rx_errors),
    ("rx_fifo_errors", |_| 0),
    ("rx_frame_errors", |_| 0),
    ("rx_length_errors", |_| 0),
    ("rx_missed_errors", |_| 0),
    ("rx_nohandler", |counters| counters.rx_nohandler),
    ("rx_over_errors", |_| 0),
    ("rx_packets", |counters| counters.rx_packets),
    ("tx_aborted_errors", |_| 0),
    ("tx_bytes", |counters| counters.tx_bytes),
    ("tx_carrier_errors", |_| 0),
    ("tx_compressed", |_| 0),
    ("tx_dropped", |counters| counters.tx_dropped),
    ("tx_errors", |counters| counters.tx_errors),
    ("tx_fifo_errors", |_| 0),
    ("tx_heartbeat_errors", |_| 0),
    ("tx_packets", |counters| counters.tx_packets),
    ("tx_window_errors", |_| 0),
];

impl fmt::Debug for SysClassNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SysClassNet")
    }
}

impl SysClassNet {
    fn link(&self, name: &str) -> Result<Interface, Errno> {
        let mut links = self.host.interfaces().into_iter();
        links.find(|link| link.name == name).ok_or(Errno::ENOENT)
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Result<Entry, Errno> {
    Ok(Entry::Directory(names.map(str::to_owned).collect()))
}

fn attribute(link: &Interface, name: &str) -> Result<(bool, Maker), Errno> {
    let found = attributes(link).find(|(held, ..)| *held == name);
    found.map(|(_, writable, maker)| (*writable, *maker)).ok_or(Errno::ENOENT)
}

impl Tree for SysClassNet {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some((name, rest)) = parts.split_first() else {
            let links = self.host.interfaces();
            return names(links.iter().map(|link| link.name.as_str()));
        };
        let link = self.link(name)?;
        match rest {
            [] => {
                let files = attributes(&link).map(|(name, ..)| *name);
                names(files.chain(["queues", "statistics", "subsystem"]))
            }
            ["subsystem"] => Ok(Entry::Link("../../net".to_owned())),
            ["queues"] => names(["rx-0", "tx-0"].into_iter()),
            ["queues", "rx-0" | "tx-0"] => names(std::iter::empty()),
            ["statistics"] => names(STATISTICS.iter().map(|(name, _)| *name)),
            ["statistics", counter] => {
                let known = STATISTICS.iter().any(|(name, _)| name == counter);
                if known { Ok(Entry::File { mode: 0o444 }) } else { Err(Errno::ENOENT) }
            }
            [file] => {
                let (writable, _) = attribute(&link, file)?;
                Ok(Entry::File { mode: if writable { 0o644 } else { 0o444 } })
            }
            [file, ..] if attribute(&link, file).is_ok() => Err(Errno::ENOTDIR),
            _ => Err(Errno::ENOENT),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if let Entry::Directory(_) | Entry::Link(_) = self.entry(path)? {
            return Err(Errno::EISDIR);
        }
        let (name, file) = path.split_once('/').ok_or(Errno::EISDIR)?;
        let link = self.link(name)?;
        let text = match file.strip_prefix("statistics/") {
            Some(counter) => {
                let found = STATISTICS.iter().find(|(name, _)| *name == counter);
                found.ok_or(Errno::ENOENT)?.1(&link.counters).to_string()
            }
            None if file == "flags" => {
                // IFF_RUNNING and IFF_LOWER_UP are not shown here.
                let shown = link.flags - LinkFlags::RUNNING - LinkFlags::LOWER_UP;
                format!("0x{:x}", shown.bits())
            }
            None => attribute(&link, file)?.1(&link)?,
        };
        Ok(format!("{text}\n").into_bytes())
    }

    fn tells_errors(&self) -> bool {
        true
    }

    fn write(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        let (name, file) = path.split_once('/').ok_or(Errno::EISDIR)?;
        let link = self.link(name)?;
        if !attribute(&link, file)?.0 {
            return Err(Errno::EACCES);
        }
        let value = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim_end();
        let number = || {
            let hex = value.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
            hex.unwrap_or_else(|| value.parse()).map_err(|_| Errno::EINVAL)
        };
        let mut change = LinkChange::default();
        match file {
            "mtu" => change.mtu = Some(number()?),
            "tx_queue_len" => change.txqlen = Some(number()?),
            "netdev_group" => change.group = Some(number()?),
            "ifalias" => change.alias = Some(value.to_owned()),
            "carrier" => change.carrier = Some(number()? != 0),
            "flags" => {
                change.flags_mask = LinkFlags::from_bits_retain(u32::MAX);
                change.flags = LinkFlags::from_bits_retain(number()?);
            }
            _ => return Err(Errno::EINVAL),
        }
        self.host.set_link(link.index, &change)?;
        Ok(())
    }
}
