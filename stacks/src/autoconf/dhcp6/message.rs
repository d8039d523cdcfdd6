//! The messages of a DHCPv6 client (RFC 8415, RFC 3646, RFC 4704), made and read.

use std::net::{IpAddr, Ipv6Addr};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v6::{
        DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status,
        UnknownOption,
    },
};

use super::super::dhcp4::message::{Identity, plain_name};

/// A lifetime without end.
const FOREVER: u32 = u32::MAX;
/// The option of RFC 4704, and its flag that has the server update the DNS.
const CLIENT_FQDN: u16 = 39;
const SERVER_UPDATES: u8 = 1;
/// The longest name of DNS on the wire.
const LONGEST_NAME: usize = 255;

/// An address and its lifetimes in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) ip: Ipv6Addr,
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
}

/// What a server gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The addresses.
    pub(crate) addresses: Vec<Given>,
    /// The identifier of the server.
    pub(crate) server: Vec<u8>,
    /// Name servers.
    pub(crate) dns: Vec<IpAddr>,
    /// Domains to search.
    pub(crate) domains: Vec<String>,
    /// Seconds until all of it ends, until it is to be renewed, and until any server may renew it.
    pub(crate) seconds: u32,
    pub(crate) renew: u32,
    pub(crate) rebind: u32,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It would give a lease.
    Advertised(Lease),
    /// It gives a lease.
    Given(Lease),
    /// It gives none, and says why.
    Refused(String),
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask<'a> {
    /// Who has addresses?
    Solicit,
    /// These, advertised.
    Request(&'a Lease),
    /// More time, from who gave them.
    Renew(&'a Lease),
    /// More time, from anybody.
    Rebind(&'a Lease),
    /// Somebody else has them.
    Decline(&'a Lease),
    /// No longer needed.
    Release(&'a Lease),
}

/// Makes a message. `hundredths` of a second have passed since the exchange began.
pub(crate) fn make(
    identity: &Identity,
    xid: [u8; 3],
    hundredths: u16,
    ask: Ask<'_>,
) -> Option<Vec<u8>> {
    let (kind, lease, names_server) = match ask {
        Ask::Solicit => (MessageType::Solicit, None, false),
        Ask::Request(lease) => (MessageType::Request, Some(lease), true),
        Ask::Renew(lease) => (MessageType::Renew, Some(lease), true),
        Ask::Rebind(lease) => (MessageType::Rebind, Some(lease), false),
        Ask::Decline(lease) => (MessageType::Decline, Some(lease), true),
        Ask::Release(lease) => (MessageType::Release, Some(lease), true),
    };
    let mut message = Message::new_with_id(kind, xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(client_id(identity)));
    if let Some(lease) = lease.filter(|_| names_server) {
        options.insert(DhcpOption::ServerId(lease.server.clone()));
    }
    let mut addresses = DhcpOptions::new();
    for given in lease.map(|lease| lease.addresses.as_slice()).unwrap_or_default() {
        addresses.insert(DhcpOption::IAAddr(IAAddr {
            addr: given.ip,
            preferred_life: 0,
            valid_life: 0,
            opts: DhcpOptions::new(),
        }));
    }
    options.insert(DhcpOption::IANA(IANA {
        id: association(identity),
        t1: 0,
        t2: 0,
        opts: addresses,
    }));
    options.insert(DhcpOption::ElapsedTime(hundredths));
    if !matches!(ask, Ask::Decline(_) | Ask::Release(_)) {
        let wanted =
            [OptionCode::DomainNameServers, OptionCode::DomainSearchList, OptionCode::ClientFqdn];
        options.insert(DhcpOption::ORO(ORO { opts: wanted.to_vec() }));
        if let Some(name) = identity.fqdn.as_deref().and_then(wire_name) {
            let data = [&[SERVER_UPDATES][..], &name].concat();
            let code = OptionCode::from(CLIENT_FQDN);
            options.insert(DhcpOption::Unknown(UnknownOption::new(code, data)));
        }
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    Some(bytes)
}

/// The identifier of the client: DUID-LL.
fn client_id(identity: &Identity) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &identity.mac].concat()
}

/// The identifier of the interface's association, which stays the same.
fn association(identity: &Identity) -> u32 {
    let [_, _, a, b, c, d] = identity.mac;
    u32::from_be_bytes([a, b, c, d])
}

/// A name in the form of DNS.
fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= LONGEST_NAME).then_some(wire)
}

/// Reads the answer of a server to the message `xid` of a client; None for what is none.
pub(crate) fn read(bytes: &[u8], identity: &Identity, xid: [u8; 3]) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    let options = message.opts();
    let is_ours = message.xid() == xid
        && matches!(options.get(OptionCode::ClientId), Some(DhcpOption::ClientId(id)) if *id == client_id(identity));
    let Some(DhcpOption::ServerId(server)) = options.get(OptionCode::ServerId).filter(|_| is_ours)
    else {
        return None;
    };
    let association = options.get_all(OptionCode::IANA).unwrap_or_default().iter().find_map(
        |option| match option {
            DhcpOption::IANA(one) if one.id == association(identity) => Some(one),
            _ => None,
        },
    );
    let problem = problem(options).or_else(|| problem(&association?.opts));
    let lease = association.and_then(|association| lease(association, options, server));
    match (message.msg_type(), lease, problem) {
        (MessageType::Advertise, Some(lease), None) => Some(Reply::Advertised(lease)),
        (MessageType::Reply, Some(lease), None) => Some(Reply::Given(lease)),
        (MessageType::Advertise | MessageType::Reply, _, problem) => {
            Some(Reply::Refused(problem.unwrap_or_else(|| "no address given".to_owned())))
        }
        _ => None,
    }
}

/// What a status code says, unless it is success.
fn problem(options: &DhcpOptions) -> Option<String> {
    match options.get(OptionCode::StatusCode)? {
        DhcpOption::StatusCode(code) if code.status == Status::Success => None,
        DhcpOption::StatusCode(code) if code.msg.is_empty() => Some(format!("{:?}", code.status)),
        DhcpOption::StatusCode(code) => Some(code.msg.clone()),
        _ => None,
    }
}

fn lease(association: &IANA, options: &DhcpOptions, server: &[u8]) -> Option<Lease> {
    let given = association.opts.get_all(OptionCode::IAAddr).unwrap_or_default().iter();
    let addresses: Vec<Given> = given
        .filter_map(|option| match option {
            DhcpOption::IAAddr(one) if usable(one) => {
                Some(Given { ip: one.addr, preferred: one.preferred_life, valid: one.valid_life })
            }
            _ => None,
        })
        .collect();
    let seconds = addresses.iter().map(|given| given.valid).min()?;
    let preferred = addresses.iter().map(|given| given.preferred).min()?;
    let (renew, rebind) = times(association.t1, association.t2, preferred, seconds);
    let dns = match options.get(OptionCode::DomainNameServers) {
        Some(DhcpOption::DomainNameServers(servers)) => {
            servers.iter().copied().map(IpAddr::V6).collect()
        }
        _ => Vec::new(),
    };
    let domains = match options.get(OptionCode::DomainSearchList) {
        Some(DhcpOption::DomainSearchList(names)) => names.iter().map(plain_name).collect(),
        _ => Vec::new(),
    };
    Some(Lease { addresses, server: server.to_vec(), dns, domains, seconds, renew, rebind })
}

fn usable(one: &IAAddr) -> bool {
    let ip = one.addr;
    one.valid_life > 0
        && one.preferred_life <= one.valid_life
        && !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback())
}

/// When to renew and when to rebind: what the server says, else half and four fifths of the
/// preferred lifetime (RFC 8415, 21.4).
fn times(t1: u32, t2: u32, preferred: u32, valid: u32) -> (u32, u32) {
    if preferred == FOREVER {
        return (FOREVER, FOREVER);
    }
    let base = if preferred == 0 { valid } else { preferred };
    let part = |tenths: u64| u32::try_from(u64::from(base) * tenths / 10).unwrap_or(base).max(1);
    let rebind = if t2 == 0 { part(8) } else { t2.min(valid) };
    let renew = if t1 == 0 { part(5) } else { t1 };
    (renew.min(rebind), rebind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { mac: [2, 0, 0, 0, 0, 7], fqdn: Some("one.test.local".to_owned()) }
    }

    fn reply(kind: MessageType, t1: u32, valid: u32) -> Vec<u8> {
        let mut message = Message::new_with_id(kind, [1, 2, 3]);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(client_id(&identity())));
        options.insert(DhcpOption::ServerId(vec![9; 10]));
        let mut inner = DhcpOptions::new();
        let addr = "fd00::5".parse().expect("literal");
        inner.insert(DhcpOption::IAAddr(IAAddr {
            addr,
            preferred_life: valid,
            valid_life: valid,
            opts: DhcpOptions::new(),
        }));
        options.insert(DhcpOption::IANA(IANA {
            id: association(&identity()),
            t1,
            t2: 0,
            opts: inner,
        }));
        options.insert(DhcpOption::DomainNameServers(vec!["fd00::1".parse().expect("literal")]));
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).expect("encodes");
        bytes
    }

    #[test]
    fn leases_are_read_with_their_times() {
        let Some(Reply::Given(lease)) =
            read(&reply(MessageType::Reply, 0, 100), &identity(), [1, 2, 3])
        else {
            panic!("a lease")
        };
        assert_eq!((lease.renew, lease.rebind, lease.seconds), (50, 80, 100));
        assert_eq!((lease.addresses.len(), lease.dns.len()), (1, 1));
        let advertised = read(&reply(MessageType::Advertise, 10, 100), &identity(), [1, 2, 3]);
        assert!(matches!(advertised, Some(Reply::Advertised(lease)) if lease.renew == 10));
        let dead = read(&reply(MessageType::Reply, 0, 0), &identity(), [1, 2, 3]);
        assert!(matches!(dead, Some(Reply::Refused(_))));
    }

    #[test]
    fn answers_to_others_are_not_ours() {
        let bytes = reply(MessageType::Reply, 0, 100);
        assert_eq!(read(&bytes, &identity(), [1, 2, 4]), None);
        let other = Identity { mac: [2, 0, 0, 0, 0, 8], fqdn: None };
        assert_eq!(read(&bytes, &other, [1, 2, 3]), None);
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut], &identity(), [1, 2, 3]);
        }
    }

    #[test]
    fn requests_carry_what_servers_need() {
        let Some(Reply::Given(lease)) =
            read(&reply(MessageType::Reply, 0, 100), &identity(), [1, 2, 3])
        else {
            panic!("a lease")
        };
        let kinds = [
            (Ask::Solicit, false, false),
            (Ask::Request(&lease), true, true),
            (Ask::Rebind(&lease), false, true),
            (Ask::Release(&lease), true, true),
        ];
        for (ask, names_server, has_address) in kinds {
            let bytes = make(&identity(), [1, 2, 3], 0, ask).expect("encodes");
            let message = Message::decode(&mut Decoder::new(&bytes)).expect("decodes");
            let options = message.opts();
            assert_eq!(options.get(OptionCode::ServerId).is_some(), names_server, "{ask:?}");
            let Some(DhcpOption::IANA(association)) = options.get(OptionCode::IANA) else {
                panic!("{ask:?}")
            };
            assert_eq!(association.opts.get(OptionCode::IAAddr).is_some(), has_address);
            // The name, in the form of DNS.
            let has_name = bytes.windows(5).any(|window| window == b"\x01\x03one");
            assert_eq!(has_name, !matches!(ask, Ask::Release(_)));
        }
        assert_eq!(wire_name("a..b"), None);
    }
}
