//! A connection through a proxy that has several addresses, made anew: by the proxy that served before,
//! or by one that is chosen anew.

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod dns;
#[path = "common/reach.rs"]
mod reach;
#[path = "common/story.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
mod story;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use asking::{everywhere, resolver};
use common::address;
use dns::{Shared, Zone, put};
use reach::run_to_end;
use story::Story;
use tepal::layers::{ProxyAnswer, ProxyRequest};
use tepal::names::Settings;
use tepal::{
    Address, EventLoop, Listen, Protocol, Restart, Socks5, SocksServer, Stack, Target, Transport,
    Unsent,
};

/// A proxy that leads nowhere, and notes which of them was asked.
struct Proxy {
    number: u8,
    chosen: Rc<RefCell<Vec<u8>>>,
}

impl Protocol for Proxy {
    fn proxy_request(&mut self, transport: &Transport, layer: &str, request: &ProxyRequest) {
        assert_eq!(format!("{}:{}", request.host, request.port), "server.test:80");
        self.chosen.borrow_mut().push(self.number);
        let answer = ProxyAnswer::Accept([127, 0, 0, 1].into(), 1);
        transport.answer_proxy(layer, answer).expect("it waits");
    }
}

/// Two proxies at one port of 127.0.0.1 and 127.0.0.2.
fn proxies(event_loop: &EventLoop, chosen: &Rc<RefCell<Vec<u8>>>) -> u16 {
    let listen = |number: u8, port: u16| {
        let chosen = Rc::clone(chosen);
        let factory = move |_: &Address| Proxy { number, chosen: Rc::clone(&chosen) };
        let at = SocketAddr::from(([127, 0, 0, number], port));
        event_loop.listen(factory, Listen::on(at).stack(Stack::new().with(SocksServer::new())))
    };
    // A port that is free at one address may be taken at the other.
    let found = (0..100).find_map(|_| {
        let first = listen(1, 0).expect("a port");
        let port = address(&first).port();
        listen(2, port).map_or_else(
            |_| {
                first.close();
                None
            },
            |_| Some(port),
        )
    });
    found.expect("a port that is free at both")
}

/// Which proxies served, and how often the name was asked for, when the second one has taken the place
/// of the first between two connections.
fn moved(event_loop: &EventLoop, restart: Restart) -> (Vec<u8>, usize) {
    let chosen = Rc::<RefCell<Vec<u8>>>::default();
    let port = proxies(event_loop, &chosen);
    let zone: Shared = Zone::new();
    put(&zone, "proxy.test", 0, &["127.0.0.1"]);
    let _resolver = resolver(event_loop, &zone, Settings::default());
    let (moves, first) = (Rc::clone(&zone), Cell::new(true));
    let story = Story::new().on("established", move |transport| {
        if first.replace(false) {
            put(&moves, "proxy.test", 0, &["127.0.0.2"]);
            assert!(transport.reconnect_with(None, restart, Unsent::Drop));
        } else {
            transport.close();
        }
    });
    let target =
        Target::host("proxy.test", port).layer(Socks5::new("server.test", 80).expect("a target"));
    let transport = event_loop.connect(story.clone(), target);
    run_to_end(event_loop, &transport);
    assert_eq!(story.events(), ["made", "established", "lost", "established", "lost"]);
    let asked = zone.borrow().asked.iter().filter(|(_, of, _)| *of == dns::A).count();
    (chosen.take(), asked)
}

#[test]
fn a_proxy_is_chosen_anew_or_kept_as_was_asked() {
    everywhere(|event_loop| {
        assert_eq!(moved(event_loop, Restart::Resolve), (vec![1, 2], 2));
        assert_eq!(moved(event_loop, Restart::Connect), (vec![1, 1], 1));
    });
}
