//! What a `vxlan://` or `vxvde://` locator says: [`Options`], with the defaults of the reference.
//!
//! The two differ in their [`Dialect`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::if_nametoindex,
    unistd::{Group, getegid},
};

use crate::{
    error::OpenError,
    vnl::{Resolved, Vnl, VnlError},
    vxlan::wire::MAX_VNI,
};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 1);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0x56de, 0, 0, 0, 0, 0, 1);
const VNI: u32 = 1;
const TTL: u32 = 1;
const TABLE_SIZE: u64 = 1024;
const EXPIRY: u32 = 128;

/// What tells the schemes apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) scheme: &'static str,
    /// The parameters, of those that [`Options::of`] reads.
    pub(crate) names: &'static [&'static str],
    /// The port unless `port=` says another.
    pub(crate) port: u16,
    pub(crate) reach: Reach,
}

/// Which addresses a locator may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Groups,
    GroupsAndHosts,
}

/// The parameters of a network in UDP datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The multicast group, or the one peer, and its port.
    pub(crate) group: SocketAddr,
    pub(crate) vni: u32,
    pub(crate) ttl: u32,
    /// The interface that reaches the group; None: as the routes say.
    pub(crate) interface: Option<Interface>,
    /// The own address; None: as the routes say.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) table_size: usize,
    pub(crate) expiry: u32,
    pub(crate) receive_buffer: Option<usize>,
}

/// An interface, as the two families name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// Unspecified if it has no address of this family.
    pub(crate) v4: Ipv4Addr,
}

impl Options {
    /// Reads `[group][/port=][/vni=][/grp=][/ttl=][/v4][/v6][/if=][/bind=][/hashsize=]`
    /// `[/expiretime=][/rcvbuf=]`, as far as the dialect has them.
    pub(crate) fn of(vnl: &Vnl, dialect: &Dialect) -> Result<Self, OpenError> {
        let parameters = vnl.parameters.resolve(dialect.scheme, dialect.names)?;
        let group_id = parameters.get("grp").map(|name| group(&parameters, "grp", name));
        let group_id = group_id.transpose()?;
        let vni = parameters.get("vni").map(|name| group(&parameters, "vni", name)).transpose()?;
        let port = parameters.number("port", 1..=65_535)?.and_then(|p| u16::try_from(p).ok());
        let mut address = address(vnl, &parameters, port.unwrap_or(dialect.port), dialect.reach)?;
        if let Some(id) = group_id {
            address.set_ip(with_group(address.ip(), id));
        }
        let ttl = parameters.number("ttl", 0..=255)?.and_then(|t| u32::try_from(t).ok());
        let size = parameters.number("hashsize", 1..=1 << 24)?.unwrap_or(TABLE_SIZE);
        let expiry = parameters.number("expiretime", 1..=u64::from(u32::MAX))?;
        let buffer = parameters.number("rcvbuf", 1..=1 << 30)?;
        Ok(Self {
            group: address,
            vni: vni.or(group_id).unwrap_or(VNI),
            ttl: ttl.unwrap_or(TTL),
            interface: parameters.get("if").map(|n| interface(&parameters, n)).transpose()?,
            bind: parameters.get("bind").map(|a| bind(&parameters, a, address)).transpose()?,
            table_size: usize::try_from(size).unwrap_or(usize::MAX),
            expiry: expiry.and_then(|e| u32::try_from(e).ok()).unwrap_or(EXPIRY),
            receive_buffer: buffer.and_then(|b| usize::try_from(b).ok()),
        })
    }
}

impl Options {
    /// Looks the interface up again, which may be another one of the same name by now.
    pub(crate) fn refreshed(&self, place: &str) -> Result<Self, OpenError> {
        let mut options = self.clone();
        if let Some(Interface { name, .. }) = &self.interface {
            let found = Interface::find(name).ok_or_else(|| OpenError::Absent {
                place: place.to_owned(),
                problem: format!("no interface {name}"),
                remedy: "make it again".to_owned(),
            });
            options.interface = Some(found?);
        }
        Ok(options)
    }

    /// The index of the interface; 0: as the routes say.
    pub(crate) fn interface_index(&self) -> u32 {
        self.interface.as_ref().map_or(0, |interface| interface.index)
    }

    /// Whether the interface has no address to multicast from.
    pub(crate) fn is_nameless(&self) -> bool {
        let nameless = |interface: &Interface| interface.v4.is_unspecified();
        self.group.is_ipv4()
            && self.group.ip().is_multicast()
            && self.interface.as_ref().is_some_and(nameless)
    }
}

/// Finds the group's address; `v4` or `v6` alone demands that family.
fn address(
    vnl: &Vnl,
    parameters: &Resolved<'_>,
    port: u16,
    reach: Reach,
) -> Result<SocketAddr, OpenError> {
    let (v4, v6) = (parameters.get("v4").is_some(), parameters.get("v6").is_some());
    if vnl.path.is_empty() {
        let group = if v6 { IpAddr::from(GROUP_V6) } else { GROUP_V4.into() };
        return Ok(SocketAddr::new(group, port));
    }
    let host = vnl.path.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&vnl.path);
    let refused = |problem: &str, errno| OpenError::Refused {
        place: vnl.to_string(),
        problem: format!("{host} {problem}"),
        errno,
    };
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|_| refused("is no address and no known host", libc::ENOENT))?;
    let of_family = |a: &SocketAddr| v4 == v6 || a.is_ipv4() == v4;
    let found: Vec<_> = found.filter(of_family).collect();
    let first = found.first().ok_or_else(|| {
        refused("has no address of the family asked for by /v4 or /v6", libc::EAFNOSUPPORT)
    })?;
    let host = (reach == Reach::GroupsAndHosts).then_some(*first);
    found.iter().find(|a| a.ip().is_multicast()).copied().or(host).ok_or_else(|| {
        let right = if first.is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
        refused(&format!("is no multicast address ({right})"), libc::EINVAL)
    })
}

/// Replaces the last three bytes of an address by a group number.
fn with_group(address: IpAddr, id: u32) -> IpAddr {
    let [_, id @ ..] = id.to_be_bytes();
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            IpAddr::from([first, id[0], id[1], id[2]])
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[13..].copy_from_slice(&id);
            IpAddr::from(octets)
        }
    }
}

/// Reads a number of 24 bits, a group's name, or nothing for our own group.
fn group(parameters: &Resolved<'_>, name: &str, value: &str) -> Result<u32, VnlError> {
    let number = match value {
        "" => Some(getegid().as_raw()),
        _ => match value.parse() {
            Ok(number) => Some(number),
            Err(_) => Group::from_name(value).ok().flatten().map(|group| group.gid.as_raw()),
        },
    };
    let expected = format!("a number up to {MAX_VNI} or a group of this system");
    number
        .filter(|number| *number <= MAX_VNI)
        .ok_or_else(|| parameters.bad_value(name, value, &expected))
}

fn interface(parameters: &Resolved<'_>, name: &str) -> Result<Interface, VnlError> {
    Interface::find(name)
        .ok_or_else(|| parameters.bad_value("if", name, "an interface of this host"))
}

impl Interface {
    fn find(name: &str) -> Option<Self> {
        let index = if_nametoindex(name).ok()?;
        let addresses = getifaddrs().into_iter().flatten().filter(|a| a.interface_name == name);
        let v4 = addresses.filter_map(|a| Some(a.address?.as_sockaddr_in()?.ip())).next();
        Some(Self { name: name.to_owned(), index, v4: v4.unwrap_or(Ipv4Addr::UNSPECIFIED) })
    }
}

fn bind(parameters: &Resolved<'_>, text: &str, group: SocketAddr) -> Result<IpAddr, VnlError> {
    let host = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
    let found = (host, 0).to_socket_addrs().into_iter().flatten();
    found.map(|address| address.ip()).find(|ip| ip.is_ipv4() == group.is_ipv4()).ok_or_else(|| {
        let expected = "an address of this host, of the family of the group";
        parameters.bad_value("bind", text, expected)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Dialect = Dialect {
        scheme: "vxvde",
        names: &[
            "port",
            "vni",
            "grp",
            "ttl",
            "v4",
            "v6",
            "if",
            "bind",
            "hashsize",
            "expiretime",
            "rcvbuf",
        ],
        port: 14_789,
        reach: Reach::Groups,
    };

    fn options(text: &str) -> Result<Options, OpenError> {
        Options::of(&text.parse().expect("a locator"), &ALL)
    }

    fn group_of(text: &str) -> String {
        options(text).map(|o| o.group.to_string()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let expected = Options {
            group: "239.0.0.1:14789".parse().expect("an address"),
            vni: 1,
            ttl: 1,
            interface: None,
            bind: None,
            table_size: 1024,
            expiry: 128,
            receive_buffer: None,
        };
        assert_eq!(options("vxvde://").ok(), Some(expected));
        assert_eq!(group_of("vxvde:///v6"), "[ff05:56de::1]:14789");
        assert_eq!(group_of("vxvde:///v4/v6"), "[ff05:56de::1]:14789");
        assert_eq!(group_of("vxvde://ff15::3/port=12"), "[ff15::3]:12");
        assert_eq!(group_of("vxvde://[ff15::3]/po=12"), "[ff15::3]:12");
    }

    #[test]
    fn a_group_sets_address_and_network() {
        let options_v4 = options("vxvde://239.1.2.3/grp=66051").expect("options");
        assert_eq!(options_v4.group.ip().to_string(), "239.1.2.3");
        assert_eq!(options_v4.vni, 0x0001_0203);
        assert_eq!(group_of("vxvde:///grp=258"), "239.0.1.2:14789");
        assert_eq!(group_of("vxvde:///v6/grp=258"), "[ff05:56de::102]:14789");
        assert_eq!(options("vxvde:///grp=7/vni=9").map(|o| o.vni).ok(), Some(9));
        assert_eq!(options("vxvde:///vni=root").map(|o| o.vni).ok(), Some(0));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        assert_eq!(
            group_of("vxvde://10.0.0.1"),
            "vxvde://10.0.0.1: 10.0.0.1 is no multicast address (224.0.0.0/4)"
        );
        assert!(group_of("vxvde://239.0.0.1/v6").contains("family asked for"));
        assert!(group_of("vxvde:///vni=16777216").contains("up to 16777215"));
        assert!(group_of("vxvde:///if=nosuch0").contains("an interface of this host"));
        assert!(group_of("vxvde:///bind=::1").contains("of the family of the group"));
    }
}
