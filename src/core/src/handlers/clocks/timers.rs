//! Timers: setitimer(2), alarm(2), timer_settime(2), timerfd_settime(2), and what tells how long they
//! still take.

use std::fs;

use umvu_abi::GuestAddr;
use umvu_tracer::api::{Action, AfterWait, Call, Instead, Wait};

use super::{
    pace_of,
    when::{self, Kind, Pace, Unit},
};
use crate::{
    Core,
    dispatch::{Row, optional},
};

/// `struct itimerval` and `struct itimerspec`: interval and value.
const SIZE: usize = 32;

pub(super) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; by the view's clocks with vumisctime";
    vec![
        optional("timerfd_settime", |core, call| set(core, call, clock_of_descriptor), NOTE),
        optional("timer_settime", |core, call| set(core, call, clock_of_timer), NOTE),
        optional("timerfd_gettime", |core, call| get(core, call, Unit::Nanos), NOTE),
        optional("timer_gettime", |core, call| get(core, call, Unit::Nanos), NOTE),
        optional("setitimer", set_interval, NOTE),
        optional("getitimer", get_interval, NOTE),
        optional("alarm", alarm, NOTE),
    ]
}

/// The clock of a timer descriptor (proc_pid_fdinfo(5)).
fn clock_of_descriptor(call: &Call) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{}/fdinfo/{}", call.tid(), call.fd(0).0)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("clockid:")?.trim().parse().ok())
}

/// The clock of a timer of a process (proc_pid_timers(5)).
fn clock_of_timer(call: &Call) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{}/timers", call.tid())).ok()?;
    let wanted = call.int(0).to_string();
    let mut lines = text.lines();
    lines.find(|line| line.strip_prefix("ID: ").is_some_and(|id| id.trim() == wanted))?;
    lines.take(3).find_map(|line| line.strip_prefix("ClockID: ")?.trim().parse().ok())
}

/// Interval and value as they are on the host; None for what is the kernel's to refuse, or an end.
fn read(call: &Call, at: GuestAddr, unit: Unit) -> Option<[i128; 2]> {
    let mut bytes = [0; SIZE];
    call.guest.read(at, &mut bytes).ok()?;
    let (interval, value) = bytes.split_at(SIZE / 2);
    Some([unit.decode(interval)?, unit.decode(value)?])
}

fn set(core: &Core, call: &Call, clock_of: fn(&Call) -> Option<i32>) -> Action {
    let Some(clock) = core.view.clock() else { return Action::Forward };
    let Some(kind) = clock_of(call).and_then(Kind::of) else { return Action::Forward };
    let pace = Pace(clock);
    match read(call, call.addr(2), Unit::Nanos) {
        Some([interval, value]) if value > 0 => {
            // TFD_TIMER_ABSTIME has the same number.
            let value = if call.int(1) & libc::TIMER_ABSTIME != 0 {
                kind.host_moment(pace.0.as_ref(), value).max(1)
            } else {
                pace.to_host(value)
            };
            set_to(call, call.syscall.args, 2, pace, [interval, value], Unit::Nanos)
        }
        _ => get_after(core, call, 3, Unit::Nanos),
    }
}

fn set_to(
    call: &Call,
    args: [u64; 6],
    argument: usize,
    pace: Pace,
    [interval, value]: [i128; 2],
    unit: Unit,
) -> Action {
    let interval = if interval == 0 { 0 } else { pace.to_host(interval).max(unit.least()) };
    let data = [unit.encode(interval), unit.encode(value.max(unit.least()))].concat();
    let former = call.addr(argument + 1);
    when::call(call, args, Some((argument, data)), move |guest, result, _| {
        if result == 0 {
            pace.show(guest, former, unit, 2);
        }
        result
    })
}

/// The kernel's, but for what it tells in an argument.
fn get_after(core: &Core, call: &Call, argument: usize, unit: Unit) -> Action {
    let at = call.addr(argument);
    let Some(pace) = pace_of(core).filter(|_| !at.is_null()) else { return Action::Forward };
    when::call(call, call.syscall.args, None, move |guest, result, _| {
        if result == 0 {
            pace.show(guest, at, unit, 2);
        }
        result
    })
}

fn get(core: &Core, call: &Call, unit: Unit) -> Action {
    get_after(core, call, 1, unit)
}

fn get_interval(core: &Core, call: &Call) -> Action {
    if call.int(0) == libc::ITIMER_REAL { get(core, call, Unit::Micros) } else { Action::Forward }
}

fn set_interval(core: &Core, call: &Call) -> Action {
    let is_real = call.int(0) == libc::ITIMER_REAL;
    let Some(pace) = pace_of(core).filter(|_| is_real) else { return Action::Forward };
    match read(call, call.addr(1), Unit::Micros) {
        Some([interval, value]) if value > 0 => {
            let value = pace.to_host(value);
            set_to(call, call.syscall.args, 1, pace, [interval, value], Unit::Micros)
        }
        _ => get_after(core, call, 2, Unit::Micros),
    }
}

/// alarm(2) by setitimer(2), which knows fractions of seconds.
fn alarm(core: &Core, call: &Call) -> Action {
    let Some(pace) = pace_of(core) else { return Action::Forward };
    let seconds = i128::from(call.int(0).cast_unsigned());
    let value = match pace.to_host(seconds * when::SECOND) {
        0 => 0,
        value => value.max(Unit::Micros.least()),
    };
    let unit = Unit::Micros;
    let data = [unit.encode(0), unit.encode(value), vec![0; SIZE]].concat();
    let call =
        Instead { data: Some((1, data)), ..Instead::call(libc::SYS_setitimer, [0, 0, 0, 0, 0, 0]) };
    let after = AfterWait(Box::new(move |_, result, data| {
        let left = data.get(SIZE + SIZE / 2..).and_then(|left| unit.decode(left));
        match left {
            Some(left) if result == 0 => {
                // At least 1 for one that is still to come, else to the nearest second.
                let left = pace.to_view(left);
                let seconds = (left + when::SECOND / 2) / when::SECOND;
                i64::try_from(seconds.max(i128::from(left > 0))).unwrap_or(i64::MAX)
            }
            _ => result,
        }
    }));
    Action::Wait(Wait { call, also: Some((2, SIZE as u64)), after })
}
