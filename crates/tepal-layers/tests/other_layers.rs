//! Tap, detect, and layers that a user writes.

mod common;
#[path = "../examples/deflate.rs"]
#[allow(dead_code, reason = "its main is for those who read it")]
mod deflate;

use std::sync::{Arc, Mutex};

use deflate::Deflate;
use tepal_layers::check::{Bench, Case, Pair, Seen, Shift, check_layer};
use tepal_layers::{
    Detect, Error, ErrorKind, Info, Io, Layer, LayerSpec, Lines, Place, Side, Site, Stack, Status,
    Tap,
};

#[test]
fn a_compressing_layer_of_a_users_passes_the_kit() {
    let stack = Stack::new().with(Deflate);
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.write(b"hello hello hello hello ").unwrap();
    bench.write(&[b'x'; 300]).unwrap();
    let wire = bench.sent();
    assert!(wire.len() < 100);
    let case = Case { stack: &stack, side: Side::Server, input: &wire, writes: &[], tail: b"" };
    let seen = check_layer(&case).unwrap();
    let Some(Seen::Data(data)) = seen.last() else { panic!("{seen:?}") };
    assert_eq!(data.len(), 324);
    for bad in [&b"\xff\xff\xff"[..], b"\x07"] {
        let case = Case { stack: &stack, side: Side::Server, input: bad, writes: &[], tail: b"" };
        let seen = check_layer(&case).unwrap();
        assert!(matches!(seen.last(), Some(Seen::Failed(_))), "{seen:?}");
    }
    let both = || Stack::new().with(Deflate).with(Lines::new(1 << 20));
    let mut pair = Pair::new(&both(), &both()).unwrap();
    pair.piece = 3;
    let line = vec![b'z'; 1 << 20];
    pair.client.write(&line).unwrap();
    pair.client.write(b"short").unwrap();
    pair.run();
    let frames = pair.server.frames();
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 5]);
    assert!(frames[0] == line);
    assert!(pair.upstream.len() < 10_000);
}

#[test]
fn the_kit_passes_a_good_layer_and_finds_what_is_wrong_with_bad_ones() {
    let check = |spec: Arc<dyn LayerSpec>| {
        let stack = Stack::new().with_shared(spec);
        let case = Case {
            stack: &stack,
            side: Side::Client,
            input: b"some bytes to be read",
            writes: &[b"some to be written"],
            tail: b"and a tail",
        };
        check_layer(&case)
    };
    check(Arc::new(Shift(3))).unwrap();

    /// Layers that are wrong, each in one way.
    #[derive(Clone, Copy, Debug)]
    enum Wrong {
        MarksEachStep,
        IgnoresPauses,
        WantsTwoBytes,
    }
    impl LayerSpec for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
            Ok(Box::new(*self))
        }
    }
    impl Layer for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
            io.ready(Info::None);
            let bytes = io.from_below.bytes().to_vec();
            let free = io.to_above.may_push();
            match self {
                Wrong::MarksEachStep if free && !bytes.is_empty() => io.to_above.push(b"|"),
                Wrong::IgnoresPauses => {}
                Wrong::WantsTwoBytes if bytes.len() < 2 || !free => return Ok(Status::Open),
                _ if !free => return Ok(Status::Open),
                _ => {}
            }
            io.to_above.push(&bytes);
            io.from_below.consume(bytes.len());
            Ok(Status::Open)
        }
    }
    check(Arc::new(Wrong::MarksEachStep)).unwrap_err();
    check(Arc::new(Wrong::WantsTwoBytes)).unwrap_err();
    check(Arc::new(Wrong::IgnoresPauses)).unwrap_err();
}

#[test]
fn a_tap_writes_down_what_passes_and_changes_nothing() {
    let text = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&text);
    let tap = Tap::text(move |bytes| sink.lock().unwrap().extend_from_slice(bytes));
    let stack = Stack::new().with(Lines::new(100)).with(tap);
    let case = Case {
        stack: &stack,
        side: Side::Client,
        input: b"one\n\ntwo\n",
        writes: &[b"out"],
        tail: b"",
    };
    let seen = check_layer(&case).unwrap();
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Data(_))).count(), 3);
    text.lock().unwrap().clear();
    let mut bench = Bench::new(&stack, Side::Client).unwrap();
    bench.write(b"GET / and more than sixteen\0").unwrap();
    bench.receive(b"ok\n");
    let expected = "\
> 1.000000000 28 bytes
  000000  47 45 54 20 2f 20 61 6e 64 20 6d 6f 72 65 20 74  GET / and more t
  000010  68 61 6e 20 73 69 78 74 65 65 6e 00              han sixteen.
< 1.000000000 2 bytes
  000000  6f 6b                                            ok
";
    assert_eq!(String::from_utf8(text.lock().unwrap().clone()).unwrap(), expected);
}

#[test]
fn a_capture_holds_the_bytes_of_both_directions_in_well_formed_blocks() {
    let file = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&file);
    let tap = Tap::pcapng(move |bytes| sink.lock().unwrap().extend_from_slice(bytes));
    let stack = Stack::new().with(tap);
    let place = Place {
        local: Some("[::1]:4000".parse().unwrap()),
        peer: Some("[::2]:443".parse().unwrap()),
        ..Place::new(Side::Client)
    };
    let mut bench = Bench::at(&stack, &place, Default::default()).unwrap();
    bench.write(b"request").unwrap();
    bench.receive(&[7; 70_000]);
    let file = file.lock().unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut kinds, mut payload) = (0, Vec::new(), Vec::new());
    while at < file.len() {
        let len = word(at + 4);
        assert_eq!(len % 4, 0);
        assert_eq!(word(at + len - 4), len, "the length stands at both ends");
        kinds.push(word(at));
        if word(at) == 6 {
            let (captured, original) = (word(at + 20), word(at + 24));
            assert_eq!(captured, original);
            let packet = &file[at + 28..at + 28 + captured];
            assert_eq!(packet[0] >> 4, 6, "IPv6");
            let inner = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            assert_eq!(inner + 40, captured);
            payload.push(packet[60..].to_vec());
        }
        at += len;
    }
    assert_eq!(kinds[..2], [0x0a0d_0d0a, 1]);
    assert_eq!(payload[..3], [&b""[..], b"", b""], "SYN, SYN ACK, ACK");
    assert_eq!(payload[3], b"request");
    assert_eq!(payload[4..].concat(), [7; 70_000]);
}

fn detect() -> Stack {
    let tls = || Stack::new().with(common::server().build().unwrap());
    Stack::new().with(
        Detect::new()
            .sni("other", "*.wild.test", Stack::new().with(Shift(1)))
            .alpn("h2", b"h2", tls())
            .tls("tls", tls())
            .prefix("lines", b"LINES ", Stack::new().with(Lines::new(100)))
            .prefix("shift", b"LIN2", Stack::new().with(Shift(0)))
            .otherwise("raw", Stack::new()),
    )
}

#[test]
fn the_first_bytes_choose_the_stack_however_they_are_cut() {
    let stack = detect();
    for (input, name, data) in [
        (&b"LINES a\nb\n"[..], "lines", &b"LINES ab"[..]),
        (b"LIN2x", "shift", b"LIN2x"),
        (b"LINX", "raw", b"LINX"),
        (b"GET / HTTP/1.1\r\n", "raw", b"GET / HTTP/1.1\r\n"),
        (b"\x16\x04", "raw", b"\x16\x04"),
    ] {
        let case = Case { stack: &stack, side: Side::Server, input, writes: &[], tail: b"" };
        check_layer(&case).unwrap();
        let mut bench = Bench::new(&stack, Side::Server).unwrap();
        bench.receive(input);
        assert_eq!(bench.info("detect"), Some(Info::Detected(name.into())));
        assert_eq!(bench.data(), data);
    }
    // An end decides what more bytes might have decided otherwise.
    let mut bench = Bench::new(&stack, Side::Server).unwrap();
    bench.receive(b"LIN");
    assert_eq!(bench.info("detect"), None);
    bench.receive_eof();
    assert_eq!((bench.data(), bench.seen.last()), (b"LIN".to_vec(), Some(&Seen::Eof)));
}

#[test]
fn one_port_serves_tls_and_plain_text_and_several_hosts() {
    for piece in [0, 1] {
        for (alpn, name) in [(vec!["h2"], "h2"), (vec![], "tls")] {
            let client = common::client().server_name("server.test").alpn(alpn).build().unwrap();
            let mut pair = Pair::new(&Stack::new().with(client), &detect()).unwrap();
            pair.piece = piece;
            pair.client.write(b"hello").unwrap();
            pair.run();
            assert_eq!(pair.server.info("detect"), Some(Info::Detected(name.into())));
            if name == "tls" {
                assert_eq!(pair.server.data(), b"hello");
            }
        }
    }
    let client = common::client().server_name("a.wild.test").build().unwrap();
    let mut pair = Pair::new(&Stack::new().with(client), &detect()).unwrap();
    pair.run();
    assert_eq!(pair.server.info("detect"), Some(Info::Detected("other".into())));
    let strict = Stack::new().with(Detect::new().prefix("a", b"A", Stack::new()));
    let mut bench = Bench::new(&strict, Side::Server).unwrap();
    bench.receive(b"B");
    assert_eq!(bench.failure_kind(), Some(ErrorKind::Malformed));
}
