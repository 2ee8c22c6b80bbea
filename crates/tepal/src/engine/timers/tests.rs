use super::*;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn fire(timers: &mut Timers<u64>, now: u64) -> Vec<u64> {
    let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(now))).collect();
    due.into_iter().filter_map(|key| timers.start_due(key)).collect()
}

#[test]
fn equal_deadlines_fire_in_the_order_of_arming() {
    let mut timers = Timers::new();
    let keys: Vec<_> = (0..10).map(|n| timers.insert(n)).collect();
    for key in keys.iter().rev() {
        timers.arm(*key, at(5));
    }
    assert!(fire(&mut timers, 4).is_empty());
    assert_eq!(fire(&mut timers, 5), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_postponed_timer_takes_its_new_place_among_equals() {
    let mut timers = Timers::new();
    let (a, b) = (timers.insert(1), timers.insert(2));
    timers.arm(a, at(1));
    timers.arm(b, at(5));
    timers.arm(a, at(5));
    assert_eq!(timers.next_deadline(), Some(at(5)));
    assert_eq!(fire(&mut timers, 5), [2, 1]);
}

#[test]
fn a_million_armed_and_cancelled_timers_leave_nothing_behind() {
    let mut timers = Timers::new();
    let keys: Vec<_> = (0..1_000_000u64)
        .map(|n| {
            let key = timers.insert(n);
            timers.arm(key, at(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20));
            key
        })
        .collect();
    for key in keys {
        assert!(timers.remove(key).is_some());
        let kept = timers.heap.len() + timers.fresh.len();
        assert!(timers.stale <= kept - timers.stale + SLACK);
    }
    assert_eq!((timers.len(), timers.next_deadline()), (0, None));
    assert!(timers.heap.is_empty() && timers.heap.capacity() <= 4 * SLACK);
    assert!(timers.fresh.is_empty() && timers.fresh.capacity() <= 4 * SLACK);
}

#[test]
fn a_timer_that_is_cancelled_in_the_turn_that_armed_it_leaves_nothing() {
    let mut timers = Timers::new();
    let kept = timers.insert_armed(0, at(7));
    for n in 1..1000 {
        let key = timers.insert_armed(n, at(n));
        assert!(timers.remove(key).is_some());
    }
    assert_eq!((timers.fresh.len(), timers.stale), (1, 0));
    let (a, b) = (timers.insert_armed(1, at(3)), timers.insert_armed(2, at(4)));
    assert!(timers.disarm(a) && timers.remove(b).is_some());
    assert_eq!(timers.stale, 1);
    assert_eq!(timers.next_deadline(), Some(at(7)));
    assert_eq!((timers.heap.len(), timers.fresh.len(), timers.stale), (1, 0, 0));
    assert!(timers.arm(kept, at(5)) && timers.arm(a, at(5)));
    assert_eq!(fire(&mut timers, 5), [0, 1]);
}

#[test]
fn a_million_re_arms_do_not_grow_the_store() {
    let mut timers = Timers::new();
    let key = timers.insert(0);
    for n in 0..1_000_000u64 {
        // Later, earlier, later: both paths.
        timers.arm(key, at(if n % 3 == 1 { 1_000_000 - n / 2 } else { 1_000_000 + n }));
    }
    assert!(timers.heap.len() + timers.fresh.len() <= 2 * SLACK + 2);
    assert_eq!(fire(&mut timers, u64::MAX), [0]);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn a_due_timer_can_still_be_stopped_or_armed_anew() {
    let mut timers = Timers::new();
    let (a, b) = (timers.insert(1), timers.insert(2));
    timers.arm(a, at(1));
    timers.arm(b, at(1));
    let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(1))).collect();
    assert!(timers.is_active(a) && timers.disarm(a) && !timers.is_active(a));
    assert!(timers.arm(b, at(9)));
    assert!(due.iter().all(|key| timers.start_due(*key).is_none()));
    assert_eq!(timers.next_deadline(), Some(at(9)));
}

#[test]
fn random_operations_agree_with_a_sorted_list() {
    let mut seed = 42u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut timers = Timers::new();
    let mut keys: Vec<TimerKey<u64>> = Vec::new();
    // (deadline, order of arming, name)
    let mut model: Vec<(u64, u64, u64)> = Vec::new();
    let (mut now, mut order) = (0, 0);
    for name in 0..200u64 {
        keys.push(timers.insert(name));
    }
    for _ in 0..50_000 {
        let name = random(200);
        let key = keys[name as usize];
        match random(10) {
            0 => {
                timers.disarm(key);
                model.retain(|entry| entry.2 != name);
            }
            1 => {
                now += random(30);
                let mut expected: Vec<_> =
                    model.iter().filter(|entry| entry.0 <= now).copied().collect();
                expected.sort_unstable();
                model.retain(|entry| entry.0 > now);
                let fired = fire(&mut timers, now);
                assert_eq!(fired, expected.iter().map(|entry| entry.2).collect::<Vec<_>>());
                for name in fired {
                    assert!(timers.finish(keys[name as usize], name).is_none());
                }
            }
            _ => {
                let deadline = now + random(100);
                timers.arm(key, at(deadline));
                model.retain(|entry| entry.2 != name);
                model.push((deadline, order, name));
                order += 1;
            }
        }
        let first = model.iter().map(|entry| entry.0).min();
        assert_eq!(timers.next_deadline(), first.map(at));
    }
}
