//! Which paths may be virtual: the cheap test that every path of an armed view passes first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::blocks;
use super::lexical::{below, climbs, components, normalise, number, pop, push};
use super::procfs::{NAMES, Procfs};
use umvu_abi::{module::Mounted, tree::Tree};

use crate::view::{Mount, View};

/// Where sysfs has the interfaces; those of a stack are all virtual devices.
const SYSFS: [&[u8]; 2] = [b"/sys/class/net", b"/sys/devices/virtual/net"];

/// Who decides what stands at a path.
enum Ruling<'a> {
    /// No mount.
    Nobody,
    /// The mount at or above it.
    Mount,
    /// A mount that leaves it as it was: virtual then, or the kernel's.
    Left(Option<&'a Arc<Territory>>),
}

/// The interesting paths of one generation of the view: the mount points, their ancestors, and
/// the network files of procfs and sysfs.
#[derive(Debug, Default)]
pub(crate) struct Territory {
    generation: u32,
    nodes: HashMap<Vec<u8>, Arc<Mount>>,
    /// Directories above a mount point, with the names that lead to one.
    ancestors: HashMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Whether something is mounted over the root: then everything is virtual but the exceptions.
    covers_all: bool,
    /// Paths at which a mount leaves what was there: what that was, where it was virtual.
    exceptions: HashMap<Vec<u8>, Option<Arc<Self>>>,
    /// Whether anything but stacks is mounted.
    files: bool,
    /// What procfs tells about mounts, and a mount that it is counted to.
    procfs: Option<(Arc<Mount>, Arc<dyn Tree>)>,
    /// The mount points of generated trees.
    trees: Vec<Vec<u8>>,
    /// The mount points of devices, which may have sub-devices beside them.
    devices: Vec<Vec<u8>>,
    /// First components of the mount points, and of the private directory.
    tops: Vec<Vec<u8>>,
    /// The hypervisor's own: the materialised directories, not to be met by their paths.
    private: Vec<u8>,
}

impl Territory {
    /// Surveys the view. `private` is where the materialised directories are.
    pub(crate) fn of(view: &View, private: &[u8]) -> Self {
        Self::before(view, private, u64::MAX)
    }

    /// Surveys the view as it was before the mount with this serial number, but for what has been
    /// taken away since.
    pub(crate) fn before(view: &View, private: &[u8], serial: u64) -> Self {
        // The generation is read first: a mount in between makes this survey stale, not wrong.
        let generation = view.generation();
        let mounts = visible(&view.mounts(), serial);
        let files = mounts.iter().find(|mount| !mount.is_stack()).cloned();
        let procfs = files.map(|mount| {
            let tree: Arc<dyn Tree> = Arc::new(Procfs::new(&mounts, view.objects()));
            (mount, tree)
        });
        let mut territory =
            Self { generation, private: private.to_vec(), procfs, ..Self::default() };
        territory.tops.extend(components(private).next().map(<[u8]>::to_vec));
        for (path, serial) in exceptions(&mounts) {
            let earlier = Self::before(view, private, serial);
            let is_virtual = match earlier.ruling(&path) {
                Ruling::Nobody | Ruling::Left(None) => false,
                Ruling::Mount | Ruling::Left(Some(_)) => true,
            };
            if is_virtual || std::fs::symlink_metadata(super::locate::os_path(&path)).is_ok() {
                territory.claim(&path);
            }
            let earlier = is_virtual.then(|| Arc::new(earlier));
            territory.exceptions.insert(path, earlier);
        }
        let disks = blocks::generated(&mounts).into_iter();
        let disks = disks.map(|(path, tree, dev)| Arc::new(Mount::generated(path, tree, dev)));
        for mount in disks.chain(mounts) {
            let target = mount.target.as_bytes().to_vec();
            territory.claim(&target);
            territory.covers_all |= target == b"/";
            territory.files |= !mount.is_stack();
            match mount.content {
                Mounted::Device(_) => territory.devices.push(target.clone()),
                Mounted::Tree(_) => territory.trees.push(target.clone()),
                Mounted::Stack(_) | Mounted::FileSystem(_) => {}
            }
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
    pub(crate) fn is_current(&self, view: &View) -> bool {
        self.generation == view.generation()
    }

    /// The first components of all paths that may concern the view.
    pub(crate) fn first_components(&self) -> Vec<Vec<u8>> {
        if self.is_empty() {
            return Vec::new();
        }
        let fixed = [&b"proc"[..], b"sys"].map(<[u8]>::to_vec);
        fixed.into_iter().chain(self.tops.iter().cloned()).collect()
    }

    /// Whether every path may concern the view.
    pub(crate) fn covers_all(&self) -> bool {
        self.covers_all
    }

    /// Whether anything but stacks is mounted: then links of the host may lead to it.
    pub(crate) fn has_files(&self) -> bool {
        self.files
    }

    /// The device whose sub-device may be at this path, and the number of that.
    pub(crate) fn sub_device(&self, path: &[u8]) -> Option<(&Arc<Mount>, u32)> {
        self.devices.iter().find_map(|target| {
            let (above, base) = parted(target)?;
            let (_, name) = parted(path).filter(|(directory, _)| *directory == above)?;
            let mount = self.nodes.get(target)?;
            let Mounted::Device(device) = &mount.content else { return None };
            let number = device.sub_named(base, name).filter(|number| *number != 0)?;
            Some((mount, number))
        })
    }

    /// The files of procfs that tell about mounts, once there are virtual ones.
    pub(crate) fn procfs(&self, name: &[u8]) -> Option<(Arc<Mount>, Arc<dyn Tree>)> {
        if NAMES.contains(&name) { self.procfs.clone() } else { None }
    }

    /// The mount of a generated tree at or above a path, and what follows its mount point.
    pub(crate) fn tree<'a>(&self, path: &'a [u8]) -> Option<(&Arc<Mount>, &'a [u8])> {
        self.trees.iter().find_map(|target| {
            let inner = below(path, target)?;
            Some((self.nodes.get(target)?, inner))
        })
    }

    /// Who decides what stands at a path in normal form.
    fn ruling(&self, path: &[u8]) -> Ruling<'_> {
        let mut end = path.len();
        while end > 0 {
            let prefix = &path[..end];
            if self.nodes.contains_key(prefix) {
                return Ruling::Mount;
            }
            if let Some(earlier) = self.exceptions.get(prefix) {
                return Ruling::Left(earlier.as_ref());
            }
            end = prefix.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        if self.covers_all { Ruling::Mount } else { Ruling::Nobody }
    }

    /// Whether a mount leaves what stands at a path to the kernel.
    fn is_left(&self, path: &[u8]) -> bool {
        !self.exceptions.is_empty() && matches!(self.ruling(path), Ruling::Left(None))
    }

    /// At the path of an exception: what was there before, where that was virtual.
    pub(crate) fn exception(&self, path: &[u8]) -> Option<Option<&Arc<Self>>> {
        self.exceptions.get(path).map(Option::as_ref)
    }

    /// The generation that was surveyed.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether nothing is mounted: then nothing is virtual.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The mount at exactly this path.
    pub(crate) fn node(&self, path: &[u8]) -> Option<&Arc<Mount>> {
        self.nodes.get(path)
    }

    /// The names in a directory that lead to a mount point; None when none does.
    pub(crate) fn children(&self, directory: &[u8]) -> Option<&BTreeSet<Vec<u8>>> {
        self.ancestors.get(directory)
    }

    /// The names in a directory that lead to something mounted, sub-devices among them.
    pub(crate) fn names_in(&self, directory: &[u8]) -> BTreeSet<Vec<u8>> {
        let mut names = self.children(directory).cloned().unwrap_or_default();
        for target in &self.devices {
            if let Some((above, base)) = parted(target)
                && above == directory.strip_suffix(b"/").unwrap_or(directory)
                && let Some(mount) = self.nodes.get(target)
                && let Mounted::Device(device) = &mount.content
            {
                let named = |number: u32| device.sub_name(base, number).into_bytes();
                names.extend(device.sub_devices().into_iter().map(named));
            }
        }
        names
    }

    /// Whether an absolute path in normal form may be virtual or lead to something virtual.
    pub(crate) fn concerns(&self, path: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.covers_all && !self.is_left(path) {
            return true;
        }
        let rest = path.strip_prefix(b"/").unwrap_or(path);
        let first = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        match first {
            b"proc" if procfs(&rest[4..]) || is_descriptor_of_ours(path) => return true,
            b"sys" if SYSFS.iter().any(|net| below(path, net).is_some()) => return true,
            _ => {}
        }
        if first.is_empty() || self.tops.iter().any(|top| top == first) {
            return self.nodes.contains_key(path)
                || self.ancestors.contains_key(path)
                || self.is_below_a_node(path)
                || self.sub_device(path).is_some()
                || self.is_private(path);
        }
        false
    }

    /// Whether an absolute path, not in normal form, concerns the view or passes through what does.
    pub(crate) fn is_crossed_by(&self, path: &[u8]) -> bool {
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
    pub(crate) fn is_private(&self, path: &[u8]) -> bool {
        if is_descriptor_of_ours(path) {
            return true;
        }
        if self.private.is_empty() {
            return false;
        }
        // The objects of virtual files are beside the directories.
        let objects = self.private.strip_suffix(b"/dirs").and_then(|run| path.strip_prefix(run));
        below(path, &self.private).is_some()
            || objects.is_some_and(|rest| below(rest, b"/files").is_some())
    }

    fn is_below_a_node(&self, path: &[u8]) -> bool {
        matches!(self.ruling(path), Ruling::Mount | Ruling::Left(Some(_)))
    }

    /// Whether relative paths without `..` from this directory never concern the view.
    pub(crate) fn is_boring(&self, directory: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        if self.covers_all && !self.is_left(directory) {
            return false;
        }
        let above = SYSFS.iter().any(|net| below(net, directory).is_some());
        let inside = below(directory, b"/proc").is_some()
            || self.ancestors.contains_key(directory)
            || below(&self.private, directory).is_some();
        !(above || inside || self.concerns(directory))
    }
}

/// A path as a directory, without the slash at its end, and a name, which is text.
fn parted(path: &[u8]) -> Option<(&[u8], &str)> {
    let at = path.iter().rposition(|byte| *byte == b'/')?;
    Some((&path[..at], std::str::from_utf8(&path[at + 1..]).ok()?))
}

/// The mounts before the one with this serial number that nothing covers, oldest first.
fn visible(mounts: &[Arc<Mount>], serial: u64) -> Vec<Arc<Mount>> {
    let earlier: Vec<_> = mounts.iter().filter(|mount| mount.serial < serial).collect();
    // What a later file system covers is out of reach; stacks are not files, and stay.
    let is_covered = |(at, mount): &(usize, &&Arc<Mount>)| {
        let target = mount.target.as_bytes();
        let covers =
            |later: &&&Arc<Mount>| later.target.as_bytes() != target && covers(later, target);
        !mount.is_stack() && earlier[at + 1..].iter().any(|later| covers(&later))
    };
    let shown = earlier.iter().enumerate().filter(|one| !is_covered(one));
    shown.map(|(_, mount)| Arc::clone(mount)).collect()
}

/// Whether a mount covers what stands at a path.
fn covers(mount: &Mount, path: &[u8]) -> bool {
    let is_left = || mount.exceptions.iter().any(|exception| below(path, exception).is_some());
    mount.root.is_some() && below(path, mount.target.as_bytes()).is_some() && !is_left()
}

/// The paths that mounts leave as they were, each with the serial number of the mount that does.
fn exceptions(mounts: &[Arc<Mount>]) -> Vec<(Vec<u8>, u64)> {
    let of = |(at, mount): (usize, &Arc<Mount>)| {
        let counts = |path: &&Vec<u8>| {
            let later = &mounts[at + 1..];
            !later.iter().any(|later| covers(later, path) || later.target == mount.target)
        };
        let paths = mount.exceptions.iter().filter(counts).cloned();
        paths.map(|path| (path, mount.serial)).collect::<Vec<_>>()
    };
    mounts.iter().enumerate().flat_map(of).collect()
}

/// Whether a path in `/proc` (given without it: `""` or `/...`) concerns the network, or goes
/// through a link of a process that may lead anywhere.
fn procfs(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == b'/').skip(1);
    match parts.next() {
        Some(b"net" | b"mounts" | b"filesystems") => true,
        Some(b"sys") => parts.next() == Some(b"net"),
        Some(process) if is_process(process) => of_process(parts),
        _ => false,
    }
}

fn of_process<'a>(mut parts: impl Iterator<Item = &'a [u8]>) -> bool {
    match parts.next() {
        Some(b"task") => {
            parts.next().is_some() && parts.next().is_some_and(|name| of_task(name, parts))
        }
        Some(name) => of_task(name, parts),
        None => false,
    }
}

fn of_task<'a>(name: &[u8], mut parts: impl Iterator<Item = &'a [u8]>) -> bool {
    match name {
        b"net" | b"cwd" | b"root" | b"exe" => true,
        b"fd" | b"map_files" => parts.next().is_some(),
        name => NAMES.contains(&name),
    }
}

/// Whether this is where procfs tells of a descriptor of the hypervisor. It holds the sockets of all
/// guests: who looks for the owner of one would find it first. How many there are is no secret.
fn is_descriptor_of_ours(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/proc/") else { return false };
    let mut parts = rest.split(|byte| *byte == b'/');
    let Some(process) = parts.next().and_then(number) else { return false };
    let name = match parts.next() {
        Some(b"task") => parts.nth(1),
        name => name,
    };
    let is_descriptor =
        matches!(name, Some(b"fd" | b"fdinfo" | b"map_files")) && parts.next().is_some();
    // Who we are takes a call: it is asked last.
    is_descriptor && i32::try_from(std::process::id()) == Ok(process)
}

fn is_process(component: &[u8]) -> bool {
    matches!(component, b"self" | b"thread-self") || number(component).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::fake;

    #[test]
    fn descriptors_of_the_hypervisor_are_private() {
        let territory = Territory::of(&fake::view(&["/dev/net/lab"]), b"/run/u/dirs");
        let pid = std::process::id();
        for rest in ["fd/3", "fdinfo/4", "task/1/fd/5", "task/1/fdinfo/3", "map_files/1-2"] {
            let path = format!("/proc/{pid}/{rest}");
            assert!(territory.concerns(path.as_bytes()), "{path}");
            assert!(territory.is_private(path.as_bytes()), "{path}");
        }
        for path in [format!("/proc/{pid}/status"), format!("/proc/{pid}0/fd"), "/proc".to_owned()]
        {
            assert!(!territory.is_private(path.as_bytes()), "{path}");
        }
    }

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
            "/proc/self/cwd",
            "/proc/self/fd/3",
            "/proc/self/exe",
            "/proc/mounts",
            "/proc/self/mountinfo",
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
            "/proc/self/fd",
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
