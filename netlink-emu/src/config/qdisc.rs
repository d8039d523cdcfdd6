//! Queueing disciplines: made, changed, grafted, removed, by the rules of Linux's `sch_api.c`.
//!
//! The table holds what was asked for, and the inner queue that a shaper makes for itself. The one
//! that every interface has by itself is not in it: [`NetConfig::qdiscs`] adds it.

use umvu_abi::{Errno, IfIndex};

use super::NetConfig;
use crate::{
    host::Failure,
    text,
    values::{
        Change, Discipline, Handle, Qdisc, QdiscRequest,
        qdisc::{Netem, QdiscOptions, Tbf},
    },
};

/// The first handle that the kernel gives by itself, and the step to the next.
const FIRST: u32 = 0x8000_0000;
const STEP: u32 = 0x0001_0000;
/// The class of an inner queue.
const INNER: u32 = 1;

/// The disciplines that were asked for.
#[derive(Debug)]
pub(super) struct Qdiscs {
    list: Vec<Qdisc>,
    last: u32,
}

impl Default for Qdiscs {
    fn default() -> Self {
        Self { list: Vec::new(), last: FIRST }
    }
}

/// What is where a request points to.
enum Spot {
    /// Nothing, or what is there by itself.
    Free,
    /// A discipline that was asked for.
    Taken(Qdisc),
}

impl NetConfig {
    /// The disciplines of all interfaces, or of one: first that of the interface, then those
    /// inside.
    #[must_use]
    pub fn qdiscs(&self, interface: Option<IfIndex>) -> Vec<Qdisc> {
        let links = self.links.iter().filter(|link| interface.is_none_or(|i| i == link.index));
        links
            .flat_map(|link| {
                self.default_qdisc(link.index).into_iter().chain(self.tree(link.index))
            })
            .collect()
    }

    /// The disciplines that an interface was given.
    fn tree(&self, interface: IfIndex) -> impl Iterator<Item = Qdisc> {
        self.qdiscs.list.iter().filter(move |held| held.interface == interface).cloned()
    }

    /// What an interface has by itself, when it was given none.
    fn default_qdisc(&self, interface: IfIndex) -> Option<Qdisc> {
        let link = self.link(interface).filter(|link| link.activated)?;
        let given = self.root_qdisc(interface).is_some();
        let discipline =
            if link.qdisc == "noqueue" { Discipline::Noqueue } else { Discipline::PfifoFast };
        let (handle, parent) = (Handle::NONE, Handle::ROOT);
        (!given).then_some(Qdisc { interface, handle, parent, discipline })
    }

    fn root_qdisc(&self, interface: IfIndex) -> Option<&Qdisc> {
        let mut list = self.qdiscs.list.iter();
        list.find(|held| held.interface == interface && held.parent == Handle::ROOT)
    }

    fn qdisc(&self, interface: IfIndex, handle: Handle) -> Option<&Qdisc> {
        let mut list = self.qdiscs.list.iter();
        list.find(|held| {
            held.interface == interface && held.handle == handle && handle != Handle::NONE
        })
    }

    fn inner_qdisc(&self, of: &Qdisc) -> Option<&Qdisc> {
        let mut list = self.qdiscs.list.iter();
        list.find(|held| {
            held.interface == of.interface
                && held.parent != Handle::ROOT
                && held.parent.major() == of.handle
        })
    }

    /// What is at a parent. Errors: there is no such parent (`missing`), or nothing can be in it.
    fn leaf(
        &self,
        interface: IfIndex,
        parent: Handle,
        missing: Failure,
    ) -> Result<Option<Qdisc>, Failure> {
        if parent == Handle::ROOT {
            return Ok(self.root_qdisc(interface).cloned());
        }
        let outer = self.qdisc(interface, parent.major()).ok_or(missing)?;
        if !outer.discipline.is_classful() {
            return Err(text::QDISC_NOT_CLASSFUL);
        }
        Ok(self.inner_qdisc(outer).cloned())
    }

    /// `tc qdisc add`, `replace`, `change`. Errors: `ENODEV`, `ENOENT`, `EEXIST`, `EINVAL`,
    /// `EOPNOTSUPP`, with Linux's sentences.
    pub fn set_qdisc(&mut self, request: &QdiscRequest) -> Result<(), Failure> {
        let interface = request.interface;
        self.link(interface).ok_or(Errno::ENODEV)?;
        if request.parent == Handle::INGRESS {
            return Err(text::QDISC_UNKNOWN_KIND);
        }
        let found = if request.parent == Handle::NONE {
            if request.handle == Handle::NONE {
                return Err(text::QDISC_HANDLE_ZERO);
            }
            self.qdisc(interface, request.handle).cloned()
        } else {
            match self.spot(request)? {
                Spot::Taken(held) => Some(held),
                Spot::Free => return self.create_qdisc(request),
            }
        };
        let held = found.ok_or(text::QDISC_MISSING)?;
        if request.mode.exclusive {
            return Err(text::QDISC_EXISTS);
        }
        if request.kind.as_deref().is_some_and(|kind| kind != held.discipline.kind()) {
            return Err(text::QDISC_OTHER_KIND);
        }
        self.change_qdisc(&held, &request.options)
    }

    /// Whether a request with a parent is about what is there ("This magic test requires
    /// explanation", says `tc_modify_qdisc`).
    fn spot(&self, request: &QdiscRequest) -> Result<Spot, Failure> {
        let leaf = self.leaf(request.interface, request.parent, text::QDISC_NO_PARENT)?;
        // What is there by itself does not count.
        let leaf = leaf.filter(|held| held.handle != Handle::NONE);
        let mode = request.mode;
        if let Some(held) = &leaf
            && request.handle == held.handle
        {
            return Ok(Spot::Taken(held.clone()));
        }
        let needs_create =
            || if mode.create { Ok(Spot::Free) } else { Err(text::QDISC_NEEDS_CREATE) };
        if request.handle != Handle::NONE {
            if leaf.is_some() && !mode.replace {
                return Err(text::QDISC_NEEDS_REPLACE);
            }
            if request.handle.minor() != 0 {
                return Err(text::QDISC_HANDLE_MINOR);
            }
            return match self.qdisc(request.interface, request.handle) {
                None => needs_create(),
                Some(_) => Err(text::QDISC_MOVE),
            };
        }
        let Some(held) = leaf else { return needs_create() };
        let other = request.kind.as_deref().is_some_and(|kind| kind != held.discipline.kind());
        let create = mode.create && (mode.replace || mode.exclusive);
        let change = !mode.create && !mode.replace && !mode.exclusive;
        Ok(if other && (create || change) { Spot::Free } else { Spot::Taken(held) })
    }

    fn create_qdisc(&mut self, request: &QdiscRequest) -> Result<(), Failure> {
        let interface = request.interface;
        let link = self.link(interface).ok_or(Errno::ENODEV)?;
        let frame = link.mtu.saturating_add(14);
        let txqlen = link.txqlen;
        let options = &request.options;
        let discipline = match request.kind.as_deref() {
            Some("noqueue") if request.parent != Handle::ROOT => {
                return Err(text::QDISC_NOQUEUE_INSIDE);
            }
            Some("noqueue") => Discipline::Noqueue,
            Some("pfifo_fast") => Discipline::PfifoFast,
            Some("pfifo") => Discipline::Pfifo(limit(options)?.unwrap_or(txqlen)),
            Some("bfifo") => {
                Discipline::Bfifo(limit(options)?.unwrap_or(txqlen.saturating_mul(frame)))
            }
            Some("netem") => Discipline::Netem(Box::new(netem(Netem::default(), options)?)),
            Some("tbf") => Discipline::Tbf(tbf(options)?),
            _ => return Err(text::QDISC_UNKNOWN_KIND),
        };
        let replaced = self.leaf(interface, request.parent, text::QDISC_NO_PARENT)?;
        self.check_duplicates(interface, replaced.as_ref(), &discipline)?;
        let handle = match request.handle {
            Handle::NONE => self.free_handle(interface)?,
            given => given,
        };
        if let Some(replaced) = replaced {
            self.drop_qdisc(&replaced);
        }
        let made = Qdisc { interface, handle, parent: request.parent, discipline };
        self.insert_qdisc(made);
        Ok(())
    }

    fn insert_qdisc(&mut self, made: Qdisc) {
        self.qdiscs.list.push(made.clone());
        if let Discipline::Tbf(Tbf { limit: 1.., .. }) = made.discipline {
            self.qdiscs.list.push(inner_queue(&made));
        }
        self.show_root(made.interface);
        self.note(Change::Qdisc(made));
    }

    fn change_qdisc(&mut self, held: &Qdisc, options: &QdiscOptions) -> Result<(), Failure> {
        if *options == QdiscOptions::None {
            return Ok(());
        }
        let discipline = match &held.discipline {
            Discipline::Noqueue | Discipline::PfifoFast => return Err(text::QDISC_NO_CHANGE),
            Discipline::Pfifo(old) => Discipline::Pfifo(limit(options)?.unwrap_or(*old)),
            Discipline::Bfifo(old) => Discipline::Bfifo(limit(options)?.unwrap_or(*old)),
            Discipline::Netem(old) => {
                Discipline::Netem(Box::new(netem(Netem::clone(old), options)?))
            }
            Discipline::Tbf(_) => Discipline::Tbf(tbf(options)?),
        };
        self.check_duplicates(held.interface, Some(held), &discipline)?;
        let changed = Qdisc { discipline, ..held.clone() };
        if let Discipline::Tbf(Tbf { limit, .. }) = changed.discipline {
            self.limit_inner(&changed, limit);
        }
        let slot = self.qdiscs.list.iter_mut().find(|other| *other == held);
        if let Some(slot) = slot {
            slot.clone_from(&changed);
        }
        self.note(Change::Qdisc(changed));
        Ok(())
    }

    /// A shaper's limit is that of the queue inside (`fifo_set_limit`).
    fn limit_inner(&mut self, of: &Qdisc, most: u32) {
        let inner = self.qdiscs.list.iter_mut().find(|held| {
            held.interface == of.interface
                && held.parent != Handle::ROOT
                && held.parent.major() == of.handle
        });
        match inner.map(|inner| &mut inner.discipline) {
            Some(Discipline::Pfifo(limit) | Discipline::Bfifo(limit)) => *limit = most,
            Some(_) => {}
            None if most > 0 => self.qdiscs.list.push(inner_queue(of)),
            None => {}
        }
    }

    /// `tc qdisc del`. Errors: `ENODEV`, `ENOENT`, `EINVAL`, with Linux's sentences.
    pub fn del_qdisc(&mut self, request: &QdiscRequest) -> Result<(), Failure> {
        let held = self.find_qdisc(request)?;
        if request.parent == Handle::NONE {
            return Err(text::QDISC_CLASS_ZERO);
        }
        if held.handle == Handle::NONE {
            return Err(text::QDISC_DELETE_DEFAULT);
        }
        self.drop_qdisc(&held);
        self.show_root(held.interface);
        Ok(())
    }

    /// The discipline that a request names. Errors: as [`Self::del_qdisc`].
    pub fn find_qdisc(&self, request: &QdiscRequest) -> Result<Qdisc, Failure> {
        let interface = request.interface;
        self.link(interface).ok_or(Errno::ENODEV)?;
        let held = match request.parent {
            Handle::NONE => {
                self.qdisc(interface, request.handle).cloned().ok_or(text::QDISC_HANDLE_MISSING)?
            }
            Handle::INGRESS => return Err(text::QDISC_NOT_ON_DEVICE),
            parent => self
                .leaf(interface, parent, text::QDISC_CLASS_MISSING)?
                .or_else(|| self.default_qdisc(interface).filter(|_| parent == Handle::ROOT))
                .ok_or(text::QDISC_NOT_ON_DEVICE)?,
        };
        if request.handle != Handle::NONE && request.handle != held.handle {
            return Err(text::QDISC_HANDLE_BAD);
        }
        if request.kind.as_deref().is_some_and(|kind| kind != held.discipline.kind()) {
            return Err(text::QDISC_OTHER_KIND);
        }
        Ok(held)
    }

    /// Removes a discipline and what is in it.
    fn drop_qdisc(&mut self, held: &Qdisc) {
        if let Some(inner) = self.inner_qdisc(held).cloned().filter(|_| held.handle != Handle::NONE)
        {
            self.drop_qdisc(&inner);
        }
        self.qdiscs.list.retain(|other| other != held);
        if !held.is_invisible() {
            self.note(Change::QdiscRemoved(held.clone()));
        }
    }

    /// Removes what an interface was given, as it goes.
    pub(super) fn drop_qdiscs(&mut self, interface: IfIndex) {
        self.qdiscs.list.retain(|held| held.interface != interface);
    }

    /// `ip link` shows the kind of the outermost.
    fn show_root(&mut self, interface: IfIndex) {
        let kind = self.root_qdisc(interface).map(|held| held.discipline.kind());
        if let Some(link) = self.link_mut(interface) {
            link.root_qdisc = kind;
        }
    }

    /// Copies of copies would fill the memory (`check_netem_in_tree`).
    fn check_duplicates(
        &self,
        interface: IfIndex,
        except: Option<&Qdisc>,
        new: &Discipline,
    ) -> Result<(), Failure> {
        let Discipline::Netem(new) = new else { return Ok(()) };
        let others = self.tree(interface).filter(|held| Some(held) != except);
        for other in others {
            if let Discipline::Netem(other) = other.discipline
                && (new.duplicate.probability > 0 || other.duplicate.probability > 0)
            {
                return Err(text::QDISC_TWO_DUPLICATORS);
            }
        }
        Ok(())
    }

    fn free_handle(&mut self, interface: IfIndex) -> Result<Handle, Failure> {
        for _ in 0..0x8000 {
            let next = self.qdiscs.last.wrapping_add(STEP);
            // From ffff:0 on they mean something else.
            self.qdiscs.last =
                if next >= Handle::INGRESS.major().0 || next < FIRST { FIRST } else { next };
            let handle = Handle(self.qdiscs.last);
            if self.qdisc(interface, handle).is_none() {
                return Ok(handle);
            }
        }
        Err(text::QDISC_TOO_MANY)
    }
}

/// The queue that a shaper makes for itself.
fn inner_queue(of: &Qdisc) -> Qdisc {
    let most = match of.discipline {
        Discipline::Tbf(Tbf { limit, .. }) => limit,
        _ => 0,
    };
    Qdisc {
        interface: of.interface,
        handle: Handle::NONE,
        parent: Handle(of.handle.0 | INNER),
        discipline: Discipline::Bfifo(most),
    }
}

fn limit(options: &QdiscOptions) -> Result<Option<u32>, Failure> {
    match options {
        QdiscOptions::None => Ok(None),
        QdiscOptions::Limit(limit) => Ok(Some(*limit)),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn netem(mut netem: Netem, options: &QdiscOptions) -> Result<Netem, Failure> {
    let QdiscOptions::Netem(options) = options else { return Err(Errno::EINVAL.into()) };
    netem.apply(options);
    Ok(netem)
}

fn tbf(options: &QdiscOptions) -> Result<Tbf, Failure> {
    match options {
        QdiscOptions::Tbf(options) => Tbf::of(options).ok_or_else(|| Errno::EINVAL.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}
