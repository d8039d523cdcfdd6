//! The requests on a small stack.

use std::{net::Ipv4Addr, sync::Arc};

use umvu_abi::Errno;

use super::{ifreq::sockaddr, interface_ioctl, numbers as n};
use crate::{HostNet, testing::Lab};

/// A `struct ifreq` with a name and the start of its union.
fn ifreq(name: &str, union: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[16..16 + union.len()].copy_from_slice(union);
    bytes
}

fn call(lab: &Arc<Lab>, request: u32, argument: &mut Vec<u8>) -> Result<i32, Errno> {
    interface_ioctl(lab.host().as_ref(), request, argument)
}

fn get(lab: &Arc<Lab>, request: u32, name: &str) -> Result<Vec<u8>, Errno> {
    let mut argument = ifreq(name, &[]);
    call(lab, request, &mut argument)?;
    Ok(argument[16..].to_vec())
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_ne_bytes(bytes[..4].try_into().expect("4 bytes"))
}

#[test]
fn properties_of_an_interface_are_told() {
    let lab = Lab::ready();
    assert_eq!(get(&lab, n::SIOCGIFINDEX, "vde0").map(|b| number(&b)), Ok(2));
    assert_eq!(get(&lab, n::SIOCGIFMTU, "vde0").map(|b| number(&b)), Ok(1500));
    assert_eq!(get(&lab, n::SIOCGIFTXQLEN, "vde0").map(|b| number(&b)), Ok(1000));
    assert_eq!(get(&lab, n::SIOCGIFFLAGS, "vde0").map(|b| number(&b)), Ok(0x1043));
    assert_eq!(get(&lab, n::SIOCGIFFLAGS, "lo").map(|b| number(&b)), Ok(0x49));
    let mac = get(&lab, n::SIOCGIFHWADDR, "vde0").expect("an address");
    assert_eq!(mac[..8], [1, 0, 0x7e, 0x76, 0xc0, 0xd7, 0x3b, 0x37]);
    let ip = get(&lab, n::SIOCGIFADDR, "vde0").expect("an address");
    assert_eq!(ip[..16], sockaddr(Ipv4Addr::new(10, 0, 0, 1)));
    let mask = get(&lab, n::SIOCGIFNETMASK, "vde0").expect("an address");
    assert_eq!(mask[..16], sockaddr(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!(get(&lab, n::SIOCGIFADDR, "eth9"), Err(Errno::ENODEV));
    let mut argument = ifreq("", &2i32.to_ne_bytes());
    assert_eq!(call(&lab, n::SIOCGIFNAME, &mut argument), Ok(0));
    assert_eq!(&argument[..5], b"vde0\0");
}

#[test]
fn a_stack_without_addresses_has_none_to_tell() {
    let lab = Lab::fresh();
    assert_eq!(get(&lab, n::SIOCGIFADDR, "vde0"), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(call(&lab, n::SIOCGIFCONF, &mut vec![0; 400]), Ok(0));
}

#[test]
fn the_list_fits_the_buffer_of_the_guest() {
    let lab = Lab::ready();
    assert_eq!(call(&lab, n::SIOCGIFCONF, &mut Vec::new()), Ok(80));
    let mut argument = vec![0xff; 400];
    assert_eq!(call(&lab, n::SIOCGIFCONF, &mut argument), Ok(80));
    assert_eq!(argument.len(), 80);
    assert_eq!(&argument[..3], b"lo\0");
    assert_eq!(argument[56..72], sockaddr(Ipv4Addr::new(10, 0, 0, 1)));
    let mut argument = vec![0xff; 79];
    assert_eq!(call(&lab, n::SIOCGIFCONF, &mut argument), Ok(40));
}

#[test]
fn an_interface_is_configured_as_ifconfig_does() {
    let lab = Lab::fresh();
    let set = |request, union: &[u8]| call(&lab, request, &mut ifreq("vde0", union));
    assert_eq!(set(n::SIOCSIFADDR, &sockaddr(Ipv4Addr::new(10, 1, 2, 3))), Ok(0));
    assert_eq!(set(n::SIOCSIFFLAGS, &1i32.to_ne_bytes()), Ok(0));
    assert_eq!(set(n::SIOCSIFNETMASK, &sockaddr(Ipv4Addr::new(255, 255, 0, 0))), Ok(0));
    let held = lab.addresses().into_iter().find(|held| held.ip().is_ipv4()).expect("an address");
    assert_eq!(held.prefix.to_string(), "10.1.2.3/16");
    assert_eq!(held.broadcast, Some(Ipv4Addr::new(10, 1, 255, 255)));
    assert_eq!(
        set(n::SIOCSIFNETMASK, &sockaddr(Ipv4Addr::new(255, 0, 255, 0))),
        Err(Errno::EINVAL)
    );
    assert_eq!(set(n::SIOCSIFMTU, &1400i32.to_ne_bytes()), Ok(0));
    assert_eq!(set(n::SIOCSIFMTU, &7i32.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(set(n::SIOCSIFADDR, &sockaddr(Ipv4Addr::UNSPECIFIED)), Ok(0));
    assert!(lab.addresses().iter().all(|held| held.ip().is_ipv6()));
    assert_eq!(set(n::SIOCSIFNAME, b"lan0\0"), Ok(0));
    assert_eq!(get(&lab, n::SIOCGIFINDEX, "lan0").map(|b| number(&b)), Ok(2));
}

#[test]
fn routes_are_changed_as_route_does() {
    let lab = Lab::ready();
    let mut rt = vec![0; 120];
    rt[8..24].copy_from_slice(&sockaddr(Ipv4Addr::UNSPECIFIED));
    rt[24..40].copy_from_slice(&sockaddr(Ipv4Addr::new(10, 0, 0, 254)));
    rt[40..56].copy_from_slice(&sockaddr(Ipv4Addr::UNSPECIFIED));
    rt[56] = 3;
    assert_eq!(call(&lab, n::SIOCADDRT, &mut rt.clone()), Ok(0));
    assert_eq!(call(&lab, n::SIOCADDRT, &mut rt.clone()), Err(Errno::EEXIST));
    assert_eq!(call(&lab, n::SIOCDELRT, &mut rt.clone()), Ok(0));
    assert_eq!(call(&lab, n::SIOCDELRT, &mut rt.clone()), Err(Errno::ESRCH));
    let mut named = rt.clone();
    named.extend_from_slice(b"eth9\0");
    assert_eq!(call(&lab, n::SIOCADDRT, &mut named), Err(Errno::ENODEV));
    rt.truncate(100);
    assert_eq!(call(&lab, n::SIOCADDRT, &mut rt), Err(Errno::EINVAL));
}

#[test]
fn ethtool_learns_little_and_others_nothing() {
    let lab = Lab::ready();
    let mut argument = ifreq("vde0", &[]);
    argument.extend_from_slice(&[0xa, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(call(&lab, n::SIOCETHTOOL, &mut argument), Ok(0));
    assert_eq!(argument[44..], [1, 0, 0, 0]);
    assert_eq!(get(&lab, n::SIOCETHTOOL, "vde0"), Err(Errno::EOPNOTSUPP));
    assert_eq!(get(&lab, 0x89f0, "vde0"), Err(Errno::EOPNOTSUPP));
    assert_eq!(call(&lab, 0x5421, &mut vec![0; 40]), Err(Errno::ENOTTY));
}
