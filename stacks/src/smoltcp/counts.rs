//! What a stack counts of its protocols: `/proc/net/snmp`, `/proc/net/snmp6` (RFC 2011 to 2013,
//! RFC 4293, by Linux's names).

use netlink_emu::values::Snmp;

use super::{
    hash::Map,
    link::Outgoing,
    packet::{HEADROOM, ICMP, ICMPV6, IpHeader, TCP, UDP},
    tcp::segment::{RST, Segment},
};

/// The counters of one version of IP and of UDP on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IpCounts {
    /// Packets taken from links.
    pub(crate) received: u64,
    /// Those among them whose header is wrong.
    pub(crate) malformed: u64,
    /// Packets passed on.
    pub(crate) forwarded: u64,
    /// Packets handed to a protocol.
    pub(crate) delivered: u64,
    /// Packets of the stack's own.
    pub(crate) sent: u64,
    /// Datagrams handed to a socket.
    pub(crate) datagrams_in: u64,
    /// Datagrams for ports that nobody has.
    pub(crate) no_ports: u64,
    /// Datagrams sent.
    pub(crate) datagrams_out: u64,
}

/// The counters of TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TcpCounts {
    /// Connections begun here.
    pub(crate) active: u64,
    /// Connections accepted.
    pub(crate) passive: u64,
    /// Connections that were not established.
    pub(crate) failed: u64,
    /// Established connections that were reset.
    pub(crate) reset: u64,
    /// Segments received.
    pub(crate) segments_in: u64,
    /// Segments sent.
    pub(crate) segments_out: u64,
    /// Those among them that were sent again.
    pub(crate) retransmitted: u64,
    /// Resets sent.
    pub(crate) resets_out: u64,
}

/// All counters of a stack.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    versions: [IpCounts; 2],
    /// TCP over both versions.
    pub(crate) tcp: TcpCounts,
    /// ICMP messages: whether sent, whether ICMPv6, the type.
    icmp: Map<(bool, bool, u8), u64>,
}

impl Counts {
    /// The counters of IPv4 or IPv6.
    pub(crate) fn ip(&mut self, v6: bool) -> &mut IpCounts {
        &mut self.versions[usize::from(v6)]
    }

    /// A packet of the host's own leaves.
    pub(crate) fn sends(&mut self, packet: &Outgoing) {
        let ip = &packet.bytes[HEADROOM..];
        let Some(header) = IpHeader::parse(ip) else { return };
        let payload = ip.get(header.payload..).unwrap_or_default();
        let counts = self.ip(header.source.is_ipv6());
        counts.sent += 1;
        match header.protocol {
            UDP => counts.datagrams_out += 1,
            TCP => {
                let carried = payload.len().saturating_sub(20);
                let pieces = packet.segment.map_or(1, |size| carried.div_ceil(size.get().into()));
                self.tcp.segments_out += pieces.max(1) as u64;
                let resets = Segment::parse(payload).is_some_and(|segment| segment.is(RST, RST));
                self.tcp.resets_out += u64::from(resets);
            }
            ICMP | ICMPV6 => self.message(true, header.protocol, payload),
            _ => {}
        }
    }

    /// A packet is handed to its protocol.
    pub(crate) fn delivers(&mut self, header: &IpHeader, payload: &[u8]) {
        self.ip(header.source.is_ipv6()).delivered += 1;
        match header.protocol {
            TCP => self.tcp.segments_in += 1,
            ICMP | ICMPV6 => self.message(false, header.protocol, payload),
            _ => {}
        }
    }

    fn message(&mut self, sent: bool, protocol: u8, payload: &[u8]) {
        if let Some(kind) = payload.first() {
            *self.icmp.entry((sent, protocol == ICMPV6, *kind)).or_default() += 1;
        }
    }

    /// The counters by Linux's names.
    pub(crate) fn snmp(&self) -> Snmp {
        let mut snmp = Snmp::default();
        let [v4, v6] = &self.versions;
        for (group, udp, forwarded, counts) in
            [("Ip", "Udp", "ForwDatagrams", v4), ("Ip6", "Udp6", "OutForwDatagrams", v6)]
        {
            snmp.set(group, "InReceives", counts.received);
            snmp.set(group, "InHdrErrors", counts.malformed);
            snmp.set(group, forwarded, counts.forwarded);
            snmp.set(group, "InDelivers", counts.delivered);
            snmp.set(group, "OutRequests", counts.sent);
            snmp.set(group, "OutTransmits", counts.sent + counts.forwarded);
            snmp.set(udp, "InDatagrams", counts.datagrams_in);
            snmp.set(udp, "NoPorts", counts.no_ports);
            snmp.set(udp, "OutDatagrams", counts.datagrams_out);
        }
        let tcp = &self.tcp;
        for (name, value) in [
            ("ActiveOpens", tcp.active),
            ("PassiveOpens", tcp.passive),
            ("AttemptFails", tcp.failed),
            ("EstabResets", tcp.reset),
            ("InSegs", tcp.segments_in),
            ("OutSegs", tcp.segments_out),
            ("RetransSegs", tcp.retransmitted),
            ("OutRsts", tcp.resets_out),
        ] {
            snmp.set("Tcp", name, value);
        }
        for (sent, v6, name, kind) in MESSAGES {
            let messages = self.icmp.iter().filter(|((way, version, of), _)| {
                *way == *sent && *version == *v6 && kind.is_none_or(|kind| kind == *of)
            });
            let group = if *v6 { "Icmp6" } else { "Icmp" };
            snmp.set(group, name, messages.map(|(_, count)| count).sum());
        }
        snmp
    }
}

/// The counters of ICMP: whether of sent messages, whether of ICMPv6, the name, the type (none for
/// all).
#[rustfmt::skip]
const MESSAGES: &[(bool, bool, &str, Option<u8>)] = &[
    (false, false, "InMsgs", None),
    (false, false, "InEchoReps", Some(0)),
    (false, false, "InDestUnreachs", Some(3)),
    (false, false, "InRedirects", Some(5)),
    (false, false, "InEchos", Some(8)),
    (false, false, "InTimeExcds", Some(11)),
    (false, false, "InParmProbs", Some(12)),
    (true, false, "OutMsgs", None),
    (true, false, "OutEchoReps", Some(0)),
    (true, false, "OutDestUnreachs", Some(3)),
    (true, false, "OutRedirects", Some(5)),
    (true, false, "OutEchos", Some(8)),
    (true, false, "OutTimeExcds", Some(11)),
    (false, true, "InMsgs", None),
    (false, true, "InDestUnreachs", Some(1)),
    (false, true, "InPktTooBigs", Some(2)),
    (false, true, "InTimeExcds", Some(3)),
    (false, true, "InEchos", Some(128)),
    (false, true, "InEchoReplies", Some(129)),
    (false, true, "InRouterSolicits", Some(133)),
    (false, true, "InRouterAdvertisements", Some(134)),
    (false, true, "InNeighborSolicits", Some(135)),
    (false, true, "InNeighborAdvertisements", Some(136)),
    (false, true, "InRedirects", Some(137)),
    (true, true, "OutMsgs", None),
    (true, true, "OutDestUnreachs", Some(1)),
    (true, true, "OutPktTooBigs", Some(2)),
    (true, true, "OutTimeExcds", Some(3)),
    (true, true, "OutEchos", Some(128)),
    (true, true, "OutEchoReplies", Some(129)),
    (true, true, "OutRouterSolicits", Some(133)),
    (true, true, "OutNeighborSolicits", Some(135)),
    (true, true, "OutNeighborAdvertisements", Some(136)),
    (true, true, "OutRedirects", Some(137)),
];
