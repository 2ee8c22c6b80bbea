//! Connections built as stacks, through the loop.

mod common;
#[path = "common/layered.rs"]
mod layered;

use layered::{Call, Pair, everywhere, tls_pair};
use tepal::{CloseKind, Lines, RateLimit, Stack, Transport};

fn echo(transport: &Transport, call: &Call<'_>) -> Option<usize> {
    if let Call::Data(data) = call {
        transport.write(data);
    }
    None
}

// S34, S46: TLS has no socket; it is a member of the chain over the same loop.
#[test]
fn tls_carries_what_was_written_before_the_handshake_and_ends_cleanly_on_both_sides() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let message: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let expected = message.len();
        let mut got = 0;
        let sent = message.clone();
        let up =
            (Stack::new().with(client.clone()), move |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Made => {
                        transport.write(&sent[..10]);
                        transport.write(&sent[10..]);
                    }
                    Call::Data(data) => {
                        got += data.len();
                        if got == expected {
                            transport.close();
                        }
                    }
                    _ => {}
                }
                None
            });
        let pair = Pair::connect(event_loop, up, (Stack::new().with(server.clone()), echo));
        let (client, server) = pair.run(event_loop);
        assert_eq!(client.bytes, message);
        assert_eq!(server.bytes, message);
        // More than the high mark was written at once.
        assert_eq!(client.events[..4], ["made", "pause", "ready tls", "established"]);
        assert_eq!(server.events[..3], ["made", "ready tls", "established"]);
        assert_eq!(client.kind(), CloseKind::Local, "{:?}", client.closed);
        assert_eq!(server.kind(), CloseKind::PeerClosedLayer, "{:?}", server.closed);
        assert!(client.events.contains(&"removed tls Closed".to_owned()), "{:?}", client.events);
        assert_eq!(server.events.iter().filter(|event| *event == "eof").count(), 1);
        assert_eq!(client.tls().version, "TLSv1.3");
    });
}

#[test]
fn a_stack_of_three_layers_gives_lines_to_the_protocol() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let stack = |tls: &tepal::Tls| {
            Stack::new()
                .with(tls.clone())
                .with(RateLimit::new().write(1 << 24))
                .with(Lines::new(64))
        };
        let up = (stack(&client), |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => {
                    transport.write(b"one");
                    transport.write(b"");
                    transport.writelines([b"two", b"tri"]);
                }
                Call::Data(b"tri") => transport.close(),
                _ => {}
            }
            None
        });
        let (client, server) =
            Pair::connect(event_loop, up, (stack(&server), echo)).run(event_loop);
        assert_eq!(server.frames, [&b"one"[..], b"", b"two", b"tri"]);
        assert_eq!(client.frames, server.frames);
        assert!(client.closed.expect("ended").is_clean());
    });
}
