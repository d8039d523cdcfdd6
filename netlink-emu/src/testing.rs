//! A stack that only has its configuration, for unit tests and fuzz targets.

use std::sync::Arc;

use parking_lot::Mutex;
use umvu_abi::{IfIndex, net::SocketEvents};

use crate::{
    ConfigHost, Failure, HostNet, NetConfig,
    netlink::NetlinkHub,
    text,
    values::{
        Address, Interface, LinkChange, NewLink, RouteMode, SocketRow, SocketTable, SocketTimer,
        TcpState,
    },
};

/// The hardware address of `vde0`.
pub(crate) const MAC: [u8; 6] = [0x7e, 0x76, 0xc0, 0xd7, 0x3b, 0x37];

/// A stack with `lo` and `vde0`.
pub(crate) struct Lab {
    pub(crate) config: Mutex<NetConfig>,
    pub(crate) hub: Arc<NetlinkHub>,
    pub(crate) rows: Mutex<Vec<(SocketTable, SocketRow)>>,
    /// While it is held, interfaces of the kind "slow" do not open.
    pub(crate) gate: Mutex<()>,
}

impl Lab {
    /// Both interfaces are down.
    pub(crate) fn fresh() -> Arc<Self> {
        let mut config = NetConfig::new();
        let vde = Interface::ethernet(IfIndex(2), "vde0", "vde", MAC);
        config.insert_link(vde).expect("a new interface");
        let _ = config.take_changes();
        let hub = NetlinkHub::new();
        Arc::new(Self {
            config: Mutex::new(config),
            hub,
            rows: Mutex::default(),
            gate: Mutex::default(),
        })
    }

    /// Both interfaces are up, `vde0` has 10.0.0.1/24.
    pub(crate) fn ready() -> Arc<Self> {
        let lab = Self::fresh();
        for index in [1, 2] {
            lab.set_link(IfIndex(index), &LinkChange::admin(true)).expect("an interface");
        }
        let address = Address::new(IfIndex(2), [10, 0, 0, 1].into(), 24);
        lab.add_address(&address, RouteMode::ADD).expect("a new address");
        lab
    }

    pub(crate) fn host(self: &Arc<Self>) -> Arc<dyn HostNet> {
        Arc::clone(self) as Arc<dyn HostNet>
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

    fn opens_slowly(&self, kind: &str) -> bool {
        kind == "slow"
    }

    fn open_link(
        &self,
        link: &NewLink,
        name: &str,
        index: IfIndex,
    ) -> Result<(Interface, ()), Failure> {
        match link.kind.as_str() {
            "vde" => {}
            "slow" => drop(self.gate.lock()),
            _ => return Err(text::LINK_UNKNOWN_KIND),
        }
        let mut made = Interface::ethernet(index, name, &link.kind, [2, 0, 0, 0, 0, 9]);
        made.vnl.clone_from(&link.vnl);
        Ok((made, ()))
    }

    fn sockets(&self, table: SocketTable) -> Vec<SocketRow> {
        let rows = self.rows.lock();
        rows.iter().filter(|(held, _)| *held == table).map(|(_, row)| row.clone()).collect()
    }
}

/// A socket row with nothing special.
pub(crate) fn row(local: &str, remote: &str, state: TcpState) -> SocketRow {
    let local = local.parse().expect("an address");
    SocketRow {
        ipv6: std::net::SocketAddr::is_ipv6(&local),
        local,
        remote: remote.parse().expect("an address"),
        state,
        send_queue: 0,
        receive_queue: 0,
        timer: SocketTimer::default(),
        uid: 0,
        inode: 228_294,
        interface: None,
        v6only: false,
        drops: 0,
        cookie: 7,
        tcp: None,
    }
}

/// Counts how often a socket called.
#[derive(Default)]
pub(crate) struct Count(pub(crate) Mutex<usize>);

impl SocketEvents for Count {
    fn changed(&self) {
        *self.0.lock() += 1;
    }
}
