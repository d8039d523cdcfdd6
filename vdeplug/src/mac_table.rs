//! [`MacTable`]: which neighbour was last seen behind which address.
//!
//! A fixed number of slots, four to a set as in the tables of real switches: learning and lookup
//! touch one cache line, and a flood of invented addresses can only evict, never grow. Keys are
//! hashed with a seed, so that nobody can aim at a set. Time is an argument, in seconds since any
//! fixed moment.

use std::hash::{BuildHasher, RandomState};

const WAYS: usize = 4;
/// An odd number without pattern: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// An address and what tells apart equal addresses: the VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

/// What is known about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<V> {
    /// The number of its set in the table.
    pub set: usize,
    /// Its address and VLAN.
    pub key: Key,
    /// What it is behind.
    pub value: V,
    /// Seconds since it was last seen.
    pub age: u32,
}

impl Key {
    /// Returns the key of an address seen in a VLAN (0: untagged); None for the zero address.
    #[must_use]
    pub fn new(address: [u8; 6], vlan: u16) -> Option<Self> {
        let [a, b, c, d, e, f] = address;
        let address = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        (address != 0).then_some(Self(address << 16 | u64::from(vlan)))
    }

    /// The address and the VLAN.
    #[must_use]
    pub fn parts(self) -> ([u8; 6], u16) {
        let [a, b, c, d, e, f, high, low] = self.0.to_be_bytes();
        ([a, b, c, d, e, f], u16::from_be_bytes([high, low]))
    }
}

/// Whether an address names many stations.
#[must_use]
pub fn is_group(address: [u8; 6]) -> bool {
    address[0] & 1 != 0
}

/// Reads an address from a frame; the zero address if the frame is too short.
#[must_use]
pub fn address_at(frame: &[u8], offset: usize) -> [u8; 6] {
    frame.get(offset..offset + 6).and_then(|a| a.try_into().ok()).unwrap_or_default()
}

#[derive(Debug, Clone, Copy)]
struct Entry<V> {
    /// Zero: the slot is free.
    key: u64,
    seen: u32,
    value: V,
}

/// A bounded table that forgets.
#[derive(Debug)]
pub struct MacTable<V> {
    slots: Vec<Entry<V>>,
    seed: u64,
    expiry: u32,
    /// A station seen elsewhere has not moved before so many seconds.
    persistence: u32,
}

impl<V: Copy + Default + PartialEq> MacTable<V> {
    /// Makes a table of about `size` slots whose entries live `expiry` seconds.
    #[must_use]
    pub fn new(size: usize, expiry: u32, seed: Option<u64>) -> Self {
        let sets = size.div_ceil(WAYS).max(1).next_power_of_two();
        let free = Entry { key: 0, seen: 0, value: V::default() };
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self { slots: vec![free; sets * WAYS], seed, expiry, persistence: 0 }
    }

    /// Notes that `key` is behind `value`; returns whether it was not known.
    pub fn learn(&mut self, key: Key, value: V, now: u32) -> bool {
        let (expiry, persistence) = (self.expiry, self.persistence);
        let set = self.set(key);
        let known = set.iter().position(|e| e.key == key.0);
        let stays = |e: &Entry<V>| e.value != value && now.wrapping_sub(e.seen) < persistence;
        if known.is_some_and(|way| stays(&set[way])) {
            return false;
        }
        let is_new = known.is_none_or(|way| now.wrapping_sub(set[way].seen) > expiry);
        let age = |e: &Entry<V>| if e.key == 0 { u32::MAX } else { now.wrapping_sub(e.seen) };
        let oldest = || (0..WAYS).max_by_key(|way| age(&set[*way]).min(expiry.max(1) + 1));
        if let Some(way) = known.or_else(oldest) {
            set[way] = Entry { key: key.0, seen: now, value };
        }
        is_new
    }

    /// Returns what `key` is behind, unless it was not seen for too long.
    #[must_use]
    pub fn lookup(&mut self, key: Key, now: u32) -> Option<V> {
        let expiry = self.expiry;
        let found = self.set(key).iter().find(|e| e.key == key.0)?;
        (now.wrapping_sub(found.seen) <= expiry).then_some(found.value)
    }

    /// Forgets what `key` is behind.
    pub fn remove(&mut self, key: Key) {
        if let Some(entry) = self.set(key).iter_mut().find(|e| e.key == key.0) {
            entry.key = 0;
        }
    }

    /// Forgets everything behind `value`.
    pub fn forget(&mut self, value: V) {
        for entry in self.slots.iter_mut().filter(|e| e.value == value) {
            entry.key = 0;
        }
    }

    /// Forgets the addresses of a VLAN.
    pub fn forget_vlan(&mut self, vlan: u16) {
        for entry in self.slots.iter_mut().filter(|e| Key(e.key).parts().1 == vlan) {
            entry.key = 0;
        }
    }

    /// Changes how long entries live, and how long a station stays where it was seen.
    pub fn set_times(&mut self, expiry: u32, persistence: u32) {
        (self.expiry, self.persistence) = (expiry, persistence);
    }

    /// Returns all that is known, in the order of the table.
    pub fn known(&self, now: u32) -> impl Iterator<Item = Known<V>> {
        let expiry = self.expiry;
        self.slots.iter().enumerate().filter(|(_, entry)| entry.key != 0).filter_map(
            move |(at, entry)| {
                let age = now.wrapping_sub(entry.seen);
                let known = Known { set: at / WAYS, key: Key(entry.key), value: entry.value, age };
                (age <= expiry).then_some(known)
            },
        )
    }

    fn set(&mut self, key: Key) -> &mut [Entry<V>] {
        // Every bit of the key reaches both halves of the product.
        let wide = u128::from(key.0 ^ self.seed) * u128::from(MULTIPLIER);
        let hash = (wide >> 64) ^ (wide & u128::from(u64::MAX));
        let sets = self.slots.len() / WAYS;
        let index = usize::try_from(hash).unwrap_or(0) & (sets - 1);
        &mut self.slots[index * WAYS..][..WAYS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        let [a, b, c, d] = n.to_be_bytes();
        Key::new([2, 0, a, b, c, d], 0).expect("not the zero address")
    }

    #[test]
    fn learned_keys_are_found_until_they_expire() {
        let mut table = MacTable::new(64, 120, None);
        table.learn(key(1), 7_u32, 10);
        assert_eq!(table.lookup(key(1), 130), Some(7));
        assert_eq!(table.lookup(key(1), 131), None);
        assert_eq!(table.lookup(key(2), 10), None);
        table.learn(key(1), 8, 140);
        assert_eq!(table.lookup(key(1), 141), Some(8));
    }

    #[test]
    fn vlans_are_apart() {
        let mut table = MacTable::new(64, 120, None);
        let of = |vlan| Key::new([2, 0, 0, 0, 0, 1], vlan).expect("a key");
        table.learn(of(0), 1_u32, 0);
        table.learn(of(5), 2, 0);
        assert_eq!((table.lookup(of(0), 0), table.lookup(of(5), 0)), (Some(1), Some(2)));
        assert_eq!(table.lookup(of(6), 0), None);
    }

    #[test]
    fn forgetting_a_value_keeps_the_others() {
        let mut table = MacTable::new(64, 120, None);
        for n in 0..20 {
            table.learn(key(n), n % 2, 0);
        }
        table.forget(1);
        for n in (1..20).step_by(2) {
            assert_eq!(table.lookup(key(n), 0), None);
        }
        assert!((0..20).step_by(2).any(|n| table.lookup(key(n), 0) == Some(0)));
    }

    #[test]
    fn a_station_that_moves_is_believed_after_a_while() {
        let mut table = MacTable::new(64, 120, None);
        table.set_times(120, 3);
        table.learn(key(1), 7_u32, 10);
        table.learn(key(1), 8, 12);
        assert_eq!(table.lookup(key(1), 12), Some(7));
        table.learn(key(1), 8, 13);
        assert_eq!(table.lookup(key(1), 13), Some(8));
        table.learn(key(1), 8, 14);
        assert_eq!(
            table.known(15).map(|known| (known.key, known.age)).collect::<Vec<_>>(),
            [(key(1), 1)]
        );
    }

    #[test]
    fn a_vlan_is_forgotten_alone() {
        let mut table = MacTable::new(64, 120, None);
        let of = |vlan| Key::new([2, 0, 0, 0, 0, 1], vlan).expect("a key");
        table.learn(of(4), 1_u32, 0);
        table.learn(of(5), 2, 0);
        table.forget_vlan(4);
        assert_eq!(table.known(0).map(|known| known.key.parts().1).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_flood_of_addresses_evicts_the_oldest_and_stays_bounded() {
        let mut table = MacTable::new(4, 120, Some(1));
        for n in 0..4 {
            table.learn(key(n), n, n);
        }
        table.learn(key(9), 9, 9);
        assert_eq!(table.slots.len(), 4);
        assert_eq!(table.lookup(key(0), 9), None);
        for n in [1, 2, 3, 9] {
            assert_eq!(table.lookup(key(n), 9), Some(n));
        }
    }

    #[test]
    fn a_thousand_stations_fit_into_the_default_size() {
        let mut table = MacTable::new(16_384, 120, None);
        for n in 0..1000 {
            table.learn(key(n), n, 0);
        }
        assert!((0..1000).all(|n| table.lookup(key(n), 1) == Some(n)));
    }
}
