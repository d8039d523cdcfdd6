//! The mount words of vumount and the flags they set or clear: mount(2), mount(8).

/// What a word does to the flags: bits to set, bits to clear.
type Effect = (u64, u64);

const WORDS: &[(&str, Effect)] = &[
    ("defaults", (0, 0)),
    ("user", (0, 0)),
    ("group", (0, 0)),
    ("ro", (libc::MS_RDONLY, 0)),
    ("rw", (0, libc::MS_RDONLY)),
    ("suid", (0, libc::MS_NOSUID)),
    ("nosuid", (libc::MS_NOSUID, 0)),
    ("dev", (0, libc::MS_NODEV)),
    ("nodev", (libc::MS_NODEV, 0)),
    ("exec", (0, libc::MS_NOEXEC)),
    ("noexec", (libc::MS_NOEXEC, 0)),
    ("async", (0, libc::MS_SYNCHRONOUS)),
    ("sync", (libc::MS_SYNCHRONOUS, 0)),
    ("remount", (libc::MS_REMOUNT, 0)),
    ("mand", (libc::MS_MANDLOCK, 0)),
    ("nomand", (0, libc::MS_MANDLOCK)),
    ("dirsync", (libc::MS_DIRSYNC, 0)),
    ("atime", (0, libc::MS_NOATIME)),
    ("noatime", (libc::MS_NOATIME, 0)),
    ("diratime", (0, libc::MS_NODIRATIME)),
    ("nodiratime", (libc::MS_NODIRATIME, 0)),
    ("bind", (libc::MS_BIND, 0)),
    ("move", (libc::MS_MOVE, 0)),
    ("rbind", (libc::MS_BIND | libc::MS_REC, 0)),
    ("silent", (libc::MS_SILENT, 0)),
    ("loud", (0, libc::MS_SILENT)),
    ("acl", (libc::MS_POSIXACL, 0)),
    ("realtime", (libc::MS_RELATIME, 0)),
    ("relatime", (libc::MS_RELATIME, 0)),
    ("norealtime", (0, libc::MS_RELATIME)),
    ("norelatime", (0, libc::MS_RELATIME)),
    ("iversion", (libc::MS_I_VERSION, 0)),
    ("noiversion", (0, libc::MS_I_VERSION)),
    ("strictatime", (libc::MS_STRICTATIME, 0)),
    ("nostrictatime", (0, libc::MS_STRICTATIME)),
    ("lazytime", (libc::MS_LAZYTIME, 0)),
    ("nolazytime", (0, libc::MS_LAZYTIME)),
];

/// Splits an option list into flags, over `flags`, and the data that remains, in order.
#[must_use]
pub(super) fn split(options: &str, mut flags: u64) -> (u64, String) {
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match WORDS.iter().find(|(name, _)| *name == word) {
            Some((_, (set, clear))) => flags = (flags | set) & !clear,
            None => data.push(word),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_flags_and_the_rest_is_data() {
        let (flags, data) = split("ro,vxvde://,noatime,ip=10.0.0.1/24,rw", libc::MS_SILENT);
        assert_eq!(flags, libc::MS_SILENT | libc::MS_NOATIME);
        assert_eq!(data, "vxvde://,ip=10.0.0.1/24");
    }
}
