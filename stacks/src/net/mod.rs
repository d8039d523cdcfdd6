//! Sockets for programs: the "Internet of threads" without umvu.
//!
//! A [`Stack`] is opened by name and joined to virtual networks by their locators; [`TcpListener`],
//! [`TcpStream`], [`UdpSocket`] and the generic [`Socket`] work on it as those of [`std::net`] do on
//! the kernel's stack. A program may have any number of stacks: each is a host of its own, with its
//! addresses, ports and routes.
//!
//! Theory of operation. Emulated sockets never wait; they ring a `bell` when something has
//! changed. A call here is an attempt on an `endpoint` (`stream`, `datagram`, `kernel`)
//! that is made again after each ring until it works, its deadline has passed or the stack is
//! stopped ([`Halt`]). Sockets of the kernel (stacks `vdestack`, `kernel`) are waited for with
//! poll(2).

mod address;
mod bell;
mod config;
mod datagram;
mod endpoint;
mod halt;
mod kernel;
mod poll;
mod rtnetlink;
mod socket;
mod stack;
mod stream;
mod tcp;
mod udp;

pub use umvu_abi::{
    SockAddr,
    net::{DatagramMeta, NetStack, SendControl, Shutdown, SocketSpec},
    sockaddr::LinkAddr,
};

pub use self::{
    address::Address,
    bell::Watcher,
    config::{Config, InterfaceAddress, Link, Route},
    endpoint::{Interest, Readiness, Received},
    halt::Halt,
    poll::poll,
    socket::Socket,
    stack::{Builder, Stack},
    tcp::{TcpListener, TcpStream},
    udp::UdpSocket,
};
