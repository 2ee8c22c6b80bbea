use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::num::NonZeroU32;

/// A token for an object in a [`Slab`]: where it is, and which use of that place is meant.
///
/// A key outlives its object harmlessly. Once the object is gone the key finds nothing, even after
/// the place is used again, so a key may be handed to a kernel, to another thread or to a user.
pub struct Key<T> {
    index: u32,
    // Odd, as that of a place that is taken; see `Slot::version`. Never 0, so that an optional key
    // is no larger than a key.
    version: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The key as one word, for places that keep only a number (`epoll_data`, a Python object).
    pub const fn to_bits(self) -> u64 {
        (self.version.get() as u64) << 32 | self.index as u64
    }

    /// The key that [`to_bits`](Key::to_bits) made a word of.
    ///
    /// Any word is safe: one that was never a key finds nothing.
    pub const fn from_bits(bits: u64) -> Key<T> {
        Key::new(bits as u32, (bits >> 32) as u32)
    }

    const fn new(index: u32, version: u32) -> Key<T> {
        let version = match NonZeroU32::new(version) {
            Some(version) => version,
            None => NEVER,
        };
        Key { index, version, of: PhantomData }
    }
}

/// No place is taken in an even version.
const NEVER: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}
impl<T> Eq for Key<T> {}
impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}v{})", self.index, self.version)
    }
}

/// Objects in one growing array, named by [`Key`]s that notice reuse.
///
/// Insertion, look-up and removal are O(1). A place is used again after removal; its version then
/// differs, until 2^31 uses have gone by.
///
/// ```
/// let mut slab = tepal_base::Slab::new();
/// let first = slab.insert("first");
/// assert_eq!(slab.remove(first), Some("first"));
/// let second = slab.insert("second"); // takes the same place
/// assert_eq!(slab.get(first), None);
/// assert_eq!(slab.get(second), Some(&"second"));
/// ```
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    // Head of the list of free places, or NONE.
    free: u32,
    len: usize,
}

struct Slot<T> {
    // Counts insertions and removals at this place: odd = taken, even = free.
    version: u32,
    entry: Entry<T>,
}

enum Entry<T> {
    Taken(T),
    Free { next: u32 },
}

const NONE: u32 = u32::MAX;

impl<T> Slab<T> {
    /// An empty slab, which allocates nothing yet.
    pub const fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: NONE, len: 0 }
    }

    /// Stores a value and names it.
    ///
    /// # Panics
    ///
    /// Past 2^32 - 1 objects held at once.
    pub fn insert(&mut self, value: T) -> Key<T> {
        self.insert_with(|_| value)
    }

    /// Stores the value that `make` builds, which may contain its own key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key<T>) -> T) -> Key<T> {
        let index = match self.free {
            NONE => {
                assert!(self.slots.len() < NONE as usize, "a slab holds fewer than 2^32 objects");
                self.slots.push(Slot { version: 0, entry: Entry::Free { next: NONE } });
                self.slots.len() as u32 - 1
            }
            index => index,
        };
        let slot = &mut self.slots[index as usize];
        let Entry::Free { next } = slot.entry else { unreachable!("the free list is free") };
        slot.version = slot.version.wrapping_add(1);
        let key = Key::new(index, slot.version);
        slot.entry = Entry::Taken(make(key));
        self.free = next;
        self.len += 1;
        key
    }

    /// Takes the object out. `None` if it is gone already.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.version != key.version.get() || !matches!(slot.entry, Entry::Taken(_)) {
            return None;
        }
        let entry = core::mem::replace(&mut slot.entry, Entry::Free { next: self.free });
        slot.version = slot.version.wrapping_add(1);
        self.free = key.index;
        self.len -= 1;
        match entry {
            Entry::Taken(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    /// Removes every object, in order of place.
    pub fn drain(&mut self) -> Vec<T> {
        let keys: Vec<_> = self.iter().map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// The object, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some(Slot { version, entry: Entry::Taken(value) }) if *version == key.version.get() => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The object, or `None` if it is gone.
    #[inline]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some(Slot { version, entry: Entry::Taken(value) }) if *version == key.version.get() => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Whether the key still names an object.
    pub fn contains(&self, key: Key<T>) -> bool {
        self.get(key).is_some()
    }

    /// All objects with their keys, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.entry {
            Entry::Taken(value) => Some((Key::new(index as u32, slot.version), value)),
            Entry::Free { .. } => None,
        })
    }

    /// How many objects are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_key_is_no_larger_and_no_word_is_a_key_by_accident() {
        assert_eq!(size_of::<Option<Key<u8>>>(), size_of::<u64>());
        let mut slab = Slab::new();
        let key = slab.insert(1u8);
        for bits in [0, 1, 2 << 32, u64::MAX] {
            assert_eq!(slab.get(Key::from_bits(bits)), None, "{bits:x}");
        }
        assert_eq!(Key::from_bits(key.to_bits()), key);
    }

    #[test]
    fn a_stale_key_finds_nothing_after_its_place_is_used_again() {
        let mut slab = Slab::new();
        let old = slab.insert(1);
        assert_eq!(slab.remove(old), Some(1));
        assert_eq!(slab.remove(old), None);
        let new = slab.insert(2);
        assert_ne!(old, new);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.get(new), Some(&2));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_word_that_was_never_a_key_finds_nothing() {
        let mut slab = Slab::new();
        let key = slab.insert(());
        slab.remove(key);
        for bits in [0, 1, u64::MAX, 2 << 32, key.to_bits()] {
            assert!(!slab.contains(Key::from_bits(bits)));
        }
    }

    #[test]
    fn a_million_objects_come_and_go_in_bounded_space() {
        let mut slab = Slab::new();
        for round in 0..1_000_000u32 {
            let key = slab.insert_with(|key: Key<(u64, u32)>| (key.to_bits(), round));
            assert_eq!(slab.get(key), Some(&(key.to_bits(), round)));
            slab.remove(key);
        }
        assert!(slab.is_empty());
        assert_eq!(slab.slots.len(), 1);
    }
}
