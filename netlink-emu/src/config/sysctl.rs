//! Sysctls below `net`: stored values, and those that mean something to the model.
//!
//! Effective here: `ipv4.ip_forward` and `conf.*.forwarding` (with their coupling),
//! `ipv6.conf.*.disable_ipv6`, `keep_addr_on_down`, `addr_gen_mode`, `promote_secondaries`. A stack
//! reads others by [`NetConfig::sysctl_number`] and [`NetConfig::sysctl_pair`].

use std::collections::BTreeMap;

use umvu_abi::{Errno, IfIndex};

use super::{
    NetConfig,
    sysctl_names::{CONF_V4, CONF_V6, GLOBAL, Knob, NEIGH_V4, NEIGH_V6, Range},
};
use crate::values::{Change, Route};

/// The stored values, by name.
#[derive(Debug)]
pub(super) struct Sysctls {
    values: BTreeMap<String, (String, Range)>,
    /// `ip_forward` of both families, kept for speed.
    forwarding: [bool; 2],
}

/// The four folders that have one directory per interface.
const FOLDERS: [(&str, &[Knob]); 4] = [
    ("ipv4.conf", CONF_V4),
    ("ipv6.conf", CONF_V6),
    ("ipv4.neigh", NEIGH_V4),
    ("ipv6.neigh", NEIGH_V6),
];

/// An interface name as one part of a sysctl name: dots become slashes (sysctl(8)).
fn part(interface: &str) -> String {
    interface.replace('.', "/")
}

fn conf(ipv6: bool, interface: &str, knob: &str) -> String {
    let family = if ipv6 { "ipv6" } else { "ipv4" };
    format!("{family}.conf.{}.{knob}", part(interface))
}

impl Sysctls {
    pub(super) fn new() -> Self {
        let mut sysctls = Self { values: BTreeMap::new(), forwarding: [false; 2] };
        for knob in GLOBAL {
            sysctls.values.insert(knob.name.to_owned(), (knob.default.to_owned(), knob.range));
        }
        for folder in ["all", "default"] {
            sysctls.fill(folder, |folder, _| !(folder.ends_with("neigh")));
        }
        sysctls.fill("default", |folder, _| folder.ends_with("neigh"));
        sysctls.add_interface("lo");
        for (name, value) in LOOPBACK {
            sysctls.put(name, value);
        }
        sysctls
    }

    fn fill(&mut self, interface: &str, wanted: impl Fn(&str, &Knob) -> bool) {
        for (folder, knobs) in FOLDERS {
            for knob in knobs.iter().filter(|knob| wanted(folder, knob)) {
                let default = self.values.get(&format!("{folder}.default.{}", knob.name));
                let value = default.map_or(knob.default, |(value, _)| value).to_owned();
                let name = format!("{folder}.{}.{}", part(interface), knob.name);
                self.values.insert(name, (value, knob.range));
            }
        }
    }

    /// Makes the sysctls of a new interface, with the values of `default`.
    pub(super) fn add_interface(&mut self, interface: &str) {
        self.fill(interface, |_, _| true);
    }

    pub(super) fn remove_interface(&mut self, interface: &str) {
        for (folder, knobs) in FOLDERS {
            for knob in knobs {
                self.values.remove(&format!("{folder}.{}.{}", part(interface), knob.name));
            }
        }
    }

    pub(super) fn rename_interface(&mut self, old: &str, new: &str) {
        for (folder, knobs) in FOLDERS {
            for knob in knobs {
                let name = |interface| format!("{folder}.{}.{}", part(interface), knob.name);
                if let Some(value) = self.values.remove(&name(old)) {
                    self.values.insert(name(new), value);
                }
            }
        }
    }

    /// The MTU of IPv6 is that of the interface until it is set by itself.
    pub(super) fn follow_mtu(&mut self, interface: &str, mtu: u32) {
        self.put(&conf(true, interface, "mtu"), &mtu.to_string());
    }

    fn put(&mut self, name: &str, value: &str) {
        if let Some((held, _)) = self.values.get_mut(name) {
            value.clone_into(held);
        }
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.0.parse().ok()
    }

    /// The integer value of a sysctl of an interface.
    pub(super) fn interface_value(&self, ipv6: bool, interface: &str, knob: &str) -> Option<i64> {
        self.number(&conf(ipv6, interface, knob))
    }

    /// Whether a sysctl of an interface is set.
    pub(super) fn interface_flag(&self, ipv6: bool, interface: &str, knob: &str) -> bool {
        self.interface_value(ipv6, interface, knob).is_some_and(|value| value != 0)
    }
}

/// Where `lo` differs from the default.
const LOOPBACK: [(&str, &str); 5] = [
    ("ipv4.conf.lo.disable_policy", "1"),
    ("ipv6.conf.lo.accept_dad", "-1"),
    ("ipv6.conf.lo.use_tempaddr", "-1"),
    ("ipv6.conf.lo.mtu", "65536"),
    ("ipv6.conf.all.accept_dad", "0"),
];

impl NetConfig {
    /// The names of all sysctls, see [`HostNet::sysctl_names`](crate::HostNet::sysctl_names).
    #[must_use]
    pub fn sysctl_names(&self) -> Vec<String> {
        self.sysctls.values.keys().cloned().collect()
    }

    /// The value of a sysctl.
    #[must_use]
    pub fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls.values.get(name).map(|(value, _)| value.as_str())
    }

    /// Whether a program may write a sysctl; None when there is none of that name.
    #[must_use]
    pub fn sysctl_is_writable(&self, name: &str) -> Option<bool> {
        self.sysctls.values.get(name).map(|(_, range)| *range != Range::ReadOnly)
    }

    /// The value of a sysctl that is one integer.
    #[must_use]
    pub fn sysctl_number(&self, name: &str) -> Option<i64> {
        self.sysctls.number(name)
    }

    /// The value of a sysctl that is two integers, such as `ipv4.ip_local_port_range`.
    #[must_use]
    pub fn sysctl_pair(&self, name: &str) -> Option<(u32, u32)> {
        let mut numbers = self.sysctl(name)?.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// The value of an interface's `ipv4/conf` or `ipv6/conf` sysctl.
    #[must_use]
    pub fn interface_sysctl(&self, ipv6: bool, index: IfIndex, knob: &str) -> Option<i64> {
        self.sysctls.interface_value(ipv6, &self.link(index)?.name, knob)
    }

    /// Whether packets of others are passed on (`ip_forward`, `ipv6.conf.all.forwarding`). Cheap.
    #[must_use]
    pub fn forwards(&self, ipv6: bool) -> bool {
        self.sysctls.forwarding[usize::from(ipv6)]
    }

    /// Sets a sysctl. Errors: `ENOENT`, `EACCES` (read only), `EINVAL`.
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        let (held, range) = self.sysctls.values.get(name).ok_or(Errno::ENOENT)?;
        let value = accept(*range, held, value)?;
        self.check(name, &value)?;
        let before: Vec<(IfIndex, Vec<Route>, bool)> = self
            .links
            .iter()
            .map(|link| (link.index, self.derived(link.index), link.is_up() && self.has_ipv6(link)))
            .collect();
        self.store(name, &value);
        for (index, routes, had_ipv6) in before {
            if let Some(link) = self.link(index).cloned() {
                self.switch_ipv6(&link, had_ipv6);
            }
            self.follow(index, &routes);
        }
        Ok(())
    }

    /// What some sysctls want beyond numbers in a range. Errors: `EINVAL`, `ENOENT`.
    fn check(&self, name: &str, value: &str) -> Result<(), Errno> {
        match name {
            "ipv4.ip_local_port_range" => {
                let mut ends = value.split('\t').filter_map(|end| end.parse::<i64>().ok());
                let (first, last) = (ends.next(), ends.next());
                let privileged = self.sysctl_number("ipv4.ip_unprivileged_port_start");
                if first > last || first < privileged { Err(Errno::EINVAL) } else { Ok(()) }
            }
            "ipv4.tcp_congestion_control" => {
                let known = self.sysctl("ipv4.tcp_available_congestion_control").unwrap_or("");
                known.split(' ').any(|one| one == value).then_some(()).ok_or(Errno::ENOENT)
            }
            _ => Ok(()),
        }
    }

    fn store(&mut self, name: &str, value: &str) {
        for name in coupled(name, self.links.iter().map(|link| link.name.as_str())) {
            if self.sysctl(&name).is_some_and(|held| held != value) {
                self.sysctls.put(&name, value);
                self.note(Change::Sysctl(name, value.to_owned()));
            }
        }
        let set = |name| self.sysctls.number(name).is_some_and(|value| value != 0);
        self.sysctls.forwarding = [set("ipv4.ip_forward"), set("ipv6.conf.all.forwarding")];
    }
}

/// The sysctls that get the value of one: forwarding is set everywhere at once.
fn coupled<'a>(name: &str, interfaces: impl Iterator<Item = &'a str>) -> Vec<String> {
    let (ipv6, knob) = match name {
        "ipv4.ip_forward" | "ipv4.conf.all.forwarding" => (false, "forwarding"),
        "ipv6.conf.all.forwarding" => (true, "forwarding"),
        "ipv6.conf.all.disable_ipv6" => (true, "disable_ipv6"),
        _ => return vec![name.to_owned()],
    };
    let mut names: Vec<String> =
        interfaces.chain(["all", "default"]).map(|name| conf(ipv6, name, knob)).collect();
    if !ipv6 {
        names.push("ipv4.ip_forward".to_owned());
    }
    names
}

/// Checks a value and brings it into the form in which it is read back; `held` stays where nothing is
/// said of it, as in proc_dointvec(). Errors: `EACCES`, `EINVAL`.
fn accept(range: Range, held: &str, value: &str) -> Result<String, Errno> {
    if value.is_empty() && range != Range::ReadOnly {
        return Ok(held.to_owned());
    }
    let value = value.trim_end_matches(['\n', '\0']).trim();
    match range {
        Range::ReadOnly => Err(Errno::EACCES),
        Range::Text if value.len() > 1024 || value.contains(char::is_control) => Err(Errno::EINVAL),
        Range::Text => Ok(value.to_owned()),
        Range::Ints(count, least, most) => {
            let mut numbers: Vec<String> = held.split_whitespace().map(str::to_owned).collect();
            let words = value.split_whitespace().take(count);
            for (at, word) in words.enumerate() {
                let number = integer(word).filter(|number| (least..=most).contains(number));
                let number = number.ok_or(Errno::EINVAL)?.to_string();
                *numbers.get_mut(at).ok_or(Errno::EINVAL)? = number;
            }
            if value.is_empty() { Err(Errno::EINVAL) } else { Ok(numbers.join("\t")) }
        }
    }
}

/// A number as strtoul() takes it with any base: decimal, `0x` hexadecimal, `0` octal.
fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, base) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (digits, 10),
    };
    // A second sign is none of its.
    let plain = digits.starts_with(|first: char| first.is_ascii_hexdigit());
    i64::from_str_radix(digits, base).ok().filter(|_| plain).map(|number| sign * number)
}
