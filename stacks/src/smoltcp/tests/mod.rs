//! Two stacks talk to each other.

mod datagrams;
mod full;
mod lossy;
mod receiver;
mod routing;
mod speed;
mod tcp;

use super::{
    tcp::socket::TcpSocket,
    testing::{Ignore, Lab, addr, connected},
};
