//! Random operations on the timer store against a sorted list.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the store is used by the engine")]

#[path = "../../crates/tepal/src/engine/timers.rs"]
mod timers;

use libfuzzer_sys::fuzz_target;
use tepal_base::Instant;
use timers::Timers;

const COUNT: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut store = Timers::new();
    let keys: Vec<_> = (0..COUNT).map(|name| store.insert(name)).collect();
    // Deadline, order of arming, name.
    let mut model: Vec<(u64, u32, usize)> = Vec::new();
    let (mut now, mut order) = (0, 0);
    for operation in data.as_chunks::<2>().0 {
        let [code, number] = *operation;
        let (name, number) = (usize::from(code) % COUNT, u64::from(number));
        match code / COUNT as u8 {
            0..=7 => {
                model.retain(|armed| armed.2 != name);
                assert!(store.arm(keys[name], Instant::from_nanos(now + number)));
                model.push((now + number, order, name));
                order += 1;
            }
            8..=11 => {
                let armed = model.iter().any(|armed| armed.2 == name);
                assert_eq!(store.disarm(keys[name]), armed);
                model.retain(|armed| armed.2 != name);
            }
            _ => {
                now += number;
                model.sort_unstable();
                let due = model.partition_point(|armed| armed.0 <= now);
                let expected: Vec<usize> = model.drain(..due).map(|armed| armed.2).collect();
                let due = std::iter::from_fn(|| store.pop_due(Instant::from_nanos(now)));
                let due: Vec<_> = due.collect();
                let fired: Vec<_> =
                    due.into_iter().filter_map(|key| store.start_due(key)).collect();
                assert_eq!(fired, expected);
                for name in fired {
                    assert!(store.finish(keys[name], name).is_none());
                }
            }
        }
        model.sort_unstable();
        assert_eq!(
            store.next_deadline().map(Instant::as_nanos),
            model.first().map(|armed| armed.0)
        );
        for (name, key) in keys.iter().enumerate() {
            let armed = model.iter().any(|armed| armed.2 == name);
            assert_eq!(store.is_active(*key), armed);
        }
    }
});
