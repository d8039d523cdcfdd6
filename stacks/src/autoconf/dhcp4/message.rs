//! The messages of a DHCPv4 client (RFC 2131, RFC 2132, RFC 3442, RFC 4702), made and read.

use std::net::{IpAddr, Ipv4Addr};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder, Name,
    v4::{
        DhcpOption, Flags, Message, MessageType, Opcode, OptionCode,
        fqdn::{ClientFQDN, FqdnFlags},
    },
};
use netlink_emu::values::Prefix;

/// The lease that a server gives who says nothing of time.
const DEFAULT_LEASE: u32 = 3600;
/// The shortest lease that is believed.
const SHORTEST_LEASE: u32 = 10;
/// `infinity` of RFC 2131.
const FOREVER: u32 = u32::MAX;
/// Hardware type of Ethernet, in a client identifier.
const ETHERNET: u8 = 1;

/// What a client tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The hardware address.
    pub(crate) mac: [u8; 6],
    /// The name of the host.
    pub(crate) fqdn: Option<String>,
}

/// What a server gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The address.
    pub(crate) ip: Ipv4Addr,
    /// The length of its network's prefix.
    pub(crate) prefix: u8,
    /// Who gave it.
    pub(crate) server: Ipv4Addr,
    /// Routes: destination and router; an unspecified router is the link itself.
    pub(crate) routes: Vec<(Prefix, Ipv4Addr)>,
    /// Name servers.
    pub(crate) dns: Vec<IpAddr>,
    /// The domain of the host, then those to search.
    pub(crate) domains: Vec<String>,
    /// The MTU of the network.
    pub(crate) mtu: Option<u32>,
    /// Seconds until it ends, until it is to be renewed, and until any server may renew it.
    pub(crate) seconds: u32,
    pub(crate) renew: u32,
    pub(crate) rebind: u32,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It would give a lease.
    Offer(Lease),
    /// It gives a lease.
    Acknowledged(Lease),
    /// It does not.
    Refused,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who has an address?
    Discover,
    /// This one, offered by this server.
    Request(Ipv4Addr, Ipv4Addr),
    /// More time for this one, which is in use.
    Renew(Ipv4Addr),
    /// Somebody else has it.
    Decline(Ipv4Addr, Ipv4Addr),
    /// No longer needed.
    Release(Ipv4Addr, Ipv4Addr),
}

/// Makes a message. `seconds` have passed since the client began.
pub(crate) fn make(identity: &Identity, xid: u32, seconds: u16, ask: Ask) -> Option<Vec<u8>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, none, none, none, none, &identity.mac);
    message.set_opcode(Opcode::BootRequest).set_secs(seconds);
    let (kind, own, requested, server) = match ask {
        Ask::Discover => (MessageType::Discover, None, None, None),
        Ask::Request(ip, server) => (MessageType::Request, None, Some(ip), Some(server)),
        Ask::Renew(ip) => (MessageType::Request, Some(ip), None, None),
        Ask::Decline(ip, server) => (MessageType::Decline, None, Some(ip), Some(server)),
        Ask::Release(ip, server) => (MessageType::Release, Some(ip), None, Some(server)),
    };
    if let Some(own) = own {
        message.set_ciaddr(own);
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let id = [&[ETHERNET][..], &identity.mac].concat();
    options.insert(DhcpOption::ClientIdentifier(id));
    for option in requested
        .map(DhcpOption::RequestedIpAddress)
        .into_iter()
        .chain(server.map(DhcpOption::ServerIdentifier))
    {
        options.insert(option);
    }
    if !matches!(ask, Ask::Decline(..) | Ask::Release(..)) {
        options.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
        options.insert(DhcpOption::MaxMessageSize(1472));
        if let Some(fqdn) = &identity.fqdn {
            name_options(options, fqdn);
        }
        // The answer finds a host that has no address yet.
        message.set_flags(Flags::default());
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    // Old servers and relays want the size of BOOTP (RFC 1542, 2.1).
    bytes.resize(bytes.len().max(300), 0);
    Some(bytes)
}

const WANTED: [OptionCode; 10] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::DomainSearch,
    OptionCode::InterfaceMtu,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

fn name_options(options: &mut dhcproto::v4::DhcpOptions, fqdn: &str) {
    let host = fqdn.split('.').next().unwrap_or(fqdn);
    options.insert(DhcpOption::Hostname(host.to_owned()));
    if let Ok(name) = fqdn.parse::<Name>() {
        // In the form of DNS; the server updates both ways.
        let flags = FqdnFlags::default().set_e(true).set_s(true);
        options.insert(DhcpOption::ClientFQDN(ClientFQDN::new(flags, name)));
    }
}

/// Reads the answer of a server to the message `xid` of a client; None for what is none.
pub(crate) fn read(bytes: &[u8], identity: &Identity, xid: u32) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    let is_ours = message.opcode() == Opcode::BootReply
        && message.xid() == xid
        // The field has 16 bytes; a length beyond would have dhcproto panic.
        && usize::from(message.hlen()) == identity.mac.len()
        && message.chaddr() == identity.mac;
    if !is_ours {
        return None;
    }
    match message.opts().msg_type()? {
        MessageType::Offer => lease(&message).map(Reply::Offer),
        MessageType::Ack => lease(&message).map(Reply::Acknowledged),
        MessageType::Nak => Some(Reply::Refused),
        _ => None,
    }
}

fn lease(message: &Message) -> Option<Lease> {
    let options = message.opts();
    let ip = message.yiaddr();
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_loopback() {
        return None;
    }
    let number = |code| match options.get(code) {
        Some(
            DhcpOption::AddressLeaseTime(seconds)
            | DhcpOption::Renewal(seconds)
            | DhcpOption::Rebinding(seconds),
        ) => Some(*seconds),
        _ => None,
    };
    let prefix = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => mask_length(*mask)?,
        _ => class_length(ip),
    };
    let server = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => message.siaddr(),
    };
    let dns = match options.get(OptionCode::DomainNameServer) {
        Some(DhcpOption::DomainNameServer(servers)) => {
            servers.iter().copied().map(IpAddr::V4).collect()
        }
        _ => Vec::new(),
    };
    let mtu = match options.get(OptionCode::InterfaceMtu) {
        Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= 576 => Some(u32::from(*mtu)),
        _ => None,
    };
    let seconds = number(OptionCode::AddressLeaseTime).unwrap_or(DEFAULT_LEASE).max(SHORTEST_LEASE);
    let (renew, rebind) =
        times(seconds, number(OptionCode::Renewal), number(OptionCode::Rebinding));
    let routes = routes(message);
    Some(Lease {
        ip,
        prefix,
        server,
        routes,
        dns,
        domains: domains(message),
        mtu,
        seconds,
        renew,
        rebind,
    })
}

/// When to renew and when to rebind (RFC 2131, 4.4.5): what the server says, if that makes sense.
fn times(seconds: u32, renew: Option<u32>, rebind: Option<u32>) -> (u32, u32) {
    if seconds == FOREVER {
        return (FOREVER, FOREVER);
    }
    let usual = u32::try_from(u64::from(seconds) * 7 / 8).unwrap_or(seconds);
    let rebind = rebind.filter(|rebind| (1..seconds).contains(rebind)).unwrap_or(usual);
    let renew = renew.filter(|renew| (1..=rebind).contains(renew));
    (renew.unwrap_or((seconds / 2).min(rebind)), rebind)
}

/// Routes: the classless ones rule out the plain router (RFC 3442).
fn routes(message: &Message) -> Vec<(Prefix, Ipv4Addr)> {
    let options = message.opts();
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        options.get(OptionCode::ClasslessStaticRoute)
    {
        let route = |(net, router): &(ipnet::Ipv4Net, Ipv4Addr)| {
            (Prefix::new(net.network().into(), net.prefix_len()), *router)
        };
        return routes.iter().map(route).collect();
    }
    match options.get(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => {
            let any = Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            routers.first().map(|router| (any, *router)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn domains(message: &Message) -> Vec<String> {
    let options = message.opts();
    let mut domains = Vec::new();
    if let Some(DhcpOption::DomainName(domain)) = options.get(OptionCode::DomainName) {
        domains.extend(domain.trim_end_matches('\0').split_whitespace().map(str::to_owned));
    }
    if let Some(DhcpOption::DomainSearch(search)) = options.get(OptionCode::DomainSearch) {
        domains.extend(search.iter().map(plain_name));
    }
    domains
}

/// A name without the dot at its end.
pub(crate) fn plain_name(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn mask_length(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let length = bits.leading_ones();
    (bits.count_ones() == length).then(|| u8::try_from(length).unwrap_or(32))
}

/// The prefix length of the old classes, for servers that give no mask.
fn class_length(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { mac: [2, 0, 0, 0, 0, 7], fqdn: Some("one.test.local".to_owned()) }
    }

    fn answer(kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let given = Ipv4Addr::new(10, 0, 0, 5);
        let mut message = Message::new_with_id(9, none, given, none, none, &identity().mac);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).expect("encodes");
        bytes
    }

    fn leased(options: Vec<DhcpOption>) -> Lease {
        match read(&answer(MessageType::Ack, options), &identity(), 9) {
            Some(Reply::Acknowledged(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_carry_what_servers_need() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let ask = Ask::Request(Ipv4Addr::new(10, 0, 0, 5), server);
        let bytes = make(&identity(), 9, 3, ask).expect("encodes");
        let message = Message::decode(&mut Decoder::new(&bytes)).expect("decodes");
        assert_eq!(message.opts().msg_type(), Some(MessageType::Request));
        assert!(message.opts().contains(OptionCode::RequestedIpAddress));
        assert!(message.opts().contains(OptionCode::ServerIdentifier));
        assert!(message.ciaddr().is_unspecified());
        assert!(bytes.len() >= 300);
        // RFC 2131, 4.3.2: a renewal has the address in ciaddr and names no server.
        let bytes = make(&identity(), 9, 0, Ask::Renew(server)).expect("encodes");
        let message = Message::decode(&mut Decoder::new(&bytes)).expect("decodes");
        assert_eq!(message.ciaddr(), server);
        assert!(!message.opts().contains(OptionCode::RequestedIpAddress));
        assert!(!message.opts().contains(OptionCode::ServerIdentifier));
    }

    #[test]
    fn leases_have_times_even_from_servers_that_give_none() {
        let lease = leased(vec![]);
        assert_eq!((lease.seconds, lease.renew, lease.rebind), (3600, 1800, 3150));
        let lease = leased(vec![DhcpOption::AddressLeaseTime(120), DhcpOption::Renewal(500)]);
        assert_eq!((lease.seconds, lease.renew, lease.rebind), (120, 60, 105));
        let lease = leased(vec![DhcpOption::AddressLeaseTime(FOREVER)]);
        assert_eq!((lease.renew, lease.rebind), (FOREVER, FOREVER));
        assert_eq!(lease.prefix, 8);
    }

    #[test]
    fn classless_routes_rule_out_the_router() {
        let router = Ipv4Addr::new(10, 0, 0, 1);
        let mask = DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 254, 0));
        let lease = leased(vec![mask.clone(), DhcpOption::Router(vec![router])]);
        assert_eq!(lease.prefix, 23);
        assert_eq!(lease.routes, [(Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0), router)]);
        let net = ipnet::Ipv4Net::new(Ipv4Addr::new(10, 7, 0, 0), 16).expect("a prefix");
        let classless = DhcpOption::ClasslessStaticRoute(vec![(net, router)]);
        let lease = leased(vec![mask, DhcpOption::Router(vec![router]), classless]);
        assert_eq!(lease.routes, [(Prefix::new(Ipv4Addr::new(10, 7, 0, 0).into(), 16), router)]);
    }

    #[test]
    fn answers_to_others_are_not_ours() {
        let bytes = answer(MessageType::Nak, vec![]);
        assert_eq!(read(&bytes, &identity(), 9), Some(Reply::Refused));
        let mut long = bytes.clone();
        long[2] = 0xff;
        assert_eq!(read(&long, &identity(), 9), None, "a hardware address that does not fit");
        assert_eq!(read(&bytes, &identity(), 8), None);
        let other = Identity { mac: [2, 0, 0, 0, 0, 8], fqdn: None };
        assert_eq!(read(&bytes, &other, 9), None);
        let wild = DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0));
        assert_eq!(read(&answer(MessageType::Ack, vec![wild]), &identity(), 9), None);
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut], &identity(), 9);
        }
    }
}
