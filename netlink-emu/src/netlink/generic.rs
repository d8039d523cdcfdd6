//! Generic netlink without families, and a protocol that never answers.

use umvu_abi::Errno;

use super::{Answer, Service, message::Request};
use crate::host::{Failure, HostNet};

/// `NETLINK_GENERIC`: the controller knows no family (`CTRL_CMD_GETFAMILY` gives `ENOENT`).
pub(super) struct Generic;

/// `GENL_ID_CTRL`.
const CONTROLLER: u16 = 0x10;

impl Service for Generic {
    fn handle(&self, _host: &dyn HostNet, request: &Request<'_>) -> Result<Answer, Failure> {
        match (request.header.kind, request.is_dump()) {
            (CONTROLLER, true) => Ok(Answer::nothing()),
            _ => Err(Errno::ENOENT.into()),
        }
    }
}

/// `NETLINK_KOBJECT_UEVENT`: can be bound, says nothing.
pub(super) struct Silent;

impl Service for Silent {
    fn handle(&self, _host: &dyn HostNet, _request: &Request<'_>) -> Result<Answer, Failure> {
        Ok(Answer::Done)
    }
}
