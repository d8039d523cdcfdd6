//! Paths as bytes: normal form, joining, splitting. No file system is asked.

use std::borrow::Cow;

/// The longest path the kernel takes, with its NUL (`PATH_MAX`).
pub(crate) const PATH_MAX: usize = 4096;

/// The components, without empty ones; `.` and `..` are kept.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

/// Whether `..` is among the components.
pub(crate) fn climbs(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"..") && components(path).any(|c| c == b"..")
}

/// Whether the last component demands a directory: a trailing slash, `.` or `..`.
pub(crate) fn demands_directory(path: &[u8]) -> bool {
    matches!(path.rsplit(|byte| *byte == b'/').next(), Some(b"" | b"." | b".."))
}

/// Whether an absolute path is in normal form: no empty component, `.`, `..` or trailing slash.
fn is_normal(path: &[u8]) -> bool {
    let mut start = 1;
    for at in 1..=path.len() {
        if at == path.len() || path[at] == b'/' {
            if matches!(&path[start..at], b"" | b"." | b"..") {
                return path == b"/";
            }
            start = at + 1;
        }
    }
    true
}

/// Brings an absolute path to normal form, `..` taken as text; a copy only when it must change.
pub(crate) fn normalise(path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(path) {
        return Cow::Borrowed(path);
    }
    let mut normal = Vec::with_capacity(path.len());
    for component in components(path) {
        match component {
            b"." => {}
            b".." => pop(&mut normal),
            name => push(&mut normal, name),
        }
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    Cow::Owned(normal)
}

/// Appends a component. The root is the empty vector here.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.as_slice() == b"/" {
        path.clear();
    }
    path.push(b'/');
    path.extend_from_slice(name);
}

/// Takes the last component away; the root stays the root.
pub(crate) fn pop(path: &mut Vec<u8>) {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.truncate(end);
}

/// Joins a relative path to an absolute one; an absolute path replaces it.
pub(crate) fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let mut joined = Vec::with_capacity(base.len() + 1 + path.len());
    joined.extend_from_slice(base);
    if !base.ends_with(b"/") {
        joined.push(b'/');
    }
    joined.extend_from_slice(path);
    joined
}

/// Joins a path to an absolute one that is its root.
pub(crate) fn beneath(root: &[u8], path: &[u8]) -> Vec<u8> {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    join(root, &path[start..])
}

/// What follows `prefix` in `path`, when `path` is `prefix` (then empty) or below it. Both in
/// normal form.
pub(crate) fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let prefix = if prefix == b"/" { b"" } else { prefix };
    let rest = path.strip_prefix(prefix)?;
    match rest {
        [] => Some(rest),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Whether a component is a number, as the directories of processes in `/proc`.
pub(crate) fn number(component: &[u8]) -> Option<i32> {
    if component.is_empty() || !component.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(component).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_paths_are_not_copied() {
        for path in ["/", "/a", "/usr/lib/x.so", "/..a/b..", "/.../a"] {
            assert!(matches!(normalise(path.as_bytes()), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn dots_and_slashes_vanish() {
        for (path, normal) in [
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a/", "/a"),
            ("//a//b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/../../b/.", "/b"),
            ("/dev/../dev/net/x/", "/dev/net/x"),
        ] {
            assert_eq!(normalise(path.as_bytes()), normal.as_bytes(), "{path}");
        }
    }

    #[test]
    fn prefixes_end_at_components() {
        assert_eq!(below(b"/proc/net/dev", b"/proc/net"), Some(&b"dev"[..]));
        assert_eq!(below(b"/proc/net", b"/proc/net"), Some(&b""[..]));
        assert_eq!(below(b"/proc/network", b"/proc/net"), None);
        assert_eq!(below(b"/dev", b"/"), Some(&b"dev"[..]));
        assert_eq!(below(b"/", b"/"), Some(&b""[..]));
    }

    #[test]
    fn any_bytes_are_taken() {
        for path in [&b""[..], b"\xff\xfe", b"/\xff//\0/..", b"..", b"/../..\xff"] {
            let _ = (normalise(path), climbs(path), demands_directory(path), is_normal(path));
        }
        assert!(climbs(b"../x") && climbs(b"a/..") && !climbs(b"a..b/...") && !climbs(b"a..b"));
        assert!(demands_directory(b"a/") && demands_directory(b"a/.") && !demands_directory(b"a"));
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(number(b"12"), Some(12));
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b"99999999999999999999"), None);
        assert_eq!(number(b""), None);
    }
}
