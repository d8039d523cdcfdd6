//! The options of a mount as a plugin gets them: networks, and the rest as one string.

/// What `newstack` is called with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// The networks, each `VNL` or `NAME:VNL`.
    pub(crate) networks: Vec<String>,
    /// Everything else, separated by commas.
    pub(crate) options: String,
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
    fn networks_are_told_from_options() {
        let plan = Plan::parse("eth0:vde://a[port=3],if=vxvde://,debug, ip=10.0.0.1/24,url=x://y");
        assert_eq!(plan.networks, ["eth0:vde://a[port=3]", "vxvde://"]);
        assert_eq!(plan.options, "debug,ip=10.0.0.1/24,url=x://y");
    }
}
