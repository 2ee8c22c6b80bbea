//! Framing layers: a frame is whole or absent, whatever way its bytes take.

use std::time::Duration;

use tepal_layers::check::{Bench, Case, Pair, Seen, Shift, check_layer};
use tepal_layers::{
    ByteOrder, Delimiter, ErrorKind, Fault, Idle, LayerSpec, LengthPrefixed, Lines, LinesMode,
    Netstrings, Notice, RateLimit, Side, Stack, Tap,
};

fn stack(spec: impl LayerSpec + 'static) -> Stack {
    Stack::new().with(spec)
}

/// Frames and failure of an input, after it was fed in every way.
fn frames(stack: &Stack, input: &[u8]) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
    let case = Case { stack, side: Side::Client, input, writes: &[], tail: b"" };
    let seen = check_layer(&case).unwrap_or_else(|error| panic!("{input:?}: {error}"));
    let mut frames = Vec::new();
    let mut failure = None;
    for each in seen {
        match each {
            Seen::Data(frame) => frames.push(frame),
            Seen::Failed(error) => {
                assert_eq!(error.fault(), Fault::Remote);
                failure = Some(error.kind());
            }
            Seen::Layer(Notice::Ready { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    (frames, failure)
}

#[test]
fn lines_come_one_by_one_without_their_ends() {
    let lines = stack(Lines::new(5));
    type LineCase<'a> = (&'a [u8], &'a [&'a [u8]], Option<ErrorKind>);
    let cases: &[LineCase<'_>] = &[
        (b"", &[], None),
        (b"\n", &[b""], None),
        (b"\n\n\n", &[b"", b"", b""], None),
        (b"one\ntwo\nthr", &[b"one", b"two"], None),
        (b"a\r\nb\0\n", &[b"a\r", b"b\0"], None),
        (b"12345\n", &[b"12345"], None),
        (b"123456\n", &[], Some(ErrorKind::FrameTooLong)),
        (b"ok\n123456", &[b"ok"], Some(ErrorKind::FrameTooLong)),
    ];
    for (input, expected, failure) in cases {
        assert_eq!(
            frames(&lines, input),
            (expected.iter().map(|f| f.to_vec()).collect(), *failure)
        );
    }
}

#[test]
fn a_delimiter_of_several_bytes_is_found_across_any_split() {
    for spec in [stack(Lines::new(4).delimiter(b"\r\n")), stack(Delimiter::new(b"\r\n", 4))] {
        let (got, failure) = frames(&spec, b"a\r\n\r\r\n\n\r\nabcd\r\n");
        assert_eq!(got, [&b"a"[..], b"\r", b"\n", b"abcd"]);
        assert_eq!(failure, None);
        assert_eq!(frames(&spec, b"abcde\r\n").1, Some(ErrorKind::FrameTooLong));
        assert_eq!(frames(&spec, b"abcd\rx").1, Some(ErrorKind::FrameTooLong));
    }
    let long = stack(Delimiter::new(b"aab", 8));
    assert_eq!(frames(&long, b"aaab-aab").0, [&b"a"[..], b"-"]);
}

#[test]
fn lengths_of_every_width_and_order_are_read_and_written() {
    for width in 1..=8usize {
        for order in [ByteOrder::Big, ByteOrder::Little] {
            let spec = stack(LengthPrefixed::new(16).width(width).byte_order(order));
            let mut bench = Bench::new(&spec, Side::Client).unwrap();
            for frame in [&b"hello"[..], b"", &[7; 16]] {
                bench.write(frame).unwrap();
            }
            let wire = bench.sent();
            assert_eq!(wire.len(), 3 * width + 21);
            assert_eq!(wire[if order == ByteOrder::Big { width - 1 } else { 0 }], 5);
            assert_eq!(frames(&spec, &wire), (vec![b"hello".to_vec(), vec![], vec![7; 16]], None));
            let mut too_long = vec![0; width];
            too_long[if order == ByteOrder::Big { width - 1 } else { 0 }] = 17;
            assert_eq!(frames(&spec, &too_long), (vec![], Some(ErrorKind::FrameTooLong)));
            assert_eq!(frames(&spec, &vec![0xff; width]).1, Some(ErrorKind::FrameTooLong));
        }
    }
    for width in [0, 9] {
        let spec = stack(LengthPrefixed::new(16).width(width));
        let error = Bench::new(&spec, Side::Client).expect_err("a width out of range");
        assert_eq!((error.kind(), error.layer()), (ErrorKind::InvalidSetting, "length"));
    }
}

#[test]
fn a_netstring_is_taken_only_as_its_definition_spells_it() {
    let spec = stack(Netstrings::new(10));
    let wire = b"5:hello,0:,10:0123456789,";
    let expected = vec![b"hello".to_vec(), vec![], b"0123456789".to_vec()];
    assert_eq!(frames(&spec, wire), (expected, None));
    for bad in [
        &b":a,"[..],
        b"a",
        b"05:hello,",
        b"00:,",
        b"5;hello,",
        b"5:hello;",
        b" 5:hello,",
        b"-1:,",
        b"5 :",
    ] {
        assert_eq!(frames(&spec, bad), (vec![], Some(ErrorKind::FrameMalformed)), "{bad:?}");
    }
    for bad in [&b"11:"[..], b"99999999999999999999999999:"] {
        assert_eq!(frames(&spec, bad), (vec![], Some(ErrorKind::FrameTooLong)), "{bad:?}");
    }
}

#[test]
fn an_end_inside_a_frame_is_no_clean_end() {
    for (spec, input) in [
        (stack(Lines::new(9)), &b"ab"[..]),
        (stack(LengthPrefixed::new(9)), b"\0\0"),
        (stack(LengthPrefixed::new(9)), b"\0\0\0\x02a"),
        (stack(Netstrings::new(9)), b"2:a"),
    ] {
        let mut bench = Bench::new(&spec, Side::Client).unwrap();
        bench.receive(input);
        bench.receive_eof();
        assert_eq!(bench.failure_kind(), Some(ErrorKind::EofInFrame));
        assert!(!bench.saw(&Seen::Eof));
    }
    let mut bench = Bench::new(&stack(Lines::new(9)), Side::Client).unwrap();
    bench.receive(b"ab\n");
    bench.receive_eof();
    assert_eq!(bench.seen.last(), Some(&Seen::Eof));
}

#[test]
fn a_written_line_cannot_smuggle_a_second_one() {
    let mut bench = Bench::new(&stack(Lines::new(20)), Side::Client).unwrap();
    bench.write(b"fine").unwrap();
    bench.write(b"RCPT\nEVIL").unwrap();
    assert_eq!(bench.failure_kind(), Some(ErrorKind::FrameMalformed));
    assert_eq!(bench.failure().unwrap().fault(), Fault::Local);
    assert_eq!(bench.sent(), b"fine\n");
    assert!(bench.write(b"more").is_err());
}

#[test]
fn a_delimiter_cannot_be_smuggled_in_across_pieces_or_by_the_end_of_a_line() {
    let fails = |delimiter: &[u8], pieces: &[&[u8]]| {
        let mut bench = Bench::new(&stack(Delimiter::new(delimiter, 99)), Side::Client).unwrap();
        let mut line = tepal_base::ByteQueue::new();
        pieces.iter().for_each(|piece| line.push(tepal_base::Segment::from(piece.to_vec())));
        let workspace = std::rc::Rc::clone(&bench.workspace);
        let turn = tepal_layers::Turn::new(bench.now, &workspace);
        bench.chain.write_queue(&mut line, turn).unwrap();
        bench.settle();
        match bench.failure_kind() {
            None => {
                // What is let through is one line to who reads it.
                let wire = bench.sent();
                let frame = pieces.concat();
                let reads = stack(Delimiter::new(delimiter, 99));
                assert_eq!(frames(&reads, &wire), (vec![frame], None), "{pieces:?}");
                false
            }
            Some(kind) => {
                assert_eq!((kind, bench.sent()), (ErrorKind::FrameMalformed, vec![]));
                true
            }
        }
    };
    assert!(fails(b"\r\n", &[b"RCPT\r", b"\nEVIL"]));
    assert!(fails(b"--!", &[b"a-", b"-", b"!b"]));
    assert!(fails(b"--!", &[b"a", b"-", b"-", b"!"]));
    assert!(!fails(b"\r\n", &[b"RCPT\r", b"\rfine\n", b"\r"]));
    assert!(!fails(b"--!", &[b"a-", b"!-", b"", b"-"]));
    // An empty line as the end of a message, behind one that ends with a line's end itself.
    assert!(fails(b"\n\n", &[b"x\n"]));
    assert!(fails(b"\n\n", &[b"\n"]));
    assert!(!fails(b"\n\n", &[b"\nx"]));
    assert!(!fails(b"\n\n", &[]));
    assert!(fails(b"abab", &[b"xab"]));
    assert!(!fails(b"abab", &[b"xa"]));
}

#[test]
fn a_written_frame_above_the_maximum_is_our_own_fault() {
    for spec in [stack(Lines::new(3)), stack(LengthPrefixed::new(3)), stack(Netstrings::new(3))] {
        let mut bench = Bench::new(&spec, Side::Client).unwrap();
        bench.write(b"four").unwrap();
        let error = bench.failure().expect("a failure");
        assert_eq!((error.kind(), error.fault()), (ErrorKind::FrameTooLong, Fault::Local));
        assert_eq!(bench.sent(), b"");
    }
}

#[test]
fn raw_mode_begins_right_behind_the_line_that_asks_for_it() {
    for piece in 1..40 {
        let mut bench = Bench::new(&stack(Lines::new(30)), Side::Server).unwrap();
        let (mut got, mut lines) = (Vec::new(), 0);
        for chunk in b"PUT 6\nr\naw\n!GET\nRAW\nx\ny".chunks(piece) {
            let turn = tepal_layers::Turn::new(bench.now, &bench.workspace);
            bench.chain.receive(turn, &mut chunk.to_vec());
            while let Some(event) = bench.chain.poll_event(turn) {
                if !matches!(event, tepal_layers::Event::Data) {
                    continue;
                }
                let data = bench.chain.data().to_vec();
                bench.chain.took(data.len(), turn);
                match &*data {
                    b"PUT 6" => bench.chain.command("lines", &LinesMode::RawFor(6)).unwrap(),
                    b"RAW" => bench.chain.command("lines", &LinesMode::Raw).unwrap(),
                    _ => {}
                }
                lines += usize::from(data == b"GET");
                got.extend(data);
            }
        }
        assert_eq!((got.as_slice(), lines), (&b"PUT 6r\naw\n!GETRAWx\ny"[..], 1), "{piece}");
        assert_eq!(
            bench.chain.command("tls", &LinesMode::Raw).unwrap_err().kind(),
            ErrorKind::NoSuchLayer
        );
        assert_eq!(bench.chain.command("lines", &7).unwrap_err().kind(), ErrorKind::NoSuchCommand);
    }
}

#[test]
fn a_16_mib_frame_in_1_kib_pieces_costs_linear_time() {
    let spec = stack(LengthPrefixed::new(16 << 20));
    let mut wire = (16u32 << 20).to_be_bytes().to_vec();
    wire.resize(4 + (16 << 20), 7);
    let mut bench = Bench::new(&spec, Side::Client).unwrap();
    for piece in wire.chunks(1024) {
        assert!(bench.chain.wants_read());
        bench.receive(piece);
    }
    assert_eq!(bench.frames().len(), 1);
    assert_eq!(bench.data().len(), 16 << 20);
}

type Framer = (Stack, fn(&[u8]) -> Vec<u8>);

fn framers() -> [Framer; 3] {
    [
        (Stack::new().with(Lines::new(1 << 20)), |frame| [frame, b"\n"].concat()),
        (Stack::new().with(LengthPrefixed::new(1 << 20)), |frame| {
            [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame].concat()
        }),
        (Stack::new().with(Netstrings::new(1 << 20)), |frame| {
            [frame.len().to_string().as_bytes(), b":", frame, b","].concat()
        }),
    ]
}

// A link is 64 KiB, and what is above a framing layer waited for room that only the whole frame
// would have made.
#[test]
fn a_frame_larger_than_a_link_passes_whole_through_what_stands_above_its_layer() {
    let second = Duration::from_secs(1);
    for (framing, _) in framers() {
        for above in [
            framing.clone().with(Tap::text(|_| {})),
            framing.clone().with(Idle::new(second * 100)),
            framing.clone().with(RateLimit::new().write(30_000).read(30_000)),
            framing.clone().with(Idle::new(second * 100)).with(Tap::text(|_| {})),
        ] {
            let mut pair = Pair::new(&above, &above).unwrap();
            for frame in [vec![b'a'; 300_000], Vec::new(), vec![b'b'; 65_536], b"c".to_vec()] {
                pair.client.write(&frame).unwrap();
            }
            pair.pass_time(second * 30);
            let frames: Vec<usize> = pair.server.frames().iter().map(Vec::len).collect();
            assert_eq!(frames, [300_000, 0, 65_536, 1], "{above:?}");
            assert_eq!(pair.client.chain.write_len(), 0, "{above:?}");
        }
    }
}

// What such a layer made of a frame was never ended, and so never left.
#[test]
fn one_write_is_one_frame_also_through_a_layer_without_frames() {
    for (framing, on_the_wire) in framers() {
        let stack = framing.with(Shift(0));
        let mut bench = Bench::new(&stack, Side::Client).unwrap();
        let frames = [b"one".to_vec(), Vec::new(), Vec::new(), vec![b'2'; 200_000]];
        for frame in &frames {
            bench.write(frame).unwrap();
        }
        let expected: Vec<u8> = frames.iter().flat_map(|frame| on_the_wire(frame)).collect();
        assert!(bench.sent() == expected, "{stack:?}");
    }
}
