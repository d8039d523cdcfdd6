//! Neighbours that a program sets, or that a stack without a table of its own learns.

use std::net::IpAddr;

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    values::{Change, LinkFlags, Neighbour, NeighbourFlags, NeighbourState, RouteMode},
};

/// Entries kept; beyond, those that were learned are given up first.
const TABLE_SIZE: usize = 4096;

impl NetConfig {
    /// The neighbours.
    #[must_use]
    pub fn neighbours(&self) -> &[Neighbour] {
        &self.neighbours
    }

    /// A neighbour.
    #[must_use]
    pub fn neighbour(&self, index: IfIndex, ip: IpAddr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|held| held.interface == index && held.ip == ip)
    }

    /// Adds or replaces a neighbour for a program. Errors: `ENODEV`, `EEXIST`, `ENOENT`, `EINVAL`.
    pub fn add_neighbour(&mut self, neighbour: &Neighbour, mode: RouteMode) -> Result<(), Failure> {
        let link = self.link(neighbour.interface).ok_or(Errno::ENODEV)?;
        if link.flags.intersects(LinkFlags::LOOPBACK) {
            return Err(Errno::EINVAL.into());
        }
        match self.neighbour(neighbour.interface, neighbour.ip) {
            Some(_) if mode.exclusive => return Err(Errno::EEXIST.into()),
            Some(held) if !mode.replace && held.mac.is_some() && held.mac != neighbour.mac => {
                return Err(Errno::EEXIST.into());
            }
            None if !mode.create => return Err(Errno::ENOENT.into()),
            _ => {}
        }
        // Who only wants it looked up has no address to set: the stack finds it when it is used.
        if !neighbour.flags.intersects(NeighbourFlags::USE) {
            self.learn_neighbour(neighbour.clone());
        }
        Ok(())
    }

    /// Removes a neighbour. Errors: `ENODEV`, `ENOENT`.
    pub fn del_neighbour(&mut self, index: IfIndex, ip: IpAddr) -> Result<(), Failure> {
        self.link(index).ok_or(Errno::ENODEV)?;
        let held = |held: &Neighbour| held.interface == index && held.ip == ip;
        let at = self.neighbours.iter().position(held).ok_or(Errno::ENOENT)?;
        let gone = self.neighbours.remove(at);
        self.note(Change::NeighbourRemoved(gone));
        Ok(())
    }

    /// Sets what ARP or NDP found out.
    pub fn learn_neighbour(&mut self, neighbour: Neighbour) {
        let same =
            |held: &Neighbour| held.interface == neighbour.interface && held.ip == neighbour.ip;
        match self.neighbours.iter().position(same) {
            Some(at) => self.neighbours[at].clone_from(&neighbour),
            None => {
                self.make_room();
                self.neighbours.push(neighbour.clone());
            }
        }
        self.note(Change::Neighbour(neighbour));
    }

    fn make_room(&mut self) {
        if self.neighbours.len() < TABLE_SIZE {
            return;
        }
        let learned = |held: &Neighbour| held.state != NeighbourState::Permanent;
        let at = self.neighbours.iter().position(learned).unwrap_or(0);
        let gone = self.neighbours.remove(at);
        self.note(Change::NeighbourRemoved(gone));
    }

    /// Forgets the neighbours behind an interface that goes down.
    pub(super) fn neighbours_down(&mut self, index: IfIndex) {
        let gone: Vec<Neighbour> =
            self.neighbours.extract_if(.., |held| held.interface == index).collect();
        for neighbour in gone {
            self.note(Change::NeighbourRemoved(neighbour));
        }
    }
}
