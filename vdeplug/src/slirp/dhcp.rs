//! The DHCP server (RFC 2131, RFC 2132): one pool, leases by hardware address.

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder, Name,
    v4::{DhcpOption, DhcpOptions, Message, MessageType, Opcode, OptionCode},
};
use smoltcp::time::{Duration, Instant};

use super::options::{Config, V4};
use crate::ip::hash::Map;

/// The ports of server and client.
pub(super) const SERVER: u16 = 67;
pub(super) const CLIENT: u16 = 68;

/// Seconds of a lease, and of an offer that nobody takes.
const LEASE: u32 = 86_400;
const OFFER: Duration = Duration::from_secs(60);
/// Leases there can be at most, however large the network.
const MOST: u32 = 4096;

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_client: Map<[u8; 6], Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ip: Ipv4Addr,
    until: Instant,
}

/// What the server says, and to whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) to: Ipv4Addr,
    pub(super) mac: [u8; 6],
    pub(super) bytes: Vec<u8>,
}

impl Leases {
    /// Answers a message; None for what needs no answer, or deserves none.
    pub(super) fn answer(
        &mut self,
        config: &Config,
        v4: &V4,
        bytes: &[u8],
        now: Instant,
    ) -> Option<Answer> {
        let request = Message::decode(&mut Decoder::new(bytes)).ok()?;
        // The field has 16 bytes; a length beyond would have dhcproto panic.
        if request.opcode() != Opcode::BootRequest || request.hlen() != 6 {
            return None;
        }
        let mac: [u8; 6] = request.chaddr().try_into().ok()?;
        let options = request.opts();
        let server = match options.get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        };
        // Who has chosen another server does not want an answer of this one.
        let elsewhere = server.is_some_and(|server| server != v4.host);
        let wanted = match options.get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(ip)) => Some(*ip),
            _ => Some(request.ciaddr()).filter(|ip| !ip.is_unspecified()),
        };
        match options.msg_type() {
            // BOOTP has no types: it takes the address for good.
            None | Some(MessageType::Discover) => {
                let ip = self.choose(v4, mac, wanted, now)?;
                let bootp = options.msg_type().is_none();
                let time = if bootp { Duration::from_secs(LEASE.into()) } else { OFFER };
                self.by_client.insert(mac, Lease { ip, until: now + time });
                let kind = (!bootp).then_some(MessageType::Offer);
                reply(&request, mac, kind, Some(ip), (config, v4))
            }
            Some(MessageType::Request) if elsewhere => {
                self.by_client.remove(&mac);
                None
            }
            Some(MessageType::Request) => {
                let wanted = wanted?;
                let given = self.choose(v4, mac, Some(wanted), now).filter(|ip| *ip == wanted);
                let kind = match given {
                    Some(ip) => {
                        let until = now + Duration::from_secs(LEASE.into());
                        self.by_client.insert(mac, Lease { ip, until });
                        MessageType::Ack
                    }
                    None => MessageType::Nak,
                };
                reply(&request, mac, Some(kind), given, (config, v4))
            }
            Some(MessageType::Inform) => {
                reply(&request, mac, Some(MessageType::Ack), None, (config, v4))
            }
            Some(MessageType::Release) if !elsewhere => {
                self.by_client.remove(&mac);
                None
            }
            Some(MessageType::Decline) if !elsewhere => {
                // Somebody has it who never asked: nobody else gets it for a while.
                if let Some(lease) = self.by_client.remove(&mac) {
                    let [_, a, b, c] = lease.ip.octets();
                    let until = now + Duration::from_secs(600);
                    self.by_client.insert([0, 0, 0, a, b, c], Lease { until, ..lease });
                }
                None
            }
            _ => None,
        }
    }

    /// The address for a client: what it has, what it wants if that is free, or the next free one.
    fn choose(
        &mut self,
        v4: &V4,
        mac: [u8; 6],
        wanted: Option<Ipv4Addr>,
        now: Instant,
    ) -> Option<Ipv4Addr> {
        self.by_client.retain(|_, lease| lease.until > now);
        if let Some(lease) = self.by_client.get(&mac) {
            return Some(lease.ip);
        }
        let first = u32::from(v4.dhcp);
        let last = u32::from(v4.net.broadcast()).min(first.saturating_add(MOST));
        let taken: std::collections::HashSet<_> =
            self.by_client.values().map(|lease| u32::from(lease.ip)).collect();
        let is_free = |ip: &u32| {
            (first..last).contains(ip)
                && *ip != u32::from(v4.host)
                && *ip != u32::from(v4.dns)
                && !taken.contains(ip)
        };
        let wanted = wanted.map(u32::from).filter(is_free);
        wanted.or_else(|| (first..last).find(is_free)).map(Ipv4Addr::from)
    }
}

fn reply(
    request: &Message,
    mac: [u8; 6],
    kind: Option<MessageType>,
    ip: Option<Ipv4Addr>,
    (config, v4): (&Config, &V4),
) -> Option<Answer> {
    let none = Ipv4Addr::UNSPECIFIED;
    let refused = kind == Some(MessageType::Nak);
    let yours = ip.unwrap_or(none);
    let mut message = Message::new_with_id(request.xid(), none, yours, none, none, &mac);
    message.set_opcode(Opcode::BootReply).set_flags(request.flags());
    let options = message.opts_mut();
    options.insert(DhcpOption::ServerIdentifier(v4.host));
    options.extend_with(kind.map(DhcpOption::MessageType));
    if !refused {
        message.set_ciaddr(request.ciaddr()).set_siaddr(v4.host);
        if let Some(file) = &config.names.boot_file {
            message.set_fname(file.as_bytes().get(..127).unwrap_or(file.as_bytes()));
        }
        let options = message.opts_mut();
        configure(options, config, v4);
        if kind.is_some() && ip.is_some() {
            options.insert(DhcpOption::AddressLeaseTime(LEASE));
        }
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    bytes.resize(bytes.len().max(300), 0);
    let broadcast = refused || request.flags().broadcast();
    let to = match (broadcast, request.ciaddr(), ip) {
        (false, ciaddr, _) if !ciaddr.is_unspecified() => ciaddr,
        (false, _, Some(ip)) => ip,
        _ => Ipv4Addr::BROADCAST,
    };
    Some(Answer { to, mac, bytes })
}

fn configure(options: &mut DhcpOptions, config: &Config, v4: &V4) {
    let names = &config.names;
    let search: Vec<Name> = names.search.iter().filter_map(|name| name.parse().ok()).collect();
    options.insert(DhcpOption::SubnetMask(v4.net.netmask()));
    options.insert(DhcpOption::BroadcastAddr(v4.net.broadcast()));
    options.insert(DhcpOption::Router(vec![v4.host]));
    options.insert(DhcpOption::DomainNameServer(vec![v4.dns]));
    let mtu = u16::try_from(config.mtu).ok().filter(|mtu| *mtu != 1500);
    options.extend_with(mtu.map(DhcpOption::InterfaceMtu));
    options.extend_with(names.host.clone().map(DhcpOption::Hostname));
    options.extend_with(names.domain.clone().map(DhcpOption::DomainName));
    options.extend_with((!search.is_empty()).then_some(DhcpOption::DomainSearch(search)));
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    options.extend_with(bytes(&names.tftp_server).map(DhcpOption::TFTPServerName));
    options.extend_with(bytes(&names.boot_file).map(DhcpOption::BootfileName));
}

trait ExtendWith {
    fn extend_with(&mut self, option: Option<DhcpOption>);
}

impl ExtendWith for DhcpOptions {
    fn extend_with(&mut self, option: Option<DhcpOption>) {
        if let Some(option) = option {
            self.insert(option);
        }
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::Flags;

    use super::*;

    struct Client<'a> {
        leases: &'a mut Leases,
        mac: u8,
        now: u32,
    }

    impl Client<'_> {
        fn ask(&mut self, kind: MessageType, wanted: Option<&str>) -> Option<Message> {
            let config = Config::of(&"slirp:///mtu=1400".parse().expect("a locator"));
            let config = config.expect("a configuration");
            let none = Ipv4Addr::UNSPECIFIED;
            let mut message = Message::new_with_id(7, none, none, none, none, &[self.mac; 6]);
            message.set_opcode(Opcode::BootRequest).set_flags(Flags::default());
            message.opts_mut().insert(DhcpOption::MessageType(kind));
            let wanted = wanted.map(|ip| ip.parse().expect("literal"));
            message.opts_mut().extend_with(wanted.map(DhcpOption::RequestedIpAddress));
            let mut bytes = Vec::new();
            message.encode(&mut Encoder::new(&mut bytes)).expect("a message");
            let now = Instant::from_secs(self.now);
            let v4 = config.v4.expect("IPv4");
            let answer = self.leases.answer(&config, &v4, &bytes, now)?;
            Some(Message::decode(&mut Decoder::new(&answer.bytes)).expect("a message"))
        }

        fn address(&mut self, kind: MessageType, wanted: Option<&str>) -> Option<String> {
            self.ask(kind, wanted).map(|message| message.yiaddr().to_string())
        }
    }

    #[test]
    fn each_client_has_an_address_of_its_own_and_keeps_it() {
        let mut leases = Leases::default();
        for _ in 0..2 {
            for mac in [1, 2] {
                let mut client = Client { leases: &mut leases, mac, now: 1 };
                let expected = format!("10.0.2.{}", 14 + mac);
                assert_eq!(client.address(MessageType::Discover, None), Some(expected.clone()));
                let given = client.ask(MessageType::Request, Some(&expected)).expect("an answer");
                assert_eq!(given.opts().msg_type(), Some(MessageType::Ack));
                let mtu = given.opts().get(OptionCode::InterfaceMtu);
                assert_eq!(mtu, Some(&DhcpOption::InterfaceMtu(1400)));
            }
        }
    }

    #[test]
    fn what_another_has_is_refused_until_it_is_free() {
        let mut leases = Leases::default();
        let mut first = Client { leases: &mut leases, mac: 1, now: 1 };
        first.ask(MessageType::Request, Some("10.0.2.40"));
        let mut second = Client { leases: &mut leases, mac: 2, now: 1 };
        let refused = second.ask(MessageType::Request, Some("10.0.2.40")).expect("an answer");
        assert_eq!(refused.opts().msg_type(), Some(MessageType::Nak));
        second.now = 1 + LEASE;
        let given = second.ask(MessageType::Request, Some("10.0.2.40")).expect("an answer");
        assert_eq!(given.opts().msg_type(), Some(MessageType::Ack));
        // Neither the router nor anything outside of the network is given away.
        let mut third = Client { leases: &mut leases, mac: 3, now: 1 };
        for wanted in ["10.0.2.2", "10.0.3.1", "10.0.2.255"] {
            let kind = MessageType::Discover;
            assert_eq!(third.address(kind, Some(wanted)).as_deref(), Some("10.0.2.15"));
        }
    }

    #[test]
    fn the_pool_ends() {
        let mut leases = Leases::default();
        for mac in 0..=255 {
            Client { leases: &mut leases, mac, now: 1 }.ask(MessageType::Discover, None);
        }
        assert_eq!(leases.by_client.len(), 240);
        let mut late = Client { leases: &mut leases, mac: 255, now: 1 };
        assert_eq!(late.ask(MessageType::Discover, None), None);
    }

    #[test]
    fn garbage_is_not_answered() {
        let config = Config::of(&"slirp://".parse().expect("a locator")).expect("right");
        let v4 = config.v4.expect("IPv4");
        for length in 0..400 {
            let bytes =
                vec![1, 1, 0xff].into_iter().chain([1; 400]).take(length).collect::<Vec<u8>>();
            let answer = Leases::default().answer(&config, &v4, &bytes, Instant::from_secs(1));
            assert_eq!(answer, None, "its hardware address is longer than its field");
            let bytes = vec![6; length];
            let answer = Leases::default().answer(&config, &v4, &bytes, Instant::from_secs(1));
            assert_eq!(answer, None);
        }
    }
}
