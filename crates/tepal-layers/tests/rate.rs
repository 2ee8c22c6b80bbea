//! The rate limit holds its rate, and loses, cuts and reorders nothing.

mod layers_of_tests;

use std::time::Duration;

use tepal_layers::check::{Bench, Case, Seen, check_layer};
use tepal_layers::{Group, Lines, RateLimit, Side, Stack, Turn};

const SECOND: Duration = Duration::from_secs(1);

/// How many bytes leave in a span, with more written whenever less than 64 KiB wait.
fn sent_in(bench: &mut Bench, span: Duration) -> u64 {
    let end = bench.now + span;
    let mut sent = 0;
    while bench.now < end {
        while bench.chain.write_len() < 64 << 10 {
            bench.write(&[7; 16 << 10]).unwrap();
        }
        sent += bench.sent().len() as u64;
        assert!(bench.chain.write_len() <= 80 << 10, "what waits is bounded");
        let left = end.since(bench.now);
        bench.pass_time(left);
    }
    sent + bench.sent().len() as u64
}

#[test]
fn the_written_rate_is_held_within_one_percent_over_ten_seconds() {
    for rate in [1_000u64, 50_000, 1_000_000, 25_000_000] {
        let mut bench =
            Bench::new(&Stack::new().with(RateLimit::new().write(rate)), Side::Client).unwrap();
        let sent = sent_in(&mut bench, 10 * SECOND);
        let wanted = rate * 10;
        assert!(sent.abs_diff(wanted) * 100 <= wanted, "{sent} of {wanted}");
    }
}

#[test]
fn the_read_rate_is_held_and_the_wire_is_left_unread() {
    for rate in [5_000u64, 300_000] {
        let mut bench =
            Bench::new(&Stack::new().with(RateLimit::new().read(rate)), Side::Client).unwrap();
        bench.settle();
        let (end, mut fed) = (bench.now + 10 * SECOND, 0u64);
        while bench.now < end {
            while bench.chain.wants_read() {
                bench.receive(&[7; 8192]);
                fed += 8192;
            }
            assert!(bench.chain.read_len() <= 16 << 10);
            let left = end.since(bench.now);
            bench.pass_time(left);
        }
        let (read, wanted) = (bench.data().len() as u64, rate * 10);
        assert!(read.abs_diff(wanted) * 100 <= wanted, "{read} of {wanted}");
        assert_eq!(read + bench.chain.read_len() as u64, fed);
    }
}

#[test]
fn a_group_holds_all_of_its_connections_together() {
    let group = Group::new().write(100_000);
    let stack = Stack::new().with(RateLimit::new().group(&group));
    let own = Stack::new().with(RateLimit::new().write(20_000).group(&group));
    let mut benches: Vec<Bench> = [&stack, &stack, &own]
        .iter()
        .map(|stack| Bench::new(stack, Side::Client).unwrap())
        .collect();
    let mut sent = [0u64; 3];
    let end = benches[0].now + 10 * SECOND;
    let mut now = benches[0].now;
    while now < end {
        for (bench, sent) in benches.iter_mut().zip(&mut sent) {
            while bench.chain.write_len() < 32 << 10 {
                bench.write(&[7; 8 << 10]).unwrap();
            }
            let turn = Turn::new(now, &bench.workspace);
            bench.now = now;
            bench.chain.handle_timeout(turn);
            bench.settle();
            *sent += bench.sent().len() as u64;
        }
        now = now + Duration::from_millis(1);
    }
    let all: u64 = sent.iter().sum();
    assert!(all.abs_diff(1_000_000) <= 10_000, "{all}");
    assert!(sent[2] <= 202_000, "its own limit holds, too: {sent:?}");
    assert!(sent.iter().all(|sent| *sent > 50_000), "nobody starves: {sent:?}");
}

#[test]
fn a_quiet_connection_may_burst_by_what_it_was_given_and_not_more() {
    let stack = Stack::new().with(RateLimit::new().write(1000).burst(500));
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.now = bench.now + 100 * SECOND;
    bench.write(&[7; 5000]).unwrap();
    assert_eq!(bench.sent().len(), 500);
    for bad in [RateLimit::new().write(0), RateLimit::new().read(5).burst(0)] {
        assert!(Bench::new(&Stack::new().with(bad), Side::Client).is_err());
    }
}

#[test]
fn nothing_is_lost_cut_or_reordered_under_a_limit() {
    let limit = || RateLimit::new().write(100).read(100).burst(7);
    let stack = Stack::new().with(limit()).with(Lines::new(100));
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    let lines: Vec<Vec<u8>> = (0..30).map(|n| format!("line {n}").into_bytes()).collect();
    let mut wire = Vec::new();
    for line in &lines {
        bench.write(line).unwrap();
        wire.extend_from_slice(line);
        wire.push(b'\n');
    }
    bench.receive(&wire);
    bench.receive_eof();
    while bench.pass_time(SECOND) {}
    assert_eq!(bench.sent(), wire);
    assert_eq!(bench.frames(), lines);
    assert_eq!(bench.seen.last(), Some(&Seen::Eof), "the end waits for the bytes before it");
}

#[test]
fn a_limit_above_a_framing_layer_keeps_its_frames() {
    let stack = Stack::new().with(Lines::new(100)).with(RateLimit::new().read(1 << 20));
    let input = b"one\n\nthree\n";
    let case =
        Case { stack: &stack, side: Side::Client, input, writes: &[b"a", b"", b"b"], tail: b"" };
    let seen = check_layer(&case).unwrap();
    let frames: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Data(_))).collect();
    assert_eq!(frames.len(), 3);
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    for line in [&b"a"[..], b"", b"b"] {
        bench.write(line).unwrap();
    }
    assert_eq!(bench.sent(), b"a\n\nb\n");
}
