//! The options of a mount, as a plan: interfaces with their networks and how each is configured.
//!
//! The words are those of iothconf's strings. Some belong to an interface: they go to the one that
//! `iface=` or `ifindex=` before them has named, else to the first one (`eth` and `mtu=`: to all).

mod values;

use std::{net::IpAddr, path::PathBuf};

use umvu_abi::{
    Errno,
    module::{MountError, MountRequest},
};

use crate::names::{self, Names};

/// What the data argument may hold, for error messages.
const VALID: &str = "VNL, NAME:VNL, if=VNL, iface=NAME, ifindex=N, ip=A/P, gw=A, mac=M, mtu=N, \
                     fqdn=NAME, eth, dhcp, dhcp6, rd, slaac, auto, auto4, auto6, dns=A, domain=D, \
                     wait=SECONDS, seed=N, pcap=FILE, strict, debug, and \
                     -WORD to undo";
/// How long a mount waits for servers and routers, in seconds, when nobody says.
const WAIT: u64 = 10;
/// The index of the first interface after `lo`.
const FIRST_INDEX: u32 = 2;

/// An interface to make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct InterfacePlan {
    /// Its name.
    pub(crate) name: String,
    /// The network it is joined to.
    pub(crate) vnl: String,
    /// Its hardware address.
    pub(crate) mac: [u8; 6],
    /// Its MTU.
    pub(crate) mtu: Option<u32>,
    /// The file that all its frames are written to.
    pub(crate) capture: Option<PathBuf>,
    /// How it is configured.
    pub(crate) setup: Setup,
}

/// How an interface is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Setup {
    /// Whether it is brought up, with `lo`.
    pub(crate) up: bool,
    /// Addresses and the lengths of their prefixes.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Default routes.
    pub(crate) gateways: Vec<IpAddr>,
    /// Whether a DHCPv4 server gives it addresses.
    pub(crate) dhcp4: bool,
    /// Whether a DHCPv6 server does.
    pub(crate) dhcp6: bool,
    /// Whether routers do, by their advertisements; None leaves it to the stack.
    pub(crate) rd: Option<bool>,
    /// The name of the host.
    pub(crate) fqdn: Option<String>,
}

/// What a mount asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StackPlan {
    /// What the stack is called.
    pub(crate) names: Names,
    /// The interfaces beside `lo`.
    pub(crate) interfaces: Vec<InterfacePlan>,
    /// Name servers.
    pub(crate) dns: Vec<IpAddr>,
    /// Domains to search.
    pub(crate) domains: Vec<String>,
    /// How long to wait for servers, in seconds.
    pub(crate) wait: u64,
    /// The seed of what happens by chance in queueing disciplines.
    pub(crate) seed: Option<u64>,
    /// Whether a network that is lost is lost for good.
    pub(crate) strict: bool,
    /// Whether to tell what the clients do.
    pub(crate) debug: bool,
}

fn invalid(reason: String) -> MountError {
    MountError::new(Errno::EINVAL, reason)
}

impl StackPlan {
    /// Reads the options of a mount; `network` is the locator that the source names, if it does.
    /// `chance` is a random number, see [`Names::of`].
    pub(crate) fn parse(
        request: &MountRequest,
        network: Option<&str>,
        chance: u64,
    ) -> Result<Self, MountError> {
        let names = Names::of(request, chance);
        let mut plan = Self { names, wait: WAIT, ..Self::default() };
        let words = request.data.split(',').map(str::trim).filter(|option| !option.is_empty());
        let (locators, words): (Vec<&str>, Vec<&str>) =
            words.partition(|word| word.starts_with("if=") || is_locator(word));
        let named = network.into_iter().map(|vnl| (None, vnl));
        let named = named.chain(locators.into_iter().map(interface));
        for (name, vnl) in named {
            plan.add_interface(name, vnl)?;
        }
        let macs =
            Words { plan: &mut plan, request, chosen: None, given: Vec::new() }.read(&words)?;
        for (at, interface) in plan.interfaces.iter_mut().enumerate() {
            let given = macs.iter().rev().find(|(of, _)| *of == at).map(|(_, mac)| *mac);
            let hashed = || interface.setup.fqdn.as_deref().map(names::hash_mac);
            interface.mac =
                given.or_else(hashed).unwrap_or_else(|| plan.names.mac(&interface.name));
        }
        Ok(plan)
    }

    /// Whether anything but `lo` is to be brought up.
    pub(crate) fn up(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.setup.up)
    }

    fn add_interface(&mut self, name: Option<&str>, vnl: &str) -> Result<(), MountError> {
        let name = name.map_or_else(|| format!("vde{}", self.interfaces.len()), str::to_owned);
        values::check_name(&name)?;
        if self.interfaces.iter().any(|other| other.name == name) {
            return Err(invalid(format!("{name}: two interfaces of that name")));
        }
        let vnl = vnl.to_owned();
        self.interfaces.push(InterfacePlan { name, vnl, ..InterfacePlan::default() });
        Ok(())
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
fn interface(text: &str) -> (Option<&str>, &str) {
    let text = text.strip_prefix("if=").unwrap_or(text);
    let scheme = text.find("://").unwrap_or(text.len());
    match text.split_once(':') {
        Some((name, vnl)) if name.len() < scheme => (Some(name), vnl),
        _ => (None, text),
    }
}

/// The reading of the words that are no locators, in their order.
struct Words<'a> {
    plan: &'a mut StackPlan,
    request: &'a MountRequest,
    /// The interface that `iface=` has named.
    chosen: Option<usize>,
    /// Hardware addresses by interface.
    given: Vec<(usize, [u8; 6])>,
}

impl Words<'_> {
    fn read(mut self, words: &[&str]) -> Result<Vec<(usize, [u8; 6])>, MountError> {
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => self.assign(key, value)?,
                None => match word.strip_prefix('-') {
                    Some(undone) => self.switch(word, undone, false)?,
                    None => self.switch(word, word, true)?,
                },
            }
        }
        Ok(self.given)
    }

    fn unknown(&self, word: &str) -> MountError {
        invalid(format!("{word}: unknown option of {} (there are: {VALID})", self.request.fstype))
    }

    /// The interface that a word belongs to. Errors: there is none.
    fn one(&mut self, word: &str) -> Result<&mut Setup, MountError> {
        let at = self.chosen.unwrap_or(0);
        let interface = self.plan.interfaces.get_mut(at);
        interface
            .map(|interface| &mut interface.setup)
            .ok_or_else(|| invalid(format!("{word} needs an interface: name a network (a VNL)")))
    }

    /// The interface that was named, or all.
    fn some(&mut self) -> &mut [InterfacePlan] {
        match self.chosen {
            Some(at) => &mut self.plan.interfaces[at..=at],
            None => &mut self.plan.interfaces,
        }
    }

    /// A word that needs the interface up; `lo` and, without `iface=`, the others go up with it.
    fn raised(&mut self, word: &str) -> Result<&mut Setup, MountError> {
        self.some().iter_mut().for_each(|interface| interface.setup.up = true);
        self.one(word)
    }

    fn choose(&mut self, word: &str, at: Option<usize>) -> Result<(), MountError> {
        let known: Vec<&str> = self.plan.interfaces.iter().map(|one| one.name.as_str()).collect();
        let at = at.filter(|at| *at < known.len());
        self.chosen = Some(at.ok_or_else(|| {
            invalid(format!("{word}: no such interface (there are: {})", known.join(", ")))
        })?);
        Ok(())
    }

    fn assign(&mut self, key: &str, value: &str) -> Result<(), MountError> {
        let word = format!("{key}={value}");
        match key {
            "iface" => {
                let at = self.plan.interfaces.iter().position(|one| one.name == value);
                self.choose(&word, at)?;
            }
            "ifindex" => {
                let index = value.parse().ok().and_then(|n: u32| n.checked_sub(FIRST_INDEX));
                self.choose(&word, index.and_then(|at| usize::try_from(at).ok()))?;
            }
            "ip" => {
                let address = values::address(value)?;
                self.raised(&word)?.addresses.push(address);
            }
            "gw" => {
                let gateway = values::host(&word, value, "10.0.0.254")?;
                self.one(&word)?.gateways.push(gateway);
            }
            "mac" | "macaddr" => {
                let mac = values::hardware(&word, value)?;
                self.one(&word)?;
                self.given.push((self.chosen.unwrap_or(0), mac));
            }
            "mtu" => {
                let mtu = Some(values::mtu(value)?);
                self.some().iter_mut().for_each(|interface| interface.mtu = mtu);
            }
            "fqdn" => {
                let fqdn = values::domain(&word, value)?;
                self.one(&word)?.fqdn = Some(fqdn);
            }
            "dns" => self.plan.dns.push(values::host(&word, value, "10.0.0.53")?),
            "domain" => self.plan.domains.push(values::domain(&word, value)?),
            "pcap" => {
                let path = values::path(&word, value, &self.request.environment)?;
                if self.plan.interfaces.is_empty() {
                    self.one(&word)?;
                }
                self.some().iter_mut().for_each(|one| one.capture = Some(path.clone()));
            }
            "seed" => self.plan.seed = Some(values::seed(value)?),
            "wait" => self.plan.wait = values::wait(value)?,
            _ => return Err(self.unknown(&word)),
        }
        Ok(())
    }

    fn switch(&mut self, word: &str, name: &str, on: bool) -> Result<(), MountError> {
        match name {
            "debug" => self.plan.debug = on,
            "strict" => self.plan.strict = on,
            "eth" => self.some().iter_mut().for_each(|interface| interface.setup.up = on),
            "static" if !on => {
                let setup = self.one(word)?;
                setup.addresses.clear();
                setup.gateways.clear();
            }
            _ => {
                let means = Means::of(name).ok_or_else(|| self.unknown(word))?;
                let setup = if on { self.raised(word)? } else { self.one(word)? };
                if means.dhcp4 {
                    setup.dhcp4 = on;
                }
                if means.dhcp6 {
                    setup.dhcp6 = on;
                }
                if means.rd {
                    setup.rd = Some(on);
                }
                if means.eth && !on {
                    setup.up = false;
                }
            }
        }
        Ok(())
    }
}

/// Whom a word asks for addresses.
#[derive(Debug, Clone, Copy, Default)]
struct Means {
    eth: bool,
    dhcp4: bool,
    dhcp6: bool,
    rd: bool,
}

impl Means {
    fn of(word: &str) -> Option<Self> {
        let none = Self::default();
        Some(match word {
            "dhcp" | "dhcp4" | "dhcpv4" => Self { dhcp4: true, ..none },
            "dhcp6" | "dhcpv6" => Self { dhcp6: true, ..none },
            "rd" | "rd6" | "slaac" => Self { rd: true, ..none },
            "auto" => Self { eth: true, dhcp4: true, dhcp6: true, rd: true },
            "auto4" | "autov4" => Self { eth: true, dhcp4: true, ..none },
            "auto6" | "autov6" => Self { eth: true, dhcp6: true, rd: true, ..none },
            _ => return None,
        })
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
        assert!(!plan.up() && !plan.strict);
        assert!(parse("strict,vde://").expect("valid").strict);
        assert_ne!(plan.interfaces[0].mac, plan.interfaces[1].mac);
        assert_eq!(plan.interfaces[0].mac[0] & 3, 2);
    }

    #[test]
    fn addresses_have_default_prefixes_and_raise_the_link() {
        let plan = parse("vde://,ip=10.0.0.1,ip=fc00::1/48,gw=10.0.0.254,mtu=9000").expect("valid");
        let setup = &plan.interfaces[0].setup;
        assert_eq!(setup.addresses[0], ("10.0.0.1".parse().expect("literal"), 24));
        assert_eq!(setup.addresses[1].1, 48);
        assert!(setup.up);
        assert_eq!(plan.interfaces[0].mtu, Some(9000));
    }

    #[test]
    fn words_go_to_the_interface_that_was_named() {
        let plan = parse(
            "vde://,lan:vde://x,ip=10.0.0.1,iface=lan,ip=10.1.0.1,dhcp6,mac=02:00:00:00:00:07,\
             mtu=1400,ifindex=2,dhcp",
        )
        .expect("valid");
        let [first, lan] = plan.interfaces.as_slice() else { panic!("two interfaces") };
        assert_eq!((first.setup.addresses.len(), lan.setup.addresses.len()), (1, 1));
        assert!(first.setup.dhcp4 && !first.setup.dhcp6 && lan.setup.dhcp6 && !lan.setup.dhcp4);
        assert_eq!(lan.mac, [2, 0, 0, 0, 0, 7]);
        assert_eq!((first.mtu, lan.mtu), (None, Some(1400)));
    }

    #[test]
    fn words_are_undone_by_a_dash() {
        let setup = |data| parse(data).expect("valid").interfaces[0].setup.clone();
        let auto = setup("vde://,auto");
        assert!(auto.up && auto.dhcp4 && auto.dhcp6 && auto.rd == Some(true));
        let some = setup("vde://,auto,-dhcp6,-rd");
        assert!(some.up && some.dhcp4 && !some.dhcp6 && some.rd == Some(false));
        assert!(!setup("vde://,ip=10.0.0.1,-auto").up);
        assert!(setup("vde://,ip=10.0.0.1,-static").addresses.is_empty());
    }

    #[test]
    fn a_name_gives_the_hardware_address() {
        let plan = parse("vde://,fqdn=test.v2.cs.unibo.it,eth").expect("valid");
        assert_eq!(plan.interfaces[0].mac, names::hash_mac("test.v2.cs.unibo.it"));
    }

    #[test]
    fn mistakes_are_named() {
        for (data, word) in [
            ("vde://,foo", "foo"),
            ("vde://,-foo", "-foo"),
            ("vde://,foo=1", "foo=1"),
            ("vde://,ip=10.0.0.300", "ip=10.0.0.300"),
            ("vde://,ip=10.0.0.3/33", "ip=10.0.0.3/33"),
            ("vde://,mac=01:00:00:00:00:00", "mac="),
            ("vde://,mtu=5", "mtu=5"),
            ("vde://,iface=eth0", "vde0"),
            ("vde://,ifindex=1", "vde0"),
            ("vde://,wait=0", "wait=0"),
            ("vde://,seed=x", "seed=x"),
            ("vde://,dns=x", "dns=x"),
            ("vde://,domain=a/b", "domain=a/b"),
            ("ip=10.0.0.1", "network"),
            ("dhcp", "network"),
            ("lo:vde://", "lo"),
        ] {
            let error = parse(data).expect_err("invalid");
            assert_eq!(error.errno, Errno::EINVAL);
            assert!(error.reason.contains(word), "{}", error.reason);
        }
    }
}
