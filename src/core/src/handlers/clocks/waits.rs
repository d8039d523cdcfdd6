//! nanosleep(2), clock_nanosleep(2), and the calls with a timeout: poll(2), select(2), epoll_wait(2),
//! futex(2), sigtimedwait(2), semop(2). They wait as long as the view's clocks say.

use umvu_abi::GuestAddr;
use umvu_tracer::api::{Action, Call, Trap};

use super::{
    clock_of, pace_of,
    when::{self, Kind, Unit},
};
use crate::{
    Core,
    dispatch::{Handler, Row},
};

/// An interrupted call that the kernel goes on with by itself (`ERESTART_RESTARTBLOCK`).
const RESTART_BLOCK: i64 = -516;
/// Operations of futex(2), without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
const FUTEX_COMMAND: i32 = 0x7f;
const FUTEX_LOCK_PI2: i32 = 13;

pub(super) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; as long as the view's clocks say with vumisctime";
    const POLLS: &str = "native; trapped in processes that have mapped a ring, and where vumisctime changes the pace";
    let row =
        |name, trap, handler: Handler, note| Row { name, trap, interruptible: true, handler, note };
    let wait = |name, handler| row(name, Trap::Optional, handler, NOTE);
    let poll = |name, handler| row(name, Trap::Waiting, handler, POLLS);
    vec![
        wait("nanosleep", |core, call| relative(core, call, 0, Left::At(call.addr(1)))),
        wait("clock_nanosleep", clock_nanosleep),
        row("futex", Trap::OptionalNonNull(3), futex, NOTE),
        row("futex_waitv", Trap::OptionalNonNull(3), futex_waitv, NOTE),
        wait("rt_sigtimedwait", |core, call| relative(core, call, 2, Left::Nowhere)),
        wait("semtimedop", |core, call| relative(core, call, 3, Left::Nowhere)),
        poll("poll", |core, call| millis(core, call, 2)),
        poll("epoll_wait", |core, call| millis(core, call, 3)),
        poll("epoll_pwait", |core, call| millis(core, call, 3)),
        poll("ppoll", |core, call| ring_then(core, call, 2, Left::InPlace(Unit::Nanos))),
        poll("select", |core, call| ring_then(core, call, 4, Left::InPlace(Unit::Micros))),
        poll("pselect6", |core, call| ring_then(core, call, 4, Left::InPlace(Unit::Nanos))),
        poll("epoll_pwait2", |core, call| ring_then(core, call, 3, Left::Nowhere)),
    ]
}

/// Where the kernel says how much of a timeout is left.
#[derive(Debug, Clone, Copy)]
enum Left {
    Nowhere,
    /// There, when a signal ends a sleep.
    At(GuestAddr),
    /// Where the timeout is.
    InPlace(Unit),
}

/// Before a wait for a packet socket the socket is made to tell the truth.
fn ring_then(core: &Core, call: &Call, argument: usize, left: Left) -> Action {
    core.sockets.hub().settle_rings();
    relative(core, call, argument, left)
}

/// A call with a duration in an argument.
fn relative(core: &Core, call: &Call, argument: usize, left: Left) -> Action {
    let at = call.addr(argument);
    let Some(pace) = pace_of(core).filter(|_| !at.is_null()) else { return Action::Forward };
    let unit = if let Left::InPlace(unit) = left { unit } else { Unit::Nanos };
    let nanos = unit.read(call.guest.as_ref(), at).filter(|nanos| *nanos > 0);
    let Some(nanos) = nanos else { return Action::Forward };
    let data = unit.encode(pace.to_host(nanos).max(unit.least()));
    when::call(call, call.syscall.args, Some((argument, data)), move |guest, result, data| {
        match left {
            Left::Nowhere => {}
            Left::At(at) if result == RESTART_BLOCK => pace.show(guest, at, unit, 1),
            Left::At(_) => {}
            Left::InPlace(_) => {
                if let Some(left) = unit.decode(data) {
                    // A timeout in read-only memory stays, as the kernel has it.
                    let _ = guest.write(at, &unit.encode(pace.to_view(left).min(nanos)));
                }
            }
        }
        result
    })
}

/// A call with milliseconds in an argument.
fn millis(core: &Core, call: &Call, argument: usize) -> Action {
    core.sockets.hub().settle_rings();
    let millis = call.int(argument);
    let Some(pace) = pace_of(core).filter(|_| millis > 0) else { return Action::Forward };
    let nanos = pace.to_host(i128::from(millis) * 1_000_000);
    let mut args = call.syscall.args;
    args[argument] = u64::try_from((nanos + 999_999) / 1_000_000)
        .unwrap_or(u64::MAX)
        .min(i32::MAX.unsigned_abs().into());
    when::call(call, args, None, |_, result, _| result)
}

/// A call with a moment of a clock in an argument.
fn absolute(core: &Core, call: &Call, clock: i32, argument: usize) -> Action {
    let at = call.addr(argument);
    let found = clock_of(core, clock).filter(|_| !at.is_null());
    let Some((kind, clock)) = found else { return Action::Forward };
    match Unit::Nanos.read(call.guest.as_ref(), at) {
        Some(shown) => {
            let data = Unit::Nanos.encode(kind.host_moment(clock.as_ref(), shown));
            when::call(call, call.syscall.args, Some((argument, data)), |_, result, _| result)
        }
        None => Action::Forward,
    }
}

fn clock_nanosleep(core: &Core, call: &Call) -> Action {
    let clock = call.int(0);
    if call.int(1) & libc::TIMER_ABSTIME != 0 {
        return absolute(core, call, clock, 2);
    }
    match Kind::of(clock) {
        Some(_) => relative(core, call, 2, Left::At(call.addr(3))),
        None => Action::Forward,
    }
}

fn futex(core: &Core, call: &Call) -> Action {
    let operation = call.int(1);
    let is_real = operation & libc::FUTEX_CLOCK_REALTIME != 0;
    let clock = if is_real { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
    match operation & FUTEX_COMMAND {
        libc::FUTEX_WAIT => relative(core, call, 3, Left::Nowhere),
        libc::FUTEX_LOCK_PI => absolute(core, call, libc::CLOCK_REALTIME, 3),
        libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 => {
            absolute(core, call, clock, 3)
        }
        _ => Action::Forward,
    }
}

fn futex_waitv(core: &Core, call: &Call) -> Action {
    absolute(core, call, call.int(4), 3)
}
