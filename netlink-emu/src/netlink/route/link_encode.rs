//! Interfaces as `RTM_NEWLINK` messages.

use netlink_packet_route::{
    AddressFamily,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, Inet6IfaceFlags, InfoData, InfoKind,
        LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkMode, Map, Prop, State,
        Stats, Stats64,
    },
};

use super::{body, layer};
use crate::{
    netlink::Body,
    values::{CarrierChanges, Counters, Interface},
};

/// `IFLA_VDE_VNL`, in the data of a "vde" interface: its locator.
pub(super) const VDE_VNL: u16 = 1;

/// What a message tells beside the interface itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Detail {
    /// Leave the counters out (`RTEXT_FILTER_SKIP_STATS`).
    pub(super) skip_stats: bool,
    /// `addr_gen_mode`.
    pub(super) addr_gen_mode: u8,
}

/// Encodes an interface.
pub(super) fn encode(kind: u16, link: &Interface, detail: Detail) -> Body {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.header.index = link.index.0;
    message.header.link_layer_type = LinkLayerType::from(link.kind.hardware_type());
    message.header.flags = LinkFlags::from_bits_retain(link.all_flags().bits());
    if kind == libc::RTM_DELLINK {
        message.header.change_mask = LinkFlags::from_bits_retain(u32::MAX);
    }
    message.attributes = properties(link);
    message.attributes.extend(hardware(link));
    if !detail.skip_stats {
        message.attributes.extend(counters(&link.counters));
    }
    message.attributes.extend(kind_info(link));
    message.attributes.push(families(link, detail));
    if !link.alternative_names.is_empty() {
        let names = link.alternative_names.iter().cloned().map(Prop::AltIfName).collect();
        message.attributes.push(LinkAttribute::PropList(names));
    }
    body(kind, &message)
}

fn properties(link: &Interface) -> Vec<LinkAttribute> {
    use LinkAttribute as A;
    let mut attributes = vec![
        A::IfName(link.name.clone()),
        A::TxQueueLen(link.txqlen),
        A::OperState(State::from(link.oper_state().number())),
        A::Mode(LinkMode::Default),
        A::Mtu(link.mtu),
        A::MinMtu(link.mtu_range.0),
        A::MaxMtu(link.mtu_range.1),
        A::Group(link.group),
        A::Promiscuity(
            u32::from(link.flags.contains(crate::values::LinkFlags::PROMISC))
                + u32::from(link.master.is_some()),
        ),
        A::AllMulticast(u32::from(link.flags.contains(crate::values::LinkFlags::ALLMULTI))),
        A::NumTxQueues(1),
        A::GsoMaxSegs(65_535),
        A::GsoMaxSize(65_536),
        A::GroMaxSize(65_536),
        A::TsoMaxSize(65_536),
        A::TsoMaxSegs(65_535),
        A::NumRxQueues(1),
        A::Carrier(u8::from(link.carrier)),
        A::Qdisc(link.shown_qdisc().to_owned()),
    ];
    attributes.extend(link.layer.link().map(|link| A::Link(link.0)));
    attributes.extend(link.master.map(|master| A::Controller(master.0)));
    if let Some(alias) = &link.alias {
        attributes.push(A::IfAlias(alias.clone()));
    }
    let CarrierChanges { up, down } = link.carrier_changes;
    attributes.extend([
        A::CarrierChanges(up.wrapping_add(down)),
        A::CarrierUpCount(up),
        A::CarrierDownCount(down),
        A::ProtoDown(0),
        A::Map(Map::default()),
    ]);
    attributes
}

fn hardware(link: &Interface) -> Vec<LinkAttribute> {
    if link.kind.hardware_type() == 65_534 {
        return Vec::new();
    }
    vec![
        LinkAttribute::Address(link.mac.to_vec()),
        LinkAttribute::Broadcast(link.broadcast.to_vec()),
    ]
}

fn counters(counters: &Counters) -> [LinkAttribute; 2] {
    let mut long = Stats64::default();
    long.rx_packets = counters.rx_packets;
    long.tx_packets = counters.tx_packets;
    long.rx_bytes = counters.rx_bytes;
    long.tx_bytes = counters.tx_bytes;
    long.rx_errors = counters.rx_errors;
    long.tx_errors = counters.tx_errors;
    long.rx_dropped = counters.rx_dropped;
    long.tx_dropped = counters.tx_dropped;
    long.multicast = counters.multicast;
    long.rx_nohandler = counters.rx_nohandler;
    let mut short = Stats::default();
    short.rx_packets = low(counters.rx_packets);
    short.tx_packets = low(counters.tx_packets);
    short.rx_bytes = low(counters.rx_bytes);
    short.tx_bytes = low(counters.tx_bytes);
    short.rx_errors = low(counters.rx_errors);
    short.tx_errors = low(counters.tx_errors);
    short.rx_dropped = low(counters.rx_dropped);
    short.tx_dropped = low(counters.tx_dropped);
    short.multicast = low(counters.multicast);
    short.rx_nohandler = low(counters.rx_nohandler);
    [LinkAttribute::Stats64(long), LinkAttribute::Stats(short)]
}

/// The old counters wrap.
fn low(counter: u64) -> u32 {
    u32::try_from(counter & u64::from(u32::MAX)).unwrap_or_default()
}

fn kind_info(link: &Interface) -> Option<LinkAttribute> {
    let mut info = Vec::new();
    if let Some(kind) = link.kind.info_kind() {
        info.push(LinkInfo::Kind(InfoKind::from(kind)));
        let locator = || Some(InfoData::Other(link.vnl.as_deref().and_then(vde_data)?));
        info.extend(layer::data(link).or_else(locator).map(LinkInfo::Data));
    }
    info.extend(layer::port(link));
    (!info.is_empty()).then_some(LinkAttribute::LinkInfo(info))
}

/// Encodes a port as `bridge link` asks for it.
pub(super) fn encode_port(link: &Interface) -> Body {
    use LinkAttribute as A;
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = link.index.0;
    message.header.link_layer_type = LinkLayerType::from(link.kind.hardware_type());
    message.header.flags = LinkFlags::from_bits_retain(link.all_flags().bits());
    message.attributes = vec![
        A::IfName(link.name.clone()),
        A::Mtu(link.mtu),
        A::OperState(State::from(link.oper_state().number())),
    ];
    message.attributes.extend(link.layer.link().map(|link| A::Link(link.0)));
    message.attributes.extend(link.master.map(|master| A::Controller(master.0)));
    message.attributes.extend(hardware(link));
    message.attributes.push(A::Other(layer::protocol_info(link)));
    body(libc::RTM_NEWLINK, &message)
}

/// The `IFLA_INFO_DATA` of a "vde" interface; None when the locator is too long for it.
pub(crate) fn vde_data(vnl: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(vnl.len() + 5).ok()?;
    let mut data = Vec::new();
    data.extend_from_slice(&length.to_ne_bytes());
    data.extend_from_slice(&VDE_VNL.to_ne_bytes());
    data.extend_from_slice(vnl.as_bytes());
    data.push(0);
    data.resize(data.len().next_multiple_of(4), 0);
    Some(data)
}

fn families(link: &Interface, detail: Detail) -> LinkAttribute {
    let ready = if link.is_running() { Inet6IfaceFlags::Ready } else { Inet6IfaceFlags::empty() };
    let inet6 = vec![
        AfSpecInet6::Flags(ready),
        AfSpecInet6::Token(link.token),
        AfSpecInet6::AddrGenMode(In6AddrGenMode::from(detail.addr_gen_mode)),
    ];
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(inet6)])
}
