//! The policy rules: added, deleted, and asked for each packet (`net/core/fib_rules.c`).

use umvu_abi::Errno;

use super::{Flow, NetConfig};
use crate::{
    host::Failure,
    text,
    values::{Change, Route, RouteKind, Rule, RuleAction},
};

/// The rules of both families, each in the order of priority; IPv4's first.
#[derive(Debug)]
pub(super) struct Rules([Vec<Rule>; 2]);

impl Default for Rules {
    fn default() -> Self {
        Self([Rule::defaults(false), Rule::defaults(true)])
    }
}

/// What `ip rule del` names: what is not given is not looked at.
#[derive(Debug, Clone, Default)]
pub struct RuleWish {
    /// The rule, as far as it was given.
    pub rule: Option<Rule>,
    /// Whether the priority was given.
    pub by_priority: bool,
    /// Whether a mark was given.
    pub by_mark: bool,
    /// Whether a mask was given.
    pub by_mask: bool,
    /// Whether who made it was given.
    pub by_protocol: bool,
}

impl RuleWish {
    fn names(&self, other: &Rule) -> bool {
        let Some(rule) = &self.rule else { return false };
        let action = match rule.action {
            // Without an action or a table.
            RuleAction::Nop => true,
            RuleAction::Table(0) => matches!(other.action, RuleAction::Table(_)),
            action => action == other.action,
        };
        let given = |mine: bool, same: bool| !mine || same;
        action
            && given(self.by_priority, rule.priority == other.priority)
            && given(rule.from.is_some(), rule.from == other.from)
            && given(rule.to.is_some(), rule.to == other.to)
            && given(rule.iif.is_some(), rule.iif == other.iif)
            && given(rule.oif.is_some(), rule.oif == other.oif)
            && given(self.by_mark, rule.mark.0 == other.mark.0)
            && given(self.by_mask, rule.mark.1 == other.mark.1)
            && given(self.by_protocol, rule.protocol == other.protocol)
            && given(rule.invert, other.invert)
            && given(rule.suppress_length.is_some(), rule.suppress_length == other.suppress_length)
    }
}

impl NetConfig {
    /// The policy rules of a family, in their order.
    #[must_use]
    pub fn rules(&self, ipv6: bool) -> &[Rule] {
        &self.rules.0[usize::from(ipv6)]
    }

    /// Whether IPv4 has the rules that it began with.
    pub(super) fn has_default_rules(&self) -> bool {
        self.rules(false) == Rule::defaults(false)
    }

    /// Adds a rule; without a priority it comes before those that are there, but for the first.
    /// Errors: `EEXIST` when `exclusive` and there is one like it, `EINVAL` for a goto that leads
    /// back.
    pub fn add_rule(
        &mut self,
        ipv6: bool,
        mut rule: Rule,
        priority: Option<u32>,
        exclusive: bool,
    ) -> Result<(), Failure> {
        let rules = &mut self.rules.0[usize::from(ipv6)];
        rule.priority = priority.unwrap_or_else(|| {
            let second = rules.get(1).map_or(0, |second| second.priority);
            second.saturating_sub(1)
        });
        if let RuleAction::Goto(target) = rule.action
            && target <= rule.priority
        {
            return Err(text::RULE_BACKWARD);
        }
        let like = |other: &Rule| Rule { protocol: rule.protocol, ..other.clone() } == rule;
        if exclusive && rules.iter().any(like) {
            return Err(Errno::EEXIST.into());
        }
        let at = rules.partition_point(|other| other.priority <= rule.priority);
        rules.insert(at, rule.clone());
        self.note(Change::Rule(ipv6, rule));
        Ok(())
    }

    /// Deletes the first rule that is meant. Errors: `ENOENT`.
    pub fn del_rule(&mut self, ipv6: bool, wish: &RuleWish) -> Result<(), Failure> {
        let rules = &mut self.rules.0[usize::from(ipv6)];
        let at = rules.iter().position(|rule| wish.names(rule)).ok_or(Errno::ENOENT)?;
        let gone = rules.remove(at);
        self.note(Change::RuleRemoved(ipv6, gone));
        Ok(())
    }

    /// Whether a rule holds for a flow.
    fn matches(&self, rule: &Rule, flow: &Flow) -> bool {
        let lies_in = |prefix: &crate::values::Prefix, ip: Option<std::net::IpAddr>| {
            prefix.length == 0 || ip.is_some_and(|ip| prefix.contains(ip))
        };
        let is_named = |name: &str, index| self.link(index).is_some_and(|link| link.name == name);
        let lo = self.links.first().map(|lo| lo.index);
        let (mark, mask) = rule.mark;
        let holds = rule.from.as_ref().is_none_or(|from| lies_in(from, flow.from))
            && rule.to.as_ref().is_none_or(|to| lies_in(to, Some(flow.to)))
            && rule
                .iif
                .as_ref()
                .is_none_or(|name| flow.iif.or(lo).is_some_and(|index| is_named(name, index)))
            && rule
                .oif
                .as_ref()
                .is_none_or(|name| flow.oif.is_some_and(|index| is_named(name, index)))
            && (mark ^ flow.mark) & mask == 0;
        holds != rule.invert
    }

    /// The route of a flow, by the policy rules; None when no table has one. Errors: what a rule
    /// refuses packets with: `EINVAL`, `ENETUNREACH`, `EACCES`.
    pub(super) fn find_route(&self, flow: &Flow) -> Result<Option<&Route>, Errno> {
        let rules = self.rules(flow.to.is_ipv6());
        let mut from = 0;
        while let Some(rule) = rules.get(from) {
            from += 1;
            if !self.matches(rule, flow) {
                continue;
            }
            match rule.action {
                RuleAction::Nop => {}
                RuleAction::Blackhole => return Err(Errno::EINVAL),
                RuleAction::Unreachable => return Err(Errno::ENETUNREACH),
                RuleAction::Prohibit => return Err(Errno::EACCES),
                RuleAction::Goto(target) => {
                    // A target that is not there yet: the rule does nothing.
                    let found = rules.iter().position(|rule| rule.priority == target);
                    from = found.unwrap_or(from);
                }
                RuleAction::Table(table) => match self.route_in(flow, table) {
                    Some(route) if route.kind == RouteKind::Throw => {}
                    Some(route) if is_suppressed(rule, route) => {}
                    Some(route) => return Ok(Some(route)),
                    None => {}
                },
            }
        }
        Ok(None)
    }

    /// The route of a flow in one table.
    fn route_in(&self, flow: &Flow, table: u32) -> Option<&Route> {
        let fits = |route: &Route| match flow.oif {
            // The kernel finds its own addresses whatever the interface.
            Some(index) => {
                route.kind.is_reject()
                    || route.uses(index)
                    || (route.kind == RouteKind::Local && !flow.to.is_multicast())
            }
            None => true,
        };
        self.fib.find(flow.to, table, fits)
    }
}

fn is_suppressed(rule: &Rule, route: &Route) -> bool {
    rule.suppress_length.is_some_and(|most| u32::from(route.destination.length) <= most)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::values::{Interface, LinkChange, Prefix, RouteMode, table};
    use umvu_abi::IfIndex;

    fn fresh() -> NetConfig {
        let mut config = NetConfig::default();
        for index in [2, 3] {
            let mac = [2, 0, 0, 0, 0, u8::try_from(index).expect("small")];
            let link = Interface::ethernet(IfIndex(index), &format!("if{index}"), "", mac);
            config.insert_link(link).expect("new");
            config.set_link(IfIndex(index), &LinkChange::admin(true)).expect("there");
        }
        for (table, oif) in [(table::MAIN, 2), (100, 3)] {
            let mut route = Route::new(Prefix::new([0, 0, 0, 0].into(), 0));
            (route.table, route.oif) = (table, Some(IfIndex(oif)));
            let mode = RouteMode::ADD;
            config.add_route(&route, mode).expect("new");
        }
        config
    }

    fn way(config: &NetConfig, flow: &Flow) -> Result<u32, Errno> {
        config.lookup(flow).map(|hop| hop.oif.0)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn rules_choose_the_table() {
        let mut config = fresh();
        let to = Flow::to(ip("192.0.2.1"));
        assert_eq!(way(&config, &to), Ok(2));
        let by = |rule: Rule| {
            let mut other = fresh();
            other.add_rule(false, rule, None, true).expect("new");
            other
        };
        let rule = Rule::new(0, RuleAction::Table(100));
        let from = Some(Prefix::new(ip("10.0.0.0"), 8));
        let other = by(Rule { from, ..rule.clone() });
        assert_eq!(way(&other, &to), Ok(2));
        assert_eq!(way(&other, &to.from(ip("10.1.2.3"))), Ok(3));
        let other = by(Rule { from, invert: true, ..rule.clone() });
        assert_eq!(way(&other, &to.from(ip("10.1.2.3"))), Ok(2));
        assert_eq!(way(&other, &to), Ok(3));
        let other = by(Rule { mark: (7, 15), ..rule.clone() });
        assert_eq!(way(&other, &to), Ok(2));
        assert_eq!(way(&other, &Flow { mark: 0x17, ..to }), Ok(3));
        let other = by(Rule { iif: Some("if3".into()), ..rule.clone() });
        assert_eq!(way(&other, &Flow { iif: Some(IfIndex(3)), ..to }), Ok(3));
        assert_eq!(way(&other, &to), Ok(2));
        let other = by(Rule { iif: Some("lo".into()), ..rule.clone() });
        assert_eq!(way(&other, &to), Ok(3));
        let other = by(Rule { suppress_length: Some(0), ..rule.clone() });
        assert_eq!(way(&other, &to), Ok(2));
        let other = by(Rule { action: RuleAction::Prohibit, ..rule.clone() });
        assert_eq!(way(&other, &to), Err(Errno::EACCES));
        config.add_rule(false, rule, Some(40_000), true).expect("new");
        let skip = Rule::new(0, RuleAction::Goto(40_000));
        config.add_rule(false, skip, Some(5), true).expect("new");
        assert_eq!(way(&config, &to), Ok(3));
        assert_eq!(config.rules(false)[1].priority, 5);
    }

    #[test]
    fn rules_are_added_once_and_deleted_by_what_is_given() {
        let mut config = fresh();
        let rule = Rule::new(0, RuleAction::Table(99));
        config.add_rule(false, rule.clone(), None, true).expect("new");
        assert_eq!(config.rules(false)[1].priority, 32_765);
        let again = config.add_rule(false, rule.clone(), Some(32_765), true);
        assert_eq!(again, Err(Errno::EEXIST.into()));
        config.add_rule(false, rule.clone(), Some(32_765), false).expect("not exclusive");
        let back = Rule::new(0, RuleAction::Goto(3));
        assert_eq!(config.add_rule(false, back, Some(3), true), Err(text::RULE_BACKWARD));
        let wish = RuleWish { rule: Some(rule), ..RuleWish::default() };
        for _ in 0..2 {
            config.del_rule(false, &wish).expect("there");
        }
        assert_eq!(config.del_rule(false, &wish), Err(Errno::ENOENT.into()));
        assert_eq!(config.rules(true).len(), 2);
    }
}
