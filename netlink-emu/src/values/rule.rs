//! Policy rules: the three that every Linux has; others are not supported.

use super::table;

/// A rule of `ip rule`: look up a table, for all packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Smaller comes first.
    pub priority: u32,
    /// The table, see [`table`].
    pub table: u32,
}

impl Rule {
    /// The rules of a fresh IPv4 stack.
    pub const IPV4: [Self; 3] = [
        Self { priority: 0, table: table::LOCAL },
        Self { priority: 32_766, table: table::MAIN },
        Self { priority: 32_767, table: table::DEFAULT },
    ];

    /// The rules of a fresh IPv6 stack.
    pub const IPV6: [Self; 2] =
        [Self { priority: 0, table: table::LOCAL }, Self { priority: 32_766, table: table::MAIN }];
}
