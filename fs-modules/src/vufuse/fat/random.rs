//! Random changes, beside the same in memory; fsck(8) judges the images.

use std::{collections::BTreeMap, fs, process::Command, sync::Arc};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    files::{Caller, Changes, Entry, FileSystem, Handle, Node},
};

use super::{Fat, hostile::mounted};
use crate::vufuse::{image::Access, walk::Memory};

/// How images are made and checked.
const KINDS: &[(&str, &str)] = &[
    ("truncate -s 2M i; mkfs.vfat -F12 i", "fsck.vfat -n i"),
    ("truncate -s 16M i; mkfs.vfat -F16 i", "fsck.vfat -n i"),
    ("truncate -s 16M i; mkfs.vfat -F16 -s8 -f1 i", "fsck.vfat -n i"),
    ("truncate -s 40M i; mkfs.vfat -F32 -s1 i", "fsck.vfat -n i"),
    ("truncate -s 40M i; mkfs.vfat -F32 -S4096 -s1 i", "fsck.vfat -n i"),
    ("truncate -s 16M i; mkfs.exfat i", "fsck.exfat -n i"),
    ("truncate -s 16M i; mkfs.exfat -c 4K i", "fsck.exfat -n i"),
];

const STEPS: u64 = 1500;
const DIRECTORIES: [&str; 3] = ["", "dir", "A longer name of a directory"];
const NAMES: [&str; 8] =
    ["a", "b.txt", "A name with blanks.tar.gz", "ünï", "日本", "UPPER.TXT", "Mixed", "x.y.z"];

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).expect("small")]
    }
}

type Model = BTreeMap<(&'static str, &'static str), Vec<u8>>;

fn directory(files: &Fat, name: &str) -> Entry {
    match name {
        "" => Entry::lasting(Node::ROOT, umvu_abi::files::Attributes::default()),
        _ => files.lookup(&Caller::root(), Node::ROOT, name.as_bytes()).expect("the directory"),
    }
}

fn step(files: &Fat, model: &mut Model, dice: &mut Dice) {
    let caller = Caller::root();
    let (place, name) = (dice.of(&DIRECTORIES), dice.of(&NAMES));
    let parent = directory(files, place).node;
    let there = files.lookup(&caller, parent, name.as_bytes());
    assert_eq!(there.is_ok(), model.contains_key(&(place, name)), "{place}/{name}");
    match (there, dice.below(10)) {
        (Err(errno), _) => {
            assert_eq!(errno, Errno::ENOENT);
            match files.mknod(&caller, parent, name.as_bytes(), libc::S_IFREG | 0o644, 0) {
                Ok(made) => {
                    files.forget(made.node, 1);
                    model.insert((place, name), Vec::new());
                }
                Err(errno) => assert_eq!(errno, Errno::ENOSPC),
            }
        }
        (Ok(file), choice) => {
            let size = file.attributes.size;
            let content = model.get_mut(&(place, name)).expect("was there");
            assert_eq!(size, content.len() as u64);
            match choice {
                0..4 => {
                    let at = dice.below(size + 9000);
                    let data = vec![
                        u8::try_from(1 + dice.below(250)).expect("small");
                        usize::try_from(dice.below(30_000)).expect("small")
                    ];
                    match files.write(file.node, Handle(0), at, &data) {
                        Ok(count) if count > 0 => {
                            let at = usize::try_from(at).expect("small");
                            content.resize(content.len().max(at + count), 0);
                            content[at..at + count].copy_from_slice(&data[..count]);
                        }
                        Ok(_) => {}
                        Err(errno) => assert_eq!(errno, Errno::ENOSPC),
                    }
                }
                4..6 => {
                    let size = dice.below(2 * size + 5000);
                    let changes = Changes { size: Some(size), ..Changes::default() };
                    match files.setattr(&caller, file.node, None, &changes) {
                        Ok(_) => content.resize(usize::try_from(size).expect("small"), 0),
                        Err(errno) => assert_eq!(errno, Errno::ENOSPC),
                    }
                }
                6..8 => {
                    let (there, other) = (dice.of(&DIRECTORIES), dice.of(&NAMES));
                    let target = directory(files, there);
                    let to = (target.node, other.as_bytes());
                    match files.rename(&caller, (parent, name.as_bytes()), to, 0) {
                        Ok(()) => {
                            let content = model.remove(&(place, name)).expect("was there");
                            model.insert((there, other), content);
                        }
                        Err(errno) => assert_eq!(errno, Errno::ENOSPC),
                    }
                }
                8 => {
                    files.unlink(&caller, parent, name.as_bytes()).expect("a file");
                    let content = model.remove(&(place, name)).expect("was there");
                    let mut buffer = vec![0; content.len()];
                    let count = files.read(file.node, Handle(0), 0, &mut buffer).expect("is open");
                    assert!(buffer == content && count == content.len(), "read without a name");
                }
                _ => files.flush(file.node, Handle(0)).expect("no error"),
            }
            files.forget(file.node, 1);
        }
    }
}

fn compare(files: &Fat, model: &Model) {
    let caller = Caller::root();
    let mut count = 0;
    for place in DIRECTORIES {
        let parent = directory(files, place).node;
        let mut names = Vec::new();
        files.readdir(&caller, parent, Handle(0), &mut |entry| names.push(entry)).expect("names");
        count += names.iter().filter(|entry| entry.kind == libc::S_IFREG).count();
    }
    assert_eq!(count, model.len());
    for ((place, name), content) in model {
        let file = files.lookup(&caller, directory(files, place).node, name.as_bytes());
        let file = file.unwrap_or_else(|errno| panic!("{place}/{name}: {errno}"));
        let mut buffer = vec![0; content.len() + 10];
        let count = files.read(file.node, Handle(0), 0, &mut buffer).expect("content");
        assert!(buffer[..count] == content[..], "{place}/{name} is not what was written");
        files.forget(file.node, 1);
    }
}

#[test]
fn random_changes_are_kept_and_fsck_finds_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |script: &str| {
        let script = format!("PATH=$PATH:/sbin:/usr/sbin; {script}");
        Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().expect("runs")
    };
    for (seed, (make, check)) in KINDS.iter().enumerate() {
        let path = folder.path().join("i");
        let _ = fs::remove_file(&path);
        let made = run(make);
        if made.status.code() == Some(127) {
            continue;
        }
        assert!(made.status.success(), "{make}: {made:?}");
        let image = Arc::new(Memory(Mutex::new(fs::read(&path).expect("an image"))));
        let files = mounted(&image, Access::Write).expect("a file system");
        for name in &DIRECTORIES[1..] {
            let made = files.mkdir(&Caller::root(), Node::ROOT, name.as_bytes(), 0o755);
            files.forget(made.expect("a directory").node, 1);
        }
        let (mut model, mut dice) = (Model::new(), Dice(seed as u64));
        for _ in 0..STEPS {
            step(&files, &mut model, &mut dice);
        }
        compare(&files, &model);
        files.stop();
        fs::write(&path, &*image.0.lock()).expect("written");
        let checked = run(check);
        assert!(checked.status.success(), "{make}: {checked:?}");
        compare(&mounted(&image, Access::Read).expect("a file system"), &model);
    }
}
