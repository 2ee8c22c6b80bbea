//! Name servers that misbehave, over sockets of every driver: what counts is the first good answer of
//! the server that was asked. Kinds of replies are in `tepal-names`' tests; here is what sockets add.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asking::{ask, everywhere};
use tepal::names::Settings;
use tepal::{Address, DatagramProtocol, DatagramTransport, EventLoop, Protocol, Transport};

/// What a server does, so many milliseconds after a question.
#[derive(Clone)]
enum Act {
    Say(u64, Vec<u8>),
    /// The same from a port that nobody asked.
    SayFromElsewhere(u64, Vec<u8>),
    /// A message over TCP with this length in front, whatever its own is.
    Claim(u64, u16, Vec<u8>),
    Close(u64),
}
use Act::{Claim, Close, Say, SayFromElsewhere};

/// What to do about a question: the message, whether it came over TCP, and how many came before.
type Script = Rc<dyn Fn(&[u8], bool, usize) -> Vec<Act>>;

struct Odd {
    script: Script,
    asked: Rc<RefCell<usize>>,
    elsewhere: Option<DatagramTransport>,
}

impl Odd {
    fn acts(&self, question: &[u8], tcp: bool) -> Vec<Act> {
        let before = self.asked.replace_with(|asked| *asked + 1);
        (self.script)(question, tcp, before)
    }
}

/// The server's address, and how many questions came.
fn serve(
    event_loop: &EventLoop,
    script: impl Fn(&[u8], bool, usize) -> Vec<Act> + 'static,
) -> (SocketAddr, Rc<RefCell<usize>>) {
    let script: Script = Rc::new(script);
    let asked = Rc::<RefCell<usize>>::default();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let elsewhere = event_loop.datagram(common::Nothing, Some(any.into()), None).expect("a port");
    // A port that is free for datagrams may be taken for streams.
    for _ in 0..100 {
        let odd =
            |elsewhere| Odd { script: Rc::clone(&script), asked: Rc::clone(&asked), elsewhere };
        let server = odd(Some(elsewhere.clone()));
        let udp = event_loop.datagram(server, Some(any.into()), None).expect("a port");
        let address = udp.local_address().expect("bound").as_ip().expect("IP");
        let (script, asked) = (Rc::clone(&script), Rc::clone(&asked));
        let factory = move |_: &Address| Odd {
            script: Rc::clone(&script),
            asked: Rc::clone(&asked),
            elsewhere: None,
        };
        match event_loop.listen(factory, address) {
            Ok(_) => return (address, odd(None).asked),
            Err(_) => udp.abort(),
        }
    }
    panic!("no port is free for both");
}

impl DatagramProtocol for Odd {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        peer: Option<&Address>,
    ) {
        for act in self.acts(data, false) {
            let (from, after, bytes) = match act {
                Say(after, bytes) => (transport.clone(), after, bytes),
                SayFromElsewhere(after, bytes) => {
                    (self.elsewhere.clone().expect("of the datagrams"), after, bytes)
                }
                Claim(..) | Close(_) => continue,
            };
            let peer = peer.cloned();
            transport.event_loop().call_later(Duration::from_millis(after), move |_| {
                // Whoever asked may have gone meanwhile.
                drop(from.send_to(&bytes, peer.as_ref()));
            });
        }
    }
}

impl Protocol for Odd {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> usize {
        let Some((head, rest)) = data.split_first_chunk() else { return 0 };
        let len = usize::from(u16::from_be_bytes(*head));
        let Some(question) = rest.get(..len) else { return 0 };
        for act in self.acts(question, true) {
            let (after, len, bytes) = match act {
                Say(after, bytes) => (after, bytes.len() as u16, bytes),
                Claim(after, len, bytes) => (after, len, bytes),
                Close(after) => {
                    let (later, lp) = (transport.clone(), transport.event_loop());
                    lp.call_later(Duration::from_millis(after), move |_| later.close());
                    continue;
                }
                SayFromElsewhere(..) => continue,
            };
            let later = transport.clone();
            transport.event_loop().call_later(Duration::from_millis(after), move |_| {
                later.write(&[&len.to_be_bytes()[..], &bytes].concat());
            });
        }
        2 + len
    }
}

/// A reply to a question of type A or AAAA with these flags and this last byte of the address.
fn reply(question: &[u8], flags: u16, last: Option<u8>) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    // There is no address of IPv6 anywhere.
    let last = last.filter(|_| question[end - 3] == 1);
    let mut reply = question[..2].to_vec();
    reply.extend((0x8180 | flags).to_be_bytes());
    reply.extend([0, 1, 0, u8::from(last.is_some()), 0, 0, 0, 0]);
    reply.extend(&question[12..end]);
    if let Some(last) = last {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 9, last]);
    }
    reply
}

fn good(question: &[u8]) -> Vec<u8> {
    reply(question, 0, Some(1))
}

fn evil(question: &[u8]) -> Vec<u8> {
    reply(question, 0, Some(66))
}

const TRUNCATED: u16 = 0x0200;
const SERVFAIL: u16 = 2;

#[test]
fn the_first_good_answer_of_the_server_that_was_asked_counts() {
    type Case = (&'static str, fn(&[u8], bool, usize) -> Vec<Act>);
    let cases: [Case; 9] = [
        ("from another port", |q, _, _| vec![SayFromElsewhere(1, evil(q)), Say(30, good(q))]),
        ("twice, the second forged", |q, _, _| vec![Say(1, good(q)), Say(1, evil(q))]),
        ("twice from another port after it", |q, _, _| {
            vec![Say(1, good(q)), SayFromElsewhere(1, evil(q)), Say(2, good(q))]
        }),
        // Its turn takes 500 ms, and then it is asked again.
        ("after its turn", |q, _, _| vec![Say(700, good(q))]),
        ("SERVFAIL first", |q, _, before| match before {
            0 | 1 => vec![Say(1, reply(q, SERVFAIL, None))],
            _ => vec![Say(1, good(q))],
        }),
        ("a length that is too small, and a good one behind it", |q, tcp, _| match tcp {
            false => vec![Say(1, reply(q, TRUNCATED, None))],
            true => vec![Claim(1, 9, evil(q)[..9].to_vec()), Say(20, good(q))],
        }),
        ("cut off over TCP, and whole the next time", |q, tcp, before| match (tcp, before) {
            (false, _) => vec![Say(1, reply(q, TRUNCATED, None))],
            (true, 0..=4) => vec![Claim(1, 60, evil(q)[..20].to_vec()), Close(5)],
            _ => vec![Say(1, good(q))],
        }),
        ("silent over TCP, and whole the next time", |q, tcp, before| match (tcp, before) {
            (false, _) => vec![Say(1, reply(q, TRUNCATED, None))],
            (true, 0..=4) => vec![Claim(1, u16::MAX, evil(q))],
            _ => vec![Say(1, good(q))],
        }),
        ("no EDNS", |q, _, _| match q[11] {
            0 => vec![Say(1, good(q))],
            _ => vec![Say(1, reply(q, 1, None))],
        }),
    ];
    everywhere(|event_loop| {
        for (name, script) in cases {
            let (server, _) = serve(event_loop, script);
            let resolver = event_loop.resolver(Settings {
                servers: Some(vec![server]),
                timeout: Some(Duration::from_millis(500)),
                attempts: Some(3),
                ..Settings::default()
            });
            event_loop.set_resolver(Some(&resolver));
            // The second time on other sockets, whatever still comes for the first ones.
            for _ in 0..2 {
                let found = ask(event_loop, "www.test", "1");
                let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(found, ["127.0.9.1:1"], "{name}");
            }
            assert_eq!(resolver.socket_count(), 0, "{name}");
        }
    });
}

#[test]
fn a_server_that_only_misbehaves_is_left_for_the_next_and_its_deeds_are_told() {
    everywhere(|event_loop| {
        let (cut, asked) = serve(event_loop, |q, tcp, _| match tcp {
            false => vec![Say(1, reply(q, TRUNCATED, None))],
            true => vec![Claim(1, 60, evil(q)[..20].to_vec()), Close(5)],
        });
        let (works, _) = serve(event_loop, |q, _, _| vec![Say(1, good(q))]);
        let settings = |servers| Settings { servers: Some(servers), ..Settings::default() };
        let both = event_loop.resolver(settings(vec![cut, works]));
        event_loop.set_resolver(Some(&both));
        assert_eq!(ask(event_loop, "www.test", "1").expect("the next one knows"), ["127.0.9.1:1"]);
        assert!(*asked.borrow() >= 4, "it was asked first, over UDP and over TCP");
        let alone = event_loop.resolver(settings(vec![cut]));
        event_loop.set_resolver(Some(&alone));
        let error = ask(event_loop, "www.test", "1").expect_err("it gives no answer").to_string();
        let told = format!("{cut} (tcp) closed the connection early");
        assert!(error.contains(&told), "{error}");
    });
}
