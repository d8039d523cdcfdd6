//! The options of a mount, as a plan: interfaces with their networks, addresses, routes.

use std::net::IpAddr;

use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
};

use crate::names::Names;

/// What the data argument may hold, for error messages.
const VALID: &str = "VNL, NAME:VNL, if=VNL, ip=A/P, gw=A, mac=M, mtu=N, eth, strict";

/// An interface to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfacePlan {
    /// Its name.
    pub(crate) name: String,
    /// The network it is joined to.
    pub(crate) vnl: String,
    /// Its hardware address.
    pub(crate) mac: [u8; 6],
}

/// What a mount asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StackPlan {
    /// What the stack is called.
    pub(crate) names: Names,
    /// The interfaces beside `lo`.
    pub(crate) interfaces: Vec<InterfacePlan>,
    /// Addresses of the first interface.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Default routes.
    pub(crate) gateways: Vec<IpAddr>,
    /// The MTU of all interfaces.
    pub(crate) mtu: Option<u32>,
    /// Whether the links and `lo` are brought up.
    pub(crate) up: bool,
    /// Whether a network that is lost is lost for good.
    pub(crate) strict: bool,
}

fn invalid(reason: String) -> MountError {
    MountError::new(Errno::EINVAL, reason)
}

impl StackPlan {
    /// Reads the options of a mount; `network` is the locator that the source names, if it does.
    ///
    /// `chance` is a random number, see [`Names::of`].
    pub(crate) fn parse(
        request: &MountRequest,
        network: Option<&str>,
        chance: u64,
    ) -> Result<Self, MountError> {
        let mut plan = Self { names: Names::of(request, chance), ..Self::default() };
        let mut mac = None;
        let mut named = Vec::new();
        named.extend(network.map(|vnl| (None, vnl.to_owned())));
        for option in request.data.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            if let Some(vnl) = option.strip_prefix("if=") {
                named.push(interface(vnl));
                continue;
            }
            if is_locator(option) {
                named.push(interface(option));
                continue;
            }
            match option.split_once('=') {
                None if option == "eth" => plan.up = true,
                None if option == "strict" => plan.strict = true,
                Some(("ip", value)) => {
                    plan.addresses.push(address(value)?);
                    plan.up = true;
                }
                Some(("gw", value)) => {
                    let gateway = value.parse().map_err(|_| {
                        invalid(format!("gw={value}: not an address (write gw=10.0.0.254)"))
                    })?;
                    plan.gateways.push(gateway);
                }
                Some(("mac", value)) => mac = Some(hardware(value)?),
                Some(("mtu", value)) => plan.mtu = Some(mtu(value)?),
                _ => {
                    return Err(invalid(format!(
                        "{option}: unknown option of {} (there are: {VALID})",
                        request.fstype
                    )));
                }
            }
        }
        for (index, (name, vnl)) in named.into_iter().enumerate() {
            let name = name.unwrap_or_else(|| format!("vde{index}"));
            check_name(&name)?;
            if plan.interfaces.iter().any(|other| other.name == name) {
                return Err(invalid(format!("{name}: two interfaces of that name")));
            }
            let mac = mac.filter(|_| index == 0).unwrap_or_else(|| plan.names.mac(&name));
            plan.interfaces.push(InterfacePlan { name, vnl, mac });
        }
        if plan.interfaces.is_empty() && !(plan.addresses.is_empty() && plan.gateways.is_empty()) {
            return Err(invalid(
                "ip= and gw= need an interface: name a network (a VNL)".to_owned(),
            ));
        }
        Ok(plan)
    }
}

/// Whether an option is a network rather than a setting whose value may hold a locator.
pub(crate) fn is_locator(option: &str) -> bool {
    match (option.find("://"), option.find('=')) {
        (Some(scheme), Some(equals)) => scheme < equals,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Reads `NAME:VNL` or `VNL`.
fn interface(text: &str) -> (Option<String>, String) {
    let scheme = text.find("://").unwrap_or(text.len());
    match text.split_once(':') {
        Some((name, vnl)) if name.len() < scheme => (Some(name.to_owned()), vnl.to_owned()),
        _ => (None, text.to_owned()),
    }
}

fn check_name(name: &str) -> Result<(), MountError> {
    let bad = name.is_empty()
        || name.len() > 15
        || name == "lo"
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if bad {
        return Err(invalid(format!("{name}: not an interface name (1 to 15 characters, not lo)")));
    }
    Ok(())
}

fn address(text: &str) -> Result<(IpAddr, u8), MountError> {
    let wrong = || invalid(format!("ip={text}: not an address (write ip=10.0.0.1/24)"));
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let (default, most) = if ip.is_ipv4() { (24, 32) } else { (64, 128) };
    let prefix = prefix.unwrap_or(default);
    if prefix > most || ip.is_multicast() || ip.is_unspecified() {
        return Err(wrong());
    }
    Ok((ip, prefix))
}

fn hardware(text: &str) -> Result<[u8; 6], MountError> {
    let bytes: Vec<u8> =
        text.split([':', '-']).filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    match <[u8; 6]>::try_from(bytes) {
        Ok(mac) if mac[0] & 1 == 0 && mac != [0; 6] && text.split([':', '-']).count() == 6 => {
            Ok(mac)
        }
        _ => Err(invalid(format!(
            "mac={text}: not a hardware address of one host (write mac=02:00:00:00:00:01)"
        ))),
    }
}

fn mtu(text: &str) -> Result<u32, MountError> {
    match text.parse() {
        Ok(mtu) if (68..=9216).contains(&mtu) => Ok(mtu),
        _ => Err(invalid(format!("mtu={text}: not between 68 and 9216"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &str) -> Result<StackPlan, MountError> {
        let request = MountRequest {
            source: String::new(),
            target: "/dev/net/a".to_owned(),
            fstype: "vunetioth".to_owned(),
            flags: 0,
            data: data.to_owned(),
            environment: Vec::new(),
            view: "v".to_owned(),
        };
        StackPlan::parse(&request, None, 1)
    }

    #[test]
    fn interfaces_are_counted_or_named() {
        let plan = parse("vxvde://239.0.0.1,if=switch://x/port=3,lan:ptp:///tmp/a").expect("valid");
        let names: Vec<_> =
            plan.interfaces.iter().map(|i| (i.name.as_str(), i.vnl.as_str())).collect();
        assert_eq!(
            names,
            [("vde0", "vxvde://239.0.0.1"), ("vde1", "switch://x/port=3"), ("lan", "ptp:///tmp/a")]
        );
        assert!(!plan.up && !plan.strict);
        assert!(parse("strict,vde://").expect("valid").strict);
        assert_ne!(plan.interfaces[0].mac, plan.interfaces[1].mac);
        assert_eq!(plan.interfaces[0].mac[0] & 3, 2);
    }

    #[test]
    fn addresses_have_default_prefixes_and_raise_the_link() {
        let plan = parse("vde://,ip=10.0.0.1,ip=fc00::1/48,gw=10.0.0.254,mtu=9000").expect("valid");
        assert_eq!(plan.addresses[0], ("10.0.0.1".parse().expect("literal"), 24));
        assert_eq!(plan.addresses[1].1, 48);
        assert!(plan.up);
        assert_eq!(plan.mtu, Some(9000));
    }

    #[test]
    fn mistakes_are_named() {
        for (data, word) in [
            ("vde://,foo", "foo"),
            ("vde://,ip=10.0.0.300", "ip=10.0.0.300"),
            ("vde://,ip=10.0.0.3/33", "ip=10.0.0.3/33"),
            ("vde://,mac=01:00:00:00:00:00", "mac="),
            ("vde://,mtu=5", "mtu=5"),
            ("ip=10.0.0.1", "network"),
            ("lo:vde://", "lo"),
        ] {
            let error = parse(data).expect_err("invalid");
            assert_eq!(error.errno, Errno::EINVAL);
            assert!(error.reason.contains(word), "{}", error.reason);
        }
    }
}
