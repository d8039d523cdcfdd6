//! Which paths may be virtual: the cheap test that every path of an armed view passes first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::lexical::{below, climbs, components, normalise, number, pop, push};
use crate::view::{Mount, View};

/// Where sysfs has the interfaces; those of a stack are all virtual devices.
const SYSFS: [&[u8]; 2] = [b"/sys/class/net", b"/sys/devices/virtual/net"];

/// The interesting paths of one generation of the view: the mount points, their ancestors, and
/// the network files of procfs and sysfs.
#[derive(Debug, Default)]
pub(super) struct Territory {
    generation: u32,
    nodes: HashMap<Vec<u8>, Arc<Mount>>,
    /// Directories above a mount point, with the names that lead to one.
    ancestors: HashMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// First components of the mount points, and of the private directory.
    tops: Vec<Vec<u8>>,
    /// The hypervisor's own: the materialised directories, not to be met by their paths.
    private: Vec<u8>,
}

impl Territory {
    /// Surveys the view. `private` is where the materialised directories are.
    pub(super) fn of(view: &View, private: &[u8]) -> Self {
        // The generation is read first: a mount in between makes this survey stale, not wrong.
        let generation = view.generation();
        let mounts = view.mounts();
        let targets = mounts.iter().map(|mount| (mount.target.as_bytes().to_vec(), mount.clone()));
        let mut territory = Self { generation, private: private.to_vec(), ..Self::default() };
        territory.tops.extend(components(private).next().map(<[u8]>::to_vec));
        for (target, mount) in targets {
            territory.claim(&target);
            territory.nodes.insert(target, mount);
        }
        territory
    }

    /// Enters the ancestors of a mount point.
    fn claim(&mut self, target: &[u8]) {
        let mut directory = Vec::new();
        for (depth, name) in components(target).enumerate() {
            if depth == 0 && !self.tops.iter().any(|top| top == name) {
                self.tops.push(name.to_vec());
            }
            let key = if directory.is_empty() { b"/".to_vec() } else { directory.clone() };
            self.ancestors.entry(key).or_default().insert(name.to_vec());
            directory.push(b'/');
            directory.extend_from_slice(name);
        }
    }

    /// Whether the view has not changed since.
    pub(super) fn is_current(&self, view: &View) -> bool {
        self.generation == view.generation()
    }

    /// The first components of all paths that may concern the view.
    pub(super) fn first_components(&self) -> Vec<Vec<u8>> {
        if self.is_empty() {
            return Vec::new();
        }
        let fixed = [&b"proc"[..], b"sys"].map(<[u8]>::to_vec);
        fixed.into_iter().chain(self.tops.iter().cloned()).collect()
    }

    /// The generation that was surveyed.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether nothing is mounted: then nothing is virtual.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The mount at exactly this path.
    pub(super) fn node(&self, path: &[u8]) -> Option<&Arc<Mount>> {
        self.nodes.get(path)
    }

    /// The names in a directory that lead to a mount point; None when none does.
    pub(super) fn children(&self, directory: &[u8]) -> Option<&BTreeSet<Vec<u8>>> {
        self.ancestors.get(directory)
    }

    /// Whether an absolute path in normal form may be virtual or lead to something virtual.
    pub(super) fn concerns(&self, path: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let rest = path.strip_prefix(b"/").unwrap_or(path);
        let first = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        match first {
            b"proc" if procfs(&rest[4..]) => return true,
            b"sys" if SYSFS.iter().any(|net| below(path, net).is_some()) => return true,
            _ => {}
        }
        if first.is_empty() || self.tops.iter().any(|top| top == first) {
            return self.nodes.contains_key(path)
                || self.ancestors.contains_key(path)
                || self.is_below_a_node(path)
                || self.is_private(path);
        }
        false
    }

    /// Whether an absolute path, not in normal form, concerns the view or passes through what does.
    pub(super) fn is_crossed_by(&self, path: &[u8]) -> bool {
        if !climbs(path) {
            return self.concerns(&normalise(path));
        }
        let mut here = Vec::with_capacity(path.len());
        for component in components(path) {
            match component {
                b"." => {}
                b".." if self.concerns(&here) && !here.is_empty() => return true,
                b".." => pop(&mut here),
                name => push(&mut here, name),
            }
        }
        here.is_empty() || self.concerns(&here)
    }

    /// Whether a path is the hypervisor's own.
    pub(super) fn is_private(&self, path: &[u8]) -> bool {
        !self.private.is_empty() && below(path, &self.private).is_some()
    }

    fn is_below_a_node(&self, path: &[u8]) -> bool {
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| &path[..at]).any(|prefix| self.nodes.contains_key(prefix))
    }

    /// Whether relative paths without `..` from this directory never concern the view.
    pub(super) fn is_boring(&self, directory: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let above = SYSFS.iter().any(|net| below(net, directory).is_some());
        let inside = below(directory, b"/proc").is_some()
            || self.ancestors.contains_key(directory)
            || below(&self.private, directory).is_some();
        !(above || inside || self.concerns(directory))
    }
}

/// Whether a path in `/proc` (given without it: `""` or `/...`) concerns the network, or goes
/// through a link of a process that may lead anywhere.
fn procfs(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'/').skip(1);
    match parts.next() {
        Some(b"net") => true,
        Some(b"sys") => parts.next() == Some(b"net"),
        Some(process) if is_process(process) => of_process(parts),
        _ => false,
    }
}

fn of_process<'a>(mut parts: impl Iterator<Item = &'a [u8]>) -> bool {
    match parts.next() {
        Some(b"net") => true,
        Some(b"cwd" | b"root") => parts.next().is_some(),
        Some(b"fd") => parts.nth(1).is_some(),
        Some(b"task") => parts.next().is_some() && of_task(parts),
        _ => false,
    }
}

fn of_task<'a>(mut parts: impl Iterator<Item = &'a [u8]>) -> bool {
    match parts.next() {
        Some(b"net") => true,
        Some(b"cwd" | b"root") => parts.next().is_some(),
        Some(b"fd") => parts.nth(1).is_some(),
        _ => false,
    }
}

fn is_process(component: &[u8]) -> bool {
    matches!(component, b"self" | b"thread-self") || number(component).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake;

    #[test]
    fn only_the_network_and_the_mount_points_concern_the_view() {
        let territory = Territory::of(&fake::view(&["/dev/net/lab", "/srv/a/b"]), b"/run/u/dirs");
        for path in [
            "/",
            "/dev",
            "/dev/net",
            "/dev/net/lab",
            "/dev/net/lab/x",
            "/srv",
            "/srv/a",
            "/srv/a/b",
            "/proc/net",
            "/proc/net/dev",
            "/proc/self/net",
            "/proc/12/net/tcp",
            "/proc/thread-self/net",
            "/proc/1/task/2/net/dev",
            "/proc/sys/net",
            "/proc/sys/net/ipv4/ip_forward",
            "/sys/class/net",
            "/sys/class/net/lo",
            "/proc/self/cwd/x",
            "/proc/self/root/proc",
            "/proc/self/fd/3/x",
            "/proc/1/task/1/cwd/net",
            "/run/u/dirs/7",
        ] {
            assert!(territory.concerns(path.as_bytes()), "{path}");
        }
        for path in [
            "/dev/null",
            "/dev/net/tun",
            "/dev/network",
            "/srv/a/c",
            "/etc/passwd",
            "/usr",
            "/proc",
            "/proc/self",
            "/proc/self/status",
            "/proc/self/fd/3",
            "/proc/self/cwd",
            "/proc/sys",
            "/proc/sys/kernel",
            "/proc/networks",
            "/proc/12/task/3/stat",
            "/sys",
            "/sys/class",
            "/sys/class/network",
            "/sys/devices/virtual",
            "/sys/class/block",
            "/proc/12/task",
            "/run/u",
            "/run/u/sockets",
        ] {
            assert!(!territory.concerns(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn nothing_mounted_concerns_nobody() {
        let territory = Territory::of(&fake::view(&[]), b"/run/u/dirs");
        assert!(!territory.concerns(b"/proc/net/dev"));
        assert!(territory.is_boring(b"/"));
    }

    #[test]
    fn boring_directories_lead_nowhere_virtual() {
        let territory = Territory::of(&fake::view(&["/dev/net/lab"]), b"/run/u/dirs");
        for path in ["/usr", "/home/u/src", "/sys/class/block", "/dev/pts", "/sys/kernel"] {
            assert!(territory.is_boring(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "/run/u",
            "/dev",
            "/dev/net",
            "/proc",
            "/proc/1",
            "/sys",
            "/sys/devices",
            "/sys/class/net/lo",
        ] {
            assert!(!territory.is_boring(path.as_bytes()), "{path}");
        }
    }
}
