//! Answers that are still true: a bounded map that drops what was not used for longest.

use std::collections::HashMap;
use std::sync::Arc;

use tepal_base::Instant;

/// A least-recently-used map with an end of life for each entry.
///
/// Bounded twice: by a count of entries, and by a sum of sizes of 1 KiB per allowed entry, so
/// that large answers cannot fill the memory.
pub(crate) struct Cache<V> {
    map: HashMap<Arc<[u8]>, u32>,
    entries: Vec<Entry<V>>,
    free: Vec<u32>,
    // Ends of a doubly linked list through `entries`; NONE if empty. Head is the newest.
    head: u32,
    tail: u32,
    max_count: usize,
    max_size: usize,
    size: usize,
}

struct Entry<V> {
    key: Arc<[u8]>,
    // `None` only while the place is free.
    value: Option<V>,
    expires: Instant,
    size: usize,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;
const SIZE_PER_ENTRY: usize = 1024;

impl<V: Clone> Cache<V> {
    pub(crate) fn new(max_count: usize) -> Cache<V> {
        let max_count = max_count.min(NONE as usize - 1);
        Cache {
            map: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            head: NONE,
            tail: NONE,
            max_count,
            max_size: max_count.saturating_mul(SIZE_PER_ENTRY),
            size: 0,
        }
    }

    /// The value and when it ends, if it is there and has not ended.
    pub(crate) fn get(&mut self, key: &[u8], now: Instant) -> Option<(V, Instant)> {
        let index = *self.map.get(key)?;
        let entry = self.entries.get(index as usize)?;
        if entry.expires <= now {
            self.remove(index);
            return None;
        }
        let found = (entry.value.clone()?, entry.expires);
        self.unlink(index);
        self.link_newest(index);
        Some(found)
    }

    pub(crate) fn insert(&mut self, key: &[u8], value: V, size: usize, expires: Instant) {
        if let Some(&index) = self.map.get(key) {
            self.remove(index);
        }
        let size = size + key.len() + size_of::<Entry<V>>();
        if self.max_count == 0 || size > self.max_size / 2 {
            return;
        }
        while self.map.len() >= self.max_count || self.size + size > self.max_size {
            self.remove(self.tail);
        }
        let key: Arc<[u8]> = key.into();
        let entry =
            Entry { key: key.clone(), value: Some(value), expires, size, newer: NONE, older: NONE };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.map.insert(key, index);
        self.size += size;
        self.link_newest(index);
    }

    pub(crate) fn clear(&mut self) {
        *self = Cache::new(self.max_count);
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    fn remove(&mut self, index: u32) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.value = None;
        self.size -= entry.size;
        let key = entry.key.clone();
        self.map.remove(&key);
        self.free.push(index);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { newer, older, .. } = self.entries[index as usize];
        match newer {
            NONE => self.head = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.tail = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let older = self.head;
        let entry = &mut self.entries[index as usize];
        entry.newer = NONE;
        entry.older = older;
        match older {
            NONE => self.tail = index,
            older => self.entries[older as usize].newer = index,
        }
        self.head = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::new(3);
        for key in [b"a", b"b", b"c"] {
            cache.insert(key, key[0], 0, at(10));
        }
        assert_eq!(cache.get(b"a", at(1)), Some((b'a', at(10))));
        cache.insert(b"d", b'd', 0, at(10));
        assert_eq!(cache.get(b"b", at(1)), None);
        assert_eq!(cache.len(), 3);
        for key in [b"a", b"c", b"d"] {
            assert!(cache.get(key, at(1)).is_some());
        }
        cache.insert(b"d", b'e', 0, at(20));
        assert_eq!(cache.get(b"d", at(15)), Some((b'e', at(20))));
    }

    #[test]
    fn nothing_outlives_its_time() {
        let mut cache = Cache::new(2);
        cache.insert(b"a", 1, 0, at(10));
        assert!(cache.get(b"a", at(9)).is_some());
        assert!(cache.get(b"a", at(10)).is_none());
        assert_eq!(cache.len(), 0);
        let mut none = Cache::new(0);
        none.insert(b"a", 1, 0, at(10));
        assert!(none.get(b"a", at(0)).is_none());
    }

    #[test]
    fn large_answers_cannot_fill_the_memory() {
        let mut cache = Cache::new(100);
        cache.insert(b"huge", 1, 60_000, at(10));
        assert_eq!(cache.len(), 0);
        for key in 0..1000u32 {
            cache.insert(&key.to_be_bytes(), 1, 10_000, at(10));
            assert!(cache.size <= 100 * 1024);
        }
        assert!(cache.len() < 11 && cache.entries.len() < 12);
    }
}
