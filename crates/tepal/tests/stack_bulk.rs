//! Much through a stack: joins, files, and one connection at full speed.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{address, run};
use layered::{Call, Pair, Script, echo, everywhere, pattern, quiet, tls_pair};
use tepal::{Lines, Listen, Stack, Target, Transport};

#[test]
fn a_join_of_a_tls_side_and_a_plain_side_relays_all_and_both_ends() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let far = event_loop
            .listen(
                |_: &tepal::Address| {
                    Script::new(|t: &Transport, c: &Call<'_>| {
                        match c {
                            Call::Data(data) => drop(t.write(data)),
                            Call::Eof => {
                                t.write(b"|end");
                                t.close();
                                return Some(1);
                            }
                            _ => {}
                        }
                        None
                    })
                    .0
                },
                "127.0.0.1:0",
            )
            .expect("listens");
        let to = address(&far);
        let counts = Rc::new(RefCell::new(None));
        let told = Rc::clone(&counts);
        // Terminates TLS and relays to the plain side.
        let relays = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                // What comes before the two are joined waits.
                transport.pause_reading();
                let (front, told) = (transport.clone(), Rc::clone(&told));
                let (script, _) = Script::new(move |back: &Transport, call: &Call<'_>| {
                    if let Call::Established = call {
                        let joined = front.join(back).expect("both stand");
                        let told = Rc::clone(&told);
                        back.event_loop().spawn(async move {
                            *told.borrow_mut() = Some(joined.await.expect("orderly ends"));
                        });
                    }
                    None
                });
                transport.event_loop().connect(script, Target::address(to));
            }
            None
        };
        let message = pattern(2_000_000);
        let sent = message.clone();
        let asks = move |transport: &Transport, call: &Call<'_>| {
            if let Call::Established = call {
                transport.write(&sent);
                transport.write_eof().expect("TLS 1.3 can");
            }
            None
        };
        let stacks = (Stack::new().with(client.clone()), Stack::new().with(server.clone()));
        let pair = Pair::connect(event_loop, (stacks.0, asks), (stacks.1, relays));
        let (client, _) = pair.run(event_loop);
        far.close();
        assert_eq!(client.bytes.len(), message.len() + 4);
        assert!(client.bytes == [&message[..], b"|end"].concat());
        assert!(client.closed.as_ref().expect("ended").is_clean(), "{:?}", client.closed);
        let len = message.len() as u64;
        assert_eq!(*counts.borrow(), Some((len, len + 4)));
    });
}

#[test]
fn a_file_goes_through_tls_between_the_writes_around_it_and_not_through_frames() {
    let (client, server) = tls_pair();
    let path = std::env::temp_dir().join(format!("tepal-tls-file-{}", std::process::id()));
    let content = pattern(3_000_000);
    std::fs::write(&path, &content).expect("writes the file");
    common::on_every_driver(|event_loop| {
        let counts = Rc::new(RefCell::new(Vec::new()));
        for framed in [false, true] {
            let (place, told) = (path.clone(), Rc::clone(&counts));
            let sends = move |transport: &Transport, call: &Call<'_>| {
                if let Call::Established = call {
                    transport.write(b"before|");
                    let file = || std::fs::File::open(&place).expect("opens");
                    let sent = transport.send_file(file(), 1000, 2_000_000).expect("open");
                    transport.write(b"|between|");
                    let short = transport.send_file(file(), 2_999_990, 1000).expect("open");
                    transport.write(b"|after");
                    transport.close();
                    let told = Rc::clone(&told);
                    transport.event_loop().spawn(async move {
                        let kinds =
                            [sent.await, short.await].map(|sent| sent.map_err(|e| e.kind()));
                        told.borrow_mut().push(kinds);
                    });
                }
                None
            };
            let stack = |tls: &tepal::Tls| match framed {
                false => Stack::new().with(tls.clone()),
                true => Stack::new().with(tls.clone()).with(Lines::new(1000)),
            };
            let pair = Pair::connect(event_loop, (stack(&client), sends), (stack(&server), quiet));
            let (_, server) = pair.run(event_loop);
            let expected = match framed {
                true => b"before||between||after".to_vec(),
                false => [
                    b"before|",
                    &content[1000..2_001_000],
                    b"|between|",
                    &content[2_999_990..],
                    b"|after",
                ]
                .concat(),
            };
            assert!(server.bytes == expected, "{} bytes", server.bytes.len());
        }
        let refused = Err(std::io::ErrorKind::Unsupported);
        assert_eq!(*counts.borrow(), [[Ok(2_000_000), Ok(10)], [refused, refused]]);
    });
    std::fs::remove_file(&path).expect("removes the file");
}

// One connection at full speed does not hold up another (L6).
#[test]
fn a_firehose_through_tls_leaves_others_their_turn() {
    let (client, server) = tls_pair();
    let stacks = (Stack::new().with(client), Stack::new().with(server));
    everywhere(|event_loop| {
        let floods = |transport: &Transport, call: &Call<'_>| {
            if let Call::Established | Call::Resume = call
                && !transport.is_closing()
            {
                while transport.write(&[1; 60_000]) == tepal::Crossing::None {}
            }
            None
        };
        let pinged = Rc::new(Cell::new(0));
        let count = Rc::clone(&pinged);
        let pings = move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Established => drop(transport.write(b"ping")),
                Call::Data(_) => {
                    count.set(count.get() + 1);
                    match count.get() {
                        50 => transport.close(),
                        _ => drop(transport.write(b"ping")),
                    }
                }
                Call::Lost(_) => transport.event_loop().stop(),
                _ => {}
            }
            None
        };
        let hose = Pair::connect(event_loop, (stacks.0.clone(), floods), (stacks.1.clone(), quiet));
        let listen = Listen::on("127.0.0.1:0").stack(stacks.1.clone());
        let listener = event_loop.listen(|_: &tepal::Address| Script::new(echo).0, listen);
        let listener = listener.expect("listens");
        let (script, log) = Script::new(pings);
        event_loop.connect(script, Target::address(address(&listener)).stack(stacks.0.clone()));
        run(event_loop);
        assert_eq!(pinged.get(), 50);
        assert!(hose.server.borrow().bytes.len() > 1_000_000, "the hose ran meanwhile");
        assert!(log.borrow().closed.as_ref().expect("ended").is_clean());
        hose.listener.abort_connections();
        hose.listener.close();
        listener.close();
    });
}
