//! Frames against a simple model, and back.

use std::rc::Rc;

use tepal_base::{ByteQueue, Segment};
use tepal_layers::check::{Bench, Seen};
use tepal_layers::{ByteOrder, ErrorKind, LengthPrefixed, Lines, Netstrings, Side, Stack, Turn};

use super::{Outcome, choices, parse};

const MOST: usize = 40;

/// Lines.
pub const LINES: &[&[u8]] =
    &[b"one\ntwo\r\n\nthree", b"a--b--\r--", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"];

/// Lines with one of several delimiters.
pub fn frame_line(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let delimiter = [&b"\n"[..], b"\r\n", b"--", b"aab"][usize::from(choice & 3)];
    let stack = Stack::new().with(Lines::new(MOST).delimiter(delimiter));
    let outcome = parse(&stack, Side::Client, cut, input);
    let mut rest = input;
    let mut expected = Vec::new();
    let end = loop {
        let found = rest.windows(delimiter.len()).position(|part| part == delimiter);
        match found {
            Some(len) if len <= MOST => {
                expected.push(rest[..len].to_vec());
                rest = &rest[len + delimiter.len()..];
            }
            Some(_) => break Some(ErrorKind::FrameTooLong),
            // Not even with the delimiter's beginning at its end.
            None if rest.len() >= MOST + delimiter.len() => break Some(ErrorKind::FrameTooLong),
            None if rest.is_empty() => break None,
            None => break Some(ErrorKind::EofInFrame),
        }
    };
    frames_hold(&stack, &outcome, &expected, end);
    line_holds(&stack, delimiter, input, cut);
}

/// Any bytes that are written as one line, in two pieces, are one line to who reads them, or are
/// refused.
fn line_holds(stack: &Stack, delimiter: &[u8], input: &[u8], cut: u8) {
    let line = &input[..input.len().min(MOST)];
    let (first, second) = line.split_at(usize::from(cut) % (line.len() + 1));
    let mut pieces = ByteQueue::new();
    for piece in [first, second] {
        pieces.push(Segment::from(piece.to_vec()));
    }
    let mut bench = Bench::new(stack, Side::Client).expect("good settings");
    let workspace = Rc::clone(&bench.workspace);
    let turn = Turn::new(bench.now, &workspace);
    bench.chain.write_queue(&mut pieces, turn).expect("an open chain");
    bench.settle();
    let wire = [line, delimiter].concat();
    let end = wire.windows(delimiter.len()).position(|part| part == delimiter);
    if end == Some(line.len()) {
        assert_eq!((bench.sent(), bench.failure()), (wire, None));
    } else {
        assert_eq!(bench.failure_kind(), Some(ErrorKind::FrameMalformed));
        assert!(bench.sent().is_empty());
    }
}

/// Frames with a length before them.
pub const LENGTHS: &[&[u8]] =
    &[b"\0\x03abc\0\0\0\x01x", b"\x03abc\0\x01x", b"\x03\0\0\0abc\0\0\0\0", b"\xff\xff\xff\xff"];

/// Frames with lengths of every width and both orders.
pub fn frame_len(data: &[u8]) {
    let (choice, cut, input) = choices(data);
    let width = 1 + usize::from(choice & 7);
    let big = choice & 8 == 0;
    let order = if big { ByteOrder::Big } else { ByteOrder::Little };
    let stack = Stack::new().with(LengthPrefixed::new(MOST).width(width).byte_order(order));
    let outcome = parse(&stack, Side::Client, cut, input);
    let mut rest = input;
    let mut expected = Vec::new();
    let end = loop {
        let Some((head, behind)) = rest.split_at_checked(width) else {
            break (!rest.is_empty()).then_some(ErrorKind::EofInFrame);
        };
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let len = if big { head.iter().fold(0, join) } else { head.iter().rev().fold(0, join) };
        if len > MOST as u64 {
            break Some(ErrorKind::FrameTooLong);
        }
        let Some((frame, behind)) = behind.split_at_checked(len as usize) else {
            break Some(ErrorKind::EofInFrame);
        };
        expected.push(frame.to_vec());
        rest = behind;
    };
    frames_hold(&stack, &outcome, &expected, end);
}

/// Netstrings.
pub const NETSTRINGS: &[&[u8]] =
    &[b"3:abc,0:,1:x,", b"03:abc,", b"40:", b"99999999999999999999:x,"];

/// Netstrings.
pub fn netstring(data: &[u8]) {
    let (_, cut, input) = choices(data);
    let stack = Stack::new().with(Netstrings::new(MOST));
    let outcome = parse(&stack, Side::Client, cut, input);
    let mut rest = input;
    let mut expected = Vec::new();
    let end = loop {
        if rest.is_empty() {
            break None;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..digits]).expect("digits");
        let leading_zero = text.len() > 1 && text.starts_with('0');
        // The length is judged digit by digit, so the first thing that is wrong is told.
        let too_long = text.parse::<usize>().map_or(!text.is_empty(), |len| len > MOST);
        if leading_zero {
            break Some(ErrorKind::FrameMalformed);
        }
        if too_long {
            break Some(ErrorKind::FrameTooLong);
        }
        match rest.get(digits) {
            None => break Some(ErrorKind::EofInFrame),
            Some(b':') if digits > 0 => {}
            Some(_) => break Some(ErrorKind::FrameMalformed),
        }
        let len: usize = text.parse().expect("it was parsed above");
        match rest.get(digits + 1 + len) {
            None => break Some(ErrorKind::EofInFrame),
            Some(b',') => {
                expected.push(rest[digits + 1..digits + 1 + len].to_vec());
                rest = &rest[digits + len + 2..];
            }
            Some(_) => break Some(ErrorKind::FrameMalformed),
        }
    };
    frames_hold(&stack, &outcome, &expected, end);
}

fn frames_hold(stack: &Stack, outcome: &Outcome, expected: &[Vec<u8>], end: Option<ErrorKind>) {
    let frames = outcome.seen.iter().filter_map(|seen| match seen {
        Seen::Data(bytes) => Some(bytes.clone()),
        _ => None,
    });
    let frames: Vec<_> = frames.collect();
    assert_eq!(frames, expected);
    let kind = outcome.seen.iter().find_map(|seen| match seen {
        Seen::Failed(error) => Some(error.kind()),
        _ => None,
    });
    assert_eq!(kind, end);
    // Written they are read as the same.
    let mut bench = Bench::new(stack, Side::Client).expect("good settings");
    for frame in &frames {
        bench.write(frame).expect("a frame that was read can be written");
    }
    let written = bench.sent();
    let mut bench = Bench::new(stack, Side::Server).expect("good settings");
    bench.receive(&written);
    bench.receive_eof();
    assert_eq!((bench.frames(), bench.failure()), (frames, None));
}
