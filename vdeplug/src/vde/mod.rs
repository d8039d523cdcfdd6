//! `vde://`: a port of a switch in another process, as the clients of `vde_switch` use it.
//!
//! This file reads the locator; `search.rs` finds the default switch, `handshake.rs` connects,
//! `wire.rs` has the bytes of the handshake, and `plug.rs` is the connection.

pub(crate) mod handshake;
mod plug;
pub(crate) mod search;
pub(crate) mod wire;

use std::{path::PathBuf, sync::Arc};

use nix::unistd::{Gid, Group};

use crate::{
    error::OpenError,
    reconnect::Plug,
    transport::Transport,
    vde::handshake::Target,
    vnl::{Resolved, Vnl},
};

const PARAMETERS: [&str; 5] = ["", "port", "portgroup", "group", "mode"];

/// Opens `vde://directory[port=,portgroup=,group=,mode=]`.
pub(crate) fn open(vnl: &Vnl, description: &str) -> Result<Arc<dyn Transport>, OpenError> {
    let place = vnl.to_string();
    let parameters = vnl.parameters.resolve("vde", &PARAMETERS)?;
    let (port, port_group) = port_of(&parameters)?;
    let target = Target {
        directory: absolute(&vnl.path),
        port,
        port_group,
        group: parameters.get("group").map(|name| group_id(&parameters, name)).transpose()?,
        mode: parameters.mode("mode")?,
        description: description.to_owned(),
        place: place.clone(),
    };
    Ok(Arc::new(Plug::open(&place, target)?))
}

/// Makes a path independent of the working directory: the switch has another one.
pub(crate) fn absolute(path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

fn port_of(parameters: &Resolved<'_>) -> Result<(Option<u16>, Option<String>), OpenError> {
    let number = parameters.number("port", 0..=65_535)?;
    let bare = parameters.get("");
    let bare_number = bare.and_then(|word| word.parse::<u64>().ok());
    let group = parameters.get("portgroup").or(bare.filter(|_| bare_number.is_none()));
    if let Some(group) = group.filter(|g| g.contains('/') || *g == "." || *g == "..") {
        return Err(parameters.bad_value("portgroup", group, "a name without slashes").into());
    }
    // Port 0 is any.
    let port = number.or(bare_number).filter(|port| *port > 0).map(|port| {
        u16::try_from(port).map_err(|_| {
            parameters.bad_value("port", &port.to_string(), "a number from 0 to 65535")
        })
    });
    Ok((port.transpose()?, group.map(str::to_owned)))
}

/// Looks up a group by name or number.
pub(crate) fn group_id(parameters: &Resolved<'_>, name: &str) -> Result<Gid, OpenError> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number.into());
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(parameters.bad_value("group", name, "a group of this system").into()),
    }
}
