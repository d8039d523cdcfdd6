//! Hostile bytes on a small stack: what fuzz targets and property tests share.
//!
//! Nothing here may panic, whatever the bytes are; answers are framed soundly and bounded.

use std::sync::Arc;

use umvu_abi::{
    net::{DatagramSocket, SendControl, SocketEvents},
    tree::{Entry, Tree},
};

use crate::{
    interface_ioctl,
    netlink::{self, messages_of},
    proc,
    sysfs::sys_class_net,
    testing::{Count, Lab, row},
    values::{SocketTable, TcpState},
};

/// One netlink message: type, flags, and the payload behind the header.
pub type Message = (u16, u16, Vec<u8>);

/// More than all that one socket may hold for its reader: a receive buffer and a dump.
const MOST_ANSWERED: usize = 1 << 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// Sends messages, and then `tail` as it is, to a socket of each protocol of one stack.
pub fn netlink(messages: &[Message], tail: &[u8]) {
    let lab = lab();
    let sockets = [
        libc::NETLINK_ROUTE,
        libc::NETLINK_SOCK_DIAG,
        libc::NETLINK_GENERIC,
        libc::NETLINK_KOBJECT_UEVENT,
    ]
    .map(|protocol| {
        let events: Arc<dyn SocketEvents> = Arc::new(Count::default());
        let socket = netlink::open(protocol, lab.host(), &lab.hub, events);
        let socket = socket.expect("a known protocol");
        let on = 1i32.to_ne_bytes();
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &on);
        for group in 1i32..32 {
            let group = group.to_ne_bytes();
            let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group);
        }
        socket
    });
    let strict = messages.first().is_some_and(|(kind, ..)| kind & 0x100 != 0);
    let strict = i32::from(strict).to_ne_bytes();
    for socket in &sockets {
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &strict);
        for (kind, flags, payload) in messages {
            tell(socket.as_ref(), &framed(kind & 0xff, flags | REQUEST, payload));
        }
        tell(socket.as_ref(), tail);
    }
    show(&lab);
}

/// Makes interface requests, as low bytes of their numbers and arguments.
pub fn ioctls(calls: &[(u8, Vec<u8>)]) {
    let lab = lab();
    for (request, argument) in calls {
        let mut argument = argument.clone();
        let room = argument.len();
        let _ = interface_ioctl(lab.host().as_ref(), 0x8900 | u32::from(*request), &mut argument);
        assert!(argument.len() <= room, "an answer larger than its buffer");
    }
    show(&lab);
}

/// A stack with interfaces, addresses, routes and sockets to be told of.
fn lab() -> Arc<Lab> {
    let lab = Lab::ready();
    let listening = row("0.0.0.0:80", "0.0.0.0:0", TcpState::Listen);
    let joined = row("[fc00::1]:80", "[fc00::2]:4000", TcpState::Established);
    lab.rows.lock().extend([(SocketTable::Tcp, listening), (SocketTable::Tcp, joined)]);
    lab
}

fn framed(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
    let mut data = length.to_ne_bytes().to_vec();
    data.extend_from_slice(&kind.to_ne_bytes());
    data.extend_from_slice(&flags.to_ne_bytes());
    data.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    data.extend_from_slice(payload);
    data
}

/// Sends a datagram and reads what comes back.
fn tell(socket: &dyn DatagramSocket, data: &[u8]) {
    let sent = socket.send(data, None, &SendControl::default());
    assert_eq!(sent, Ok(data.len()));
    let mut answered = 0;
    while let Some(datagram) = socket.receive() {
        answered += datagram.data.len().max(1);
        assert!(answered < MOST_ANSWERED, "an answer without end");
        assert_eq!(messages_of(&datagram.data), datagram.data.len(), "unsound framing");
    }
}

/// Makes all that can be read of the stack, whatever its configuration has become.
fn show(lab: &Arc<Lab>) {
    let host = lab.host();
    for tree in [proc::proc_net(&host, Some(&lab.hub)), sys_class_net(&host)] {
        walk(tree.as_ref(), "", 0);
    }
    let names = host.sysctl_names();
    for name in names.iter().step_by(40) {
        assert!(host.sysctl(name).is_some(), "{name} has no value");
    }
}

fn walk(tree: &dyn Tree, path: &str, depth: usize) {
    assert!(depth < 16, "a tree without end: {path}");
    match tree.entry(path) {
        Ok(Entry::Directory(names)) => {
            for name in names {
                let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                walk(tree, &below, depth + 1);
            }
        }
        Ok(Entry::File { .. }) => {
            let _ = tree.read(path);
        }
        Ok(Entry::Link(_)) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Bytes among which the numbers that mean something are frequent.
    fn telling() -> impl Strategy<Value = u8> {
        prop_oneof![Just(0u8), Just(1), Just(2), Just(10), Just(0xff), any::<u8>()]
    }

    /// A value of an attribute: numbers, addresses, names, and attributes again.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            vec(telling(), 0..20),
            any::<u32>().prop_map(|number| number.to_ne_bytes().to_vec()),
            (0u8..4).prop_map(|index| vec![index, 0, 0, 0]),
            Just(vec![10, 0, 0, 1]),
            Just(vec![0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            Just(b"vde0\0".to_vec()),
            Just(b"vde".to_vec()),
            Just(vec![b'x'; 5000]),
        ];
        leaf.prop_recursive(6, 24, 4, |inner| {
            vec((0u16..70, any::<bool>(), inner, lie()), 0..4).prop_map(|list| {
                let mut bytes = Vec::new();
                for (kind, nested, value, lie) in list {
                    let kind = kind | if nested { 0x8000 } else { 0 };
                    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
                    bytes.extend_from_slice(&length.wrapping_add(lie).to_ne_bytes());
                    bytes.extend_from_slice(&kind.to_ne_bytes());
                    bytes.extend_from_slice(&value);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                }
                bytes
            })
        })
    }

    /// What is added to a length: mostly nothing.
    fn lie() -> impl Strategy<Value = u16> {
        prop_oneof![9 => Just(0u16), 1 => any::<u16>()]
    }

    fn message() -> impl Strategy<Value = Message> {
        let flags = prop_oneof![Just(4u16), Just(0x304), Just(0x604), Just(0x504), any::<u16>()];
        let fixed = prop_oneof![Just(0usize), Just(1), Just(8), Just(12), Just(16), Just(56)];
        let kind = prop_oneof![4 => 16u16..40, 1 => any::<u16>()];
        (kind, flags, fixed.prop_flat_map(|size| vec(telling(), size)), value()).prop_map(
            |(kind, flags, mut payload, attributes)| {
                payload.extend_from_slice(&attributes);
                (kind, flags, payload)
            },
        )
    }

    /// An argument: a name, or none, and bytes behind it up to a `struct ifreq` or beyond.
    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let name = prop_oneof![
            Just(&b"vde0"[..]),
            Just(&b"lo"[..]),
            Just(&b"vde0:1"[..]),
            Just(&b"vde0\xff\xfe"[..]),
            Just(&b"xxxxxxxxxxxxxxxxxxxxxxxx"[..]),
            Just(&b""[..]),
        ];
        let size = prop_oneof![Just(40usize), Just(24), Just(68), Just(80), Just(120), 0usize..200];
        (name, size.prop_flat_map(|size| vec(telling(), size))).prop_map(|(name, mut bytes)| {
            let count = name.len().min(bytes.len());
            bytes[..count].copy_from_slice(&name[..count]);
            if let Some(end) = bytes.get_mut(count).filter(|_| count > 0) {
                *end = 0;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn netlink_messages_are_survived(
            messages in vec(message(), 0..6), tail in vec(telling(), 0..80)
        ) {
            netlink(&messages, &tail);
        }

        #[test]
        fn interface_requests_are_survived(calls in vec((0u8..0x90, argument()), 0..8)) {
            ioctls(&calls);
        }
    }
}
