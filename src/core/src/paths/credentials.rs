//! What the kernel knows about a thread: its ids, and its umask(2); remembered until they change.

use std::sync::Arc;

use umvu_abi::{Pid, Tid, files::Caller};
use umvu_tracer::api::Action;

use crate::dispatch::{Handler, Row, always};

const NAMES: [&str; 3] = ["umask", "setns", "unshare"];

pub(super) fn rows() -> Vec<Row> {
    let changes: Handler = |core, call| {
        core.paths.threads.get(call.tid()).moves();
        Action::Forward
    };
    NAMES.map(|name| always(name, changes, "native; remembered")).into()
}

/// Reads the credentials of a thread; one that is gone counts as nobody's.
pub(super) fn of(tid: Tid) -> Caller {
    // The name of a thread is any bytes.
    let status = crate::identity::status::text(tid);
    let status = String::from_utf8_lossy(&status);
    parse(&status).unwrap_or_else(|| Caller { uid: u32::MAX, gid: u32::MAX, ..Caller::root() })
}

fn parse(status: &str) -> Option<Caller> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, file system.
    let id = |name| field(name)?.split_whitespace().nth(3)?.parse().ok();
    let groups = field("Groups:").unwrap_or_default().split_whitespace();
    let groups: Arc<[u32]> = groups.filter_map(|id| id.parse().ok()).collect();
    let umask = field("Umask:").and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    let pid = field("Tgid:").and_then(|pid| pid.trim().parse().ok());
    Some(Caller {
        uid: id("Uid:")?,
        gid: id("Gid:")?,
        groups,
        umask: umask.unwrap_or(0o022),
        pid: Pid(pid.unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_that_count_for_files_are_read() {
        let status = "Name:\tx\nUmask:\t0027\nTgid:\t7\nUid:\t1\t0\t0\t5\nGid:\t1\t7\t7\t8\nGroups:\t4 24 \n";
        let caller = parse(status).expect("complete");
        assert_eq!((caller.uid, caller.gid, caller.umask), (5, 8, 0o027));
        assert_eq!((&*caller.groups, caller.pid), (&[4, 24][..], Pid(7)));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
