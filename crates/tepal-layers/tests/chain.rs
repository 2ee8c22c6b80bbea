//! The chain: order, pauses, counts, budgets, and layers that come and go.

mod layers_of_tests;

use std::sync::Arc;
use std::time::Duration;

use layers_of_tests::{Pauser, Probe};
use tepal_layers::check::{Bench, Pair, Seen, Shift};
use tepal_layers::{
    Chain, Error, ErrorKind, Event, Fault, How, Idle, Keepsakes, Late, LayerSpec, LengthPrefixed,
    Limits, Lines, Notice, Pauses, Place, ProxyHeader, RateLimit, Residual, Side, Socks5, Stack,
    Turn, Workspace,
};

const MINUTE: Duration = Duration::from_secs(60);

fn bench(stack: Stack) -> Bench {
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.settle();
    bench
}

fn lines() -> Stack {
    Stack::new().with(Lines::new(1000))
}

/// Runs a protocol that is a function from data to a count of used bytes.
fn run(bench: &mut Bench, bytes: &[u8], mut used: impl FnMut(&[u8]) -> usize) -> Vec<Vec<u8>> {
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.receive(turn, &mut bytes.to_vec());
    let mut calls = Vec::new();
    while let Some(event) = bench.chain.poll_event(turn) {
        match event {
            Event::Data => {
                let data = bench.chain.data().to_vec();
                bench.chain.took(used(&data), turn);
                calls.push(data);
            }
            Event::Failed(error) => bench.seen.push(Seen::Failed(error)),
            Event::Eof => bench.seen.push(Seen::Eof),
            _ => {}
        }
    }
    calls
}

#[test]
fn a_count_erases_exactly_that_many_bytes_and_the_rest_heads_the_next_call() {
    for stack in [Stack::new(), Stack::new().with(RateLimit::new())] {
        let mut bench = bench(stack);
        let two = |data: &[u8]| data.len().min(2);
        assert_eq!(run(&mut bench, b"abcde", two), [&b"abcde"[..], b"cde", b"e"]);
        assert_eq!(run(&mut bench, b"fg", |_| 0), [b"fg"]);
        assert_eq!(run(&mut bench, b"h", |data| data.len()), [b"fgh"]);
        assert_eq!(bench.chain.read_len(), 0);
        bench.chain.set_read_low(4).unwrap();
        assert!(run(&mut bench, b"ijk", |data| data.len()).is_empty());
        assert_eq!(run(&mut bench, b"l", |data| data.len()), [b"ijkl"]);
        assert!(run(&mut bench, b"mno", |data| data.len()).is_empty());
        let turn = Turn::new(bench.now, &bench.workspace);
        bench.chain.receive_eof(turn);
        assert_eq!(run(&mut bench, b"", |data| data.len()), [b"mno"]);
        assert_eq!(bench.seen.last(), Some(&Seen::Eof), "the low mark does not hold at the end");
    }
}

#[test]
fn a_miscount_fails_the_connection_and_names_the_culprit() {
    for (stack, input, count) in
        [(Stack::new(), &b"abc"[..], 4), (lines(), b"abc\n", 2), (lines(), b"abc\n", 4)]
    {
        let mut bench = bench(stack);
        run(&mut bench, input, |_| count);
        let error = bench.failure().expect("a failure");
        assert_eq!((error.kind(), error.fault()), (ErrorKind::WrongCount, Fault::Local));
    }
}

#[test]
fn a_full_input_buffer_without_progress_is_told_and_with_progress_is_not() {
    for stack in [Stack::new(), Stack::new().with(RateLimit::new())] {
        let limits = Limits { input: 100_000, ..Limits::default() };
        let place = Place::new(Side::Client);
        let mut stalled = Bench::at(&stack, &place, limits).unwrap();
        let mut moving = Bench::at(&stack, &place, limits).unwrap();
        for _ in 0..40 {
            assert!(moving.chain.wants_read());
            run(&mut moving, &[7; 5000], |data| if data.len() >= 90_000 { 90_000 } else { 0 });
            run(&mut stalled, &[7; 5000], |_| 0);
        }
        assert_eq!(moving.failure(), None);
        assert_eq!(moving.chain.read_len(), 20_000);
        assert_eq!(stalled.failure_kind(), Some(ErrorKind::InputStalled));
        assert_eq!(
            moving.chain.set_read_low(100_001).unwrap_err().kind(),
            ErrorKind::InvalidSetting
        );
    }
}

#[test]
fn a_frame_that_is_left_is_offered_again_when_more_has_come() {
    let mut bench = bench(lines());
    // The second line counts as more, the third is not there yet.
    assert_eq!(run(&mut bench, b"one\ntwo\nthr", |_| 0), [b"one", b"one"]);
    let calls = run(&mut bench, b"ee\n", |data| data.len());
    assert_eq!(calls, [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_pause_in_the_middle_of_a_batch_holds_back_every_later_byte() {
    let mut bench = bench(lines());
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.receive(turn, &mut b"one\ntwo\nthree\n".to_vec());
    let mut got = Vec::new();
    while let Some(event) = bench.chain.poll_event(turn) {
        assert!(matches!(event, Event::Data | Event::Layer(_) | Event::Established));
        if matches!(event, Event::Data) {
            got.push(bench.chain.data().to_vec());
            bench.chain.took(got[got.len() - 1].len(), turn);
            bench.chain.pause_reading();
        }
    }
    assert_eq!(got, [b"one"]);
    bench.chain.receive_eof(turn);
    assert!(bench.chain.poll_event(turn).is_none(), "no end during a pause");
    bench.chain.resume_reading();
    bench.settle();
    assert_eq!(bench.frames(), [&b"two"[..], b"three"]);
    assert_eq!(bench.seen.last(), Some(&Seen::Eof));
}

#[test]
fn a_layer_in_the_middle_tells_a_pause_from_above_from_one_from_below() {
    let probe = Arc::new(Probe::default());
    let stack = Stack::new().with(Pauser(Arc::clone(&probe)));
    let limits = Limits { link: 1000, ..Limits::default() };
    let mut bench = Bench::at(&stack, &Place::new(Side::Client), limits).unwrap();
    bench.settle();
    assert_eq!(probe.last(), (Pauses::NONE, true));
    bench.chain.pause_reading();
    bench.receive(b"x");
    assert_eq!(probe.last(), (Pauses::PROTOCOL, true), "the protocol above wants no more");
    assert_eq!(bench.chain.read_pauses(), Pauses::BLOCKED);
    bench.chain.resume_reading();
    bench.settle();
    assert!(bench.chain.read_pauses().is_empty());
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.write(&[7; 5000], turn).unwrap();
    assert!(bench.chain.poll_event(turn).is_none());
    assert_eq!(probe.last(), (Pauses::NONE, false), "the wire below takes no more");
}

#[test]
fn written_bytes_are_counted_in_all_layers_until_the_wire_has_them() {
    let stack = Stack::new().with(RateLimit::new()).with(Shift(1)).with(RateLimit::new());
    let mut bench = bench(stack);
    let turn = Turn::new(bench.now, &bench.workspace);
    for block in 0..40 {
        bench.chain.write(&[block; 16 << 10], turn).unwrap();
        assert!(bench.chain.poll_event(turn).is_none());
        assert_eq!(bench.chain.write_len(), (usize::from(block) + 1) * (16 << 10));
        // Beyond one link's share everything waits at the top, where the protocol sees it.
        assert!(bench.chain.output().len() <= 80 << 10);
    }
    let mut left = bench.chain.write_len();
    while left > 0 {
        let count = bench.chain.output().len().min(10_000);
        assert!(count > 0, "bytes wait and none can be sent");
        bench.chain.sent(count, turn);
        assert!(bench.chain.poll_event(turn).is_none());
        left -= count;
        assert_eq!(bench.chain.write_len(), left);
    }
}

#[test]
fn a_budget_ends_the_pumping_and_the_rest_comes_in_the_next_turn() {
    let stack = Stack::new().with(RateLimit::new()).with(Lines::new(100));
    let mut bench = bench(stack);
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.set_budget(2000);
    let mut input = b"0123456789abcdef012345678901234\n".repeat(1000);
    bench.chain.receive(turn, &mut input);
    let (mut turns, mut frames) = (0, 0);
    loop {
        let mut here = 0;
        while let Some(event) = bench.chain.poll_event(turn) {
            if matches!(event, Event::Data) {
                bench.chain.took(bench.chain.data().len(), turn);
                here += 1;
            }
        }
        frames += here;
        turns += 1;
        assert!(here <= 2000 / 32 && turns < 10_000);
        if !bench.chain.has_work() {
            break;
        }
        bench.chain.set_budget(2000);
    }
    assert_eq!(frames, 1000);
    assert!(turns > 10);
}

#[test]
fn bytes_before_a_reset_arrive_before_its_error_and_it_comes_once() {
    let mut bench = bench(lines());
    bench.chain.pause_reading();
    bench.receive(b"one\ntwo\nthr");
    let reset = Error::os(&std::io::Error::from_raw_os_error(104));
    bench.chain.receive_error(reset.clone(), Turn::new(bench.now, &bench.workspace));
    bench.settle();
    assert!(bench.frames().is_empty());
    bench.chain.resume_reading();
    bench.settle();
    assert_eq!(bench.frames(), [b"one", b"two"]);
    let failures = bench.seen.iter().filter(|seen| matches!(seen, Seen::Failed(_))).count();
    assert_eq!((failures, bench.failure()), (1, Some(&reset)));
    assert_eq!(reset.kind(), ErrorKind::Io(std::io::ErrorKind::ConnectionReset, Some(104)));
    assert_eq!(bench.write(b"x").unwrap_err(), reset, "a failed machine gives the same error");
    bench.receive(b"late\n");
    bench.receive_eof();
    assert_eq!(bench.frames().len(), 2);
}

#[test]
fn what_a_layer_says_before_it_fails_still_leaves() {
    let mut bench = bench(Stack::new().with(Shift(1)).with(Lines::new(3)));
    bench.write(b"abc").unwrap();
    bench.sent();
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.write(b"ab", turn).unwrap();
    bench.chain.write(b"toolong", turn).unwrap();
    bench.settle();
    assert_eq!(bench.sent(), b"bc\x0b");
    assert_eq!(bench.failure_kind(), Some(ErrorKind::FrameTooLong));
}

#[test]
fn a_layer_pushed_on_top_stands_above_the_bytes_already_written() {
    let mut bench = bench(Stack::new());
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.write(b"plain|", turn).unwrap();
    let spec: Arc<dyn LayerSpec> = Arc::new(Shift(1));
    bench.chain.push(&spec, None, Residual::Reject, &mut Keepsakes::default(), turn).unwrap();
    bench.chain.write(b"abc", turn).unwrap();
    bench.settle();
    assert_eq!(bench.sent(), b"plain|bcd");
    assert!(bench.saw(&Seen::Layer(Notice::Added { layer: "shift" })));
    bench.receive(b"bcd");
    assert_eq!(bench.data(), b"abc");
}

#[test]
fn a_layer_pushed_below_another_waits_for_what_was_written_before() {
    // The rate limit holds bytes back at the time of the push: they must not meet the new layer.
    let slow = || RateLimit::new().write(1000).burst(10);
    let mut bench = bench(Stack::new().with(slow()).with(Lines::new(100)));
    bench.write(b"before the push").unwrap();
    let spec: Arc<dyn LayerSpec> = Arc::new(Shift(1));
    let turn = Turn::new(bench.now, &bench.workspace);
    bench
        .chain
        .push(&spec, Some("rate"), Residual::Reject, &mut Keepsakes::default(), turn)
        .unwrap();
    assert_eq!(bench.chain.layers().collect::<Vec<_>>(), ["rate", "lines"]);
    let again = bench.chain.push(&spec, None, Residual::Reject, &mut Keepsakes::default(), turn);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Closing);
    bench.write(b"behind").unwrap();
    bench.receive(b"bcd\x0b");
    assert!(bench.frames().is_empty(), "what comes waits for the new layer, too");
    for _ in 0..100 {
        bench.pass_time(Duration::from_millis(10));
    }
    assert_eq!(bench.sent(), b"before the push\ncfijoe\x0b");
    assert_eq!(bench.chain.layers().collect::<Vec<_>>(), ["shift", "rate", "lines"]);
    assert_eq!(bench.frames(), [b"abc"]);
}

#[test]
fn residual_bytes_are_rejected_discarded_or_fed() {
    let spec: Arc<dyn LayerSpec> = Arc::new(Shift(1));
    for (residual, data) in [
        (Residual::Reject, None),
        (Residual::Discard, Some(&b"a"[..])),
        (Residual::Feed, Some(b"xyza")),
    ] {
        let mut bench = bench(Stack::new());
        run(&mut bench, b"GOyz{", |data| 2 * usize::from(data.starts_with(b"GO")));
        let turn = Turn::new(bench.now, &bench.workspace);
        bench.chain.push(&spec, None, residual, &mut Keepsakes::default(), turn).unwrap();
        bench.receive(b"b");
        match data {
            None => assert_eq!(bench.failure_kind(), Some(ErrorKind::ResidualRejected)),
            Some(data) => assert_eq!(bench.data(), data),
        }
    }
}

#[test]
fn a_layer_popped_from_the_middle_takes_along_what_was_written_before() {
    let stack = || Stack::new().with(Shift(1)).with(LengthPrefixed::new(100).width(1));
    let mut pair = Pair::new(&stack(), &stack()).unwrap();
    pair.client.write(b"abc").unwrap();
    for side in [&mut pair.client, &mut pair.server] {
        let turn = Turn::new(side.now, &side.workspace);
        side.chain.pop(Some("shift"), MINUTE, Late::Close, turn).unwrap();
        let second = side.chain.pop(None, MINUTE, Late::Close, turn);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Closing, "one at a time");
    }
    pair.client.write(b"def").unwrap();
    pair.client.settle();
    let wire = pair.client.sent();
    assert_eq!(wire, b"\x04bcd\x03def");
    assert!(pair.client.saw(&Seen::Layer(Notice::Removed { layer: "shift", how: How::Closed })));
    assert_eq!(pair.client.chain.layers().collect::<Vec<_>>(), ["length"]);
    let turn = Turn::new(pair.client.now, &pair.client.workspace);
    let absent = pair.client.chain.pop(Some("tls"), MINUTE, Late::Close, turn);
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NoSuchLayer);
}

#[test]
fn each_layer_has_its_time_from_the_moment_the_one_below_is_ready() {
    let stack = Stack::new()
        .with(Socks5::new("a.test", 1).unwrap())
        .with(Socks5::new("b.test", 2).unwrap());
    let limits = Limits { handshake: Duration::from_secs(10), ..Limits::default() };
    let mut bench = Bench::at(&stack, &Place::new(Side::Client), limits).unwrap();
    bench.settle();
    assert_eq!(bench.chain.handshaking(), Some("socks5"));
    assert!(!bench.pass_time(Duration::from_secs(9)));
    bench.receive(&[5, 0]);
    bench.receive(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.chain.layers().count(), 1, "the first has left");
    assert!(!bench.pass_time(Duration::from_secs(9)));
    assert!(bench.pass_time(Duration::from_secs(2)));
    assert_eq!(bench.failure_kind(), Some(ErrorKind::HandshakeTimeout));
    assert!(!bench.saw(&Seen::Established));
}

#[test]
fn a_write_end_passes_layers_in_order_and_a_close_flushes() {
    let slow = Stack::new().with(RateLimit::new().write(1000).burst(5)).with(Lines::new(100));
    let mut bench = bench(slow.clone());
    bench.write(b"0123456789").unwrap();
    assert!(bench.chain.can_write_eof());
    bench.chain.write_eof().unwrap();
    bench.settle();
    assert!(!bench.saw(&Seen::WriteEof));
    assert!(bench.write(b"more").is_err());
    while bench.pass_time(Duration::from_secs(1)) {}
    assert_eq!(bench.sent(), b"0123456789\n");
    assert_eq!(bench.seen.last(), Some(&Seen::WriteEof));

    let mut bench = self::bench(slow);
    bench.write(b"0123456789").unwrap();
    bench.chain.close();
    bench.chain.close();
    bench.settle();
    assert!(!bench.saw(&Seen::Closed) && bench.chain.is_closing());
    assert_eq!(bench.write(b"more").unwrap_err().kind(), ErrorKind::Closing);
    bench.receive(b"late\n");
    while bench.pass_time(Duration::from_secs(1)) {}
    assert_eq!(bench.sent(), b"0123456789\n");
    assert_eq!(bench.seen.last(), Some(&Seen::Closed));
    assert!(bench.frames().is_empty(), "nobody wants data after a close");
}

#[test]
fn a_close_during_a_handshake_sends_nothing_that_was_meant_to_be_protected() {
    let mut bench = bench(Stack::new().with(Socks5::new("a.test", 1).unwrap()));
    bench.chain.close();
    bench.settle();
    assert!(bench.saw(&Seen::Closed));
    assert_eq!(bench.sent(), [5, 1, 0]);
}

#[test]
fn a_chain_without_layers_is_a_plain_pipe() {
    let mut bench = bench(Stack::new());
    assert!(bench.chain.is_plain() && bench.saw(&Seen::Established));
    bench.receive(b"in");
    bench.write(b"out").unwrap();
    assert_eq!((bench.data(), bench.sent()), (b"in".to_vec(), b"out".to_vec()));
    bench.chain.pause_reading();
    assert!(!bench.chain.wants_read());
    bench.chain.resume_reading();
    bench.receive_eof();
    bench.chain.close();
    bench.settle();
    assert_eq!(&bench.seen[bench.seen.len() - 2..], [Seen::Eof, Seen::Closed]);
}

#[test]
fn a_proxy_header_and_what_follows_in_one_segment_reach_their_layers() {
    let stack = Stack::new().with(ProxyHeader::new().danger_trust_all()).with(Lines::new(100));
    let mut bench = Bench::new(&stack, Side::Server).unwrap();
    bench.receive(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nhello\nwor");
    assert_eq!(bench.frames(), [b"hello"]);
    // The same when the layers above are pushed once the header has been seen.
    let first = Stack::new().with(ProxyHeader::new().danger_trust_all());
    let mut bench = Bench::new(&first, Side::Server).unwrap();
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.receive(turn, &mut b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nhello\nwor".to_vec());
    while let Some(event) = bench.chain.poll_event(turn) {
        if matches!(event, Event::Layer(Notice::Removed { .. })) {
            break;
        }
    }
    let spec: Arc<dyn LayerSpec> = Arc::new(Lines::new(100));
    bench.chain.push(&spec, None, Residual::Feed, &mut Keepsakes::default(), turn).unwrap();
    bench.settle();
    bench.receive(b"ld\n");
    assert_eq!(bench.frames(), [b"hello", b"world"]);
}

#[test]
fn notices_stand_in_order_with_the_bytes_around_them() {
    let mut bench = bench(Stack::new().with(Shift(1)));
    bench.receive(b"bcd");
    let turn = Turn::new(bench.now, &bench.workspace);
    bench.chain.pop(None, MINUTE, Late::Close, turn).unwrap();
    bench.settle();
    bench.receive(b"def");
    let data = |bytes: &[u8]| Seen::Data(bytes.to_vec());
    let removed = Seen::Layer(Notice::Removed { layer: "shift", how: How::Closed });
    assert_eq!(&bench.seen[bench.seen.len() - 3..], [data(b"abc"), removed, data(b"def")]);
}

#[test]
fn an_idle_connection_is_told_of_and_stays_up() {
    let mut bench = bench(Stack::new().with(Idle::new(Duration::from_secs(10))));
    let idle = |bench: &Bench| {
        bench.seen.iter().filter(|seen| matches!(seen, Seen::Layer(Notice::Idle { .. }))).count()
    };
    for _ in 0..5 {
        bench.pass_time(Duration::from_secs(9));
        bench.receive(b"x");
        bench.pass_time(Duration::from_secs(9));
        bench.write(b"y").unwrap();
    }
    assert_eq!(idle(&bench), 0);
    let end = bench.now + Duration::from_secs(35);
    while bench.now < end {
        bench.pass_time(end.since(bench.now));
    }
    assert_eq!(idle(&bench), 3);
    bench.receive(b"still up");
    assert!(bench.data().ends_with(b"still up"));
}

#[test]
fn a_connection_keeps_nothing_of_layers_that_leave_nothing() {
    let mut bench = bench(lines());
    let mut keepsakes = std::mem::take(&mut bench.keepsakes);
    let turn = Turn::new(bench.now, &bench.workspace);
    for _ in 0..20 {
        // A spec of its own each time, as a protocol pushes it that begins TLS again and again.
        let spec: Arc<dyn LayerSpec> = Arc::new(RateLimit::new());
        bench.chain.push(&spec, None, Residual::Feed, &mut keepsakes, turn).unwrap();
        bench.chain.pop(None, Duration::from_secs(1), Late::Close, turn).unwrap();
        while bench.chain.poll_event(turn).is_some() {}
        assert_eq!(Arc::strong_count(&spec), 1);
    }
    assert_eq!(format!("{keepsakes:?}"), "Keepsakes(0)");
}

#[test]
fn too_many_layers_are_refused() {
    let mut stack = Stack::new();
    for _ in 0..33 {
        stack = stack.with(RateLimit::new());
    }
    let workspace = Workspace::default();
    let turn = Turn::new(tepal_base::Instant::ZERO, &workspace);
    assert!(Chain::new(&stack, &Place::new(Side::Client), turn).is_err());
    let mut fits = Stack::new();
    for _ in 0..32 {
        fits = fits.with(RateLimit::new());
    }
    let mut bench = bench(fits);
    bench.receive(b"through all of them");
    bench.write(b"and back").unwrap();
    assert_eq!(
        (bench.data(), bench.sent()),
        (b"through all of them".to_vec(), b"and back".to_vec())
    );
}

#[test]
fn a_close_takes_a_layer_along_that_waits_to_be_put_in() {
    let stack = Stack::new().with(RateLimit::new().write(1 << 30)).with(Lines::new(100));
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.settle();
    let turn = Turn::new(bench.now, &bench.workspace);
    // The line stands above: the new layer waits until it has passed.
    bench.chain.write(b"written before", turn).unwrap();
    let spec: Arc<dyn LayerSpec> = Arc::new(RateLimit::new());
    let keepsakes = &mut bench.keepsakes;
    bench.chain.push(&spec, Some("lines"), Residual::Reject, keepsakes, turn).unwrap();
    assert!(bench.chain.is_changing());
    bench.chain.close();
    bench.settle();
    assert_eq!(bench.sent(), b"written before\n");
    assert!(bench.saw(&Seen::Closed), "{:?}", bench.chain);
}
