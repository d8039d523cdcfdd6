use super::*;

const ROOT: Node = Node::ROOT;

fn me() -> Caller {
    Caller { uid: 1000, gid: 100, ..Caller::root() }
}

fn file(fs: &Memory, name: &str) -> Node {
    let made = fs.mknod(&me(), ROOT, name.as_bytes(), libc::S_IFREG | 0o644, 0);
    made.expect("made").node
}

fn found(fs: &Memory, parent: Node, name: &str) -> Result<Attributes, Errno> {
    fs.lookup(&me(), parent, name.as_bytes()).map(|entry| entry.attributes)
}

fn mounted(data: &str) -> Result<Arc<dyn FileSystem>, MountError> {
    let text = |text: &str| text.to_owned();
    mount(&MountRequest {
        source: text("none"),
        target: text("/mnt"),
        fstype: text("vufusemem"),
        flags: 0,
        data: text(data),
        environment: Vec::new(),
        view: String::new(),
    })
}

#[test]
fn a_file_lives_until_its_last_name_and_reference_are_gone() {
    let fs = Memory::unlimited();
    let node = file(&fs, "a");
    fs.link(&me(), node, ROOT, b"b").expect("linked");
    assert_eq!(found(&fs, ROOT, "a").map(|looks| looks.nlink), Ok(2));
    fs.write(node, Handle(0), 0, b"data").expect("written");
    fs.unlink(&me(), ROOT, b"a").expect("unlinked");
    fs.unlink(&me(), ROOT, b"b").expect("unlinked");
    let mut buffer = [0; 9];
    assert_eq!(fs.read(node, Handle(0), 0, &mut buffer), Ok(4));
    fs.forget(node, 3);
    assert_eq!(fs.getattr(&me(), node, None), Err(Errno::ESTALE));
    assert_eq!(fs.tree.lock().used, 0);
}

#[test]
fn directories_count_their_links() {
    let fs = Memory::unlimited();
    let links = |fs: &Memory| fs.getattr(&me(), ROOT, None).map(|looks| looks.nlink);
    let one = fs.mkdir(&me(), ROOT, b"one", 0o755).expect("made").node;
    fs.mkdir(&me(), ROOT, b"two", 0o755).expect("made");
    assert_eq!(links(&fs), Ok(4));
    fs.rename(&me(), (ROOT, b"two"), (one, b"two"), 0).expect("moved");
    assert_eq!(links(&fs), Ok(3));
    assert_eq!(fs.rmdir(&me(), ROOT, b"one"), Err(Errno::ENOTEMPTY));
    fs.rmdir(&me(), one, b"two").expect("removed");
    fs.rmdir(&me(), ROOT, b"one").expect("removed");
    assert_eq!(links(&fs), Ok(2));
    let late = fs.mkdir(&me(), one, b"late", 0o755);
    assert_eq!(late.map(|_| ()), Err(Errno::ENOENT));
}

#[test]
fn renames_replace_exchange_and_leave_whiteouts() {
    let fs = Memory::unlimited();
    let (a, b) = (file(&fs, "a"), file(&fs, "b"));
    fs.rename(&me(), (ROOT, b"a"), (ROOT, b"b"), libc::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!(found(&fs, ROOT, "a").map(|looks| looks.ino), Ok(b.0));
    fs.rename(&me(), (ROOT, b"a"), (ROOT, b"b"), libc::RENAME_WHITEOUT).expect("moved");
    assert_eq!(found(&fs, ROOT, "b").map(|looks| looks.ino), Ok(b.0));
    assert_eq!(found(&fs, ROOT, "a").map(|looks| looks.mode), Ok(libc::S_IFCHR));
    assert_eq!(fs.getattr(&me(), a, None).map(|looks| looks.nlink), Ok(0));
}

#[test]
fn limits_are_kept() {
    let fs = mounted("size=8k,inodes=3,mode=755").expect("mounted");
    let node = fs.mknod(&me(), ROOT, b"a", libc::S_IFREG, 0).expect("made").node;
    assert_eq!(fs.write(node, Handle(0), 0, &[1; 10_000]), Ok(8192));
    assert_eq!(fs.write(node, Handle(0), 8192, b"x"), Err(Errno::ENOSPC));
    fs.setattr(&me(), node, None, &Changes { size: Some(0), ..Changes::default() }).expect("cut");
    assert_eq!(fs.write(node, Handle(0), 8192, b"x"), Ok(1));
    fs.mkdir(&me(), ROOT, b"b", 0o755).expect("made");
    assert_eq!(fs.mkdir(&me(), ROOT, b"c", 0o755).map(|_| ()), Err(Errno::ENOSPC));
    let told = fs.statfs(ROOT).expect("told");
    assert_eq!((told.blocks, told.free, told.files, told.free_files), (2, 1, 3, 0));
    assert!(mounted("sise=3").is_err());
}

#[test]
fn a_set_group_id_directory_hands_its_group_on() {
    let fs = Memory::unlimited();
    let node = fs.mkdir(&Caller::root(), ROOT, b"d", 0o2777).expect("made").node;
    let inner = fs.mkdir(&me(), node, b"e", 0o755).expect("made").attributes;
    assert_eq!((inner.gid, inner.mode & libc::S_ISGID), (0, libc::S_ISGID));
}

#[test]
fn attributes_are_listed_and_removed() {
    let fs = Memory::unlimited();
    let node = file(&fs, "a");
    fs.setxattr(&me(), node, b"user.x", b"1", libc::XATTR_CREATE).expect("set");
    let again = fs.setxattr(&me(), node, b"user.x", b"1", libc::XATTR_CREATE);
    assert_eq!(again, Err(Errno::EEXIST));
    assert_eq!(fs.getxattr(&me(), node, b"user.x"), Ok(b"1".to_vec()));
    assert_eq!(fs.listxattr(&me(), node), Ok(vec![b"user.x".to_vec()]));
    fs.removexattr(&me(), node, b"user.x").expect("removed");
    assert_eq!(fs.removexattr(&me(), node, b"user.x"), Err(Errno::ENODATA));
}
