//! clock_gettime(2), gettimeofday(2), time(2), and what sets them: the real-time clock of the view.

use std::{sync::Arc, time::SystemTime};

use umvu_abi::{Errno, module::Clock};
use umvu_tracer::api::{Action, Call, Reply};

use crate::{
    Core,
    dispatch::{Row, optional},
};

const SECOND: i128 = 1_000_000_000;

pub(crate) fn rows() -> Vec<Row> {
    const NOTE: &str = "native; CLOCK_REALTIME is the view's own with vumisctime";
    vec![
        optional("clock_gettime", get, NOTE),
        optional("gettimeofday", get_day, NOTE),
        optional("time", time, NOTE),
        optional("clock_settime", |core, call| set(core, call, 1, 1), NOTE),
        optional("settimeofday", |core, call| set(core, call, 0, 1000), NOTE),
    ]
}

/// The clock, where a call is about the one that is virtual.
fn clock(core: &Core, call: &Call, kind: Option<usize>) -> Option<Arc<dyn Clock>> {
    let is_real = kind.is_none_or(|argument| {
        matches!(call.int(argument), libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE)
    });
    if is_real { core.view.clock() } else { None }
}

fn now() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0))
}

/// Two words: seconds, and the rest in units of so many nanoseconds.
fn pair(nanos: i128, unit: i128) -> Vec<u8> {
    let word = |value: i128| i64::try_from(value).unwrap_or(i64::MAX).to_ne_bytes();
    [word(nanos.div_euclid(SECOND)), word(nanos.rem_euclid(SECOND) / unit)].concat()
}

fn get(core: &Core, call: &Call) -> Action {
    let Some(clock) = clock(core, call, Some(0)) else { return Action::Forward };
    let writes = vec![(call.addr(1), pair(clock.show(now()), 1))];
    Action::Return(Reply { result: Ok(0), writes })
}

fn get_day(core: &Core, call: &Call) -> Action {
    let Some(clock) = clock(core, call, None) else { return Action::Forward };
    let mut writes = Vec::new();
    if !call.addr(0).is_null() {
        writes.push((call.addr(0), pair(clock.show(now()), 1000)));
    }
    if !call.addr(1).is_null() {
        writes.push((call.addr(1), vec![0; 8]));
    }
    Action::Return(Reply { result: Ok(0), writes })
}

fn time(core: &Core, call: &Call) -> Action {
    let Some(clock) = clock(core, call, None) else { return Action::Forward };
    let seconds = i64::try_from(clock.show(now()).div_euclid(SECOND)).unwrap_or(i64::MAX);
    let at = call.addr(0);
    let writes = if at.is_null() { Vec::new() } else { vec![(at, seconds.to_ne_bytes().to_vec())] };
    Action::Return(Reply { result: Ok(seconds), writes })
}

fn set(core: &Core, call: &Call, argument: usize, unit: i128) -> Action {
    let kind = (argument == 1).then_some(0);
    let Some(clock) = clock(core, call, kind) else { return Action::Forward };
    if call.addr(argument).is_null() {
        // A time zone alone.
        return Action::value(0);
    }
    let mut bytes = [0; 16];
    if let Err(errno) = call.guest.read(call.addr(argument), &mut bytes) {
        return errno.into();
    }
    let [seconds, rest] = [&bytes[..8], &bytes[8..]]
        .map(|word| word.first_chunk().map_or(0, |word| i128::from(i64::from_ne_bytes(*word))));
    if seconds < 0 || !(0..SECOND / unit).contains(&rest) {
        return Errno::EINVAL.into();
    }
    clock.set(seconds * SECOND + rest * unit, now());
    Action::value(0)
}
