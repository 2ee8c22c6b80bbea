//! What becomes of bytes that were written and have not left.

mod common;
#[path = "common/layered.rs"]
mod layered;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use common::{address, on_every_driver};
use reach::{Sink, again, everywhere, nobody, run_to_end, run_until};
use story::Story;
use tepal::{
    EventLoop, Lines, Listen, Loop, Protocol, RateLimit, Restart, SocketOption, Stack, Target,
    Transport, Unsent,
};

#[test]
fn bytes_written_early_wait_through_failed_attempts() {
    // With layers and without: what no layer has taken is not lost with them.
    for layered in [false, true] {
        everywhere(|event_loop| {
            let bytes = Rc::default();
            let sink = Rc::clone(&bytes);
            let target = nobody(event_loop);
            let failures = Cell::new(0);
            let lp: Loop = (**event_loop).clone();
            let story = Story::new()
                .on("made", |transport| {
                    transport.write(b"early ");
                    transport.write(b"bytes");
                })
                .on("error_connecting", move |transport| {
                    failures.set(failures.get() + 1);
                    if failures.get() == 3 {
                        // Now somebody listens.
                        let sink = Rc::clone(&sink);
                        let mut listen = Listen::on(target);
                        if layered {
                            listen = listen.layer(Lines::new(64));
                        }
                        let serve = move |_: &tepal::Address| Sink(Rc::clone(&sink));
                        drop(lp.listen(serve, listen).expect("the port is free"));
                    }
                    again(transport);
                });
            let mut to = Target::address(target);
            if layered {
                to = to.layer(Lines::new(64));
            }
            let transport = event_loop.connect(story.clone(), to);
            let got: Rc<RefCell<Vec<u8>>> = Rc::clone(&bytes);
            run_until(event_loop, move || got.borrow().len() == 11);
            assert_eq!(*bytes.borrow(), b"early bytes");
            assert_eq!(story.count("error_connecting"), 3);
            transport.close();
            run_to_end(event_loop, &transport);
        });
    }
}

/// Reads nothing on its first connection, then everything.
fn late_reader(event_loop: &EventLoop, down: Stack) -> (SocketAddr, Rc<RefCell<Vec<Vec<u8>>>>) {
    struct Late {
        deaf: bool,
        frames: Rc<RefCell<Vec<Vec<u8>>>>,
    }
    impl Protocol for Late {
        fn connection_established(&mut self, transport: &Transport) {
            if self.deaf {
                transport.pause_reading();
            }
        }
        fn data_received(&mut self, _: &Transport, data: &[u8]) -> usize {
            if !self.deaf {
                self.frames.borrow_mut().push(data.to_vec());
            }
            data.len()
        }
    }
    let frames = Rc::default();
    let shared = Rc::clone(&frames);
    let first = Cell::new(true);
    let serve =
        move |_: &tepal::Address| Late { deaf: first.replace(false), frames: Rc::clone(&shared) };
    let listen = Listen::on("127.0.0.1:0").stack(down);
    (address(&event_loop.listen(serve, listen).expect("a port")), frames)
}

/// What a first connection has not sent, and what of it a second one got.
struct Outcome {
    unsent: usize,
    frames: Vec<Vec<u8>>,
}

impl Outcome {
    fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }
}

/// Writes to a deaf peer in its first connection, reconnects, and says `!` in the second.
fn reconnect(
    event_loop: &EventLoop,
    (up, down): (Stack, Stack),
    unsent: Unsent,
    write: impl FnOnce(&Transport) + 'static,
) -> Outcome {
    let (server, frames) = late_reader(event_loop, down);
    let write = RefCell::new(Some(write));
    let story = Story::new().on("established", move |transport| match write.borrow_mut().take() {
        Some(write) => write(transport),
        None => drop(transport.write(b"!")),
    });
    // The kernel would take megabytes.
    let small = SocketOption::SendBuffer(64 << 10);
    let target = Target::address(server).stack(up).option(small);
    let transport = event_loop.connect(story.clone(), target);
    // Until the kernel takes no more.
    let (writing, before) = (transport.clone(), Cell::new((0, 0)));
    run_until(event_loop, move || {
        let (len, same) = before.get();
        let now = writing.write_buffer_size();
        before.set((now, if now == len { same + 1 } else { 0 }));
        now > 0 && before.get().1 > 20
    });
    assert!(transport.reconnect_with(None, Restart::Connect, unsent));
    let got = Rc::clone(&frames);
    run_until(event_loop, move || got.borrow().last().is_some_and(|last| last.ends_with(b"!")));
    let unsent = story.0.borrow().ends[0].unsent as usize;
    assert_eq!(transport.write_buffer_size(), 0);
    transport.close();
    run_to_end(event_loop, &transport);
    Outcome { unsent, frames: frames.take() }
}

const LEN: usize = 2 << 20;

/// Bytes of which each place is told from all others nearby.
fn pattern() -> Vec<u8> {
    (0..LEN as u32 / 4).flat_map(|word| word.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

fn stacks() -> Vec<(&'static str, usize, Stack, Stack)> {
    let (client, server) = layered::tls_pair();
    let stack = Stack::new;
    // A name, and how many bytes at most the layers may have changed: a link of 64 KiB that is
    // passed by a record of TLS, once in the link and once behind 64 KiB in the stream's output.
    const HELD: usize = (64 + 2 * (64 + 17)) << 10;
    let (up, down) = (client.clone(), server.clone());
    vec![
        ("plain", 0, stack(), stack()),
        ("rate", 0, stack().with(RateLimit::new().write(1 << 30)), stack()),
        ("tls", HELD, stack().with(client.clone()), stack().with(server.clone())),
        (
            "rate, tls",
            HELD + (128 << 10),
            stack().with(RateLimit::new().write(1 << 30)).with(client),
            stack().with(server),
        ),
        (
            "tls, rate",
            HELD,
            stack().with(up).with(RateLimit::new().write(1 << 30)),
            stack().with(down),
        ),
    ]
}

#[test]
fn s62_unsent_bytes_are_dropped_and_counted_or_kept_when_asked() {
    for (name, held, up, down) in stacks() {
        everywhere(|event_loop| {
            let what = format!("{name} on {}", event_loop.driver_name());
            let write = |transport: &Transport| {
                transport.write(&pattern());
            };
            let stacks = (up.clone(), down.clone());
            let dropped = reconnect(event_loop, stacks, Unsent::Drop, write);
            assert_eq!(dropped.bytes(), b"!", "{what}");
            assert!(dropped.unsent > LEN / 4, "{what}: told");

            let stacks = (up.clone(), down.clone());
            let kept = reconnect(event_loop, stacks, Unsent::Keep, write);
            let bytes = kept.bytes();
            let count = bytes.len() - 1;
            // Nothing twice, nothing left out: the end of what was written, up to its last byte.
            assert_eq!(bytes[..count], pattern()[LEN - count..], "{what}");
            assert!(
                count <= kept.unsent && kept.unsent - count <= held,
                "{what}: {count} of {}",
                kept.unsent
            );
        });
    }
}

#[test]
fn frames_are_kept_whole_or_not_at_all() {
    let (client, server) = layered::tls_pair();
    let lines = || Lines::new(2000);
    let plain = (Stack::new().with(lines()), Stack::new().with(lines()));
    let tls = (Stack::new().with(client).with(lines()), Stack::new().with(server).with(lines()));
    for stacks in [plain, tls] {
        everywhere(|event_loop| {
            const FRAMES: usize = 4 << 10;
            let frame = |index: usize| format!("{index:01000}").into_bytes();
            let write = move |transport: &Transport| {
                for index in 0..FRAMES {
                    transport.write(&frame(index));
                }
            };
            let kept = reconnect(event_loop, stacks.clone(), Unsent::Keep, write);
            let (last, frames) = kept.frames.split_last().expect("more than none");
            assert_eq!(last, b"!");
            assert!(frames.len() > FRAMES / 4 && frames.len() < FRAMES, "{}", frames.len());
            for (index, got) in frames.iter().enumerate() {
                assert!(*got == frame(FRAMES - frames.len() + index), "frame {index}");
            }
        });
    }
}

#[test]
fn what_was_meant_for_a_pushed_layer_is_never_sent_without_it() {
    let (client, _) = layered::tls_pair();
    // Pushed before or behind the bytes; the peer does not answer, so TLS takes nothing.
    everywhere(|event_loop| {
        let spec = client.clone();
        let write = move |transport: &Transport| {
            transport.write(&pattern());
            transport.push_layer(spec).expect("it stands");
            transport.write(b"my password");
        };
        let stacks = (Stack::new(), Stack::new());
        let outcome = reconnect(event_loop, stacks, Unsent::Keep, write);
        assert_eq!(outcome.bytes(), b"!");
        assert!(outcome.unsent > LEN / 4);
    });
}

#[test]
fn what_stands_behind_a_file_that_was_broken_off_is_not_sent_without_it() {
    on_every_driver(|event_loop| {
        let mut file = tempfile();
        std::io::Write::write_all(&mut file, b"the middle").expect("writes");
        let write = move |transport: &Transport| {
            transport.write(&pattern());
            drop(transport.send_file(file, 0, 10).expect("it stands"));
            transport.write(b"the end");
        };
        let kept = reconnect(event_loop, (Stack::new(), Stack::new()), Unsent::Keep, write);
        let bytes = kept.bytes();
        let count = bytes.len() - 1;
        assert!(count > LEN / 4, "{count}");
        assert_eq!(bytes[..count], pattern()[LEN - count..]);
    });
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("tepal-unsent-{}", std::process::id()));
    let options = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
    let file = options.expect("a file");
    std::fs::remove_file(&path).expect("it is there");
    file
}
