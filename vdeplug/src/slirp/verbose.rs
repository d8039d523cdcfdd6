//! The table that the option `verbose` prints.

use std::fmt::Write;

use super::options::{Behind, Config, Protocol};

/// Describes a network, one property a line.
pub(super) fn table(config: &Config) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "slirp: {name:<20} {value}");
    };
    if let Some(v4) = &config.v4 {
        row("IPv4 network", v4.net.trunc().to_string());
        row("router", v4.host.to_string());
        row("name server", v4.dns.to_string());
        row("DHCP from", v4.dhcp.to_string());
    }
    if let Some(v6) = &config.v6 {
        row("IPv6 network", v6.net.trunc().to_string());
        row("router", v6.host.to_string());
        row("name server", v6.dns.to_string());
    }
    row("MTU", config.mtu.to_string());
    let loopback = if config.host_loopback { "the router's address" } else { "not reachable" };
    row("loopback of the host", loopback.to_owned());
    if let Some(folder) = &config.tftp {
        row("files by TFTP", folder.display().to_string());
    }
    for forward in &config.forwards {
        let name = if forward.protocol == Protocol::Tcp { "TCP forward" } else { "UDP forward" };
        row(name, format!("{} -> {}", forward.listen, forward.guest));
    }
    for service in &config.services {
        let what = match &service.what {
            Behind::Unix(path) => path.display().to_string(),
            Behind::Command(command) => command.clone(),
        };
        row("service", format!("{} -> {what}", service.at));
    }
    text
}
