//! `/proc/PID/status` (proc_pid_status(5)): the lines about credentials, read and rewritten.

use std::{fs::File, io::Read, sync::Arc};

use umvu_abi::Tid;

use super::{Credentials, Ids, capabilities::Capabilities};

/// More than the text takes without hundreds of groups.
const USUAL: usize = 4096;

/// The text of a thread; empty when it is gone. By one read(2), where it is not uncommonly long.
pub(crate) fn text(tid: Tid) -> Vec<u8> {
    let mut text = Vec::with_capacity(USUAL);
    let read = File::open(format!("/proc/{tid}/status")).and_then(|mut file| {
        text.resize(USUAL, 0);
        let read = file.read(&mut text)?;
        text.truncate(read);
        if read == USUAL { file.read_to_end(&mut text) } else { Ok(0) }
    });
    if read.is_err() {
        text.clear();
    }
    text
}

/// Reads what the kernel says.
pub(super) fn parse(status: &str) -> Credentials {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ids = |name| {
        let mut ids = field(name).unwrap_or_default().split_whitespace();
        let mut next = || ids.next().and_then(|id| id.parse().ok()).unwrap_or(u32::MAX);
        Ids { real: next(), effective: next(), saved: next(), files: next() }
    };
    let set = |name| {
        let text = field(name).unwrap_or_default().trim();
        u64::from_str_radix(text, 16).unwrap_or(0)
    };
    let groups = field("Groups:").unwrap_or_default().split_whitespace();
    let groups: Arc<[u32]> = groups.filter_map(|id| id.parse().ok()).collect();
    let capabilities = Capabilities {
        effective: set("CapEff:"),
        permitted: set("CapPrm:"),
        inheritable: set("CapInh:"),
        bounding: set("CapBnd:"),
        ambient: set("CapAmb:"),
        securebits: 0,
    };
    Credentials { uid: ids("Uid:"), gid: ids("Gid:"), groups, capabilities, is_free: true }
}

/// Puts virtual credentials in place of the kernel's.
pub(crate) fn rewrite(status: &[u8], shown: &Credentials) -> Vec<u8> {
    let Credentials { uid, gid, groups, capabilities: sets, .. } = shown;
    let ids = |ids: &Ids| {
        let Ids { real, effective, saved, files } = ids;
        format!("{real}\t{effective}\t{saved}\t{files}\n")
    };
    let line = |line: &[u8]| {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return line.to_vec() };
        let text = match &line[..colon] {
            b"Uid" => ids(uid),
            b"Gid" => ids(gid),
            // Each is followed by a blank.
            b"Groups" => groups.iter().map(|id| format!("{id} ")).chain([" \n".into()]).collect(),
            b"CapInh" => format!("{:016x}\n", sets.inheritable),
            b"CapPrm" => format!("{:016x}\n", sets.permitted),
            b"CapEff" => format!("{:016x}\n", sets.effective),
            b"CapBnd" => format!("{:016x}\n", sets.bounding),
            b"CapAmb" => format!("{:016x}\n", sets.ambient),
            _ => return line.to_vec(),
        };
        [&line[..=colon], b"\t", text.as_bytes()].concat()
    };
    status.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t4 24  \n\
        CapInh:\t0000000000000000\nCapPrm:\t00000000000000ff\nCapEff:\t0000000000000001\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nThreads:\t1\n";

    #[test]
    fn what_is_read_is_written_again() {
        let read = parse(STATUS);
        assert_eq!((read.uid.files, read.gid.real, &*read.groups), (4, 5, &[4, 24][..]));
        assert_eq!(read.capabilities.permitted, 0xff);
        assert_eq!(String::from_utf8_lossy(&rewrite(STATUS.as_bytes(), &read)), STATUS);
    }
}
