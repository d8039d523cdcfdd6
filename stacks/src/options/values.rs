//! The values of options: addresses, names, numbers.

use std::{
    ffi::OsString,
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use umvu_abi::module::MountError;

use super::invalid;

pub(super) fn check_name(name: &str) -> Result<(), MountError> {
    let bad = name.is_empty()
        || name.len() > 15
        || name == "lo"
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if bad {
        return Err(invalid(format!("{name}: not an interface name (1 to 15 characters, not lo)")));
    }
    Ok(())
}

/// An address with the length of its prefix, 24 or 64 when it is not given.
pub(super) fn address(text: &str) -> Result<(IpAddr, u8), MountError> {
    let wrong = || invalid(format!("ip={text}: not an address (write ip=10.0.0.1/24)"));
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let (default, most) = if ip.is_ipv4() { (24, 32) } else { (64, 128) };
    let prefix = prefix.unwrap_or(default);
    if prefix > most || ip.is_multicast() || ip.is_unspecified() {
        return Err(wrong());
    }
    Ok((ip, prefix))
}

/// The address of a host; `word` is the whole option, `example` a right value.
pub(super) fn host(word: &str, text: &str, example: &str) -> Result<IpAddr, MountError> {
    text.parse().map_err(|_| {
        let key = word.split('=').next().unwrap_or(word);
        invalid(format!("{word}: not an address (write {key}={example})"))
    })
}

/// A file of the host; one that is not named from the root is named from where the program that mounts
/// is, as its environment tells (`PWD`).
pub(super) fn path(
    word: &str,
    text: &str,
    environment: &[OsString],
) -> Result<PathBuf, MountError> {
    let folder = environment.iter().find_map(|one| one.as_bytes().strip_prefix(b"PWD="));
    let folder = Path::new(std::ffi::OsStr::from_bytes(folder.unwrap_or_default()));
    let path = folder.join(text);
    if text.is_empty() || !path.is_absolute() {
        return Err(invalid(format!("{word}: not an absolute path (write pcap=/tmp/a.pcapng)")));
    }
    Ok(path)
}

pub(super) fn hardware(word: &str, text: &str) -> Result<[u8; 6], MountError> {
    let parts = text.split([':', '-']).map(|part| u8::from_str_radix(part, 16));
    let bytes: Result<Vec<u8>, _> = parts.collect();
    match bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) {
        Some(mac) if mac[0] & 1 == 0 && mac != [0; 6] => Ok(mac),
        _ => Err(invalid(format!(
            "{word}: not a hardware address of one host (write mac=02:00:00:00:00:01)"
        ))),
    }
}

pub(super) fn mtu(text: &str) -> Result<u32, MountError> {
    match text.parse() {
        Ok(mtu) if (68..=9216).contains(&mtu) => Ok(mtu),
        _ => Err(invalid(format!("mtu={text}: not between 68 and 9216"))),
    }
}

pub(super) fn wait(text: &str) -> Result<u64, MountError> {
    match text.parse() {
        Ok(seconds) if (1..=3600).contains(&seconds) => Ok(seconds),
        _ => Err(invalid(format!("wait={text}: not between 1 and 3600 seconds"))),
    }
}

pub(super) fn seed(text: &str) -> Result<u64, MountError> {
    text.parse().map_err(|_| invalid(format!("seed={text}: not a number (0 to 2^64 - 1)")))
}

/// A domain name (RFC 1035), as it goes into messages and resolv.conf(5).
pub(super) fn domain(word: &str, text: &str) -> Result<String, MountError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(good);
    if name.len() <= 253 && name.split('.').all(fits) {
        return Ok(name.to_owned());
    }
    Err(invalid(format!("{word}: not a domain name")))
}
