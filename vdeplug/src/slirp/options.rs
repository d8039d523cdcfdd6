//! What `slirp://[/OPTION]...` says: names, syntax and defaults of `libvdeplug_slirp(1)`, and
//! `allow_host_loopback`, which is ours.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    error::OpenError,
    vnl::{Parameters, Resolved, Vnl},
};

const NAMES: [&str; 23] = [
    "v4",
    "v6",
    "addr",
    "host",
    "addr6",
    "host6",
    "hostname",
    "tftp_server_name",
    "tftp_path",
    "bootfile",
    "dhcp",
    "vnameserver",
    "vnameserver6",
    "vdnssearch",
    "vdomainname",
    "mtu",
    "mru",
    "disable_host_loopback",
    "allow_host_loopback",
    "tcpfwd",
    "udpfwd",
    "unixfwd",
    "cmdfwd",
];
const VERBOSE: &str = "verbose";
/// Options whose value has a prefix length, which the slash before it makes a word of its own.
const ADDRESSES: [&str; 4] = ["addr", "host", "addr6", "host6"];

/// How a network is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) v4: Option<V4>,
    pub(super) v6: Option<V6>,
    /// The longest packet either way.
    pub(super) mtu: usize,
    /// Whether the router's address leads to the loopback of this host.
    pub(super) host_loopback: bool,
    /// What the DHCP server tells besides.
    pub(super) names: Names,
    /// Ports of this host that lead inside.
    pub(super) forwards: Vec<Forward>,
    /// Ports inside that lead to something on this host.
    pub(super) services: Vec<Service>,
    /// The folder whose files are served by TFTP.
    pub(super) tftp: Option<PathBuf>,
}

/// The IPv4 side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct V4 {
    pub(super) net: Ipv4Net,
    /// The router, which is this host.
    pub(super) host: Ipv4Addr,
    pub(super) dns: Ipv4Addr,
    /// The first address that the DHCP server gives.
    pub(super) dhcp: Ipv4Addr,
}

/// The IPv6 side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct V6 {
    pub(super) net: Ipv6Net,
    pub(super) host: Ipv6Addr,
    pub(super) dns: Ipv6Addr,
}

/// Texts for guests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) host: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) search: Vec<String>,
    pub(super) tftp_server: Option<String>,
    pub(super) boot_file: Option<String>,
}

/// The transport protocol of a forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// A port of this host that leads to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forward {
    pub(super) protocol: Protocol,
    pub(super) listen: SocketAddr,
    pub(super) guest: SocketAddr,
}

/// A TCP port of the virtual network that leads to something on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) at: SocketAddr,
    pub(super) what: Behind,
}

/// What a [`Service`] leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Behind {
    /// A listening socket.
    Unix(PathBuf),
    /// A command, started for each connection.
    Command(String),
}

impl Config {
    /// Reads the options of a locator.
    ///
    /// # Errors
    /// [`OpenError::Syntax`].
    pub(super) fn of(vnl: &Vnl) -> Result<Self, OpenError> {
        let place = vnl.to_string();
        let refused = |problem: &str, errno| OpenError::Refused {
            place: place.clone(),
            problem: problem.to_owned(),
            errno,
        };
        if !vnl.path.is_empty() || vnl.nested.is_some() {
            let problem = "takes options only, for example slirp:///tcpfwd=8080:10.0.2.15:80";
            return Err(refused(problem, libc::EINVAL));
        }
        let parameters = with_prefixes(&vnl.parameters);
        let known: Vec<_> = NAMES.into_iter().chain([VERBOSE]).collect();
        let options = parameters.resolve("slirp", &known)?;
        let forbids = options.get("disable_host_loopback").is_some();
        let host_loopback = options.get("allow_host_loopback").is_some();
        if forbids && host_loopback {
            let problem = "allow_host_loopback or disable_host_loopback, not both";
            return Err(refused(problem, libc::EINVAL));
        }
        let families = ["v4", "v6"].map(|name| options.get(name).is_some());
        let wants = |this: usize| families[this] || families == [false, false];
        let v4 = wants(0).then(|| V4::of(&options)).transpose()?;
        let v6 = wants(1).then(|| V6::of(&options)).transpose()?;
        let limit = |name| options.number(name, 576..=9216);
        let mtu = [limit("mtu")?, limit("mru")?].into_iter().flatten().min().unwrap_or(1500);
        let mut config = Self {
            v4,
            v6,
            mtu: usize::try_from(mtu).unwrap_or(1500),
            host_loopback,
            names: Names::of(&options),
            forwards: Vec::new(),
            services: Vec::new(),
            tftp: options.get("tftp_path").filter(|path| !path.is_empty()).map(PathBuf::from),
        };
        config.read_forwards(&options)?;
        if options.get(VERBOSE).is_some() {
            eprint!("{}", super::verbose::table(&config));
        }
        Ok(config)
    }

    fn read_forwards(&mut self, options: &Resolved<'_>) -> Result<(), OpenError> {
        for (name, value) in options.all() {
            let protocol = if name == "tcpfwd" { Protocol::Tcp } else { Protocol::Udp };
            match name {
                "tcpfwd" | "udpfwd" => {
                    for text in value.split(',') {
                        let forward = self.forward(protocol, text).ok_or_else(|| {
                            let expected = "[hostIP:]hostport:guestIP:guestport, for example \
                                            8080:10.0.2.15:80";
                            options.bad_value(name, text, expected)
                        })?;
                        self.forwards.push(forward);
                    }
                }
                "unixfwd" | "cmdfwd" => {
                    for text in services(value) {
                        let service = self.service(name, &text).ok_or_else(|| {
                            let expected = "[slirpIP:]port:path or command, where slirpIP is an \
                                            unused address of the network";
                            options.bad_value(name, &text, expected)
                        })?;
                        self.services.push(service);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn forward(&self, protocol: Protocol, text: &str) -> Option<Forward> {
        let parts = split_address(text);
        let (listen, rest) = match parts.as_slice() {
            [port, rest @ ..] if rest.len() == 2 => ("", [*port, rest[0], rest[1]]),
            [ip, port, guest, to] => (*ip, [*port, *guest, *to]),
            _ => return None,
        };
        let [port, guest, to] = rest;
        let guest = match guest {
            // QEMU's way to say the first guest.
            "" => IpAddr::V4(self.v4?.dhcp),
            guest => guest.parse().ok()?,
        };
        let listen = match (listen, guest) {
            ("", IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            ("", IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            (listen, _) => listen.parse().ok()?,
        };
        let has_family = if guest.is_ipv4() { self.v4.is_some() } else { self.v6.is_some() };
        let listen = SocketAddr::new(listen, port.parse().ok()?);
        let guest = SocketAddr::new(guest, to.parse().ok().filter(|port| *port != 0)?);
        has_family.then_some(Forward { protocol, listen, guest })
    }

    fn service(&self, name: &str, text: &str) -> Option<Service> {
        let (ip, rest) = match text.split_once(':')? {
            (port, rest) if is_port(port) => (self.v4?.nth(4), (port, rest)),
            _ if text.starts_with('[') => {
                let (ip, rest) = text[1..].split_once("]:")?;
                (IpAddr::V6(ip.parse().ok()?), rest.split_once(':')?)
            }
            (ip, rest) => (IpAddr::V4(ip.parse().ok()?), rest.split_once(':')?),
        };
        let (port, what) = rest;
        let taken = match ip {
            IpAddr::V4(ip) => self.v4.is_none_or(|v4| !v4.net.contains(&ip) || ip == v4.dns),
            IpAddr::V6(ip) => self.v6.is_none_or(|v6| !v6.net.contains(&ip) || ip == v6.dns),
        };
        if what.is_empty() || taken {
            return None;
        }
        let what = match name {
            "unixfwd" => Behind::Unix(what.into()),
            _ => Behind::Command(what.to_owned()),
        };
        Some(Service { at: SocketAddr::new(ip, port.parse().ok()?), what })
    }
}

impl V4 {
    fn of(options: &Resolved<'_>) -> Result<Self, OpenError> {
        let text = options.get("addr").or(options.get("host")).unwrap_or("10.0.2.2/24");
        let parsed = with_default(text, 24).parse::<Ipv4Net>().ok();
        let fits = |net: &Ipv4Net| (8..=28).contains(&net.prefix_len());
        let net = parsed.filter(fits).ok_or_else(|| {
            options.bad_value("addr", text, "an address and a prefix, for example 10.0.2.2/24")
        })?;
        let first = u32::from(net.network());
        let inside = |name: &str, nth: u32| match options.get(name) {
            None => Ok(Ipv4Addr::from(first + nth)),
            Some(text) => text.parse().ok().filter(|ip| net.contains(ip)).ok_or_else(|| {
                options.bad_value(name, text, &format!("an address of {}", net.trunc()))
            }),
        };
        let dhcp = if net.prefix_len() <= 27 { 15 } else { 5 };
        Ok(Self {
            net,
            host: net.addr(),
            dns: inside("vnameserver", 3)?,
            dhcp: inside("dhcp", dhcp)?,
        })
    }

    fn nth(&self, nth: u32) -> IpAddr {
        Ipv4Addr::from(u32::from(self.net.network()) + nth).into()
    }
}

impl V6 {
    fn of(options: &Resolved<'_>) -> Result<Self, OpenError> {
        let text = options.get("addr6").or(options.get("host6")).unwrap_or("fd00::2/64");
        let parsed = with_default(text, 64).parse::<Ipv6Net>().ok();
        let net = parsed.filter(|net| net.prefix_len() == 64).ok_or_else(|| {
            // Guests make their own addresses there (RFC 4862): nothing but 64 will do.
            options.bad_value("addr6", text, "an address with prefix 64, for example fd00::2/64")
        })?;
        let dns = match options.get("vnameserver6") {
            None => Ipv6Addr::from(u128::from(net.network()) + 3),
            Some(text) => text.parse().ok().filter(|ip| net.contains(ip)).ok_or_else(|| {
                let expected = format!("an address of {}", net.trunc());
                options.bad_value("vnameserver6", text, &expected)
            })?,
        };
        Ok(Self { net, host: net.addr(), dns })
    }
}

impl Names {
    fn of(options: &Resolved<'_>) -> Self {
        let text = |name| options.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let search = options.get("vdnssearch").unwrap_or_default();
        Self {
            host: text("hostname"),
            domain: text("vdomainname"),
            search: search.split(',').filter(|d| !d.is_empty()).map(str::to_owned).collect(),
            tftp_server: text("tftp_server_name"),
            boot_file: text("bootfile"),
        }
    }
}

/// Joins an address and the number after the slash again, which looks like an option.
fn with_prefixes(parameters: &Parameters) -> Parameters {
    let mut joined = Parameters::default();
    for parameter in &parameters.0 {
        let is_length = parameter.value.is_none() && parameter.name.parse::<u8>().is_ok();
        let before = joined.0.last_mut().filter(|p| ADDRESSES.contains(&p.name.as_str()));
        match before.and_then(|before| before.value.as_mut()) {
            Some(value) if is_length && !value.contains('/') => {
                *value = format!("{value}/{}", parameter.name);
            }
            _ => joined.0.push(parameter.clone()),
        }
    }
    joined
}

fn with_default(text: &str, prefix: u8) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/{prefix}") }
}

/// Cuts at colons that are not in brackets, and takes the brackets away.
fn split_address(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        let (part, after) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((ip, after)) => (ip, after),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        parts.push(part);
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None => return parts,
        }
    }
}

/// Cuts a list of services at the commas before one: a command may have commas.
fn services(value: &str) -> Vec<String> {
    let begins = |text: &str| {
        let first = text.split(':').next().unwrap_or_default();
        text.contains(':')
            && (is_port(first) || first.parse::<Ipv4Addr>().is_ok() || text.starts_with('['))
    };
    let mut found: Vec<String> = Vec::new();
    for part in value.split(',') {
        match found.last_mut() {
            Some(last) if !begins(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let vnl = text.parse::<Vnl>().map_err(|error| error.to_string())?;
        Config::of(&vnl).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_libslirp_but_for_the_loopback() {
        let config = read("slirp://").expect("a configuration");
        let v4 = config.v4.expect("IPv4");
        let found = [v4.host, v4.dns, v4.dhcp].map(|ip| ip.to_string());
        assert_eq!(found, ["10.0.2.2", "10.0.2.3", "10.0.2.15"]);
        let v6 = config.v6.expect("IPv6");
        assert_eq!([v6.host, v6.dns].map(|ip| ip.to_string()), ["fd00::2", "fd00::3"]);
        assert_eq!((config.mtu, config.host_loopback), (1500, false));
        assert!(read("slirp:///v4").expect("a configuration").v6.is_none());
        assert!(read("slirp:///v6").expect("a configuration").v4.is_none());
        assert!(read("slirp:///allow_host_loopback").expect("a configuration").host_loopback);
    }

    #[test]
    fn an_address_keeps_its_prefix_quoted_or_not() {
        for text in ["slirp:///addr=192.168.7.1/16/mtu=1400", "slirp:///host='192.168.7.1/16'"] {
            let v4 = read(text).expect("a configuration").v4.expect("IPv4");
            assert_eq!((v4.net.prefix_len(), v4.host.to_string().as_str()), (16, "192.168.7.1"));
            assert_eq!(v4.dns.to_string(), "192.168.0.3");
        }
    }

    #[test]
    fn forwards_of_both_families_are_read() {
        let text =
            "slirp:///tcpfwd=8080:10.0.2.15:80,127.0.0.1:22::2222/udpfwd=[::1]:53:[fd00::9]:5353";
        let forwards = read(text).expect("a configuration").forwards;
        let shown: Vec<_> =
            forwards.iter().map(|f| format!("{:?} {} {}", f.protocol, f.listen, f.guest)).collect();
        assert_eq!(
            shown,
            [
                "Tcp 0.0.0.0:8080 10.0.2.15:80",
                "Tcp 127.0.0.1:22 10.0.2.15:2222",
                "Udp [::1]:53 [fd00::9]:5353"
            ]
        );
    }

    #[test]
    fn services_may_have_commas_in_their_commands() {
        let text = "slirp:///cmdfwd=10.0.2.5:6000:'cat a,b',79:'finger x'/unixfwd=80:'/tmp/s'";
        let services = read(text).expect("a configuration").services;
        let command = |text: &str| Behind::Command(text.to_owned());
        let expected = [
            ("10.0.2.5:6000", command("cat a,b")),
            ("10.0.2.4:79", command("finger x")),
            ("10.0.2.4:80", Behind::Unix("/tmp/s".into())),
        ];
        let expected =
            expected.map(|(at, what)| Service { at: at.parse().expect("literal"), what });
        assert_eq!(services, expected);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, expected) in [
            ("slirp:///nosuch=1", "no parameter `nosuch`"),
            ("slirp:///tcpfwd=80", "[hostIP:]hostport:guestIP:guestport"),
            ("slirp:///v6/tcpfwd=80:10.0.2.15:80", "[hostIP:]hostport:guestIP:guestport"),
            ("slirp:///cmdfwd=10.9.9.9:80:cat", "an unused address of the network"),
            ("slirp:///addr=10.0.2.2/31", "an address and a prefix"),
            ("slirp:///addr6=fd00::2/48", "prefix 64"),
            ("slirp:///vnameserver=1.2.3.4", "an address of 10.0.2.0/24"),
            ("slirp://x", "takes options only"),
            ("slirp:///allow_host_loopback/disable_host_loopback", "not both"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
