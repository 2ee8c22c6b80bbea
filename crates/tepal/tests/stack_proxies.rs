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

// Who asked for a connection and leaves before it stands, with nothing said, is told of to the
// proxy's owner: there is nobody to dial for any more. So is who resets, whatever it has said.
#[test]
fn a_client_that_hangs_up_while_its_proxy_dials_is_told_of_at_once() {
    type Leave = (&'static str, fn(&Transport), CloseKind);
    let failed = CloseKind::HandshakeFailed;
    let leaves: [(Leave, &[usize]); 3] = [
        (("close", Transport::close, failed), &[0]),
        (("write_eof", |client| client.write_eof().expect("open"), failed), &[0]),
        (("abort", Transport::abort, CloseKind::Reset), &[0, 10_000]),
    ];
    let requests: [(Stack, &[u8]); 2] = [
        (Stack::new().with(SocksServer::new()), b"\x04\x01\0\x50\x01\x02\x03\x04\0"),
        (
            Stack::new().with(HttpConnectServer::new()),
            b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        ),
    ];
    everywhere(|event_loop| {
        for (stack, request) in &requests {
            for ((name, leave, kind), earlies) in leaves {
                for &early in earlies {
                    let said = [request, vec![b'+'; early].as_slice()].concat();
                    let client: Rc<RefCell<Option<Transport>>> = Rc::default();
                    let caller = Rc::clone(&client);
                    let listen = Listen::on("127.0.0.1:0").stack(stack.clone());
                    let log: Rc<RefCell<Option<layered::Log>>> = Rc::default();
                    let logs = Rc::clone(&log);
                    let factory = move |_: &tepal::Address| {
                        let caller = Rc::clone(&caller);
                        let (front, log) =
                            Script::new(move |front: &Transport, call: &Call<'_>| {
                                match call {
                                    // Nobody answers it.
                                    Call::Request(..) => {
                                        leave(caller.borrow().as_ref().expect("it"))
                                    }
                                    Call::Lost(_) => front.event_loop().stop(),
                                    _ => {}
                                }
                                None
                            });
                        *logs.borrow_mut() = Some(log);
                        front
                    };
                    let server = event_loop.listen(factory, listen).expect("listens");
                    let (script, _) = Script::new(move |transport: &Transport, call: &Call<'_>| {
                        if let Call::Made = call {
                            transport.write(&said);
                        }
                        None
                    });
                    let target = Target::address(address(&server));
                    *client.borrow_mut() = Some(event_loop.connect(script, target));
                    let begun = event_loop.time();
                    run(event_loop);
                    let after = event_loop.time().since(begun);
                    assert!(after.as_secs() < 5, "{name} {early}: told after {after:?}");
                    let closed = log.take().expect("accepted").take().closed.expect("ended");
                    assert_eq!(closed.kind, kind, "{name} {early}: {closed:?}");
                    if let Some(error) = closed.layer_error {
                        assert_eq!(error.kind(), tepal::layers::ErrorKind::EofInHandshake);
                    }
                    client.take().expect("made").abort();
                    server.close();
                }
            }
        }
    });
}
