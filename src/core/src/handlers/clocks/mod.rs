//! The clocks of the view: what tells and sets the time (clock_gettime(2), gettimeofday(2), time(2)),
//! and what waits for it ([`waits`], [`timers`]).

mod timers;
mod waits;
mod when;

use std::sync::Arc;

use rustix::time::ClockId;
use umvu_abi::{
    Errno,
    module::{Clock, Facet},
};
use umvu_tracer::api::{Action, Call, Reply};

use self::when::{Kind, Pace, SECOND, Unit};
use crate::{
    Core,
    dispatch::{Row, optional},
};

pub(crate) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; the view's own clocks with vumisctime";
    let mut rows = vec![
        optional("clock_gettime", get, NOTE),
        optional("gettimeofday", get_day, NOTE),
        optional("time", time, NOTE),
        optional("clock_settime", |core, call| set(core, call, 1, Unit::Nanos), NOTE),
        optional("settimeofday", |core, call| set(core, call, 0, Unit::Micros), NOTE),
    ];
    rows.extend(waits::rows());
    rows.extend(timers::rows());
    rows
}

/// The clock of the view, where a call is about one that is not the host's.
fn clock_of(core: &Core, number: i32) -> Option<(Kind, Arc<dyn Clock>)> {
    let kind = Kind::of(number)?;
    let is_virtual = matches!(kind, Kind::Real(_)) || core.view.has(Facet::Pace);
    core.view.clock().filter(|_| is_virtual).map(|clock| (kind, clock))
}

/// How fast time passes, where that is not as on the host.
fn pace_of(core: &Core) -> Option<Pace> {
    core.view.clock().filter(|_| core.view.has(Facet::Pace)).map(Pace)
}

/// The time of day on the host.
fn now() -> i128 {
    when::host(ClockId::Realtime)
}

fn get(core: &Core, call: &Call) -> Action {
    let Some((kind, clock)) = clock_of(core, call.int(0)) else { return Action::Forward };
    let writes = vec![(call.addr(1), Unit::Nanos.encode(kind.show(clock.as_ref())))];
    Action::Return(Reply { result: Ok(0), writes })
}

fn get_day(core: &Core, call: &Call) -> Action {
    let Some(clock) = core.view.clock() else { return Action::Forward };
    let mut writes = Vec::new();
    if !call.addr(0).is_null() {
        writes.push((call.addr(0), Unit::Micros.encode(clock.show(now()))));
    }
    if !call.addr(1).is_null() {
        writes.push((call.addr(1), vec![0; 8]));
    }
    Action::Return(Reply { result: Ok(0), writes })
}

fn time(core: &Core, call: &Call) -> Action {
    let Some(clock) = core.view.clock() else { return Action::Forward };
    let seconds = i64::try_from(clock.show(now()).div_euclid(SECOND)).unwrap_or(i64::MAX);
    let at = call.addr(0);
    let writes = if at.is_null() { Vec::new() } else { vec![(at, seconds.to_ne_bytes().to_vec())] };
    Action::Return(Reply { result: Ok(seconds), writes })
}

fn set(core: &Core, call: &Call, argument: usize, unit: Unit) -> Action {
    let is_real = argument == 0 || call.int(0) == libc::CLOCK_REALTIME;
    let Some(clock) = core.view.clock().filter(|_| is_real) else { return Action::Forward };
    if call.addr(argument).is_null() {
        // A time zone alone.
        return Action::value(0);
    }
    let mut bytes = [0; 16];
    if let Err(errno) = call.guest.read(call.addr(argument), &mut bytes) {
        return errno.into();
    }
    match unit.decode(&bytes) {
        Some(shown) => clock.set(shown, now()),
        None => return Errno::EINVAL.into(),
    }
    Action::value(0)
}
