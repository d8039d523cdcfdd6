//! The options of a mount as a plugin gets them: networks, and the rest as one string.

/// What `newstack` is called with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// The networks, each `VNL` or `NAME:VNL`.
    pub(crate) networks: Vec<String>,
    /// Everything else, separated by commas.
    pub(crate) options: String,
}

/// The word between the options of a plugin and those of ours.
const CONFIGURE: &str = "conf";

/// Divides the data argument of a mount at the word `conf`: what a plugin gets, and, if the word is
/// there, the plan of its configuration, with the networks.
pub(crate) fn divide(data: &str) -> (String, Option<String>) {
    let words: Vec<&str> = data.split(',').collect();
    let Some(at) = words.iter().position(|word| word.trim() == CONFIGURE) else {
        return (data.to_owned(), None);
    };
    let (given, ours) = words.split_at(at);
    let is_network = |word: &&str| {
        let word = word.trim();
        word.starts_with("if=") || crate::options::is_locator(word)
    };
    let networks = given.iter().copied().filter(is_network);
    let ours: Vec<&str> = networks.chain(ours.iter().skip(1).copied()).collect();
    (given.join(","), Some(ours.join(",")))
}

impl Plan {
    /// Reads the data argument of a mount: a network is what has a `://` and no `=` before it, or
    /// what follows `if=`.
    pub(crate) fn parse(data: &str) -> Self {
        let mut plan = Self::default();
        let mut rest = Vec::new();
        for option in data.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            if let Some(network) = option.strip_prefix("if=") {
                plan.networks.push(network.to_owned());
            } else if crate::options::is_locator(option) {
                plan.networks.push(option.to_owned());
            } else {
                rest.push(option);
            }
        }
        plan.options = rest.join(",");
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_conf_is_ours() {
        assert_eq!(divide("vde://,ip=10.0.0.1"), ("vde://,ip=10.0.0.1".to_owned(), None));
        let (given, ours) = divide("lan:vde://a,fast,conf,dhcp,dns=10.0.0.1");
        assert_eq!(given, "lan:vde://a,fast");
        assert_eq!(ours.as_deref(), Some("lan:vde://a,dhcp,dns=10.0.0.1"));
    }

    #[test]
    fn networks_are_told_from_options() {
        let plan = Plan::parse("eth0:vde://a[port=3],if=vxvde://,debug, ip=10.0.0.1/24,url=x://y");
        assert_eq!(plan.networks, ["eth0:vde://a[port=3]", "vxvde://"]);
        assert_eq!(plan.options, "debug,ip=10.0.0.1/24,url=x://y");
    }
}
