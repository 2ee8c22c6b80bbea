//! Linear and race, driven by hand.

use std::net::SocketAddr;
use std::time::Duration;

use tepal_base::Instant;
use tepal_names::strategy::{AttemptOutcome, CONNECTION_ATTEMPT_DELAY, Step, Strategy};

const DELAY: Duration = CONNECTION_ATTEMPT_DELAY;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn v4(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|last| SocketAddr::from(([192, 0, 2, last], 80))).collect()
}

fn v6(count: u16) -> Vec<SocketAddr> {
    (1..=count).map(|last| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80))).collect()
}

fn steps<E>(strategy: &mut Strategy<E>) -> Vec<Step> {
    std::iter::from_fn(|| strategy.poll_step()).collect()
}

#[test]
fn linear_shares_out_the_time_left_and_the_last_gets_the_rest() {
    let mut linear = Strategy::<&str>::linear(v4(3), at(0), at(30_000));
    assert_eq!(steps(&mut linear), [Step::Start(0)]);
    assert_eq!(linear.poll_timeout(), Some(at(10_000)));
    linear.handle_timeout(at(9_999));
    assert_eq!(steps(&mut linear), []);
    linear.handle_timeout(at(10_000));
    assert_eq!(steps(&mut linear), [Step::Cancel(0), Step::Start(1)]);
    // The second fails early; the last has all that remains.
    linear.handle_failed(1, "refused", at(12_000));
    assert_eq!(steps(&mut linear), [Step::Start(2)]);
    assert_eq!(linear.poll_timeout(), Some(at(30_000)));
    linear.handle_timeout(at(30_000));
    assert_eq!(steps(&mut linear), [Step::Cancel(2), Step::Failed]);
    assert_eq!(linear.poll_timeout(), None);
    let outcomes: Vec<_> = linear.attempts().iter().map(|attempt| &attempt.outcome).collect();
    assert_eq!(
        outcomes,
        [&AttemptOutcome::TimedOut, &AttemptOutcome::Failed("refused"), &AttemptOutcome::TimedOut]
    );
    assert_eq!(linear.attempts()[1].started, Some(at(10_000)));
    assert_eq!(linear.attempts()[1].ended, Some(at(12_000)));
}

#[test]
fn linear_tries_one_at_a_time_and_stops_at_the_first_success() {
    let mut linear = Strategy::linear(v4(3), at(0), at(1_000));
    linear.handle_failed(0, 1, at(1));
    linear.handle_connected(1, at(2));
    assert_eq!(steps(&mut linear), [Step::Start(0), Step::Start(1), Step::Done(1)]);
    assert_eq!(linear.attempts()[2].outcome, AttemptOutcome::Waiting);
    assert_eq!(linear.redundant_count(), 0);
}

#[test]
fn a_race_alternates_families() {
    let mixed: Vec<_> = v6(3).into_iter().chain(v4(2)).collect();
    let race = Strategy::<()>::race(mixed, at(0), at(1_000));
    let order: Vec<_> = race.attempts().iter().map(|attempt| attempt.address).collect();
    assert_eq!(order, [v6(3)[0], v4(2)[0], v6(3)[1], v4(2)[1], v6(3)[2]]);
}

#[test]
fn a_race_whose_first_address_answers_in_time_makes_no_redundant_connect() {
    let mut race = Strategy::<()>::race(v4(4), at(0), at(1_000));
    race.handle_connected(0, at(249));
    assert_eq!(steps(&mut race), [Step::Start(0), Step::Done(0)]);
    assert_eq!(race.redundant_count(), 0);
}

#[test]
fn a_race_starts_the_next_after_the_delay_or_at_once_on_failure() {
    let mut race = Strategy::race(v4(4), at(0), at(10_000));
    race.handle_timeout(at(249));
    assert_eq!(steps(&mut race), [Step::Start(0)]);
    race.handle_timeout(at(250));
    assert_eq!(steps(&mut race), [Step::Start(1)]);
    race.handle_failed(0, "refused", at(300));
    assert_eq!(steps(&mut race), [Step::Start(2)]);
    // The delay counts from the latest start.
    assert_eq!(race.poll_timeout(), Some(at(300) + DELAY));
    race.handle_connected(1, at(310));
    assert_eq!(steps(&mut race), [Step::Cancel(2), Step::Done(1)]);
    assert_eq!(race.redundant_count(), 1);
    assert_eq!(race.attempts()[3].outcome, AttemptOutcome::Waiting);
}

#[test]
fn a_late_success_or_failure_changes_nothing() {
    let mut race = Strategy::race(v4(2), at(0), at(10_000));
    race.handle_timeout(at(250));
    race.handle_connected(0, at(260));
    steps(&mut race);
    race.handle_connected(1, at(261));
    race.handle_failed(1, "reset", at(262));
    race.handle_failed(7, "never started", at(262));
    race.handle_timeout(at(20_000));
    race.cancel(at(20_000));
    assert_eq!(steps(&mut race), []);
    assert_eq!(race.attempts()[1].outcome, AttemptOutcome::Cancelled);
}

#[test]
fn every_error_is_kept_when_all_addresses_fail() {
    for mut strategy in
        [Strategy::linear(v4(3), at(0), at(10_000)), Strategy::race(v4(3), at(0), at(10_000))]
    {
        for index in 0..3 {
            strategy.handle_failed(index, index, at(index as u64));
        }
        assert_eq!(
            steps(&mut strategy),
            [Step::Start(0), Step::Start(1), Step::Start(2), Step::Failed]
        );
        for (index, attempt) in strategy.attempts().iter().enumerate() {
            assert_eq!(attempt.outcome, AttemptOutcome::Failed(index));
        }
    }
}

#[test]
fn without_addresses_or_time_it_fails_at_once() {
    let mut none = Strategy::<()>::linear([], at(0), at(10));
    assert_eq!(steps(&mut none), [Step::Failed]);
    let mut none = Strategy::<()>::race([], at(0), at(10));
    assert_eq!(steps(&mut none), [Step::Failed]);
    let mut late = Strategy::<()>::race(v4(2), at(10), at(10));
    assert_eq!(steps(&mut late), [Step::Failed]);
    assert_eq!(late.attempts()[0].outcome, AttemptOutcome::Waiting);
}

#[test]
fn a_cancelled_race_closes_all_it_opened() {
    let mut race = Strategy::<()>::race(v4(3), at(0), at(10_000));
    race.handle_timeout(at(250));
    steps(&mut race);
    race.cancel(at(300));
    assert_eq!(steps(&mut race), [Step::Cancel(0), Step::Cancel(1), Step::Failed]);
}

#[test]
fn a_race_past_its_deadline_closes_all_it_opened() {
    let mut race = Strategy::<()>::race(v4(2), at(0), at(600));
    race.handle_timeout(at(250));
    assert_eq!(race.poll_timeout(), Some(at(600)));
    race.handle_timeout(at(600));
    assert_eq!(
        steps(&mut race),
        [Step::Start(0), Step::Start(1), Step::Cancel(0), Step::Cancel(1), Step::Failed]
    );
}

/// Every started attempt is ended by exactly one of: our report, a cancel, the win. And the whole
/// ends by its deadline.
#[test]
fn any_schedule_ends_by_the_deadline_with_every_socket_accounted_for() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for round in 0..2_000 {
        let addresses: Vec<_> =
            v6(random(4) as u16).into_iter().chain(v4(random(4) as u8)).collect();
        let deadline = at(random(3_000));
        let mut strategy = if round % 2 == 0 {
            Strategy::linear(addresses, at(0), deadline)
        } else {
            Strategy::race(addresses, at(0), deadline)
        };
        let mut open = Vec::new();
        let mut now = at(0);
        let end = 'run: loop {
            while let Some(step) = strategy.poll_step() {
                match step {
                    Step::Start(index) => open.push(index),
                    Step::Cancel(index) => {
                        let place = open.iter().position(|&each| each == index);
                        open.swap_remove(place.expect("only open attempts are cancelled"));
                    }
                    Step::Done(index) => {
                        assert_eq!(open, [index]);
                        break 'run step;
                    }
                    Step::Failed => {
                        assert!(open.is_empty());
                        break 'run step;
                    }
                }
            }
            let wake = strategy.poll_timeout().expect("a running strategy has a deadline");
            let event = now + Duration::from_millis(random(400));
            if event < wake && !open.is_empty() {
                now = event;
                let index = open[random(open.len() as u64) as usize];
                if random(4) == 0 {
                    strategy.handle_connected(index, now);
                    open.retain(|&each| each != index);
                    open.push(index);
                } else {
                    open.retain(|&each| each != index);
                    strategy.handle_failed(index, (), now);
                }
            } else {
                now = wake;
                strategy.handle_timeout(now);
            }
        };
        assert!(now <= deadline, "{end:?}");
        assert_eq!(strategy.poll_timeout(), None);
    }
}

#[test]
fn handshakes_inside_an_attempt_have_a_time_of_their_own() {
    // Linear: 10 s for connecting two addresses; the first connects at once and hangs in its
    // handshakes. What those take is not taken from the second's time to connect.
    let mut linear = Strategy::linear(v4(2), at(0), at(10_000));
    linear.handle_reached(0, Instant::FAR, at(100));
    assert_eq!(linear.poll_timeout(), Some(Instant::FAR));
    linear.handle_timeout(at(30_000));
    assert_eq!(steps(&mut linear), [Step::Start(0)]);
    linear.handle_failed(0, (), at(30_100));
    assert_eq!(steps(&mut linear), [Step::Start(1)]);
    assert_eq!(linear.poll_timeout(), Some(at(40_000)));

    // With a limit for all of it the first has its share of that.
    let mut linear = Strategy::<()>::linear(v4(2), at(0), at(10_000));
    linear.handle_reached(0, at(20_000), at(0));
    assert_eq!(linear.poll_timeout(), Some(at(10_000)));
    linear.handle_timeout(at(10_000));
    assert_eq!(steps(&mut linear), [Step::Start(0), Step::Cancel(0), Step::Start(1)]);
    linear.handle_reached(1, at(20_000), at(11_000));
    assert_eq!(linear.poll_timeout(), Some(at(20_000)));
}

#[test]
fn a_race_goes_on_beside_handshakes_and_whoever_finishes_first_wins() {
    let mut race = Strategy::<()>::race(v4(2), at(0), at(600));
    race.handle_reached(0, Instant::FAR, at(10));
    assert_eq!(race.poll_timeout(), Some(at(250)));
    race.handle_timeout(at(250));
    race.handle_reached(1, Instant::FAR, at(260));
    race.handle_connected(1, at(300));
    let all = [Step::Start(0), Step::Start(1), Step::Cancel(0), Step::Done(1)];
    assert_eq!((steps(&mut race), race.redundant_count()), (all.to_vec(), 1));

    // Past the time for connecting only handshakes go on.
    let mut race = Strategy::<()>::race(v4(3), at(0), at(400));
    race.handle_reached(0, Instant::FAR, at(10));
    race.handle_timeout(at(250));
    race.handle_timeout(at(400));
    assert_eq!(steps(&mut race), [Step::Start(0), Step::Start(1), Step::Cancel(1)]);
    assert_eq!(race.poll_timeout(), Some(Instant::FAR));
    race.handle_failed(0, (), at(5_000));
    assert_eq!(steps(&mut race), [Step::Failed]);
    assert_eq!(race.attempts()[2].started, None);
}

#[test]
fn a_winner_that_is_lost_gives_way_to_what_is_left() {
    // A race: the second wins, the first is cancelled for it and gets its turn after all.
    let mut race = Strategy::race(v4(3), at(0), at(1_000));
    race.handle_timeout(at(250));
    race.handle_connected(1, at(260));
    assert_eq!(steps(&mut race).last(), Some(&Step::Done(1)));
    assert!(race.handle_lost(1, "no", true, at(5_260)));
    assert_eq!(race.attempts()[0].outcome, AttemptOutcome::Failed("no"));
    assert_eq!(race.attempts()[1].address, v4(1)[0]);
    assert_eq!(steps(&mut race), [Step::Start(1)]);
    // The five seconds of handshakes are not taken from the time to connect.
    race.handle_failed(1, "refused", at(5_300));
    assert_eq!(steps(&mut race), [Step::Start(2)]);
    assert_eq!(race.poll_timeout(), Some(at(6_000)));
    race.handle_connected(2, at(5_400));
    assert_eq!(steps(&mut race), [Step::Done(2)]);
    assert!(!race.handle_lost(2, "no", true, at(5_500)), "nothing is left");
    assert_eq!(race.poll_timeout(), None);

    let mut linear = Strategy::linear(v4(2), at(0), at(1_000));
    linear.handle_connected(0, at(10));
    assert!(linear.clone().handle_lost(0, (), true, at(20)));
    assert!(!linear.clone().handle_lost(0, (), false, at(20)), "nobody wants to go on");
    assert!(linear.handle_lost(0, (), true, at(20)));
    assert!(!linear.handle_lost(0, (), true, at(30)), "told once");
    assert_eq!(steps(&mut linear), [Step::Start(0), Step::Done(0), Step::Start(1)][2..]);
}

#[test]
fn late_addresses_are_put_among_those_whose_turn_has_not_come() {
    let mut race = Strategy::<&str>::race(v4(3), at(0), at(10_000));
    race.expect_more();
    race.handle_timeout(at(250));
    assert_eq!(steps(&mut race), [Step::Start(0), Step::Start(1)]);
    let all: Vec<_> = v6(2).into_iter().chain(v4(3)).collect();
    race.handle_addresses(all, at(300));
    // IPv4 was tried last; the next start stays where it was.
    assert_eq!(steps(&mut race), []);
    let order: Vec<_> = race.attempts().iter().map(|attempt| attempt.address).collect();
    assert_eq!(order, [v4(3)[0], v4(3)[1], v6(2)[0], v4(3)[2], v6(2)[1]]);
    assert_eq!(race.poll_timeout(), Some(at(500)));
    race.handle_timeout(at(500));
    assert_eq!(steps(&mut race), [Step::Start(2)]);
    race.handle_connected(2, at(510));
    assert_eq!(steps(&mut race), [Step::Cancel(0), Step::Cancel(1), Step::Done(2)]);
}

#[test]
fn running_out_of_addresses_is_no_end_while_more_are_expected() {
    let begin = || {
        let mut race = Strategy::race(v4(1), at(0), at(10_000));
        race.expect_more();
        race.handle_failed(0, "refused", at(10));
        assert_eq!(steps(&mut race), [Step::Start(0)]);
        assert_eq!(race.poll_timeout(), Some(at(10_000)));
        race
    };
    // They come, and are tried at once.
    let mut race = begin();
    race.handle_addresses(v6(1), at(900));
    assert_eq!(steps(&mut race), [Step::Start(1)]);
    race.handle_failed(1, "refused", at(910));
    assert_eq!(steps(&mut race), [Step::Failed]);
    // They do not come.
    let mut race = begin();
    race.handle_no_more(at(900));
    assert_eq!(steps(&mut race), [Step::Failed]);
    // What comes is known already.
    let mut race = begin();
    race.handle_addresses(v4(1), at(900));
    assert_eq!(steps(&mut race), [Step::Failed]);
    assert_eq!(race.attempts().len(), 1);
    // Nothing comes at all.
    let mut race = begin();
    race.handle_timeout(at(10_000));
    assert_eq!(steps(&mut race), [Step::Failed]);
    assert_eq!(race.poll_timeout(), None);
}

#[test]
fn a_winner_that_is_lost_waits_for_late_addresses_and_has_those_that_came_meanwhile() {
    let (start, end) = (at(0), at(10_000));
    let mut race = Strategy::race(v4(1), start, end);
    race.expect_more();
    race.handle_connected(0, at(10));
    assert!(race.handle_lost(0, "handshake", true, at(20)));
    assert_eq!(steps(&mut race), []);
    race.handle_addresses(v6(1), at(30));
    assert_eq!(steps(&mut race), [Step::Start(1)]);

    let mut race = Strategy::race(v4(1), start, end);
    race.expect_more();
    race.handle_connected(0, at(10));
    assert_eq!(steps(&mut race), [Step::Start(0), Step::Done(0)]);
    race.handle_addresses(v6(1), at(15));
    assert_eq!(steps(&mut race), [], "the winner is not disturbed");
    assert!(race.handle_lost(0, "handshake", true, at(20)));
    assert_eq!(steps(&mut race), [Step::Start(1)]);
}

#[test]
fn a_refusal_that_holds_for_all_ends_all() {
    let mut race = Strategy::race(v4(3), at(0), at(1_000));
    race.handle_timeout(at(250));
    race.handle_refused(0, "who are you", at(260));
    let all = [Step::Start(0), Step::Start(1), Step::Cancel(1), Step::Failed];
    assert_eq!(steps(&mut race), all);
    assert_eq!((race.attempts()[2].started, race.poll_timeout()), (None, None));
}
