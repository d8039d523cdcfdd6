//! Address families by name: socket(2), and VUOS's `vustack -f`, View-OS's `mstack -o`.

/// The families by number, `AF_UNSPEC` first.
pub(super) const NAMES: [&str; 46] = [
    "unspec",
    "unix",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "decnet",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
];
/// The number after the last one that may be named by number.
const LIMIT: i32 = 57;
const INET: i32 = 2;
const INET6: i32 = 10;
const NETLINK: i32 = 16;
const PACKET: i32 = 17;

/// Names that stand for several families, or for one with another name.
pub(super) const ALIASES: [(&str, &[i32]); 12] = [
    ("ip", &[INET, INET6, NETLINK, PACKET]),
    ("ipv4", &[INET]),
    ("ip4", &[INET]),
    ("4", &[INET]),
    ("ipv6", &[INET6]),
    ("ip6", &[INET6]),
    ("6", &[INET6]),
    ("bt", &[31]),
    ("b", &[31]),
    ("ir", &[23]),
    ("i", &[23]),
    ("all", &[INET, INET6, NETLINK, PACKET]),
];
const LETTERS: [(&str, i32); 3] = [("u", 1), ("n", NETLINK), ("p", PACKET)];

/// The name of a family, or its number as text.
pub(super) fn name(family: i32) -> String {
    let known = usize::try_from(family).ok().and_then(|number| NAMES.get(number));
    known.map_or_else(|| family.to_string(), |name| (*name).to_owned())
}

/// The families of one item: a name, an alias, a number. Errors: the message to print.
fn families_of(item: &str, letters: bool) -> Result<Vec<i32>, String> {
    let short = letters || item.len() > 1;
    if let Some((_, list)) = ALIASES.iter().find(|(alias, _)| *alias == item && short) {
        return Ok(list.to_vec());
    }
    if let Some((_, family)) = LETTERS.iter().find(|(letter, _)| letters && *letter == item) {
        return Ok(vec![*family]);
    }
    if let Some(number) = NAMES.iter().position(|name| *name == item) {
        return Ok(vec![i32::try_from(number).unwrap_or(0)]);
    }
    match item.trim_start_matches('#').parse::<i32>() {
        Ok(number) if (0..LIMIT).contains(&number) => Ok(vec![number]),
        _ => Err(format!("{item}: unknown address family (vustack -vh lists them)")),
    }
}

/// The families of `-f LIST`, ascending. Errors: the message to print.
pub(super) fn plain(list: &str) -> Result<Vec<i32>, String> {
    let mut families = Vec::new();
    for item in list.split(',') {
        families.extend(families_of(item, false)?);
    }
    families.sort_unstable();
    families.dedup();
    Ok(families)
}

/// The families of `-o LIST`: items are added, or with `-` taken away; a list that begins with
/// `-` begins with all. Errors: the message to print.
pub(super) fn signed(list: &str) -> Result<Vec<i32>, String> {
    let mut families = Vec::new();
    if list.starts_with('-') {
        families.extend(families_of("all", true)?);
    }
    for item in list.split(',') {
        if let Some(item) = item.strip_prefix('-') {
            let gone = families_of(item, true)?;
            families.retain(|family| !gone.contains(family));
        } else {
            families.extend(families_of(item.strip_prefix('+').unwrap_or(item), true)?);
        }
    }
    families.sort_unstable();
    families.dedup();
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_numbers_are_known() {
        assert_eq!(plain("ip"), Ok(vec![2, 10, 16, 17]));
        assert_eq!(plain("inet,netlink,inet"), Ok(vec![2, 16]));
        assert_eq!(plain("56"), Ok(vec![56]));
        assert!(plain("57").is_err());
        assert!(plain("nonsense").is_err());
    }

    #[test]
    fn items_are_added_and_taken_away() {
        assert_eq!(signed("+ip,-ipv6"), Ok(vec![2, 16, 17]));
        assert_eq!(signed("-6"), Ok(vec![2, 16, 17]));
        assert_eq!(signed("+4,+n"), Ok(vec![2, 16]));
        assert_eq!(signed("#30"), Ok(vec![30]));
    }
}
