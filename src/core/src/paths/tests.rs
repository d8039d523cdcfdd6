//! The path calls as a guest sees them: handlers over an in-memory guest.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use syscalls::Sysno;
use umvu_abi::{Errno, GuestAddr, GuestFd, Tid};
use umvu_reactor::Reactor;
use umvu_tracer::api::{Action, Call, Completer, FileIdentity, Guest, Reply, Syscall};

use super::{Paths, fake};
use crate::{Core, bridge, dispatch, rundir::RunDir, tasks::Tasks};

const BUFFER: u64 = 0x10_0000;

/// The guest goes by the number of this process: `/proc/PID` must be there.
fn tid() -> Tid {
    Tid(std::process::id().cast_signed())
}

/// Memory is what was put there; descriptors and the working directory are links.
#[derive(Default)]
struct FakeGuest {
    memory: Mutex<HashMap<u64, Vec<u8>>>,
    links: Mutex<HashMap<i32, Vec<u8>>>,
    cwd: Mutex<Vec<u8>>,
    /// How many host system calls a real guest's answers would have cost.
    asked: AtomicU32,
}

impl FakeGuest {
    fn count<T>(&self, value: T) -> T {
        self.asked.fetch_add(1, Ordering::Relaxed);
        value
    }
}

impl Guest for FakeGuest {
    fn tid(&self) -> Tid {
        tid()
    }

    fn read(&self, from: GuestAddr, buffer: &mut [u8]) -> Result<(), Errno> {
        let memory = self.count(self.memory.lock());
        let bytes = memory.get(&from.0).ok_or(Errno::EFAULT)?;
        buffer.copy_from_slice(bytes.get(..buffer.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn read_some(&self, _: GuestAddr, _: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }

    fn write(&self, _: GuestAddr, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    fn read_string(&self, from: GuestAddr, limit: usize) -> Result<Vec<u8>, Errno> {
        let memory = self.count(self.memory.lock());
        let bytes = memory.get(&from.0).ok_or(Errno::EFAULT)?;
        if bytes.len() >= limit { Err(Errno::ENAMETOOLONG) } else { Ok(bytes.clone()) }
    }

    fn fetch_fd(&self, _: GuestFd) -> Result<OwnedFd, Errno> {
        Err(Errno::EBADF)
    }

    fn identify_fd(&self, _: GuestFd) -> Result<FileIdentity, Errno> {
        Err(Errno::EBADF)
    }

    fn fd_link(&self, fd: GuestFd) -> Result<Vec<u8>, Errno> {
        self.count(self.links.lock().get(&fd.0).cloned().ok_or(Errno::EBADF))
    }

    fn cwd_link(&self) -> Result<Vec<u8>, Errno> {
        self.count(Ok(self.cwd.lock().clone()))
    }

    fn signal(&self, _: i32) {}
}

struct Bench {
    core: Arc<Core>,
    guest: Arc<FakeGuest>,
}

/// An argument of a call.
enum Arg<'a> {
    Path(&'a str),
    Number(i64),
}

use Arg::{Number, Path};

const CWD: Arg<'static> = Number(libc::AT_FDCWD as i64);
const OUT: Arg<'static> = Number(BUFFER.cast_signed());

impl Bench {
    /// A guest that uses the stack mounted at /dev/umvu-test/lab.
    fn new() -> Self {
        let reactor = Reactor::start("test").expect("epoll works");
        let run_dir = Arc::new(RunDir::create().expect("a private directory"));
        let sockets = bridge::Sockets::new(&reactor, &run_dir).expect("sockets");
        let objects = crate::files::Objects::new(run_dir.path());
        let core = Arc::new_cyclic(|this| Core {
            owners: crate::identity::Owners::default(),
            objects,
            tasks: Tasks::default(),
            view: fake::view(&["/dev/umvu-test/lab"]),
            sockets,
            etc: crate::etc::Files::new(run_dir.path()),
            paths: Paths::new(&run_dir),
            run_dir,
            reactor: reactor.clone(),
            table: dispatch::Table::new(),
            control: Mutex::new(None),
            this: Weak::clone(this),
        });
        core.tasks.started(tid());
        let mount = core.view.mount_at("/dev/umvu-test/lab");
        core.tasks.get(tid()).choose_stack(libc::AF_INET, mount);
        let guest = Arc::new(FakeGuest::default());
        *guest.cwd.lock() = b"/usr".to_vec();
        Self { core, guest }
    }

    fn call(&self, sysno: Sysno, args: &[Arg<'_>]) -> Action {
        let mut registers = [0; 6];
        for (n, arg) in args.iter().enumerate() {
            registers[n] = match arg {
                Number(number) => number.cast_unsigned(),
                Path(path) => {
                    let address = 0x1000 * (n as u64 + 1);
                    self.guest.memory.lock().insert(address, path.as_bytes().to_vec());
                    address
                }
            };
        }
        let number = i64::from(sysno.id());
        let call = Call {
            syscall: Syscall { number, args: registers },
            guest: Arc::clone(&self.guest) as Arc<dyn Guest>,
            defer: Arc::new(|| -> Completer { panic!("path calls do not wait") }),
        };
        let handler = self.core.table.handler(number).expect("the call has a row");
        match handler(&self.core, &call) {
            Action::Slow(slow) => (slow.0)(),
            action => action,
        }
    }

    fn stat(&self, path: &str) -> Result<Vec<u8>, String> {
        let args = [CWD, Path(path), OUT, Number(0)];
        match self.call(Sysno::newfstatat, &args) {
            Action::Return(Reply { result: Ok(0), writes }) => {
                assert_eq!(writes[0].0, GuestAddr(BUFFER));
                Ok(writes[0].1.clone())
            }
            action => Err(show(&action)),
        }
    }

    fn open(&self, path: &str, flags: i32) -> Result<OwnedFd, String> {
        match self.call(Sysno::openat, &[CWD, Path(path), Number(flags.into()), Number(0)]) {
            Action::ReturnFd(reply) => Ok(reply.fd),
            action => Err(show(&action)),
        }
    }

    fn text(&self, path: &str) -> String {
        let mut text = String::new();
        let fd = self.open(path, libc::O_RDONLY).expect("the file is there");
        File::from(fd).read_to_string(&mut text).expect("readable");
        text
    }

    /// Gives the guest a descriptor number for a file.
    fn hold(&self, number: i32, fd: &OwnedFd) {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let link = link.expect("procfs is mounted").into_os_string().into_vec();
        self.guest.links.lock().insert(number, link);
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Forward => "forward".to_owned(),
        Action::Return(Reply { result: Ok(value), .. }) => value.to_string(),
        Action::Return(Reply { result: Err(errno), .. }) => format!("{errno:?}"),
        other => format!("{other:?}"),
    }
}

fn names(fd: &OwnedFd) -> Vec<String> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let entries = std::fs::read_dir(path).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("readable").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

fn mode_in(stat: &[u8]) -> u32 {
    let at = std::mem::offset_of!(libc::stat, st_mode);
    u32::from_ne_bytes(stat[at..at + 4].try_into().expect("four bytes"))
}

fn inode_in(stat: &[u8]) -> u64 {
    u64::from_ne_bytes(stat[8..16].try_into().expect("eight bytes"))
}

#[test]
fn a_node_is_shown_changed_and_not_opened() {
    let bench = Bench::new();
    let node = "/dev/umvu-test/lab";
    assert_eq!(mode_in(&bench.stat(node).expect("there")), 0o160_777);
    let chmod = bench.call(Sysno::fchmodat, &[CWD, Path(node), Number(0o640)]);
    assert_eq!(show(&chmod), "0");
    let chown = [CWD, Path(node), Number(1), Number(-1), Number(0)];
    assert_eq!(show(&bench.call(Sysno::fchownat, &chown)), "0");
    assert_eq!(mode_in(&bench.stat(node).expect("there")), 0o160_640);
    let expected = [
        (Sysno::unlinkat, vec![CWD, Path(node), Number(0)], "EBUSY"),
        (Sysno::mkdirat, vec![CWD, Path(node), Number(0)], "EEXIST"),
        (Sysno::readlinkat, vec![CWD, Path(node), OUT, Number(9)], "EINVAL"),
        (Sysno::renameat2, vec![CWD, Path(node), CWD, Path("/tmp/x")], "EBUSY"),
        (Sysno::renameat2, vec![CWD, Path("/tmp/x"), CWD, Path(node)], "EEXIST"),
        (Sysno::chdir, vec![Path(node)], "ENOTDIR"),
        (Sysno::getxattr, vec![Path(node)], "ENODATA"),
        (Sysno::utimensat, vec![CWD, Path(node)], "0"),
        (Sysno::statfs, vec![Path(node), OUT], "0"),
    ];
    for (sysno, args, result) in expected {
        assert_eq!(show(&bench.call(sysno, &args)), result, "{sysno}");
    }
    assert_eq!(bench.open(node, libc::O_RDWR).expect_err("a node"), "ENXIO");
    assert_eq!(bench.open("/dev/umvu-test/lab/", 0).expect_err("a node"), "ENOTDIR");
    let handle = bench.open(node, libc::O_PATH).expect("a handle");
    bench.hold(7, &handle);
    let through = bench.call(Sysno::newfstatat, &[Number(7), Path("x"), OUT, Number(0)]);
    assert_eq!(show(&through), "ENOTDIR");
}

#[test]
fn directories_above_a_node_appear() {
    let bench = Bench::new();
    let stat = bench.stat("/dev/umvu-test").expect("there");
    assert_eq!(mode_in(&stat) & libc::S_IFMT, libc::S_IFDIR);
    let told = inode_in(&bench.stat("/dev").expect("merged"));
    let dev = bench.open("/dev", libc::O_DIRECTORY).expect("merged");
    assert_eq!(nix::sys::stat::fstat(&dev).expect("fstat").st_ino, told);
    assert!(names(&dev).contains(&"umvu-test".to_owned()));
    assert!(names(&dev).contains(&"null".to_owned()));
    let inside = bench.open("/dev/umvu-test", libc::O_DIRECTORY).expect("virtual");
    assert_eq!(names(&inside), ["lab"]);
    bench.hold(8, &inside);
    let by_descriptor = bench.call(Sysno::faccessat, &[Number(8), Path("lab"), Number(4)]);
    assert_eq!(show(&by_descriptor), "0");
    bench.hold(9, &dev);
    let real = bench.call(Sysno::newfstatat, &[Number(9), Path("null"), OUT, Number(0)]);
    let Action::Return(Reply { result: Ok(0), writes }) = real else { panic!("{real:?}") };
    assert_eq!(mode_in(&writes[0].1) & libc::S_IFMT, libc::S_IFCHR);
}

#[test]
fn generated_files_are_read_where_the_stack_is_used() {
    let bench = Bench::new();
    for path in ["/proc/net/dev", "/proc/self/net/link", "/sys/class/net/dev"] {
        assert_eq!(bench.text(path), "text\n", "{path}");
    }
    let pid = format!("/proc/{}/net/dev", tid());
    assert_eq!(bench.text(&pid), "text\n");
    assert_eq!(bench.stat("/proc/1/net/dev").expect_err("another process"), "forward");
    let told = inode_in(&bench.stat("/proc/net/dev").expect("there"));
    let fd = bench.open("/proc/net/dev", 0).expect("there");
    let found = nix::sys::stat::fstat(&fd).expect("fstat");
    assert_eq!(found.st_ino, told);
    let errors = [
        ("/proc/net/none", libc::O_RDONLY, "ENOENT"),
        ("/proc/net/dev", libc::O_DIRECTORY, "ENOTDIR"),
        ("/proc/net/dev", libc::O_WRONLY, "EACCES"),
        ("/proc/net/dev", libc::O_CREAT | libc::O_EXCL, "EEXIST"),
        ("/proc/self/net/link", libc::O_NOFOLLOW, "ELOOP"),
        ("/proc/net", libc::O_WRONLY, "EISDIR"),
        ("/sys/class/net/none", libc::O_CREAT | libc::O_WRONLY, "EACCES"),
    ];
    for (path, flags, errno) in errors {
        assert_eq!(bench.open(path, flags).expect_err(errno), errno, "{path}");
    }
}

#[test]
fn what_is_written_is_read_at_once() {
    let bench = Bench::new();
    let flags = libc::O_WRONLY | libc::O_TRUNC | libc::O_CREAT;
    let fd = bench.open("/proc/sys/net/conf/knob", flags).expect("writable");
    File::from(fd).write_all(b"1\n").expect("room");
    assert_eq!(bench.text("/proc/sys/net/conf/knob"), "1\n");
}

#[test]
fn directories_of_a_stack_are_listed_and_walked_by_descriptor() {
    let bench = Bench::new();
    let net = bench.open("/proc/self/net", libc::O_DIRECTORY).expect("a directory");
    assert_eq!(names(&net), ["conf", "dev", "link"]);
    let told = inode_in(&bench.stat("/proc/self/net").expect("there"));
    assert_eq!(nix::sys::stat::fstat(&net).expect("fstat").st_ino, told);
    bench.hold(7, &net);
    let open = [Number(7), Path("conf/../dev"), Number(0), Number(0)];
    let Action::ReturnFd(reply) = bench.call(Sysno::openat, &open) else { panic!("no file") };
    let mut text = String::new();
    File::from(reply.fd).read_to_string(&mut text).expect("readable");
    assert_eq!(text, "text\n");

    let link = bench.guest.links.lock()[&7].clone();
    *bench.guest.cwd.lock() = link;
    let cwd = bench.call(Sysno::getcwd, &[OUT, Number(4096)]);
    let Action::Return(Reply { result: Ok(_), writes }) = cwd else { panic!("{cwd:?}") };
    assert_eq!(writes[0].1, format!("/proc/{}/net\0", tid()).into_bytes());
}

#[test]
fn real_paths_cost_the_read_of_the_string() {
    let bench = Bench::new();
    let cost = |path: &str| {
        let before = bench.guest.asked.load(Ordering::Relaxed);
        assert_eq!(bench.stat(path).expect_err("the kernel's"), "forward", "{path}");
        bench.guest.asked.load(Ordering::Relaxed) - before
    };
    assert_eq!(cost("/etc/passwd"), 1);
    assert_eq!(cost("/proc/self/status"), 1);
    assert_eq!(cost("lib"), 2, "the working directory is looked at once");
    assert_eq!(cost("lib/x"), 1);
    assert_eq!(cost("../etc"), 2);
    bench.call(Sysno::chdir, &[Path("/etc")]);
    assert_eq!(cost("passwd"), 2);
    assert_eq!(cost("passwd"), 1);
    assert_eq!(cost(""), 1);
}

#[test]
fn hostile_paths_are_the_kernels_to_refuse() {
    let bench = Bench::new();
    let long = format!("/proc/net/{}", "x".repeat(5000));
    assert_eq!(bench.stat(&long).expect_err("too long"), "forward");
    let nowhere = [CWD, Number(1), OUT, Number(0)];
    assert_eq!(show(&bench.call(Sysno::newfstatat, &nowhere)), "forward");
    let bad = [Number(99), Path("x"), OUT, Number(0)];
    assert_eq!(show(&bench.call(Sysno::newfstatat, &bad)), "forward");
}

#[test]
fn mount_points_become_absolute() {
    let bench = Bench::new();
    let absolute = |path: &str| {
        let call = Call {
            syscall: Syscall { number: 0, args: [0; 6] },
            guest: Arc::clone(&bench.guest) as Arc<dyn Guest>,
            defer: Arc::new(|| -> Completer { panic!("nothing waits") }),
        };
        bench.core.absolute(&call, path.as_bytes())
    };
    let at = |path: &str| Ok(path.to_owned());
    assert_eq!(absolute("/dev/../dev//umvu-test/./lab/"), at("/dev/umvu-test/lab"));
    assert_eq!(absolute("x/../y"), at("/usr/y"));
    assert_eq!(absolute(""), Err(Errno::ENOENT));
    assert_eq!(absolute(&"x/".repeat(3000)), Err(Errno::ENAMETOOLONG));
}
