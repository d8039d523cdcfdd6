//! A mounted smoltcp stack as programs that configure networks see it.

mod common;

use std::sync::Arc;

use common::{Bell, Result};
use umvu_abi::{
    Errno, SockAddr,
    module::{Module, MountRequest, Mounted},
    net::{NetStack, NewSocket, SendControl, SocketSpec},
    tree::Entry,
};
use umvu_reactor::Reactor;
use umvu_stacks::Vunet;

fn fresh(vunet: &Vunet, data: &str) -> Result<Arc<dyn NetStack>> {
    Ok(common::mount(vunet, "smoltcp", data)?)
}

fn vunet() -> Result<Vunet> {
    Ok(Vunet::new(Reactor::start("stacks")?))
}

#[test]
fn a_fresh_stack_is_down_and_an_address_raises_it() -> Result<()> {
    let vunet = vunet()?;
    let stack = fresh(&vunet, "null://")?;
    let sys = stack.sys_class_net().ok_or("a tree")?;
    assert_eq!(sys.read("vde0/operstate")?, b"down\n");
    assert_eq!(sys.read("lo/mtu")?, b"65536\n");
    let mac = sys.read("vde0/address")?;
    // A view without a name may meet another one on its network.
    let again = fresh(&vunet, "null://")?;
    assert_ne!(again.sys_class_net().ok_or("a tree")?.read("vde0/address")?, mac);
    let stack = fresh(&vunet, "null://,ip=10.3.2.1/24,mtu=1400,mac=02:00:00:00:00:07")?;
    let sys = stack.sys_class_net().ok_or("a tree")?;
    assert_eq!(sys.read("vde0/mtu")?, b"1400\n");
    assert_eq!(sys.read("vde0/address")?, b"02:00:00:00:00:07\n");
    let flags = String::from_utf8(sys.read("vde0/flags")?)?;
    assert_eq!(flags.trim(), "0x1003");
    Ok(())
}

#[test]
fn sockets_and_sysctls_show_in_proc() -> Result<()> {
    let vunet = vunet()?;
    let stack = fresh(&vunet, "null://,ip=10.3.2.1/24")?;
    let bell = Arc::new(Bell::default());
    let listener = common::stream(&*stack, false, &bell)?;
    listener.bind(&common::address("10.3.2.1:80")?)?;
    listener.listen(7)?;
    let proc = stack.proc_net().ok_or("a tree")?;
    let tcp = String::from_utf8(proc.read("tcp")?)?;
    assert!(tcp.contains("0102030A:0050 00000000:0000 0A"), "{tcp}");
    let sysctls = stack.proc_sys_net().ok_or("a tree")?;
    assert_eq!(sysctls.read("ipv4/ip_forward")?, b"0\n");
    sysctls.write("ipv4/ip_forward", b"1\n")?;
    assert_eq!(sysctls.read("ipv4/ip_forward")?, b"1\n");
    assert!(matches!(sysctls.entry("ipv4/conf/vde0"), Ok(Entry::Directory(_))));
    Ok(())
}

#[test]
fn a_netlink_socket_lists_the_interfaces() -> Result<()> {
    let vunet = vunet()?;
    let stack = fresh(&vunet, "null://")?;
    let spec = SocketSpec {
        domain: libc::AF_NETLINK,
        kind: libc::SOCK_RAW,
        protocol: libc::NETLINK_ROUTE,
    };
    let NewSocket::Datagram(socket) = stack.socket(&spec, Arc::new(Bell::default()))? else {
        return Err("not a datagram socket".into());
    };
    // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, an ifinfomsg of zeros.
    let mut request = Vec::new();
    request.extend_from_slice(&32u32.to_ne_bytes());
    request.extend_from_slice(&18u16.to_ne_bytes());
    request.extend_from_slice(&0x301u16.to_ne_bytes());
    request.extend_from_slice(&[0; 24]);
    let kernel = SockAddr::Netlink { pid: 0, groups: 0 };
    socket.send(&request, Some(&kernel), &SendControl::default())?;
    let mut all = Vec::new();
    while let Some(part) = socket.receive() {
        all.extend(part.data);
    }
    for name in [b"lo\0".as_slice(), b"vde0\0"] {
        assert!(all.windows(name.len()).any(|window| window == name), "{name:?}");
    }
    Ok(())
}

#[test]
fn mistakes_are_told_in_one_line_and_mount_nothing() -> Result<()> {
    let vunet = vunet()?;
    for (fstype, source, data, errno, word) in [
        ("vunetioth", "smoltcp", "null://,speed=3", Errno::EINVAL, "speed=3"),
        ("vunetioth", "picotcp", "null://", Errno::ENOTSUP, "picotcp"),
        ("vunetioth", "smoltcp", "nothing://x", Errno::EPROTONOSUPPORT, "nothing"),
        (
            "vunetioth",
            "smoltcp",
            "null://,ip=10.0.0.1/24,gw=10.9.9.9",
            Errno::ENETUNREACH,
            "gw=10.9.9.9",
        ),
        ("vunetsmoltcp", "vde:///no/such/switch", "", Errno::ENOENT, "/no/such/switch"),
        ("vunetvdestack", "nothing://x", "", Errno::EPROTONOSUPPORT, "nothing"),
        ("vunetfoo", "none", "", Errno::ENODEV, "vunetfoo"),
    ] {
        let request = MountRequest {
            source: source.to_owned(),
            target: "/dev/net/x".to_owned(),
            fstype: fstype.to_owned(),
            flags: 0,
            data: data.to_owned(),
            environment: Vec::new(),
            view: String::new(),
        };
        let error = vunet.mount(&request).expect_err(data);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(error.errno, errno, "{error}");
    }
    Ok(())
}

#[test]
fn the_null_stack_has_no_sockets_and_the_real_one_the_hosts() -> Result<()> {
    let vunet = vunet()?;
    for (fstype, works) in [("vunetnull", false), ("vunetreal", true)] {
        let request = MountRequest {
            source: "none".to_owned(),
            target: "/dev/net/x".to_owned(),
            fstype: fstype.to_owned(),
            flags: 0,
            data: String::new(),
            environment: Vec::new(),
            view: String::new(),
        };
        let Mounted::Stack(stack) = vunet.mount(&request)? else {
            unreachable!("vunet mounts stacks only")
        };
        for domain in [libc::AF_INET, libc::AF_NETLINK] {
            let spec = SocketSpec { domain, kind: libc::SOCK_DGRAM, protocol: 0 };
            match stack.socket(&spec, Arc::new(Bell::default())) {
                Ok(NewSocket::Kernel(_)) => assert!(works),
                other => assert!(!works && other.is_err_and(|e| e == Errno::EAFNOSUPPORT)),
            }
        }
    }
    Ok(())
}
