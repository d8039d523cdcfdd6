//! Tests of the locator syntax.

use super::{Vnl, VnlError};

fn vnl(text: &str) -> Vnl {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> VnlError {
    text.parse::<Vnl>().expect_err(text)
}

fn pairs(vnl: &Vnl) -> Vec<(&str, Option<&str>)> {
    vnl.parameters.0.iter().map(|p| (p.name.as_str(), p.value.as_deref())).collect()
}

#[test]
fn text_without_scheme_is_a_switch_path() {
    for path in ["", "/tmp/vde.ctl", "relative", "/odd/a://b"] {
        let vnl = vnl(path);
        assert_eq!((vnl.scheme.as_str(), vnl.path.as_str()), ("vde", path));
    }
}

#[test]
fn path_types_take_parameters_in_brackets() {
    let vnl = vnl("switch:///tmp/a/b[mode=0666/hashsize=1k/bare]");
    assert_eq!(vnl.path, "/tmp/a/b");
    let expected = [("mode", Some("0666")), ("hashsize", Some("1k")), ("bare", None)];
    assert_eq!(pairs(&vnl), expected);
}

#[test]
fn ip_types_take_parameters_after_slashes() {
    let vnl = vnl("vxvde://ff05::1/port=12/v6//vni=3=4");
    assert_eq!(vnl.path, "ff05::1");
    assert_eq!(pairs(&vnl), [("port", Some("12")), ("v6", None), ("vni", Some("3=4"))]);
    assert_eq!(pairs(&super::tests::vnl("vxvde:///v4")), [("v4", None)]);
}

#[test]
fn quotes_and_escapes_take_the_meaning_away() {
    assert_eq!(vnl("vde:///a'[b]'c").path, "/a[b]c");
    assert_eq!(vnl("vde:///a\"{\"\\[%5b%zz%").path, "/a{[[%zz%");
    assert_eq!(pairs(&vnl("vde://x[a='1/2]'/b=%2f]")), [("a", Some("1/2]")), ("b", Some("/"))]);
}

#[test]
fn commands_stay_as_they_are() {
    let text = "cmd://ssh host \"sh -c 'a[1] 100%41/b={c}'\"";
    let command = vnl(text);
    assert_eq!(command.path, "ssh host \"sh -c 'a[1] 100%41/b={c}'\"");
    assert_eq!((command.parameters.0.len(), command.to_string().as_str()), (0, text));
    let nested = vnl("agno://{cmd://cat 'x}'}").nested.expect("a locator");
    assert_eq!((nested.scheme.as_str(), nested.path.as_str()), ("cmd", "cat 'x}'"));
}

#[test]
fn vlans_take_parameters_of_both_kinds() {
    for text in ["vlan://4/untag=5/trunk{vde://a}", "vlan://4[untag=5/trunk]{vde://a}"] {
        let vlan = vnl(text);
        assert_eq!((vlan.path.as_str(), vlan.nested.is_some()), ("4", true));
        assert_eq!(pairs(&vlan), [("untag", Some("5")), ("trunk", None)]);
        // The form that libvdeplug's plugin reads.
        assert_eq!(vlan.to_string(), "vlan://4/untag=5/trunk{vde://a}");
    }
}

#[test]
fn what_the_library_gets_stays_as_it_is() {
    let inner = "vlan://4{slirp:///tcpfwd=8080:10.0.2.15:80/cmdfwd=10.0.2.5:6000:'a \"b\"'}";
    assert_eq!(vnl(&format!("libvdeplug://{{{inner}}}")).path, format!("{{{inner}}}"));
    assert_eq!(super::scheme(inner), "vlan");
    assert_eq!(super::scheme("/odd/a://b"), "vde");
}

#[test]
fn braces_nest() {
    let outer = vnl("agno:///key[ethtype=1]{vlan://3{vxvde://239.1.1.1/vni=2}}");
    let vlan = outer.nested.as_deref().expect("a locator");
    assert_eq!((vlan.scheme.as_str(), vlan.path.as_str()), ("vlan", "3"));
    let vxvde = vlan.nested.as_deref().expect("a locator");
    assert_eq!((vxvde.scheme.as_str(), pairs(vxvde)), ("vxvde", vec![("vni", Some("2"))]));
}

#[test]
fn errors_say_what_would_be_right() {
    assert_eq!(
        error("vde://a[b").to_string(),
        "vde://a[b: `[` is never closed (quote it as %5b if it is part of a name)"
    );
    assert_eq!(
        error("vde://a[b]c").to_string(),
        "vde://a[b]c: nothing may follow `]` (quote it as %5d if it is part of a name)"
    );
    assert!(matches!(error("vde://'a"), VnlError::Unclosed { open: '\'', .. }));
    assert!(matches!(error("agno://{vde://"), VnlError::Unclosed { open: '{', .. }));
    assert!(matches!(error("agno://{vde://}x"), VnlError::Trailing { close: '}', .. }));
    assert!(matches!(error("://x"), VnlError::NoScheme { .. }));
    assert!(matches!(error("vde://%00"), VnlError::NotText { .. }));
    assert!(matches!(error("vde://%ff"), VnlError::NotText { .. }));
    assert!(matches!(error(&"{".repeat(9)), VnlError::Unclosed { .. }));
    let deep = format!("{}{}", "{".repeat(9), "}".repeat(9));
    assert!(matches!(error(&deep), VnlError::TooDeep { .. }));
}

#[test]
fn names_may_be_shortened_while_unambiguous() {
    let known = ["port", "portgroup", "group", "mode"];
    let short = vnl("vde://x[gr=a/port=7/m=600]");
    let resolved = short.parameters.resolve("vde", &known).expect("known names");
    assert_eq!(resolved.get("group"), Some("a"));
    assert_eq!(resolved.get("portgroup"), None);
    assert_eq!(resolved.number("port", 0..=10), Ok(Some(7)));
    assert_eq!(resolved.mode("mode"), Ok(Some(0o600)));
    let resolve = |text: &str| vnl(text).parameters.resolve("vde", &known).map(|_| ());
    let message = resolve("vde://x[po=7]").expect_err("ambiguous").to_string();
    assert_eq!(message, "vde://: `po` may be any of port, portgroup");
    let message = resolve("vde://x[ttl=7]").expect_err("unknown").to_string();
    assert_eq!(message, "vde://: no parameter `ttl` (there are: port, portgroup, group, mode)");
    let message = resolved.number("port", 0..=5).expect_err("too large").to_string();
    assert_eq!(message, "vde://: port=7: should be a number from 0 to 5");
}

#[test]
fn bare_words_can_be_the_value_of_the_nameless_parameter() {
    let known = ["", "port"];
    for (text, value) in [("vde://x[3]", "3"), ("vde://x[lan]", "lan"), ("vde://x[po]", "po")] {
        let vnl = vnl(text);
        let resolved = vnl.parameters.resolve("vde", &known).expect("known names");
        assert_eq!(resolved.get(""), Some(value));
    }
}

#[test]
fn numbers_have_bases_and_suffixes() {
    for (text, number) in [("0x10", Some(16)), ("2k", Some(2048)), ("3M", Some(3 << 20))] {
        assert_eq!(super::parse_number(text), number);
    }
    for text in ["", "k", "-1", "1x", "0x", "é", "99999999999999999999", "99999999999999999g"] {
        assert_eq!(super::parse_number(text), None, "{text}");
    }
}
