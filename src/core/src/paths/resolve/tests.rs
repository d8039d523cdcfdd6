use super::*;
use crate::paths::fake::{self, FakeWorld};

fn resolve(world: &FakeWorld, start: &str, path: &str, last: Last) -> Result<Place, Errno> {
    let territory = Territory::of(&world.view, b"/run/dirs");
    let (caller, leader) = (Tid(11), Tid(10));
    let resolver = Resolver { territory: &territory, world, caller, leader, root: b"/" };
    resolver.resolve(start.as_bytes(), path.as_bytes(), last)
}

fn show(place: Result<Place, Errno>) -> String {
    let text = |kind: &str, path: &[u8]| format!("{kind} {}", String::from_utf8_lossy(path));
    match place {
        Ok(Place::Real(path)) => text("real", &path),
        Ok(Place::Merged(path)) => text("merged", &path),
        Ok(Place::Directory(path)) => text("directory", &path),
        Ok(Place::Node(mount)) => format!("node {}", mount.target),
        Ok(Place::Entry(entry)) => text("entry", &entry.path),
        Ok(Place::Missing(path)) => text("missing", &path),
        Ok(place @ (Place::Inode(_) | Place::Vacant(_))) => text("inode", place.path()),
        Err(errno) => format!("{errno:?}"),
    }
}

fn check(world: &FakeWorld, cases: &[(&str, &str)]) {
    for (path, expected) in cases {
        assert_eq!(show(resolve(world, "/dev", path, Last::Follow)), *expected, "{path}");
    }
}

#[test]
fn nodes_and_the_directories_above_them_appear() {
    let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev", "/usr"]);
    check(
        &world,
        &[
            ("/dev/net/lab", "node /dev/net/lab"),
            ("net/lab", "node /dev/net/lab"),
            ("./net//.././net/lab", "node /dev/net/lab"),
            ("/usr/../dev/net/lab", "node /dev/net/lab"),
            ("/dev/net", "directory /dev/net"),
            ("net/", "directory /dev/net"),
            ("/dev", "merged /dev"),
            (".", "merged /dev"),
            ("/", "real /"),
            ("/dev/net/lab/", "ENOTDIR"),
            ("/dev/net/lab/x", "ENOTDIR"),
            ("/dev/net/other", "real /dev/net/other"),
            ("/../../dev/null", "real /dev/null"),
        ],
    );
    let left = |path: &str| {
        let territory = Territory::of(&world.view, b"/run/dirs");
        let (caller, leader) = (Tid(11), Tid(10));
        let resolver =
            Resolver { territory: &territory, world: &world, caller, leader, root: b"/" };
        resolver.walk(b"/", path.as_bytes(), Last::Follow).map(|(_, left)| left)
    };
    assert_eq!(left("/dev/net/../null"), Ok(true));
    assert_eq!(left("/usr/../dev/null"), Ok(false));
}

#[test]
fn a_directory_that_shows_its_node_really_is_the_kernels() {
    let world = fake::world(&["/srv/lab"]).with_dirs(&["/srv", "/srv/lab"]);
    check(&world, &[("/srv", "real /srv"), ("/srv/lab", "node /srv/lab")]);
}

#[test]
fn links_are_followed_into_virtual_places_up_to_a_limit() {
    let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev"]).with_links(&[
        ("/dev/here", "net"),
        ("/srv", "/dev/here"),
        ("/loop", "loop"),
        ("/a", "/a/x"),
    ]);
    check(
        &world,
        &[
            ("here/lab", "node /dev/net/lab"),
            ("/srv/lab", "node /dev/net/lab"),
            ("/srv", "directory /dev/net"),
            ("/loop", "ELOOP"),
            ("/a/b", "ELOOP"),
        ],
    );
    assert_eq!(show(resolve(&world, "/", "/srv", Last::Keep)), "real /srv");
    assert_eq!(show(resolve(&world, "/", "/srv/", Last::Keep)), "directory /dev/net");
}

#[test]
fn network_files_are_those_of_the_process_that_is_named() {
    let world = fake::world(&["/dev/net/lab"]).with_network(&[10, 20]);
    check(
        &world,
        &[
            ("/proc/self/net/dev", "entry /proc/10/net/dev"),
            ("/proc/10/net", "entry /proc/10/net"),
            ("/proc/20/net/dev", "entry /proc/20/net/dev"),
            ("/proc/20/net/nothing", "missing /proc/20/net/nothing"),
            ("/proc/20/net/dev/", "ENOTDIR"),
            ("/proc/20/net/no/x", "ENOENT"),
            ("/proc/20/net/link", "entry /proc/20/net/dev"),
            ("/proc/30/net/dev", "real /proc/30/net/dev"),
            ("/proc/11/net/dev", "real /proc/11/net/dev"),
            ("/proc/net/dev", "real /proc/10/task/11/net/dev"),
            ("/proc/sys/net/ipv4", "real /proc/sys/net/ipv4"),
            ("/proc/10/status", "real /proc/10/status"),
            ("/proc/self/net/../status", "real /proc/10/status"),
        ],
    );
    let world = fake::world(&["/dev/net/lab"]).with_network(&[11]);
    check(
        &world,
        &[
            ("/proc/net/dev", "entry /proc/10/task/11/net/dev"),
            ("/proc/thread-self/net/dev", "entry /proc/10/task/11/net/dev"),
            ("/proc/sys/net/dev", "entry /proc/sys/net/dev"),
            ("/sys/class/net/dev", "entry /sys/class/net/dev"),
            ("/sys/class/net/../net", "entry /sys/class/net"),
            ("/sys/devices/virtual/net/dev", "entry /sys/devices/virtual/net/dev"),
            ("/sys/devices/system/net", "real /sys/devices/system/net"),
            ("/proc/self/net/dev", "real /proc/10/net/dev"),
        ],
    );
    assert_eq!(show(resolve(&world, "/", "/proc/net", Last::Keep)), "real /proc/net");
}

#[test]
fn links_of_processes_lead_on_by_their_text() {
    let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/run", "/dev"]).with_links(&[
        ("/proc/10/cwd", "/dev"),
        ("/proc/10/fd/3", "pipe:[7]"),
        ("/proc/10/fd/4", "/run/dirs/1"),
    ]);
    check(
        &world,
        &[
            ("/proc/self/cwd/net/lab", "node /dev/net/lab"),
            ("/proc/self/fd/3", "real /proc/10/fd/3"),
            ("/proc/self/fd/4/lab", "node /dev/net/lab"),
            ("/run/dirs/1/lab", "EACCES"),
        ],
    );
}

#[test]
fn nothing_is_found_behind_what_does_not_exist() {
    let world = fake::world(&["/dev/net/lab"]).with_dirs(&["/dev"]);
    check(&world, &[("/no/../dev/net/lab", "real /no/../dev/net/lab")]);
}

#[test]
fn any_bytes_resolve_to_something() {
    let world = fake::world(&["/dev/net/lab"]).with_network(&[11]);
    let territory = Territory::of(&world.view, b"/run/dirs");
    let resolver = Resolver {
        territory: &territory,
        world: &world,
        caller: Tid(11),
        leader: Tid(11),
        root: b"/",
    };
    for path in [&b"\xff\xff"[..], b"/proc/net/\xff", b"/proc/99999999999/net", b"", b"////"] {
        let _ = resolver.resolve(b"/", path, Last::Follow);
    }
}
