//! [`open`]: from a locator to its transport.

use std::{env, path::Path, process, sync::Arc};

use nix::unistd::{User, geteuid};

use crate::{
    agno, capture, cmd,
    error::OpenError,
    library, macvtap, null, ptp, seqpacket, slirp, switch, tap,
    transport::Transport,
    udp, vde, vlan,
    vnl::{self, Vnl},
    vxlan, vxvde, wirefilter,
};

/// The longest description, in bytes (`VDE_DESCR_MAXLEN`).
const LONGEST_DESCRIPTION: usize = 128;

type Open = fn(&Vnl, &str) -> Result<Arc<dyn Transport>, OpenError>;

/// The native transports.
const TRANSPORTS: [(&str, Open); 21] = [
    ("vde", vde::open),
    ("switch", switch::open_switch),
    ("hub", switch::open_hub),
    ("multi", switch::open_multi),
    ("bonding", switch::open_bonding),
    ("vxvde", vxvde::open),
    ("vxlan", vxlan::open),
    ("tap", tap::open),
    ("macvtap", macvtap::open),
    ("udp", udp::open),
    ("ptp", ptp::open),
    ("cmd", cmd::open),
    ("seqpacket", seqpacket::open),
    ("null", null::open),
    ("slirp", slirp::open),
    ("vlan", |vnl, about| vlan::open(vnl, |inner| open_parsed(inner, about))),
    ("agno", |vnl, about| agno::open(vnl, |inner| open_parsed(inner, about))),
    ("wirefilter", |vnl, about| wirefilter::open(vnl, |inner| open_parsed(inner, about))),
    ("pcap", open_pcap),
    ("strict", open_strict),
    ("libvdeplug", library::open_forced),
];

/// Opens a plug in the network that the locator `vnl` names.
///
/// A locator without `://` is the path of a switch, or of a file whose first line is a locator; the
/// empty one is the default network: what `~/.vdeplug/default` says, or a switch at
/// `~/.vde2/default.switch`, `/var/run/vde.ctl` or `/tmp/vde.ctl`. The `description` is what the other side shows to people; ` user=.. pid=..` is
/// appended.
///
/// A scheme without a transport here is libvdeplug's affair, if that library is installed.
///
/// # Errors
/// [`OpenError`], whose message says what would be right.
pub fn open(vnl: &str, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    match native(vnl::scheme(vnl)) {
        Some(_) => open_parsed(&vnl.parse()?, description),
        None => open_foreign(vnl, description),
    }
}

fn native(scheme: &str) -> Option<Open> {
    TRANSPORTS.iter().find(|(name, _)| *name == scheme).map(|(_, open)| *open)
}

/// Opens `pcap://file{locator}`; without a network in braces it is an interface of the kernel, which the
/// library has.
fn open_pcap(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    match vnl.nested.as_deref() {
        Some(nested) => capture::open(vnl, nested, |inner| open_parsed(inner, description)),
        None => open_foreign(&vnl.to_string(), description),
    }
}

/// Opens `strict://{locator}`: a network whose loss is final.
fn open_strict(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    vnl.parameters.resolve("strict", &[])?;
    let nested = vnl.nested.as_deref().filter(|_| vnl.path.is_empty());
    let nested = nested.ok_or_else(|| OpenError::Refused {
        place: vnl.to_string(),
        problem: "needs a network in braces, for example strict://{vde:///tmp/sw}".to_owned(),
        errno: libc::EINVAL,
    })?;
    let transport = open_parsed(nested, description)?;
    transport.set_strict();
    Ok(transport)
}

fn open_parsed(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let found = match vnl.scheme.as_str() {
        "vde" if vnl.path.is_empty() => Some(default_network(vnl)?),
        "vde" => vde::search::locator_in(Path::new(&vnl.path)),
        _ => None,
    };
    match found {
        Some(mut found) => {
            found.parameters.0.extend(vnl.parameters.0.iter().cloned());
            plug_into(&found, description)
        }
        None => plug_into(vnl, description),
    }
}

fn plug_into(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    match (native(&vnl.scheme), vnl.scheme.as_str()) {
        // What these open has a description of its own.
        (Some(open), "vlan" | "agno" | "wirefilter" | "pcap" | "strict" | "libvdeplug") => {
            open(vnl, description)
        }
        (Some(open), _) => open(vnl, &describe(description)),
        (None, _) => open_foreign(&vnl.to_string(), description),
    }
}

fn default_network(vnl: &Vnl) -> Result<Vnl, OpenError> {
    vde::search::default_network().ok_or_else(|| OpenError::Absent {
        place: vnl.to_string(),
        problem: "no default network".to_owned(),
        remedy: "write a locator into ~/.vdeplug/default or start `vde_switch -s /tmp/vde.ctl`"
            .to_owned(),
    })
}

/// Opens a locator by the C library, except for a network inside it that is one of ours.
fn open_foreign(text: &str, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let known: Vec<_> = TRANSPORTS.iter().map(|(scheme, _)| format!("{scheme}://")).collect();
    let nested = |inner: &Vnl| native(&inner.scheme).map(|_| open_parsed(inner, description));
    library::open_foreign(text, description, &known.join(" "), nested)
}

/// Appends who we are.
fn describe(description: &str) -> String {
    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
    let remote = env::var("SSH_CLIENT").ok();
    let remote = remote.as_deref().and_then(|client| client.split(' ').next());
    let remote = remote.map(|ip| format!(" SSH={ip}")).unwrap_or_default();
    let mut text = format!("{description} user={user} pid={}{remote}", process::id());
    let mut end = text.len().min(LONGEST_DESCRIPTION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_lists_the_known_ones() {
        let error = open("nosuch://x", "test").expect_err("no such transport");
        let expected = "nosuch://: no such transport (there are: vde:// switch:// hub:// multi:// \
                        bonding:// vxvde:// vxlan:// tap:// macvtap:// udp:// ptp:// cmd:// \
                        seqpacket:// null:// slirp:// vlan:// agno:// wirefilter:// pcap:// strict:// libvdeplug://; by plugins of \
                        libvdeplug: vdesl://)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.errno(), libc::EPROTONOSUPPORT);
    }

    #[test]
    fn an_absent_switch_says_how_to_start_one() {
        let error = open("/nonexistent/sw", "test").expect_err("no switch");
        let expected = "vde:///nonexistent/sw: no switch there (start one with `vde_switch -s \
                        /nonexistent/sw` or use switch:///nonexistent/sw)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.errno(), libc::ENOENT);
    }

    #[test]
    fn a_file_may_hold_the_locator() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("net");
        std::fs::write(&file, "hub://[mode=abc]\nanything").expect("a file");
        let error = open(&file.to_string_lossy(), "test").expect_err("a bad mode");
        assert!(error.to_string().contains("permissions in octal"), "{error}");
    }

    #[test]
    fn a_strict_network_is_another_one_in_braces() {
        assert!(open("strict://{null://}", "test").is_ok_and(|plug| plug.carrier()));
        for place in ["strict://", "strict://x", "strict://x{null://}"] {
            let error = open(place, "test").expect_err(place);
            assert!(error.to_string().contains("example strict://{vde:///tmp/sw}"), "{error}");
        }
        let error = open("strict://{nosuch://}", "test").expect_err("no such transport");
        assert_eq!(error.errno(), libc::EPROTONOSUPPORT);
    }

    #[test]
    fn descriptions_are_bounded() {
        assert!(describe("lab:").starts_with("lab: user="));
        assert!(describe(&"é".repeat(200)).len() <= LONGEST_DESCRIPTION);
    }
}
