//! The attributes of VLANs, bridges and their ports.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{
    BridgeId, BridgePortState, BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoPortData,
    InfoPortKind, InfoVlan, LinkInfo, VlanFlags, VlanProtocol,
};
use umvu_abi::{
    IfIndex,
    tunnel::{PacketInfo, TunnelKind},
};

use crate::{
    host::{Failure, HostNet},
    netlink::attributes::Attributes,
    text,
    values::{Bridge, Interface, Layer, LayerChange, Tunnel, Vlan},
};

const VLAN_ID: u16 = 1;
const VLAN_FLAGS: u16 = 2;
const VLAN_PROTOCOL: u16 = 5;
/// `VLAN_FLAG_REORDER_HDR`.
const REORDER_HDR: u32 = 1;
const BR_AGEING_TIME: u16 = 4;
const BR_STP_STATE: u16 = 5;
const BR_VLAN_FILTERING: u16 = 7;
const BR_FDB_FLUSH: u16 = 21;

/// The EtherTypes of tags.
const TAGS: [u16; 2] = [0x8100, 0x88a8];

/// Reads what a new interface is to stand on. Errors: `EINVAL`, `ENODEV`, `ERANGE`,
/// `EPROTONOSUPPORT`, `EOPNOTSUPP`, with Linux's sentences where it has one.
pub(super) fn decode(
    host: &dyn HostNet,
    kind: &str,
    attributes: &Attributes<'_>,
    data: Option<&Attributes<'_>>,
) -> Result<Layer, Failure> {
    match kind {
        "vlan" => vlan(host, attributes, data).map(Layer::Vlan),
        "bridge" => {
            let mut bridge = Bridge::default();
            let change = data.map(change).transpose()?.unwrap_or_default();
            bridge.ageing_time = change.ageing_time.unwrap_or(bridge.ageing_time);
            bridge.has_mac = attributes.bytes(libc::IFLA_ADDRESS).is_some();
            bridge.has_mtu = attributes.bytes(libc::IFLA_MTU).is_some();
            Ok(Layer::Bridge(bridge))
        }
        // Which one it is shows when both are there.
        "veth" => Ok(Layer::Pair(IfIndex(0))),
        _ => Ok(Layer::Device),
    }
}

fn vlan(
    host: &dyn HostNet,
    attributes: &Attributes<'_>,
    data: Option<&Attributes<'_>>,
) -> Result<Vlan, Failure> {
    let data = data.ok_or(text::VLAN_UNSPECIFIED)?;
    let protocol = match data.bytes(VLAN_PROTOCOL) {
        Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
        _ => TAGS[0],
    };
    if !TAGS.contains(&protocol) {
        return Err(text::VLAN_PROTOCOL);
    }
    let id = data.u16(VLAN_ID)?;
    if id.is_some_and(|id| id >= 4095) {
        return Err(text::VLAN_ID_INVALID);
    }
    // struct ifla_vlan_flags: the flags, and which of them are meant.
    if let Some(flags) = data.bytes(VLAN_FLAGS) {
        let word = |at: usize| flags.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let (Some(flags), Some(mask)) = (word(0), word(4)) else { return Err(text::VLAN_FLAGS) };
        let wanted = u32::from_ne_bytes(flags) & u32::from_ne_bytes(mask);
        if wanted | (REORDER_HDR & !u32::from_ne_bytes(mask)) != REORDER_HDR {
            return Err(text::VLAN_FLAGS);
        }
    }
    let id = id.ok_or(text::VLAN_ID_MISSING)?;
    let lower = attributes.u32(libc::IFLA_LINK)?.ok_or(text::LINK_LOWER_MISSING)?;
    let exists = host.interfaces().iter().any(|link| link.index.0 == lower);
    if !exists {
        return Err(text::LINK_LOWER_UNKNOWN);
    }
    Ok(Vlan { lower: IfIndex(lower), id, protocol })
}

/// Reads what is to change of a bridge. Errors: `EOPNOTSUPP` for what bridges do not have here.
pub(super) fn change(data: &Attributes<'_>) -> Result<LayerChange, Failure> {
    if data.u32(BR_STP_STATE)?.is_some_and(|state| state != 0) {
        return Err(text::BRIDGE_STP);
    }
    if data.u8(BR_VLAN_FILTERING)?.is_some_and(|on| on != 0) {
        return Err(text::BRIDGE_VLANS);
    }
    Ok(LayerChange {
        ageing_time: data.u32(BR_AGEING_TIME)?,
        flush: data.bytes(BR_FDB_FLUSH).is_some(),
    })
}

/// Encodes the `IFLA_INFO_DATA` of an interface that stands on others.
pub(super) fn data(link: &Interface) -> Option<InfoData> {
    match link.layer {
        Layer::Device | Layer::Pair(_) => None,
        Layer::Tunnel(tunnel) => Some(InfoData::Other(tunnel_data(&tunnel))),
        Layer::Vlan(vlan) => Some(InfoData::Vlan(vec![
            InfoVlan::Protocol(VlanProtocol::from(vlan.protocol)),
            InfoVlan::Id(vlan.id),
            InfoVlan::Flags((VlanFlags::ReorderHdr, VlanFlags::all())),
        ])),
        Layer::Bridge(bridge) => {
            let id = BridgeId { priority: 0x8000, address: link.mac };
            Some(InfoData::Bridge(vec![
                InfoBridge::ForwardDelay(1500),
                InfoBridge::HelloTime(200),
                InfoBridge::MaxAge(2000),
                InfoBridge::AgeingTime(bridge.ageing_time),
                InfoBridge::StpState(BridgeStpState::Disabled),
                InfoBridge::Priority(0x8000),
                InfoBridge::VlanFiltering(false),
                InfoBridge::BridgeId(id.clone()),
                InfoBridge::RootId(id),
                InfoBridge::RootPort(0),
                InfoBridge::RootPathCost(0),
                InfoBridge::GroupFwdMask(0),
                InfoBridge::GroupAddr([0x01, 0x80, 0xc2, 0, 0, 0]),
                InfoBridge::MulticastSnooping(false),
                InfoBridge::MulticastQuerier(false),
            ]))
        }
    }
}

/// The attributes `IFLA_TUN_*`.
fn tunnel_data(tunnel: &Tunnel) -> Vec<u8> {
    let mut data = Vec::new();
    let mut put = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        data.extend_from_slice(&length.to_ne_bytes());
        data.extend_from_slice(&kind.to_ne_bytes());
        data.extend_from_slice(value);
        data.resize(data.len().next_multiple_of(4), 0);
    };
    for (kind, id) in [(1, tunnel.owner), (2, tunnel.group)] {
        if let Some(id) = id {
            put(kind, &id.to_ne_bytes());
        }
    }
    put(3, &[if tunnel.kind == TunnelKind::Tun { 1 } else { 2 }]);
    put(4, &[u8::from(tunnel.info == PacketInfo::Present)]);
    // No header of virtio, one queue.
    put(5, &[0]);
    put(6, &[u8::from(tunnel.persistent)]);
    put(7, &[0]);
    data
}

/// Encodes what an interface is as a port of a bridge.
pub(super) fn port(link: &Interface) -> Vec<LinkInfo> {
    if link.master.is_none() {
        return Vec::new();
    }
    let data = InfoPortData::BridgePort(vec![
        InfoBridgePort::State(state(link)),
        InfoBridgePort::Priority(32),
        InfoBridgePort::Cost(100),
        InfoBridgePort::HairpinMode(false),
        InfoBridgePort::Learning(true),
        InfoBridgePort::UnicastFlood(true),
        InfoBridgePort::MulticastFlood(true),
        InfoBridgePort::BroadcastFlood(true),
    ]);
    vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)]
}

fn state(link: &Interface) -> BridgePortState {
    if link.is_running() { BridgePortState::Forwarding } else { BridgePortState::Disabled }
}

/// Encodes the `IFLA_PROTINFO` of a port (`bridge link`).
pub(super) fn protocol_info(link: &Interface) -> DefaultNla {
    const PROTINFO: u16 = 12;
    const NESTED: u16 = 0x8000;
    let port = InfoBridgePort::State(state(link));
    let list = [port, InfoBridgePort::Priority(32), InfoBridgePort::Cost(100)];
    let mut bytes = vec![0; netlink_packet_core::Emitable::buffer_len(&list.as_slice())];
    netlink_packet_core::Emitable::emit(&list.as_slice(), &mut bytes);
    DefaultNla::new(PROTINFO | NESTED, bytes)
}
