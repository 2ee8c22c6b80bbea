//! Stacks through proxies: TLS behind SOCKS and behind CONNECT, and what a proxy refuses.

mod common;
#[path = "common/layered.rs"]
mod layered;

use std::cell::RefCell;
use std::rc::Rc;

use common::{address, run};
use layered::{Call, Script, echo, everywhere, pattern, tls_client, tls_pair};
use tepal::layers::{Host, ProxyAnswer, SocksReply};
use tepal::{
    CloseKind, EventLoop, HttpConnect, HttpConnectServer, Info, Listen, Socks5, SocksServer, Stack,
    Target, Transport,
};

/// A proxy on this loop: connects where a client wants to go, answers, and joins the two. Stops
/// nothing.
fn proxy(event_loop: &EventLoop, stack: Stack) -> tepal::Server {
    let factory = |_: &tepal::Address| {
        let back: Rc<RefCell<Option<Transport>>> = Rc::default();
        let (front, _) = Script::new(move |transport: &Transport, call: &Call<'_>| {
            match call {
                Call::Request(layer, request) => {
                    let Host::Ip(ip) = request.host else {
                        let refusal = ProxyAnswer::Refuse(SocksReply::HostUnreachable);
                        transport.answer_proxy(layer, refusal).expect("it waits");
                        return None;
                    };
                    let (front, layer) = (transport.clone(), (*layer).to_owned());
                    let (script, _) = Script::new(move |back: &Transport, call: &Call<'_>| {
                        match call {
                            Call::Established => {
                                let local = back.local_address().expect("a socket");
                                let local = local.as_ip().expect("an IP address");
                                let answer = ProxyAnswer::Accept(local.ip(), local.port());
                                front.answer_proxy(&layer, answer).expect("it waits");
                            }
                            Call::Data(_) => return Some(0),
                            Call::Eof => return Some(1),
                            _ => {}
                        }
                        None
                    });
                    let target = Target::address((ip, request.port).into());
                    *back.borrow_mut() = Some(transport.event_loop().connect(script, target));
                }
                Call::Established => {
                    let back = back.borrow().clone().expect("it is answered then");
                    drop(transport.join(&back).expect("both stand"));
                }
                _ => {}
            }
            None
        });
        front
    };
    event_loop.listen(factory, Listen::on("127.0.0.1:0").stack(stack)).expect("listens")
}

// S36: TLS behind a SOCKS proxy, and inside the TLS of an https proxy.
#[test]
fn tls_passes_through_a_socks_proxy_and_through_the_tls_of_an_https_proxy() {
    let (client, server) = tls_pair();
    everywhere(|event_loop| {
        let message = pattern(300_000);
        for https in [false, true] {
            let secret: fn(&str, &str) -> bool = |name, word| (name, word) == ("me", "secret");
            let stack = match https {
                false => Stack::new().with(SocksServer::new().auth(secret)),
                true => {
                    let connect = HttpConnectServer::new().auth(secret);
                    Stack::new().with(server.clone()).with(connect)
                }
            };
            let proxy = proxy(event_loop, stack);
            let far = Listen::on("127.0.0.1:0").layer(server.clone());
            let far = event_loop.listen(|_: &tepal::Address| Script::new(echo).0, far).expect("ok");
            let (host, port) = (address(&far).ip().to_string(), address(&far).port());
            // The host that TLS verifies is the target below it: the certificate is good for it.
            let inner = tls_client().server_name("server.test").build().expect("a client");
            let up = match https {
                false => Stack::new().with(
                    Socks5::new(&host, port)
                        .and_then(|s| s.credentials("me", "secret"))
                        .expect("ok"),
                ),
                true => Stack::new().with(client.clone()).with(
                    HttpConnect::new(&host, port)
                        .and_then(|http| http.credentials("me", "secret"))
                        .expect("ok"),
                ),
            };
            let (sent, expected, mut got) = (message.clone(), message.len(), 0);
            let (script, log) = Script::new(move |transport: &Transport, call: &Call<'_>| {
                match call {
                    Call::Made => {
                        transport.write(&sent);
                    }
                    Call::Data(data) => {
                        got += data.len();
                        if got == expected {
                            transport.close();
                        }
                    }
                    Call::Lost(_) => transport.event_loop().stop(),
                    _ => {}
                }
                None
            });
            let target = Target::address(address(&proxy)).stack(up.with(inner));
            let transport = event_loop.connect(script, target);
            run(event_loop);
            let seen = log.take();
            assert!(seen.bytes == message, "https: {https} {:?}", seen.closed);
            assert!(seen.closed.as_ref().expect("ended").is_clean(), "{:?}", seen.closed);
            let events: Vec<&str> = seen.events.iter().map(String::as_str).collect();
            if !https {
                assert_eq!(events[..3], ["made", "pause", "ready socks5"]);
                assert!(matches!(seen.infos[0].1, Info::Bound(Host::Ip(_), 1..)));
            }
            drop(transport);
            proxy.close();
            far.close();
        }
    });
}

#[test]
fn a_proxys_refusal_fails_the_handshake_with_its_own_reason() {
    everywhere(|event_loop| {
        let proxy = proxy(event_loop, Stack::new().with(SocksServer::new()));
        let (script, log) = Script::new(|transport: &Transport, call: &Call<'_>| {
            if let Call::Lost(_) = call {
                transport.event_loop().stop();
            }
            None
        });
        let socks = Socks5::new("unknown.test", 80).expect("a host");
        event_loop.connect(script, Target::address(address(&proxy)).layer(socks));
        run(event_loop);
        proxy.close();
        let closed = log.take().closed.expect("ended");
        assert_eq!((closed.kind, closed.layer()), (CloseKind::HandshakeFailed, Some("socks5")));
        let kind = closed.layer_error.expect("its reason").kind();
        assert_eq!(kind, tepal::layers::ErrorKind::Socks5(SocksReply::HostUnreachable));
    });
}
