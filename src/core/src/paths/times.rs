//! utimensat(2), utimes(2), utime(2): times of files as the clock of the view has them.
//!
//! Where a module keeps a clock, a file shows what that clock showed at the host's time of the file:
//! what one can see of files and of the clock is in the same order as on the host. What is set is
//! turned back.

use std::{sync::Arc, time::Duration};

use umvu_abi::{
    Errno,
    files::{Caller, SetTime, Time},
};
use umvu_tracer::api::{Action, Before, Call, Instead, Trap, Watch};

use super::{
    change::{by_descriptor, on_file},
    descriptors, host,
    layout::Attributes,
    locate::{self, At, answer},
    resolve::Last,
    stat::{is_empty_path, last},
};
use crate::{
    Core,
    dispatch::{Row, always},
    files::{self, Inode},
};

const SECOND: i128 = Duration::from_secs(1).as_nanos().cast_signed();

pub(super) fn rows() -> Vec<Row> {
    const NOTE: &str = "of mounted file systems; ignored on nodes; EPERM on generated files";
    vec![
        always("utime", |core, call| plain(core, call, Unit::Seconds), NOTE),
        always("utimes", |core, call| plain(core, call, Unit::Micros), NOTE),
        always(
            "futimesat",
            |core, call| times(core, call, locate::at(0), Last::Follow, Unit::Micros),
            NOTE,
        ),
        // Without a path it is futimens(3), which stays native where no virtual file is open.
        Row {
            name: "utimensat",
            trap: Trap::Watched(Watch::Looks, Before::NonNull(1)),
            interruptible: false,
            handler: utimensat,
            note: NOTE,
        },
    ]
}

/// What utimensat(2) sets: access and modification time.
pub(super) type Times = [Option<SetTime>; 2];

/// What a file looks like in the view.
pub(super) fn shown(core: &Core, mut looks: Attributes) -> Attributes {
    if let Some(clock) = core.view.clock() {
        for time in looks.times.iter_mut().chain(&mut looks.btime) {
            let shown = clock.show(i128::from(time.0) * SECOND + i128::from(time.1));
            *time = (
                i64::try_from(shown.div_euclid(SECOND)).unwrap_or(i64::MAX),
                i64::try_from(shown.rem_euclid(SECOND)).unwrap_or(0),
            );
        }
    }
    looks
}

/// The times of the host that stand for those of the view.
pub(super) fn real(core: &Core, times: Times) -> Times {
    let Some(clock) = core.view.clock() else { return times };
    let turn = |time: Time| {
        let shown = i128::from(time.seconds) * SECOND + i128::from(time.nanos);
        let host = clock.real(shown).map_or(Time::now(), |host| Time {
            seconds: i64::try_from(host.div_euclid(SECOND)).unwrap_or(i64::MAX),
            nanos: u32::try_from(host.rem_euclid(SECOND)).unwrap_or(0),
        });
        SetTime::To(host)
    };
    times.map(|time| match time {
        Some(SetTime::To(time)) => Some(turn(time)),
        other => other,
    })
}

/// Has the kernel set times of the host: of a descriptor, or of a path below one, as the arguments of
/// utimensat(2) say.
fn set_native(core: &Core, [directory, path, flags]: [u64; 3], times: Times) -> Action {
    let is_given = times.iter().any(|time| matches!(time, Some(SetTime::To(_))));
    if core.view.clock().is_none() || !is_given {
        return Action::Forward;
    }
    let pairs = times.map(|time| match time {
        None => (0, libc::UTIME_OMIT),
        Some(SetTime::Now) => (0, libc::UTIME_NOW),
        Some(SetTime::To(time)) => (time.seconds, i64::from(time.nanos)),
    });
    let data = pairs.iter().flat_map(|pair| [pair.0.to_ne_bytes(), pair.1.to_ne_bytes()].concat());
    let args = [directory, path, 0, flags, 0, 0];
    let data = Some((2, data.collect()));
    Action::Instead(Instead { data, ..Instead::call(libc::SYS_utimensat, args) })
}

/// How the times stand in the guest's memory.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// `struct utimbuf`: two seconds.
    Seconds,
    /// Two `struct timeval`.
    Micros,
    /// Two `struct timespec`, with `UTIME_NOW` and `UTIME_OMIT`.
    Nanos,
}

/// Reads the times; NULL is now. Errors: `EFAULT`, `EINVAL`.
fn read_times(call: &Call, argument: usize, unit: Unit) -> Result<Times, Errno> {
    let at = call.addr(argument);
    if at.is_null() {
        return Ok([Some(SetTime::Now); 2]);
    }
    let mut bytes = [0; 32];
    let size = if matches!(unit, Unit::Seconds) { 16 } else { 32 };
    call.guest.read(at, &mut bytes[..size])?;
    let word = |n: usize| bytes[8 * n..].first_chunk().map_or(0, |word| i64::from_ne_bytes(*word));
    let time = |seconds, nanos: i64| -> Result<Option<SetTime>, Errno> {
        let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let nanos = nanos.ok_or(Errno::EINVAL)?;
        Ok(Some(SetTime::To(Time { seconds, nanos })))
    };
    let one = |n: usize| match unit {
        Unit::Seconds => time(word(n), 0),
        Unit::Micros => time(word(2 * n), word(2 * n + 1).checked_mul(1000).unwrap_or(-1)),
        Unit::Nanos => match word(2 * n + 1) {
            libc::UTIME_NOW => Ok(Some(SetTime::Now)),
            libc::UTIME_OMIT => Ok(None),
            nanos => time(word(2 * n), nanos),
        },
    };
    Ok([one(0)?, one(1)?])
}

fn plain(core: &Core, call: &Call, unit: Unit) -> Action {
    times(core, call, locate::path(0), Last::Follow, unit)
}

fn times(core: &Core, call: &Call, at: At, last: Last, unit: Unit) -> Action {
    let times = match read_times(call, at.path + 1, unit) {
        Ok(times) => real(core, times),
        Err(errno) => return errno.into(),
    };
    let of_place = |place| {
        let of_file =
            |inode: &Arc<Inode>, caller: &Caller| files::change::set_times(inode, caller, times);
        on_file(core, call, place, of_file, |_| ())
    };
    let action = answer(core, call, at, last, of_place, |path| {
        Action::done(host::set_times(&path, times, last))
    });
    if !matches!(action, Action::Forward) {
        return action;
    }
    let flags = match last {
        // With those of utimensat(2).
        _ if matches!(unit, Unit::Nanos) => call.syscall.args[3],
        Last::Follow => 0,
        Last::Keep => u64::from(libc::AT_SYMLINK_NOFOLLOW.unsigned_abs()),
    };
    let directory = at
        .directory
        .map_or(i64::from(libc::AT_FDCWD).cast_unsigned(), |argument| call.syscall.args[argument]);
    set_native(core, [directory, call.syscall.args[at.path], flags], times)
}

/// utimensat(2): of a descriptor without a path.
fn utimensat(core: &Core, call: &Call) -> Action {
    let flags = call.int(3);
    if call.addr(1).is_null() || is_empty_path(flags) {
        let times = match read_times(call, 2, Unit::Nanos) {
            Ok(times) => real(core, times),
            Err(errno) => return errno.into(),
        };
        if call.addr(1).is_null() {
            let of_held = descriptors::set_times(core, call, times);
            return if matches!(of_held, Action::Forward) {
                set_native(core, [call.syscall.args[0], 0, call.syscall.args[3]], times)
            } else {
                of_held
            };
        }
        let change =
            |inode: &Arc<Inode>, caller: &Caller| files::change::set_times(inode, caller, times);
        if let Some(action) = by_descriptor(core, call, flags, change) {
            return action;
        }
    }
    times(core, call, locate::at(0), last(flags), Unit::Nanos)
}
