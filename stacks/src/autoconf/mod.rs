//! The configuration of a stack as its mount asks for it, in iothconf's words: fixed addresses,
//! leases of DHCP servers (IPv4 and IPv6), what routers advertise.
//!
//! Everything goes through sockets of the stack itself ([`crate::net`]), netlink and others: one way
//! for every stack. [`configure`] answers when the stack is ready; what was got for a time only is
//! kept in the background (`keeper`) until the stack ends.

mod clients;
mod dhcp4;
mod dhcp6;
mod fixed;
mod keeper;
mod managed;
mod port;
mod routers;
pub(crate) mod rtnl;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use netlink_emu::Failure;
use umvu_abi::{Errno, module::MountError, net::NetStack};
use umvu_reactor::{Reactor, Source};

use self::{
    clients::{Client, Held},
    keeper::Keeper,
    managed::Managed,
    port::Port,
    routers::RouterNews,
    rtnl::Rtnl,
};
use crate::{
    net::Halt,
    options::{InterfacePlan, StackPlan},
    resolver::Resolver,
};

/// Configures a stack whose interfaces are as they were made, waits for servers and routers, and
/// gives the stack with all that belongs to it. A stack that cannot be configured is stopped.
pub(crate) fn configure(
    reactor: &Reactor,
    stack: Arc<dyn NetStack>,
    plan: &StackPlan,
) -> Result<Arc<dyn NetStack>, MountError> {
    let halt = Halt::new().map_err(|error| MountError::from(Errno::from_io(&error)))?;
    let resolver = Resolver::new(&plan.dns, &plan.domains);
    match begin(&stack, plan, &halt, &resolver) {
        Ok(keeper) => {
            if let Some(keeper) = &keeper {
                let source: Arc<dyn Source> = Arc::clone(keeper) as _;
                keeper.attach(reactor.handle(&source));
            }
            Ok(Arc::new(Managed::new(stack, keeper, resolver, plan.names.clone())))
        }
        Err(error) => {
            halt.stop();
            stack.stop();
            Err(error)
        }
    }
}

fn begin(
    stack: &Arc<dyn NetStack>,
    plan: &StackPlan,
    halt: &Halt,
    resolver: &Arc<Resolver>,
) -> Result<Option<Arc<Keeper>>, MountError> {
    let asks = |interface: &InterfacePlan| interface.setup.rd == Some(true);
    let news = if plan.interfaces.iter().any(asks) {
        // A stack that has no such news has no name servers in it.
        RouterNews::open(stack.as_ref(), halt, resolver).ok()
    } else {
        None
    };
    if plan.interfaces.is_empty() {
        return Ok(None);
    }
    plan.interfaces.iter().try_for_each(|interface| hear_routers(stack.as_ref(), interface))?;
    let mut rtnl = Rtnl::open(stack.as_ref(), halt)
        .map_err(|failure| MountError::new(failure.errno, format!("netlink: {failure}")))?;
    let indices = fixed::configure(&mut rtnl, plan)?;
    drop(rtnl);
    let mut ports = Vec::new();
    for (interface, index) in plan.interfaces.iter().zip(&indices) {
        let port = Port {
            stack: Arc::clone(stack),
            halt: halt.clone(),
            name: interface.name.clone(),
            index: *index,
            mac: interface.mac,
            fqdn: interface.setup.fqdn.clone(),
            resolver: Arc::clone(resolver),
            debug: plan.debug,
        };
        ports.push((port, interface));
    }
    let clients = ask_all(&ports, plan)?;
    let links = ports.iter().filter(|(_, interface)| asks(interface));
    let links = links.map(|(port, _)| (port.index, port.name.clone()));
    let news = news.map(|news| Arc::new(news.of(links.collect())));
    if let Some(news) = &news {
        news.read();
    }
    let keeps = !clients.is_empty() || news.is_some();
    Ok(keeps.then(|| Keeper::new(halt.clone(), clients, news)))
}

/// Has a stack listen to routers on an interface, or not.
fn hear_routers(stack: &dyn NetStack, interface: &InterfacePlan) -> Result<(), MountError> {
    let Some(hears) = interface.setup.rd else { return Ok(()) };
    let knob = format!("ipv6/conf/{}/accept_ra", interface.name);
    // Also of a host that is a router itself.
    let value: &[u8] = if hears { b"2\n" } else { b"0\n" };
    let done = stack.proc_sys_net().map_or(Err(Errno::EOPNOTSUPP), |tree| tree.write(&knob, value));
    match done {
        Err(errno) if hears => {
            let name = &interface.name;
            let reason = format!("{name}: rd: this stack does not listen to routers ({errno})");
            Err(MountError::new(errno, reason))
        }
        Ok(()) if hears => {
            // The mount waits for the answer.
            let knob = format!("ipv6/conf/{}/router_solicitation_delay", interface.name);
            let _ = stack.proc_sys_net().map(|tree| tree.write(&knob, b"0\n"));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Something to ask for on an interface.
enum Question<'a> {
    Lease(Client),
    Router(&'a Port, Vec<IpAddr>),
}

/// Asks servers and routers, all at the same time.
fn ask_all(
    ports: &[(Port, &InterfacePlan)],
    plan: &StackPlan,
) -> Result<Vec<(Client, Held)>, MountError> {
    let mut questions = Vec::new();
    for (port, interface) in ports {
        let setup = &interface.setup;
        if setup.dhcp4 {
            questions
                .push((*interface, Question::Lease(Client::V4(dhcp4::Client::new(port.clone())))));
        }
        if setup.dhcp6 {
            questions
                .push((*interface, Question::Lease(Client::V6(dhcp6::Client::new(port.clone())))));
        }
        if setup.rd == Some(true) {
            let own = setup.addresses.iter().map(|(ip, _)| *ip).collect();
            questions.push((*interface, Question::Router(port, own)));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(plan.wait);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask =
            |(interface, question)| scope.spawn(move || (interface, answer(question, deadline)));
        let asked: Vec<_> = questions.into_iter().map(ask).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut clients = Vec::new();
    let mut failed = None;
    for (interface, answer) in answers {
        match answer {
            Ok(client) => clients.extend(client),
            Err(failure) => {
                failed.get_or_insert_with(|| explain(interface, &failure, plan.wait));
            }
        }
    }
    match failed {
        None => Ok(clients),
        Some(error) => {
            clients.iter().for_each(|(client, held)| client.release(held));
            Err(error)
        }
    }
}

fn answer(question: Question<'_>, deadline: Instant) -> Result<Option<(Client, Held)>, Failure> {
    match question {
        Question::Lease(client) => client.acquire(deadline).map(|held| Some((client, held))),
        Question::Router(port, own) => routers::wait(port, &own, deadline).map(|()| None),
    }
}

fn explain(interface: &InterfacePlan, failure: &Failure, wait: u64) -> MountError {
    let InterfacePlan { name, vnl, .. } = interface;
    let reason = if failure.errno == Errno::ETIMEDOUT {
        format!("{name}: {failure} within {wait} s (is one on {vnl}? wait=SECONDS waits longer)")
    } else {
        format!("{name}: {failure}")
    };
    MountError::new(failure.errno, reason)
}

/// A random number, for what must differ between hosts.
fn chance() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0u8).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
