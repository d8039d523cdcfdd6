//! Buffers for frames, used again instead of allocated again.
//!
//! Each thread keeps its own: the reactor's thread carries frames from one stack to the next, so
//! what one stack has consumed the other sends next. Contents of a reused buffer are old bytes:
//! callers write all they asked for.

use std::cell::RefCell;

const SMALL: usize = 2048;
const LARGE: usize = 65_536 + 32;
const KEPT_SMALL: usize = 1024;
const KEPT_LARGE: usize = 64;

#[derive(Default)]
struct Pool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Gives a buffer of exactly `length` bytes with any contents.
pub fn take(length: usize) -> Vec<u8> {
    let (class, found) = POOL.with_borrow_mut(|pool| {
        if length <= SMALL {
            (SMALL, pool.small.pop())
        } else {
            (LARGE, if length <= LARGE { pool.large.pop() } else { None })
        }
    });
    let mut buffer = found.unwrap_or_else(|| Vec::with_capacity(class.max(length)));
    if buffer.len() < length {
        // The bytes between are written once per buffer; later uses only shorten it.
        buffer.resize(length, 0);
    } else {
        buffer.truncate(length);
    }
    buffer
}

/// Takes back a buffer that is no longer needed.
pub fn give(buffer: Vec<u8>) {
    POOL.with_borrow_mut(|pool| {
        let capacity = buffer.capacity();
        if (SMALL..=2 * SMALL).contains(&capacity) && pool.small.len() < KEPT_SMALL {
            pool.small.push(buffer);
        } else if (LARGE..=2 * LARGE).contains(&capacity) && pool.large.len() < KEPT_LARGE {
            pool.large.push(buffer);
        }
    });
}
