//! A stack of this program.

use std::{
    fmt, io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use umvu_abi::{
    Errno,
    module::{Module, MountError, MountRequest, Mounted},
    net::NetStack,
};
use umvu_reactor::Reactor;

use super::{config::Config, halt::Halt};
use crate::Vunet;

/// How long dropping a stack waits for connections to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// The event loop that stacks without one of their own share, while there is such a stack.
static LOOP: Mutex<Weak<Reactor>> = Mutex::new(Weak::new());

/// A network stack in this process.
///
/// A clone is another handle of the same stack; sockets hold one too. When the last is gone the
/// stack ends: like a process that exits, it gives its closed connections a moment (a second at
/// most, normally a round trip) to deliver what was written to them. [`finish`](Self::finish) and
/// [`stop`](Self::stop) end it with more or less patience.
///
/// ```
/// use std::io::{Read, Write};
/// use umvu_stacks::net::{Stack, TcpListener, TcpStream};
///
/// let directory = tempfile::tempdir()?;
/// let wire = format!("switch://{}", directory.path().join("switch").display());
/// let server = Stack::open("smoltcp", &format!("{wire},ip=10.0.0.1/24"))?;
/// let client = Stack::open("smoltcp", &format!("{wire},ip=10.0.0.2/24"))?;
///
/// let listener = TcpListener::bind(&server, "10.0.0.1:7")?;
/// let echo = std::thread::spawn(move || -> std::io::Result<()> {
///     let (mut stream, _peer) = listener.accept()?;
///     let mut text = String::new();
///     stream.read_to_string(&mut text)?;
///     stream.write_all(text.to_uppercase().as_bytes())
/// });
///
/// let mut stream = TcpStream::connect(&client, "10.0.0.1:7")?;
/// stream.write_all(b"hello")?;
/// stream.shutdown(std::net::Shutdown::Write)?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// echo.join().expect("it does not panic")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

struct Inner {
    stack: Arc<dyn NetStack>,
    halt: Halt,
    /// Runs the stack; the last stack ends it.
    reactor: Arc<Reactor>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.halt.is_stopped() {
            self.settle(GOODBYE);
            self.stack.stop();
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.inner.stack).finish()
    }
}

impl Stack {
    /// Opens a stack by its name, with the options that a mount of it takes.
    ///
    /// The stacks are `smoltcp` (in this process), `vdestack` (the kernel's, in a namespace of its
    /// own), `kernel` or `real` (that of this process), `null` (none), and what else the program
    /// `vumount -t vunetioth` knows. The options are comma-separated: network locators
    /// (`vxvde://239.0.0.1`, `eth0:switch:///tmp/sw`), `ip=ADDRESS/PREFIX`, `gw=ADDRESS`,
    /// `mac=`, `mtu=`, `eth`, ...
    ///
    /// Errors say in a line what is wrong: `EINVAL` for an unknown stack or option, or those of
    /// the network.
    pub fn open(kind: &str, options: &str) -> io::Result<Self> {
        Builder::new(kind).options(options).open()
    }

    /// Prepares a stack that needs more said than [`open`](Self::open) takes.
    pub fn builder(kind: &str) -> Builder {
        Builder::new(kind)
    }

    /// Waits until closed connections have delivered what was written to them, and ends the stack.
    /// Errors: `ETIMEDOUT` when they had not when `patience` was at its end.
    pub fn finish(self, patience: Duration) -> io::Result<()> {
        let settled = self.inner.settle(patience);
        self.stop();
        if settled { Ok(()) } else { Err(Errno::ETIMEDOUT.into()) }
    }

    /// Ends the stack at once: its connections are reset, its interfaces leave their networks, and
    /// who waits for one of its sockets gets `ENETDOWN`.
    pub fn stop(&self) {
        if !self.inner.halt.is_stopped() {
            self.inner.halt.stop();
            self.inner.stack.stop();
        }
    }

    /// Opens the configuration of the stack. Errors: `EAFNOSUPPORT` when it has no netlink.
    pub fn config(&self) -> io::Result<Config> {
        Config::open(self)
    }

    /// The stack behind it.
    #[must_use]
    pub fn net_stack(&self) -> &dyn NetStack {
        &*self.inner.stack
    }

    /// Calls a socket, and runs what follows in this and in other stacks of the loop on this
    /// thread, if the loop sleeps: waking it costs more.
    pub(super) fn on_behalf<T>(&self, call: impl FnOnce() -> T) -> T {
        self.inner.reactor.on_behalf(call)
    }

    pub(super) fn halt(&self) -> &Halt {
        &self.inner.halt
    }
}

impl Inner {
    /// Waits until no closed connection has anything left to send; false if that takes too long.
    fn settle(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.is_saying_goodbye() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Whether a connection waits for the acknowledgement of its FIN: `FIN-WAIT-1`, `CLOSING`,
    /// `LAST-ACK`.
    fn is_saying_goodbye(&self) -> bool {
        const STATES: [&str; 3] = ["04", "0B", "09"];
        let Some(tree) = self.stack.proc_net() else { return false };
        ["tcp", "tcp6"].into_iter().any(|name| {
            let table = tree.read(name).unwrap_or_default();
            String::from_utf8_lossy(&table).lines().skip(1).any(|row| {
                row.split_whitespace().nth(3).is_some_and(|state| STATES.contains(&state))
            })
        })
    }
}

/// What is said about a stack before it is opened.
///
/// ```
/// use umvu_stacks::net::Stack;
///
/// let stack = Stack::builder("smoltcp")
///     .name("printer")
///     .network("null://")
///     .option("ip=192.168.7.9/24")
///     .open()?;
/// # drop(stack);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder makes nothing before `open`"]
pub struct Builder {
    kind: String,
    name: String,
    options: Vec<String>,
    reactor: Option<Reactor>,
}

impl Builder {
    fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), name: String::new(), options: Vec::new(), reactor: None }
    }

    /// Names the stack: its hardware addresses are derived from the name, and so are the same
    /// each time; without a name they are random.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds an interface on the network of a locator, for example `vxvde://239.0.0.1` or, with a
    /// name for the interface, `eth0:switch:///tmp/sw`.
    pub fn network(self, locator: &str) -> Self {
        self.options(locator)
    }

    /// Adds an option, for example `ip=10.0.0.1/24`.
    pub fn option(self, option: &str) -> Self {
        self.options(option)
    }

    /// Adds options, separated by commas.
    pub fn options(mut self, options: &str) -> Self {
        self.options.push(options.to_owned());
        self
    }

    /// Runs the stack on an event loop of the caller's. By default all stacks of a program share
    /// one, on one thread.
    pub fn reactor(mut self, reactor: Reactor) -> Self {
        self.reactor = Some(reactor);
        self
    }

    /// Opens the stack. Errors: as [`Stack::open`].
    pub fn open(self) -> io::Result<Stack> {
        let reactor = match self.reactor {
            Some(reactor) => Arc::new(reactor),
            None => shared_loop()?,
        };
        let request = MountRequest {
            source: self.kind,
            target: self.name.clone(),
            fstype: "vunetioth".to_owned(),
            flags: 0,
            data: self.options.join(","),
            environment: Vec::new(),
            view: self.name,
        };
        let halt = Halt::new()?;
        let mounted = Vunet::new(Reactor::clone(&reactor)).mount(&request).map_err(failure)?;
        let Mounted::Stack(stack) = mounted else { return Err(io::ErrorKind::Unsupported.into()) };
        Ok(Stack { inner: Arc::new(Inner { stack, halt, reactor }) })
    }
}

/// The event loop of all stacks that have none of their own.
fn shared_loop() -> io::Result<Arc<Reactor>> {
    let mut slot = LOOP.lock();
    if let Some(reactor) = slot.upgrade() {
        return Ok(reactor);
    }
    let reactor = Arc::new(Reactor::start("stacks")?);
    *slot = Arc::downgrade(&reactor);
    Ok(reactor)
}

/// The sentence and the number of a refusal. An [`io::Error`] has room for one of them; the kind
/// keeps most of the number.
fn failure(error: MountError) -> io::Error {
    let bare = io::Error::from(error.errno);
    if error.reason.is_empty() { bare } else { io::Error::new(bare.kind(), error) }
}
