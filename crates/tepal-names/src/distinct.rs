//! Lists without repetitions.

use std::collections::HashSet;
use std::hash::Hash;

/// Takes each value once, in the order of arrival.
///
/// A short list, as nearly all are, is looked through. A long one keeps a set beside it, so that n
/// values cost n steps: a hosts file or a name server may well give thousands of addresses.
pub(crate) struct Distinct<T> {
    values: Vec<T>,
    // All of `values` once there are more than SHORT, else empty.
    seen: HashSet<T>,
}

const SHORT: usize = 16;

impl<T: Copy + Eq + Hash> Distinct<T> {
    pub(crate) fn new() -> Distinct<T> {
        Distinct { values: Vec::new(), seen: HashSet::new() }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.values.len() <= SHORT {
            if self.values.contains(&value) {
                return;
            }
        } else {
            if self.seen.is_empty() {
                self.seen.extend(&self.values);
            }
            if !self.seen.insert(value) {
                return;
            }
        }
        self.values.push(value);
    }

    pub(crate) fn into_vec(self) -> Vec<T> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_kept_once_in_order_whatever_the_length() {
        for count in [0, 1, SHORT - 1, SHORT, SHORT + 1, SHORT + 2, 1000] {
            let mut distinct = Distinct::new();
            for round in 0..3 {
                for value in 0..count {
                    // Forward, backward, forward.
                    distinct.push(if round == 1 { count - 1 - value } else { value });
                }
            }
            assert_eq!(distinct.into_vec(), (0..count).collect::<Vec<_>>());
        }
    }
}
