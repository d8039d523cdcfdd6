//! Policy rules: which table a packet is looked up in (ip-rule(8)).

use super::{Prefix, table};

/// A rule of `ip rule`. What is not given matches all packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Smaller comes first.
    pub priority: u32,
    /// What is done with packets that match.
    pub action: RuleAction,
    /// Where they come from.
    pub from: Option<Prefix>,
    /// Where they go to.
    pub to: Option<Prefix>,
    /// The name of the interface that they came by; `lo` for those of this host.
    pub iif: Option<String>,
    /// The name of the interface that their socket is bound to.
    pub oif: Option<String>,
    /// Their mark, and which of its bits count (`SO_MARK`).
    pub mark: (u32, u32),
    /// It holds for all packets but those.
    pub invert: bool,
    /// Routes with a prefix of this length or a shorter one do not count.
    pub suppress_length: Option<u32>,
    /// Who made it, one of [`protocol`](super::protocol).
    pub protocol: u8,
}

/// What a rule does with packets (`FR_ACT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Looks them up in a table, see [`table`].
    Table(u32),
    /// Goes on with the rule of this priority.
    Goto(u32),
    /// Nothing.
    Nop,
    /// Loses them (`EINVAL` for those of this host).
    Blackhole,
    /// Refuses them with `ENETUNREACH`.
    Unreachable,
    /// Refuses them with `EACCES`.
    Prohibit,
}

impl Rule {
    /// A rule for all packets, made by the administrator.
    #[must_use]
    pub fn new(priority: u32, action: RuleAction) -> Self {
        Self {
            priority,
            action,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: (0, 0),
            invert: false,
            suppress_length: None,
            protocol: super::protocol::KERNEL,
        }
    }

    /// The rules of a fresh stack.
    #[must_use]
    pub fn defaults(ipv6: bool) -> Vec<Self> {
        let rule = |priority, table| Self::new(priority, RuleAction::Table(table));
        let mut rules =
            vec![rule(0, table::LOCAL), rule(32_766, table::MAIN), rule(32_767, table::DEFAULT)];
        if ipv6 {
            rules.pop();
        }
        rules
    }

    /// The table, 0 for none.
    #[must_use]
    pub fn table(&self) -> u32 {
        if let RuleAction::Table(table) = self.action { table } else { 0 }
    }
}
