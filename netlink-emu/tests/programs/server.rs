//! A stack without a data plane, served to programs through the preloaded `shim.c`.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
};

use netlink_emu::{
    ConfigHost, Failure, HostNet, NetConfig,
    netlink::{self, NetlinkHub},
    text,
    values::{Interface, NewLink, SocketRow, SocketTable, SocketTimer, TcpState},
};
use parking_lot::Mutex;
use socket2::{Domain, Type};
use umvu_abi::{
    IfIndex, SockAddr,
    net::{DatagramSocket, SendControl, SocketEvents},
};

/// A stack that only has its configuration.
pub(crate) struct Lab {
    config: Mutex<NetConfig>,
    pub(crate) hub: Arc<NetlinkHub>,
    pub(crate) sockets: Mutex<Vec<(SocketTable, SocketRow)>>,
}

impl Lab {
    /// `lo` and `vde0` as a fresh stack has them.
    pub(crate) fn new() -> Arc<Self> {
        let mut config = NetConfig::new();
        let mac = [0x7e, 0x76, 0xc0, 0xd7, 0x3b, 0x37];
        config
            .insert_link(Interface::ethernet(IfIndex(2), "vde0", "vde", mac))
            .expect("a new interface");
        let _ = config.take_changes();
        let hub = NetlinkHub::new();
        Arc::new(Self { config: Mutex::new(config), hub, sockets: Mutex::default() })
    }
}

impl ConfigHost for Lab {
    type Device = ();

    fn with_config<R>(&self, f: impl FnOnce(&mut NetConfig) -> R) -> R {
        let mut config = self.config.lock();
        let result = f(&mut config);
        self.hub.publish(&config.take_changes());
        result
    }

    fn open_link(
        &self,
        link: &NewLink,
        name: &str,
        index: IfIndex,
    ) -> Result<(Interface, ()), Failure> {
        if !["vde", "dummy"].contains(&link.kind.as_str()) {
            return Err(text::LINK_UNKNOWN_KIND);
        }
        let last = u8::try_from(index.0 & 0xff).expect("masked");
        let mut made = Interface::ethernet(index, name, &link.kind, [2, 0, 0, 0, 0, last]);
        made.vnl.clone_from(&link.vnl);
        Ok((made, ()))
    }

    fn sockets(&self, table: SocketTable) -> Vec<SocketRow> {
        let rows = self.sockets.lock();
        rows.iter().filter(|(held, _)| *held == table).map(|(_, row)| row.clone()).collect()
    }
}

/// A socket row with nothing special.
pub(crate) fn row(local: &str, remote: &str, state: TcpState) -> SocketRow {
    let local: SocketAddr = local.parse().expect("an address");
    SocketRow {
        ipv6: local.is_ipv6(),
        local,
        remote: remote.parse().expect("an address"),
        state,
        send_queue: 0,
        receive_queue: 0,
        timer: SocketTimer::default(),
        uid: 0,
        inode: 0,
        interface: None,
        v6only: true,
        drops: 0,
        cookie: 7,
        tcp: None,
    }
}

/// The server of one lab, its shim, and its files.
pub(crate) struct Server {
    pub(crate) lab: Arc<Lab>,
    folder: tempfile::TempDir,
}

struct Wake(Mutex<Sender<()>>);

impl SocketEvents for Wake {
    fn changed(&self) {
        // The reader is gone when the program has ended.
        let _ = self.0.lock().send(());
    }
}

impl Server {
    /// Starts a server; None when there is no C compiler.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .arg(folder.path().join("shim.so"))
            .arg(source)
            .arg("-ldl")
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no C compiler");
            return None;
        }
        let lab = Lab::new();
        let path = folder.path().join("socket");
        let listener = socket2::Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
        listener.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("bind");
        listener.listen(16).expect("listen");
        let host = Arc::clone(&lab);
        thread::spawn(move || {
            while let Ok((connection, _)) = listener.accept() {
                let host = Arc::clone(&host);
                thread::spawn(move || serve(&host, connection));
            }
        });
        Some(Self { lab, folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Runs a shell command as a program inside would; standard output and standard error.
    pub(crate) fn run(&self, line: &str) -> String {
        self.command(line).output().map_or_else(
            |error| format!("{error}"),
            |output| {
                let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.push_str(&String::from_utf8_lossy(&output.stderr));
                text
            },
        )
    }

    /// The command, not started yet.
    pub(crate) fn command(&self, line: &str) -> Command {
        if self.tells_files(line) {
            self.write_files();
        }
        let mut command = Command::new("sh");
        // Only the program itself gets the shim.
        let shim = self.folder.path().join("shim.so");
        command
            .args(["-c", &format!("export LD_PRELOAD={}; exec {line}", shim.display())])
            .env("NETEMU", self.folder.path().join("socket"))
            .env("NETEMU_ROOT", self.root())
            .env("COLUMNS", "200")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Writing the files takes a while; only those who read them need them.
    fn tells_files(&self, line: &str) -> bool {
        ["ifconfig", "route -", "netstat", "arp", "maddr", "/proc", "/sys", "sysctl"]
            .iter()
            .any(|word| line.contains(word))
    }

    fn write_files(&self) {
        let host: Arc<dyn HostNet> = self.lab.clone();
        let trees = [
            ("proc/net", netlink_emu::proc::proc_net(&host, Some(&self.lab.hub))),
            ("proc/sys/net", netlink_emu::proc::proc_sys_net(&host)),
            ("sys/class/net", netlink_emu::sysfs::sys_class_net(&host)),
        ];
        for (place, tree) in trees {
            let root = self.root().join(place);
            let _ = std::fs::remove_dir_all(&root);
            write_tree(tree.as_ref(), "", &root);
        }
    }
}

fn write_tree(tree: &dyn umvu_abi::tree::Tree, path: &str, place: &Path) {
    use umvu_abi::tree::Entry;
    match tree.entry(path).expect("a listed path") {
        Entry::Directory(names) => {
            std::fs::create_dir_all(place).expect("a folder");
            for name in names {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                write_tree(tree, &inner, &place.join(name));
            }
        }
        Entry::File { .. } => {
            if let Ok(content) = tree.read(path) {
                std::fs::write(place, content).expect("a file");
            }
        }
        Entry::Link(target) => {
            std::os::unix::fs::symlink(target, place).expect("a link");
        }
    }
}

/// Serves one connection of the shim.
fn serve(lab: &Arc<Lab>, mut connection: socket2::Socket) {
    let mut buffer = vec![0; 1 << 20];
    let Ok(count) = connection.read(&mut buffer) else { return };
    let first = buffer[..count].to_vec();
    match first.first() {
        Some(b'I') => {
            let answer = ioctl(lab.as_ref(), &first[1..]);
            let _ = connection.write(&answer);
        }
        Some(b'P') => serve_netlink(lab, connection, int(&first[1..]), &mut buffer),
        _ => {}
    }
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes(bytes[..4].try_into().expect("4 bytes"))
}

fn ioctl(host: &dyn HostNet, request: &[u8]) -> Vec<u8> {
    let number = u32::from_ne_bytes(request[..4].try_into().expect("4 bytes"));
    let mut argument = request[4..].to_vec();
    let result = netlink_emu::interface_ioctl(host, number, &mut argument);
    let result = result.unwrap_or_else(|errno| -errno.0);
    let mut answer = result.to_ne_bytes().to_vec();
    answer.extend_from_slice(&argument);
    answer
}

fn serve_netlink(
    lab: &Arc<Lab>,
    mut connection: socket2::Socket,
    protocol: i32,
    buffer: &mut [u8],
) {
    let (wake, woken) = mpsc::channel();
    let host: Arc<dyn HostNet> = lab.clone();
    let events = Arc::new(Wake(Mutex::new(wake)));
    let opened = netlink::open(protocol, host, &lab.hub, events);
    let socket: Arc<dyn DatagramSocket> = match opened {
        Ok(socket) => socket,
        Err(errno) => {
            let answer = [(-errno.0).to_ne_bytes(), [0; 4]].concat();
            let _ = connection.write(&answer);
            return;
        }
    };
    socket.bind(&SockAddr::Netlink { pid: 0, groups: 0 }).expect("a free port");
    let Ok(SockAddr::Netlink { pid, .. }) = socket.local() else { return };
    let _ = connection.write(&[[0; 4], pid.to_ne_bytes()].concat());
    let mut writer = connection.try_clone().expect("a descriptor");
    let source = Arc::clone(&socket);
    let pump = thread::spawn(move || {
        while woken.recv().is_ok() {
            while let Some(datagram) = source.receive() {
                if writer.write(&datagram.data).is_err() {
                    return;
                }
            }
        }
    });
    while let Ok(count) = connection.read(buffer)
        && count > 0
    {
        let message = &buffer[1..count];
        match buffer[0] {
            b'B' => {
                let groups = int(message).unsigned_abs();
                socket.bind(&SockAddr::Netlink { pid, groups }).expect("bound before");
            }
            b'O' => {
                let _ = socket.set_option(libc::SOL_NETLINK, int(message), &message[4..]);
            }
            _ => {
                let _ = socket.send(message, None, &SendControl::default());
            }
        }
    }
    socket.close();
    drop(socket);
    drop(pump);
}
