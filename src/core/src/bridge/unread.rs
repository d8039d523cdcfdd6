//! What waits in the queue of a guest's datagram socket: it counts against SO_RCVBUF.
//!
//! The kernel does not tell what a guest has read by native calls. But it tells of each socket how
//! much of what it has sent is unread (`SIOCOUTQ`), so what has been given to a guest is noted, with
//! its sender and what it weighs there, and looked for when the stack has no room for more.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::{Arc, LazyLock, Weak},
};

use parking_lot::Mutex;

use super::{ffi, unix};

/// What has been given to one guest's socket and may be unread, oldest first.
#[derive(Default)]
pub(super) struct Unread(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    given: VecDeque<Given>,
    /// The weight of what is there of each sender, by its address.
    sent: HashMap<usize, usize>,
}

struct Given {
    sender: Weak<OwnedFd>,
    /// What the kernel counts for it while it is unread.
    weight: usize,
    /// What the stack counts for it.
    cost: usize,
}

impl Given {
    /// By what the sums name its sender.
    fn key(&self) -> usize {
        self.sender.as_ptr() as usize
    }
}

impl Unread {
    /// Notes a datagram of `length` bytes that has just been sent to the guest.
    pub(super) fn note(&self, sender: &Arc<OwnedFd>, length: usize, cost: usize) {
        let weight = weight(length);
        let one = Given { sender: Arc::downgrade(sender), weight, cost };
        let mut queue = self.0.lock();
        *queue.sent.entry(one.key()).or_default() += weight;
        queue.given.push_back(one);
    }

    /// Forgets what has been read since the last look; returns what the stack counted for it.
    pub(super) fn reclaim(&self) -> usize {
        let Queue { given, sent } = &mut *self.0.lock();
        let mut freed = 0;
        // How much the last sender that was asked has unread.
        let mut asked: Option<(usize, usize)> = None;
        while let Some(first) = given.front() {
            let (key, weight) = (first.key(), first.weight);
            let sum = sent.get(&key).copied().unwrap_or(0);
            // Whoever is gone cannot be asked.
            if let Some(sender) = first.sender.upgrade() {
                let known = asked.filter(|(of, _)| *of == key).map(|(_, unread)| unread);
                let unread = known.unwrap_or_else(|| ffi::unread(&sender));
                asked = Some((key, unread));
                if unread + weight > sum {
                    break;
                }
            }
            match sum.saturating_sub(weight) {
                0 => sent.remove(&key),
                left => sent.insert(key, left),
            };
            freed += first.cost;
            given.pop_front();
        }
        freed
    }
}

/// What the kernel counts for an unread datagram; tried out once for each length.
fn weight(length: usize) -> usize {
    static WEIGHTS: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);
    *WEIGHTS.lock().entry(length).or_insert_with(|| {
        let tried = unix::datagram_pair(true).ok().and_then(|(one, _other)| {
            unix::widen(&one);
            unix::send(&one, &vec![0; length]).ok()?;
            Some(ffi::unread(&one))
        });
        tried.unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_found() {
        let (one, other) = unix::datagram_pair(true).expect("a pair");
        let (one, unread) = (Arc::new(one), Unread::default());
        for (length, cost) in [(1, 10), (500, 20), (0, 30), (1, 40)] {
            unix::send(&one, &vec![0; length]).expect("room");
            unread.note(&one, length, cost);
        }
        assert_eq!(unread.reclaim(), 0);
        let mut room = [0; 500];
        unix::receive(&other, &mut room).expect("one is there");
        assert_eq!(unread.reclaim(), 10);
        for _ in 0..2 {
            unix::receive(&other, &mut room).expect("one is there");
        }
        assert_eq!((unread.reclaim(), unread.0.lock().given.len()), (50, 1));
        drop(one);
        assert_eq!((unread.reclaim(), unread.0.lock().given.len()), (40, 0));
    }
}
