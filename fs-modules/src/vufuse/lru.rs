//! A bounded store of what was used last.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Values by key, each with a weight; the ones that were not used for longest go first.
#[derive(Debug)]
pub struct Lru<K, V> {
    values: HashMap<K, (V, usize, u64)>,
    order: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
    limit: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Lru<K, V> {
    /// One that keeps values of so much weight in all.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), clock: 0, weight: 0, limit }
    }

    /// A value that is kept.
    pub fn get(&mut self, key: &K) -> Option<V> {
        self.clock += 1;
        let (value, _, used) = self.values.get_mut(key)?;
        self.order.remove(used);
        self.order.insert(self.clock, key.clone());
        *used = self.clock;
        Some(value.clone())
    }

    /// Keeps a value; one that alone is over the limit is not kept.
    pub fn put(&mut self, key: K, value: V, weight: usize) {
        if weight > self.limit {
            return;
        }
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        if let Some((_, old, used)) = self.values.insert(key, (value, weight, self.clock)) {
            self.order.remove(&used);
            self.weight -= old;
        }
        self.weight += weight;
        while self.weight > self.limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, weight, _)) = self.values.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut lru = Lru::new(10);
        lru.put("a", 1, 4);
        lru.put("b", 2, 4);
        assert_eq!(lru.get(&"a"), Some(1));
        lru.put("c", 3, 4);
        assert_eq!([lru.get(&"a"), lru.get(&"b"), lru.get(&"c")], [Some(1), None, Some(3)]);
        lru.put("a", 9, 10);
        assert_eq!([lru.get(&"a"), lru.get(&"c")], [Some(9), None]);
        lru.put("d", 5, 11);
        assert_eq!([lru.get(&"a"), lru.get(&"d")], [Some(9), None]);
    }
}
