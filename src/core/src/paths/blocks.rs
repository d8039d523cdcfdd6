//! Virtual disks as the kernel tells of its own: in `/proc/partitions`, `/proc/diskstats` and sysfs. Programs of
//! util-linux find disks there (lsblk(8), `fdisk -l`, blkid(8)).
//!
//! A disk that is mounted in `/dev` has a directory in `/sys/devices/virtual/block`, with one for each partition
//! ([`Disk`]). The directories of links that lead to them are the kernel's with ours ([`Links`]), and so are the two
//! files ([`Lines`]).

use std::{collections::BTreeMap, fs, sync::Arc};

use umvu_abi::{
    Errno,
    files::{Block, Device, DeviceKind},
    module::Mounted,
    tree::{Entry, Tree},
};

use crate::view::Mount;

/// Where sysfs has devices that are in no machine.
const DEVICES: &str = "/sys/devices/virtual/block";
const SECTOR: u64 = 512;
/// The files of `queue` that tell the same of all disks, as of a loop device.
const QUEUE: [(&str, &str); 22] = [
    ("add_random", "0"),
    ("chunk_sectors", "0"),
    ("dax", "0"),
    ("discard_granularity", "512"),
    ("discard_max_bytes", "4294966784"),
    ("discard_zeroes_data", "0"),
    ("fua", "0"),
    ("hw_sector_size", "512"),
    ("iostats", "0"),
    ("logical_block_size", "512"),
    ("max_sectors_kb", "1280"),
    ("minimum_io_size", "512"),
    ("nr_requests", "128"),
    ("nr_zones", "0"),
    ("optimal_io_size", "0"),
    ("physical_block_size", "512"),
    ("read_ahead_kb", "128"),
    ("rotational", "0"),
    ("scheduler", "[none]"),
    ("write_cache", "write back"),
    ("write_same_max_bytes", "0"),
    ("zoned", "none"),
];
/// Files that tell the same of all disks and partitions.
const SAME: [(&str, &str); 3] =
    [("alignment_offset", "0"), ("discard_alignment", "0"), ("inflight", "       0        0")];
/// The same of whole disks only.
const OF_DISKS: [(&str, &str); 6] = [
    ("capability", "0"),
    ("events", ""),
    ("ext_range", "256"),
    ("hidden", "0"),
    ("range", "256"),
    ("removable", "0"),
];

/// A disk of the view.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    name: String,
    /// What the device is called, whose sub-device it may be.
    base: String,
    device: Arc<dyn Device>,
    number: u32,
}

/// A disk or partition.
struct Part<'a> {
    disk: &'a Disk,
    sub: u32,
    rdev: u64,
    size: u64,
    block: Block,
}

impl Part<'_> {
    fn name(&self) -> String {
        if self.is_disk() {
            return self.disk.name.clone();
        }
        self.disk.device.sub_name(&self.disk.base, self.sub)
    }

    fn is_disk(&self) -> bool {
        self.sub == self.disk.number
    }

    /// Counts the partitions of the disk, from 1 on.
    fn partition(&self) -> u32 {
        self.sub - self.disk.number
    }

    /// Below [`DEVICES`].
    fn path(&self) -> String {
        match self.is_disk() {
            true => self.disk.name.clone(),
            false => format!("{}/{}", self.disk.name, self.name()),
        }
    }

    fn numbers(&self) -> [u32; 2] {
        [libc::major(self.rdev), libc::minor(self.rdev)]
    }

    fn file(&self, name: &str) -> Option<String> {
        let [major, minor] = self.numbers();
        let same = if self.is_disk() { OF_DISKS.as_slice() } else { &[] };
        let known = SAME.iter().chain(same).find(|(key, _)| *key == name);
        Some(match name {
            "dev" => format!("{major}:{minor}"),
            "ro" => u8::from(self.block.read_only).to_string(),
            "size" => (self.size / SECTOR).to_string(),
            "stat" => "       0".repeat(17),
            "partition" if !self.is_disk() => self.partition().to_string(),
            "start" if !self.is_disk() => (self.block.start / SECTOR).to_string(),
            "uevent" => {
                let (name, kind) = (self.name(), if self.is_disk() { "disk" } else { "partition" });
                let mut text =
                    format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE={kind}");
                if !self.is_disk() {
                    text.push_str(&format!("\nPARTN={}", self.partition()));
                }
                text
            }
            _ => match known {
                Some((_, text)) => (*text).to_owned(),
                None => self.attribute(name)?,
            },
        })
    }

    /// The directory of what only disks of its kind have, and the files there.
    fn attributes(&self) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        self.disk.device.attributes(self.sub).filter(|_| self.is_disk())
    }

    fn attribute(&self, path: &str) -> Option<String> {
        let (folder, name) = path.split_once('/')?;
        let (_, files) = self.attributes().filter(|(own, _)| *own == folder)?;
        files.into_iter().find(|(own, _)| *own == name).map(|(_, text)| text)
    }

    /// What is in its directory but for the partitions.
    fn names(&self) -> Vec<String> {
        let mut names = vec!["dev", "holders", "ro", "size", "stat", "subsystem", "uevent"];
        names.extend(SAME.map(|(name, _)| name));
        if self.is_disk() {
            names.extend(["queue", "slaves"]);
            names.extend(OF_DISKS.map(|(name, _)| name));
            names.extend(self.attributes().map(|(folder, _)| folder));
        } else {
            names.extend(["partition", "start"]);
        }
        names.into_iter().map(str::to_owned).collect()
    }
}

impl Disk {
    /// What is mounted in `/dev` as block devices.
    fn of(mount: &Mount) -> Vec<Self> {
        let Mounted::Device(device) = &mount.content else { return Vec::new() };
        let Some(base) = mount.target.strip_prefix("/dev/") else { return Vec::new() };
        // As the kernel writes the slashes of names.
        let base = base.replace('/', "!");
        let is_disk = |number: &u32| {
            let looks = device.looks(*number).filter(|_| device.block(*number).is_some());
            looks.is_some_and(|looks| looks.kind == DeviceKind::Block)
        };
        let disk = |number: u32| {
            let name = if number == 0 { base.clone() } else { device.sub_name(&base, number) };
            Self { name, base: base.clone(), device: Arc::clone(device), number }
        };
        device.disks().into_iter().filter(is_disk).map(disk).collect()
    }

    fn part(&self, sub: u32) -> Option<Part<'_>> {
        let looks = self.device.looks(sub)?;
        let block = self.device.block(sub)?;
        Some(Part { disk: self, sub, rdev: looks.rdev, size: looks.size, block })
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let partitions = self.device.partitions(self.number);
        [self.number].into_iter().chain(partitions).filter_map(|sub| self.part(sub))
    }

    /// The disk or a partition, by the name of a directory below that of the disk.
    fn named(&self, name: &str) -> Option<Part<'_>> {
        let number = self.device.sub_named(&self.base, name)?;
        let is_own = self.device.partitions(self.number).contains(&number);
        self.part(number).filter(|_| is_own)
    }
}

impl Tree for Disk {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let (part, rest) = self.split(path)?;
        if rest.is_empty() {
            let mut names = part.names();
            if part.is_disk() {
                names.extend(self.parts().skip(1).map(|part| part.name()));
            }
            return Ok(Entry::Directory(names));
        }
        match rest {
            "holders" => Ok(Entry::Directory(Vec::new())),
            "slaves" if part.is_disk() => Ok(Entry::Directory(Vec::new())),
            "queue" if part.is_disk() => {
                Ok(Entry::Directory(QUEUE.iter().map(|(name, _)| (*name).to_owned()).collect()))
            }
            "subsystem" => {
                let up = if part.is_disk() { "" } else { "../" };
                Ok(Entry::Link(format!("../../../../{up}class/block")))
            }
            rest => match part.attributes().filter(|(folder, _)| *folder == rest) {
                Some((_, files)) => {
                    let names = files.into_iter().map(|(name, _)| name.to_owned());
                    Ok(Entry::Directory(names.collect()))
                }
                None => self.read(path).map(|_| Entry::File { mode: 0o444 }),
            },
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let (part, rest) = self.split(path)?;
        let text = match rest.strip_prefix("queue/").filter(|_| part.is_disk()) {
            Some(name) => {
                QUEUE.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            }
            None => part.file(rest),
        };
        Ok((text.ok_or(Errno::ENOENT)? + "\n").into_bytes())
    }
}

impl Disk {
    /// The disk or partition that a path is of, and the rest.
    fn split<'a>(&self, path: &'a str) -> Result<(Part<'_>, &'a str), Errno> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match self.named(first) {
            Some(part) => Ok((part, rest)),
            None => Ok((self.part(self.number).ok_or(Errno::ENOENT)?, path)),
        }
    }
}

/// By what a directory of links names disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Whole disks by their names.
    Disk,
    /// Partitions too.
    Name,
    /// All by their numbers.
    Number,
}

/// A directory of links to disks: the kernel's with ours.
#[derive(Debug)]
struct Links {
    folder: &'static str,
    by: By,
    disks: Arc<[Disk]>,
}

impl Links {
    /// Names, and the ends of the links.
    fn ours(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for part in self.disks.iter().flat_map(Disk::parts) {
            let name = match self.by {
                By::Disk if !part.is_disk() => continue,
                By::Disk | By::Name => part.name(),
                By::Number => part.numbers().map(|number| number.to_string()).join(":"),
            };
            let up = "../".repeat(self.folder.split('/').count() - 2);
            found.insert(name, format!("{up}devices/virtual/block/{}", part.path()));
        }
        found
    }
}

impl Tree for Links {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        let mut ours = self.ours();
        if path.is_empty() {
            let kernel = fs::read_dir(self.folder).into_iter().flatten().flatten();
            let kernel = kernel.filter_map(|entry| entry.file_name().into_string().ok());
            let mut names: Vec<String> = ours.into_keys().chain(kernel).collect();
            names.sort_unstable();
            names.dedup();
            return Ok(Entry::Directory(names));
        }
        if let Some(target) = ours.remove(path) {
            return Ok(Entry::Link(target));
        }
        let target = fs::read_link(format!("{}/{path}", self.folder))?;
        Ok(Entry::Link(target.to_string_lossy().into_owned()))
    }

    fn read(&self, _: &str) -> Result<Vec<u8>, Errno> {
        Err(Errno::EISDIR)
    }
}

/// A file of the kernel with a line for each disk and partition.
#[derive(Debug)]
struct Lines {
    path: &'static str,
    line: fn(&Part<'_>) -> String,
    disks: Arc<[Disk]>,
}

impl Tree for Lines {
    fn entry(&self, path: &str) -> Result<Entry, Errno> {
        if path.is_empty() { Ok(Entry::File { mode: 0o444 }) } else { Err(Errno::ENOTDIR) }
    }

    fn read(&self, _: &str) -> Result<Vec<u8>, Errno> {
        let mut text = fs::read(self.path).unwrap_or_default();
        for part in self.disks.iter().flat_map(Disk::parts) {
            text.extend_from_slice((self.line)(&part).as_bytes());
        }
        Ok(text)
    }
}

/// A line of `/proc/partitions`: numbers, size in KiB, name.
fn partition(part: &Part<'_>) -> String {
    let [major, minor] = part.numbers();
    format!("{major:4}  {minor:7} {:10} {}\n", part.size >> 10, part.name())
}

/// A line of `/proc/diskstats` (Documentation/admin-guide/iostats.rst): nothing is counted.
fn statistics(part: &Part<'_>) -> String {
    let [major, minor] = part.numbers();
    format!("{major:4} {minor:7} {}{}\n", part.name(), " 0".repeat(17))
}

/// What stands where, once there are disks: paths and what is there, with the mount that it is counted to.
pub(super) fn generated(mounts: &[Arc<Mount>]) -> Vec<(String, Arc<dyn Tree>, u64)> {
    let of = |mount: &Arc<Mount>| {
        let dev = mount.dev;
        Disk::of(mount).into_iter().map(move |disk| (disk, dev))
    };
    let found: Vec<_> = mounts.iter().flat_map(of).collect();
    let Some((_, first)) = found.first() else { return Vec::new() };
    let first = *first;
    let disks: Arc<[Disk]> = found.iter().map(|(disk, _)| disk.clone()).collect();
    let lines = |path, line| -> (String, Arc<dyn Tree>, u64) {
        (String::from(path), Arc::new(Lines { path, line, disks: Arc::clone(&disks) }), first)
    };
    let links = |folder, by| -> (String, Arc<dyn Tree>, u64) {
        (String::from(folder), Arc::new(Links { folder, by, disks: Arc::clone(&disks) }), first)
    };
    let mut places = vec![
        lines("/proc/partitions", partition as fn(&Part<'_>) -> String),
        lines("/proc/diskstats", statistics),
        links("/sys/block", By::Disk),
        links("/sys/class/block", By::Name),
        links("/sys/dev/block", By::Number),
    ];
    for (disk, dev) in found {
        places.push((format!("{DEVICES}/{}", disk.name), Arc::new(disk), dev));
    }
    places
}

#[cfg(test)]
mod tests {
    use umvu_abi::files::Looks;

    use super::*;

    #[derive(Debug)]
    struct Halves;

    impl Device for Halves {
        fn looks(&self, sub: u32) -> Option<Looks> {
            let rdev = libc::makedev(240, 16 + sub);
            let size = if sub == 0 { 1 << 20 } else { 1 << 18 };
            let kind = DeviceKind::Block;
            (sub < 3).then_some(Looks { kind, mode: 0o600, uid: 0, gid: 0, rdev, size })
        }

        fn sub_devices(&self) -> Vec<u32> {
            vec![1, 2]
        }

        fn block(&self, sub: u32) -> Option<Block> {
            Some(Block { start: u64::from(sub) << 18, read_only: sub == 2 })
        }
    }

    fn disk() -> Disk {
        let name = || "hda".to_owned();
        Disk { name: name(), base: name(), device: Arc::new(Halves), number: 0 }
    }

    #[test]
    fn a_disk_has_its_partitions_below_it() {
        let disk = disk();
        let read = |path| disk.read(path).map(|text| String::from_utf8(text).expect("text"));
        let told = ["dev", "size", "hda2/dev", "hda2/start", "hda2/ro", "queue/zoned"].map(read);
        let wanted = ["240:16", "2048", "240:18", "1024", "1", "none"];
        assert_eq!(told, wanted.map(|text| Ok(format!("{text}\n"))));
        for path in ["hda3", "hda02", "start", "hda1/queue", "hda1/hda2", "queue/x", "dev/x"] {
            assert_eq!(disk.entry(path), Err(Errno::ENOENT), "{path}");
        }
        let Ok(Entry::Directory(names)) = disk.entry("") else { panic!("a directory") };
        assert!(names.iter().all(|name| disk.entry(name).is_ok()), "{names:?}");
    }

    #[test]
    fn links_lead_to_the_directories() {
        let links = |folder, by| Links { folder, by, disks: [disk()].into() };
        let one = links("/sys/class/block", By::Name).entry("hda1");
        assert_eq!(one, Ok(Entry::Link("../../devices/virtual/block/hda/hda1".to_owned())));
        let one = links("/sys/block", By::Disk).entry("hda");
        assert_eq!(one, Ok(Entry::Link("../devices/virtual/block/hda".to_owned())));
        assert_eq!(links("/sys/block", By::Disk).entry("hda1"), Err(Errno::ENOENT));
        let one = links("/sys/dev/block", By::Number).entry("240:17");
        assert_eq!(one, Ok(Entry::Link("../../devices/virtual/block/hda/hda1".to_owned())));
    }

    #[test]
    fn lines_are_as_the_kernel_writes_them() {
        let disk = disk();
        let parts: String = disk.parts().map(|part| partition(&part)).collect();
        let wanted = " 240       16       1024 hda\n 240       17        256 hda1\n 240       18        256 hda2\n";
        assert_eq!(parts, wanted);
    }
}
